"""Times in the zone of this machine, which is also the reader's, and durations."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Moment:
    """One point in time: to the second, to the millisecond, and in ISO form (empty if it is no date at all)."""

    text: str
    fine: str
    iso: str


def moment(milliseconds: int) -> Moment | None:
    """A time in milliseconds since the epoch; 0 stands for not yet. Numbers beyond any calendar stay numbers."""
    if milliseconds == 0:
        return None
    try:
        local = datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone()
    except (OverflowError, ValueError, OSError):
        return Moment(f"{milliseconds} ms", f"{milliseconds} ms", "")
    fine = local.replace(tzinfo=None).isoformat(" ", "milliseconds")
    return Moment(fine[:-4], fine, local.isoformat(timespec="milliseconds"))


def zone() -> str:
    """The zone that all times are shown in."""
    offset = datetime.now(UTC).astimezone().strftime("%z")
    return f"UTC{offset[:3]}:{offset[3:]}"


def duration(milliseconds: float) -> str:
    """A length of time in the two units that matter."""
    seconds = max(0.0, milliseconds / 1000)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"
