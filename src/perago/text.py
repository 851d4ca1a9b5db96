"""Names, sizes, times and texts from outside, as messages and terminals show them."""

from __future__ import annotations

import difflib
import json
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

LISTED = 10
"""The number of names that a message lists before it says "and n more"."""

LONGEST_NAME = 160
"""Maximum length of a name. Longer ones are cut in the middle, because both ends of a path matter more."""

LONGEST_LINE = 4_000
"""Maximum length of a text from outside on one line."""

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control, direction and zero-width characters, except tab and line feed."""

_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n(?P<frames>(?:  .*\n)*)(?P<error>.*)")
_FAILED = re.compile(r"Task \S+ failed with status: \w+ and reason: '(?P<reason>.*?)'?\Z", re.DOTALL)
_FRAME = re.compile(r'^  File "(.+)", line (\d+)', re.MULTILINE)
_LIBRARY = re.compile(r"/(?:site|dist)-packages/|/lib/python3[^/]*/|^<")


def visible(text: str) -> str:
    """Return `text` with its control, direction and zero-width characters spelled out; tabs and line ends stay."""
    return _INVISIBLE.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text.replace("\r\n", "\n"))


def one_line(text: str, limit: int = LONGEST_LINE) -> str:
    """Return `text` from outside as one line for a terminal, cut after `limit` characters, with nothing hidden.

    A traceback becomes its error and the last line of the author's code. Other lines are joined by " / ".
    """
    cut = f"… ({len(text):,} characters)" if len(text) > limit else ""
    shown = visible(text[:limit])
    if "\n" in shown:
        lines = _TRACEBACK.sub(_innermost, shown).split("\n")
        shown = " / ".join(filter(None, map(str.strip, lines)))
    return shown + cut


def lines_of(text: str, limit: int = LONGEST_LINE) -> list[str]:
    """Return the lines of `text` from outside for a terminal, cut after `limit` characters, with nothing hidden."""
    cut = [f"… ({len(text):,} characters)"] if len(text) > limit else []
    return [*visible(text[:limit]).rstrip("\n").split("\n"), *cut]


def plain_reason(text: str | None) -> str:
    """Return the reason of a workflow as its task gave it, without the id and status that Conductor adds."""
    match = _FAILED.match(text or "")
    return (match["reason"] if match else text) or ""


def _innermost(match: re.Match[str]) -> str:
    frames = _FRAME.findall(match["frames"])
    own = [frame for frame in frames if not _LIBRARY.search(frame[0])] or frames
    return f"{match['error']} ({own[-1][0]}, line {own[-1][1]})" if own else match["error"]


def strict_json(text: str, **options: Any) -> Any:
    """Read JSON with the options of `json.loads`.

    Raises:
        ValueError: it is not JSON, which has neither NaN nor infinities.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a JSON number")

    return json.loads(text, parse_constant=refuse, **options)


def json_text(value: Any, **layout: Any) -> str:
    """Return `value` as JSON for a terminal, with the layout options of `json.dumps`. Invisible characters are
    escaped."""
    text = json.dumps(value, ensure_ascii=False, **layout)
    return _INVISIBLE.sub(lambda match: json.dumps(match[0])[1:-1], text)


def short(commit_id: str) -> str:
    """Return a commit id for people: its first 12 digits."""
    return commit_id[:12]


def quoted(name: str) -> str:
    """Return `name` as a literal that is safe in every log and JSON text, even if it was made from invalid bytes."""
    if len(name) > LONGEST_NAME:
        half = LONGEST_NAME // 2
        name = f"{name[:half]}…{name[-half:]}"
    return repr(name)


def listing(items: Sequence[str], limit: int = LISTED) -> str:
    """Return a text such as `a, b and 12 more`, with unchanged items."""
    if len(items) <= limit:
        return ", ".join(items)
    return f"{', '.join(items[:limit])} and {len(items) - limit:,} more"


def shortened(lines: Sequence[str], limit: int, what: str = "more") -> list[str]:
    """Return the first lines, and `and 12 more` for the others."""
    return [*lines[:limit], *([f"and {len(lines) - limit:,} {what}"] if len(lines) > limit else [])]


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: `1 file`, `2 files`, `10,000 files`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


_UNITS_OF_TIME = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"))


def age(seconds: float) -> str:
    """Return a time that has passed, in its largest whole unit: `12 s`, `5 min`, `3 h`, `2 d`."""
    for length, unit in _UNITS_OF_TIME:
        if seconds >= length:
            return f"{int(seconds / length)} {unit}"
    return f"{int(max(0.0, seconds))} s"


