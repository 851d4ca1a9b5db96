"""How far a server's clock is from this one, by the `Date` of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

HALF_A_SECOND = 0.5
"""A `Date` is cut to whole seconds, so on average it is this much earlier than the server's clock."""


@dataclass(frozen=True, slots=True)
class ServerAbout:
    """What a server says of itself. `version` is None where it does not tell."""

    version: str | None
    ahead: float | None
    """Seconds that its clock is ahead of this one, to about a second; None: its answers have no date."""
    seconds: float
    """How long the answer took."""


def seconds_ahead(headers: Mapping[str, str], sent: float, received: float) -> float | None:
    """How far the clock of the server that answered is ahead of this one; None without a date that can be read.

    Args:
        headers: of the answer.
        sent: when the request was sent, in seconds since the epoch.
        received: when the answer was there.
    """
    try:
        theirs = parsedate_to_datetime(headers.get("Date", "")).timestamp() + HALF_A_SECOND
    except (ValueError, OverflowError, TypeError):
        return None
    return theirs - (sent + received) / 2
