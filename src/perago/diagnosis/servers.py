"""Checks of both servers: do they answer, do they let us in, which version, what time is it there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from perago.adapters.http.server_clock import ServerAbout
from perago.diagnosis.findings import Finding, Level

SMALL_SKEW = 30.0
LARGE_SKEW = 600.0
"""Seconds. Block stores refuse requests that were signed 15 minutes ago, or are to be signed in the future."""


def server(name: str, address: str, ping: Callable[[], None], about: Callable[[], ServerAbout]) -> Iterator[Finding]:
    """One server.

    Args:
        name: of the service.
        address: where it is.
        ping: asks whether it lets us in.
        about: asks for version and clock.

    Raises:
        ServiceError: it does not.
    """
    ping()
    found = about()
    version = f"version {found.version}" if found.version else "it does not tell its version"
    yield Finding(name, Level.OK, f"{address} lets us in and answers in {found.seconds * 1000:.0f} ms; {version}")
    if found.ahead is None:
        return
    apart = abs(found.ahead)
    text = f"its clock is {apart:,.0f} s {'ahead of' if found.ahead > 0 else 'behind'} the one of this machine"
    if apart < SMALL_SKEW:
        yield Finding(name, Level.OK, "its clock is that of this machine")
        return
    why = "ages and times in messages are wrong, perago gc judges by them, and signed addresses of objects expire early"
    level = Level.PROBLEM if apart >= LARGE_SKEW else Level.WARNING
    yield Finding(name, level, text, why, "synchronise both clocks (NTP); compare with: date -u")
