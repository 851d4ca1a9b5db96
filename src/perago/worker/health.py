"""Whether a worker lives and whether it can take work, for the probes of what runs it.

A worker that cannot reach a server lives: it waits, and starting it anew would only cost what runs. So liveness asks
for two things alone: the event loop turns, and heartbeats come to an end.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from perago.settings.mask import Mask
from perago.worker import events
from perago.worker.events import Event
from perago.workspace.text import one_line

LOOP_LIMIT = 30.0
"""Seconds without a turn of the event loop after which it counts as stuck. Nothing that it does takes one second."""
BEAT_LIMIT = 300.0
"""Seconds after which a heartbeat that has neither got through nor failed is stuck. Its calls have shorter limits."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that speaks against it; empty: nothing does."""

    state: str
    """`starting`, `working`, `draining` or `stopped`."""
    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    """What keeps single tasks from work, and does not count against the worker."""


class Health:
    """A `Listener` that remembers what matters, on the supervisor's thread. Others ask it."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._state = "starting"
        self._turned: float | None = None
        self._pulse: events.Pulse | None = None
        self._conductor: str | None = None
        self._host: str | None = None
        """Why the host takes no work."""
        self._refused: dict[str, str] = {}
        """Why Conductor refuses the polls for a task."""
        self._failing: dict[str, str] = {}
        """Why the last slot of a task could not start. Slots change hands, so the task counts, not the slot."""

    def __call__(self, event: Event) -> None:
        """Take note of `event`. What others read is replaced, never changed."""
        match event:
            case events.Pulse():
                self._turned, self._pulse = time.monotonic(), event
            case events.WorkerReady() if self._state == "starting":
                self._state = "working"
            case events.SlotStartFailed(_, reason, task_name):
                self._failing = {**self._failing, task_name: reason}
            case events.SlotReady(_, _, task_name):
                self._failing = {task: why for task, why in self._failing.items() if task != task_name}
            case events.ConductorUnreachable(reason, denied, events.ALL_TASKS):
                self._conductor = f"Conductor rejects the credentials: {reason}" if denied else reason
            case events.ConductorBack(_, events.ALL_TASKS):
                self._conductor = None
            case events.ConductorUnreachable(reason, _, task_name):
                self._refused = {**self._refused, task_name: reason}
            case events.ConductorBack(_, task_name):
                self._refused = {task: why for task, why in self._refused.items() if task != task_name}
            case events.PollingPaused(reason):
                self._host = reason
            case events.PollingResumed():
                self._host = None
            case events.Draining():
                self._state = "draining"
            case events.Stopped():
                self._state = "stopped"

    def alive(self) -> Verdict:
        """Whether the worker should be left alone rather than killed. Before its supervisor runs, and once it has
        ended, it should."""
        if self._turned is None or self._pulse is None or self._state == "stopped":
            return Verdict(self._state, ())
        problems = []
        still = time.monotonic() - self._turned
        if still > LOOP_LIMIT:
            problems.append(f"the event loop has not turned for {still:.0f} s")
        if self._pulse.beating > BEAT_LIMIT:
            problems.append(f"a heartbeat has been on its way for {self._pulse.beating:.0f} s")
        return Verdict(self._state, tuple(problems))

    def ready(self, *more: str | None) -> Verdict:
        """Whether it takes work now; `more` are problems that others have found."""
        problems = [*self.alive().problems]
        if self._state != "working":
            problems.append(_WORDS[self._state])
        problems += [f"slots for {task} cannot start: {why}" for task, why in sorted(self._failing.items())]
        problems += [problem for problem in (self._conductor, self._host, *more) if problem is not None]
        warnings = [f"Conductor refuses polls for {task}: {why}" for task, why in sorted(self._refused.items())]
        return Verdict(self._state, self._shown(problems), self._shown(warnings))

    def _shown(self, texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(one_line(self._mask(text)) for text in texts)


_WORDS = {
    "starting": "the worker is starting: it waits for a server, or for its task module",
    "draining": "the worker was asked to stop, and takes nothing more",
    "stopped": "the worker has stopped",
}
