"""Requests for work that fail: what is said of them, and when they are made again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from perago.back_off import BackOff
from perago.ports import AccessDenied, NotFound, Refused, ServiceError
from perago.worker.events import ALL_TASKS, ConductorBack, ConductorUnreachable, Event

BACK_OFF = BackOff(1.0, 30.0, jitter=True)
"""Between failed requests of one kind."""

ANSWERS = (AccessDenied, NotFound, Refused)
"""Conductor's word that it does not want a request: of polls for one task, it may be about that task alone."""


@dataclass(slots=True)
class Trouble:
    """Requests of one kind that fail. Times are seconds of a monotonic clock."""

    since: float
    failures: int = 0
    until: float = 0.0
    is_refused: bool = False
    """The last one was refused, and it was about one task."""


@dataclass(slots=True)
class Said:
    """What was told about one task, or all, and is not over."""

    since: float
    kinds: set[bool] = field(default_factory=set)
    """Whether the credentials are rejected: each is told once."""


class Troubles:
    """Keeps each kind of request that fails from being made too often, and says once that Conductor is unreachable or
    refuses the polls for a task, until that is over.

    Conductor counts as unreachable as long as any request gets no answer, or everything is refused.

    Args:
        tasks: the names of the tasks, which are the kinds of requests that are about one task each.
        emit: is told.
    """

    def __init__(self, tasks: Collection[str], emit: Callable[[Event], None]) -> None:
        self._tasks = tasks
        self._emit = emit
        self._kinds: dict[str, Trouble] = {}
        self._said: dict[str, Said] = {}
        """By the name of a task, or `ALL_TASKS`."""

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
        trouble.is_refused = kind in self._tasks and isinstance(error, ANSWERS)
        about = kind if trouble.is_refused and not self._lasts(ALL_TASKS) else ALL_TASKS
        said = self._said.setdefault(about, Said(trouble.since))
        denied = isinstance(error, AccessDenied)
        if denied not in said.kinds:
            said.kinds.add(denied)
            self._emit(ConductorUnreachable(poll_problem(error), denied, about))
        self._tell_what_is_over(now)

    def succeeded(self, kind: str, now: float) -> None:
        """A request was answered."""
        if self._kinds.pop(kind, None) is not None:
            self._tell_what_is_over(now)

    def idle(self, kind: str, now: float) -> None:
        """There is no reason for such a request, so that it cannot be said to fail. One that is refused still is."""
        if kind in self._kinds and not self._kinds[kind].is_refused:
            self.succeeded(kind, now)

    def _lasts(self, about: str) -> bool:
        refused = sum(trouble.is_refused for trouble in self._kinds.values())
        if about == ALL_TASKS:
            return refused < len(self._kinds) or refused == len(self._tasks)
        return about in self._kinds

    def _tell_what_is_over(self, now: float) -> None:
        for about in [about for about in self._said if not self._lasts(about)]:
            self._emit(ConductorBack(now - self._said.pop(about).since, about))


def poll_problem(error: Exception) -> str:
    """What to tell about a failed poll."""
    return str(error) if isinstance(error, ServiceError) else f"{type(error).__name__}: {error}"