def ago(milliseconds: float) -> str:
    """Return how long ago a time since the epoch was, without the word: `5 min`."""
    return age(time.time() - milliseconds / 1000)


def duration(seconds: float) -> str:
    """Return a length of time in the units that matter: `350 ms`, `12.3 s`, `3 min 4 s`, `2 h 5 min`, `3 days 4 h`."""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


DEFAULT_ZONE = "UTC+08:00"
_OFFSET = re.compile(r"(?:UTC)?([+-])([0-9]{1,2})(?::?([0-5][0-9]))?")
_LARGEST_OFFSET = timedelta(hours=14)


def parse_zone(text: str) -> tzinfo:
    """Return the time zone `text`: a name of the IANA list, `UTC`, or an offset such as `UTC+08:00` or `-03:30`.

    Raises:
        ValueError: the text is invalid. The message has the names of the list that are near.
    """
    text = text.strip()
    if text in ("UTC", "Z"):
        return UTC
    if (match := _OFFSET.fullmatch(text)) is not None:
        sign, hours, minutes = match.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
        if offset > _LARGEST_OFFSET:
            raise ValueError("more than 14 hours from UTC; write an offset such as UTC+08:00")
        return timezone(-offset if sign == "-" else offset)
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a directory of the list, such as `Europe`
        if not (names := available_timezones()):
            raise ValueError(
                "not UTC and not an offset, and this machine has no list of time zones; install the package tzdata"
            ) from None
        near = listing(_near_zones(text, names)) or "Europe/Berlin, UTC, or an offset such as UTC+08:00"
        raise ValueError(f"not a time zone of the IANA list; write a name such as {near}") from None


def _near_zones(text: str, names: set[str]) -> list[str]:
    """Return up to three names of zones that resemble `text`, or whose city does."""
    spellings = {name.lower(): name for name in sorted(names)}
    spellings |= {name.rpartition("/")[2].lower(): name for name in sorted(names) if "/" in name}
    near = difflib.get_close_matches(text.lower().replace(" ", "_"), spellings, n=3, cutoff=0.7)
    return list(dict.fromkeys(spellings[spelling] for spelling in near))


_log_zone = parse_zone(DEFAULT_ZONE)
_utc_views = False


def use_zone(text: str) -> None:
    """Let the log and all views of this process use the valid time zone `text`."""
    global _log_zone
    _log_zone = parse_zone(text)


def show_utc(enabled: bool) -> None:
    """Let all views of this process show UTC, if `enabled`."""
    global _utc_views
    _utc_views = enabled


def log_zone() -> tzinfo:
    """Return the zone of the log files (`PERAGO_TIME_ZONE`)."""
    return _log_zone


def view_zone() -> tzinfo:
    """Return the zone of every view: that of the log files, or UTC with `--utc`."""
    return UTC if _utc_views else _log_zone


def zone() -> str:
    """Return the name of the zone of all views, such as `UTC+08:00`, `UTC` or `Europe/Berlin`."""
    return str(view_zone())


def at(milliseconds: int, where: tzinfo | None = None) -> datetime:
    """Return a time since the epoch in a zone; None: that of all views.

    Raises:
        ValueError, OverflowError, OSError: it is in no calendar.
    """
    return datetime.fromtimestamp(milliseconds / 1000, where or view_zone())


def clock(milliseconds: int) -> str:
    """Return a time since the epoch as views show it, without their zone: `2026-11-27 17:30:00`. A number that is in
    no calendar stays one."""
    try:
        return at(milliseconds).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"


def zoned(milliseconds: int) -> str:
    """Return a time since the epoch with its zone: `2026-11-27 17:30:00 UTC+08:00`. A named zone also gets its offset,
    because it has one hour twice when daylight saving time ends: `2026-10-25 02:30:00+01:00 Europe/Berlin`."""
    where = view_zone()
    offset = _offset(milliseconds) if isinstance(where, ZoneInfo) else ""
    return f"{clock(milliseconds)}{offset} {where}"


def time_of_day(milliseconds: int) -> str:
    """Return the time of day of a time since the epoch, with its offset from UTC: `17:30:00+08:00`."""
    return f"{clock(milliseconds)[11:19]}{_offset(milliseconds)}"


def _offset(milliseconds: int) -> str:
    try:
        return at(milliseconds).isoformat(timespec="seconds")[19:]
    except (ValueError, OverflowError, OSError):
        return ""


def size(number: int) -> str:
    """Return a number of bytes for people, in powers of 1,024: `312 bytes`, `1.5 MiB`."""
    if number < 1024:
        return count(number, "byte")
    value = float(number)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"
