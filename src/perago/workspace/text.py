"""How names and sizes appear in messages."""

from __future__ import annotations

from collections.abc import Sequence

LISTED = 10
"""How many names a message lists before it says "and n more"."""

LONGEST_NAME = 160
"""Longer names are cut in the middle: both ends of a path tell more than its centre."""


def quoted(name: str) -> str:
    """`name` as a literal that is safe in every log and JSON text, whatever bytes it came from."""
    if len(name) > LONGEST_NAME:
        half = LONGEST_NAME // 2
        name = f"{name[:half]}…{name[-half:]}"
    return repr(name)


def listing(items: Sequence[str], limit: int = LISTED) -> str:
    """`a, b and 12 more`; the items are written as they are."""
    if len(items) <= limit:
        return ", ".join(items)
    return f"{', '.join(items[:limit])} and {len(items) - limit:,} more"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 file`, `2 files`, `10,000 files`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size(number: int) -> str:
    """A number of bytes for people, in powers of 1,024: `312 bytes`, `1.5 MiB`."""
    if number < 1024:
        return count(number, "byte")
    value = float(number)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"
