"""Requests for work that fail: what is said of them, and when they are made again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from perago.back_off import BackOff
from perago.ports import AccessDenied, ServiceError
from perago.worker.events import ConductorBack, ConductorUnreachable, Event

BACK_OFF = BackOff(1.0, 30.0, jitter=True)
"""Between failed requests of one kind."""


@dataclass(slots=True)
class Trouble:
    """Requests of one kind that fail. Times are seconds of a monotonic clock."""

    since: float
    failures: int = 0
    until: float = 0.0


class Troubles:
    """Keeps each kind of request that fails from being made too often, and says once that Conductor is unreachable,
    until nothing fails any more."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._kinds: dict[str, Trouble] = {}
        self._denied: bool | None = None

    def __contains__(self, kind: str) -> bool:
        """Whether the last request of this kind failed."""
        return kind in self._kinds

    def left(self, kind: str, now: float) -> float:
        """Seconds until such a request may be made."""
        return max(0.0, self._kinds[kind].until - now) if kind in self._kinds else 0.0

    def failed(self, kind: str, error: Exception, now: float) -> None:
        """A request failed. Several that were under way at the same time count once."""
        trouble = self._kinds.setdefault(kind, Trouble(now))
        if now < trouble.until:
            return
        trouble.until = now + BACK_OFF.pause(trouble.failures)
        trouble.failures += 1
        denied = isinstance(error, AccessDenied)
        if denied is not self._denied:
            self._denied = denied
            self._emit(ConductorUnreachable(poll_problem(error), denied))

    def succeeded(self, kind: str, now: float) -> None:
        """A request was answered."""
        trouble = self._kinds.pop(kind, None)
        if trouble is not None and not self._kinds:
            self._denied = None
            self._emit(ConductorBack(now - trouble.since))


def poll_problem(error: Exception) -> str:
    """What to tell about a failed poll."""
    return str(error) if isinstance(error, ServiceError) else f"{type(error).__name__}: {error}"
