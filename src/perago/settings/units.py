"""Sizes and durations as people write them."""

from __future__ import annotations

import re

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([KMG]i?B)", re.IGNORECASE)
_FACTORS = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

_DAYS = re.compile(r"([0-9]+)\s*d", re.IGNORECASE)
_MOST_DAYS = 36_500

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(ms|s|m|h)", re.IGNORECASE)
_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([smhd])", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MOST_SECONDS = 7 * 24 * 3600.0


def parse_size(text: str) -> int:
    """Bytes in `text`: a number with KB, MB, GB, KiB, MiB or GiB; decimals and inner blanks are fine.

    A bare number is refused, because it does not tell which unit was meant.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a size; write a number with KB, MB, GB, KiB, MiB or GiB, such as 100MB or 1.5 GiB")
    size = int(float(match[1]) * _FACTORS[match[2].lower()])
    if size < 1:
        raise ValueError("smaller than one byte; write a size such as 100MB")
    return size


def parse_bytes(text: str) -> int:
    """Bytes in `text`: a whole number (the variable's name says bytes), or a size with its unit."""
    stripped = text.strip()
    if re.fullmatch(r"[0-9]{1,18}", stripped) is None:
        try:
            return parse_size(stripped)
        except ValueError:
            raise ValueError("not a number of bytes; write one such as 1048576, or a size such as 1MiB") from None
    if int(stripped) < 1:
        raise ValueError("must be at least 1")
    return int(stripped)


def parse_limit(text: str) -> int:
    """Bytes in `text` as `parse_bytes` reads them, or 0."""
    return 0 if re.fullmatch(r"0+", text.strip()) else parse_bytes(text)


def parse_days(text: str) -> int:
    """Days in `text`: a whole number followed by `d`."""
    match = _DAYS.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a number of days; write whole days such as 30d")
    if not 1 <= len(match[1].lstrip("0")) <= 5 or int(match[1]) > _MOST_DAYS:
        raise ValueError(f"must be between 1d and {_MOST_DAYS}d")
    return int(match[1])


def parse_age(text: str) -> float:
    """Seconds in `text`: a number with s, m, h or d."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise ValueError("not an age; write a number with s, m, h or d, such as 12h or 1d")
    seconds = float(match[1]) * _SECONDS[match[2].lower()]
    if seconds > _MOST_DAYS * _SECONDS["d"]:
        raise ValueError(f"longer than {_MOST_DAYS}d; write an age such as 12h or 1d")
    return seconds


def parse_seconds(text: str) -> float:
    """Seconds in `text`: a number with ms, s, m or h."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a duration; write a number with ms, s, m or h, such as 30s or 2m")
    seconds = float(match[1]) * _SECONDS[match[2].lower()]
    if seconds > _MOST_SECONDS:
        raise ValueError("longer than seven days; write a duration such as 30s or 2m")
    return seconds
