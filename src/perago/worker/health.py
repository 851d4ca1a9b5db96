"""The health of a worker, for probes and metrics.

A worker that cannot reach a server is alive: it waits, and a restart would only cost running attempts. So liveness
needs only two things: a running event loop, and heartbeats that end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from perago.hanging import service_in
from perago.ports import TaskStatus
from perago.retry import HEALTHY_SECONDS, RESTARTS
from perago.settings.mask import Mask
from perago.text import one_line
from perago.worker import events
from perago.worker.events import Event

LOOP_LIMIT = 30.0
"""Seconds without an iteration of the event loop after which it counts as stuck. No iteration takes one second."""
BEAT_LIMIT = 300.0
"""Seconds after which a heartbeat that has neither succeeded nor failed counts as stuck. Its calls have shorter
limits."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The problems; empty if there are no problems."""

    state: str
    """`starting`, `working`, `draining` or `stopped`."""
    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    """Problems of single tasks, which do not count against the worker."""


REJECTED = "lakeFS does not accept the credentials"
"""Begins the text of a call that attempts repeat because of their credentials."""


class Incidents:
    """A `Listener` that remembers the deaths of processes and the rejected credentials of a worker. Health and metrics
    only read it."""

    def __init__(self) -> None:
        self.rejections: Mapping[str, str] = {"Conductor": "", "lakeFS": ""}
        """The rejection of the credentials by each service; empty if it accepts them. A rejection outlives its attempt,
        which soon gives up, because all attempts share the credentials."""
        self._deaths: dict[str, tuple[events.SlotDied, float]] = {}
        """With the times of their ends, in seconds of the monotonic clock."""

    def __call__(self, event: Event) -> None:
        """Remember or forget what `event` shows. Values that other threads read are replaced, never changed."""
        match event:
            case events.SlotDied() if event.restart_seconds > 0:
                until = time.monotonic() + event.restart_seconds + HEALTHY_SECONDS
                self._deaths = {**self._deaths, event.task_name: (event, until)}
            case events.ConductorUnreachable(reason, denied, events.ALL_TASKS):
                self._note_rejection("Conductor", f"Conductor rejects the credentials: {reason}" if denied else "")
            case events.ConductorBack(_, events.ALL_TASKS):
                self._note_rejection("Conductor", "")
            case events.WaitingForLakeFS(text=text) if text.startswith(REJECTED):
                self._note_rejection("lakeFS", text)
            case events.LakeFSBack(text=text) if service_in(text) == "lakeFS":
                self._note_rejection("lakeFS", "")
            case events.AttemptEnded(delivery=delivery, status=TaskStatus.COMPLETED) if "workspace" in delivery.input:
                self._note_rejection("lakeFS", "")

    def _note_rejection(self, service: str, text: str) -> None:
        self.rejections = {**self.rejections, service: text}

    def deaths(self) -> dict[str, events.SlotDied]:
        """Return the last death of a process of each task, until a later process has lived long enough to end the
        series of crashes."""
        now = time.monotonic()
        return {task: death for task, (death, until) in self._deaths.items() if now < until}


class Health:
    """A `Listener` that remembers the state for the pages. It runs on the supervisor's thread, and other threads read
    it."""

    def __init__(self, mask: Mask, incidents: Incidents) -> None:
        self._mask = mask
        self._incidents = incidents
        self._state = "starting"
        self._pulsed_at: float | None = None
        self._pulse: events.Pulse | None = None
        self._conductor: str | None = None
        self._host: str | None = None
        """The reason why the host takes no work."""
        self._refused: dict[str, str] = {}
        """The reasons why Conductor refuses polls, by task."""
        self._failing: dict[str, str] = {}
        """The reasons why the last slot of a task could not start. They are kept by task, because slots are shared
        between tasks."""
        self._waiting: dict[str, str] = {}
        """The calls to lakeFS that attempts repeat, by slot."""

    def __call__(self, event: Event) -> None:
        """Update the state from `event`. Values that other threads read are replaced, never changed."""
        match event:
            case events.Pulse():
                self._pulsed_at, self._pulse = time.monotonic(), event
            case events.WorkerReady() if self._state == "starting":
                self._state = "working"
            case events.SlotStartFailed(reason=reason, task_name=task_name):
                self._failing = {**self._failing, task_name: reason}
            case events.SlotReady(_, _, task_name):
                self._failing = {task: why for task, why in self._failing.items() if task != task_name}
            case events.ConductorUnreachable(reason, denied, events.ALL_TASKS):
                self._conductor = None if denied else reason
            case events.ConductorBack(_, events.ALL_TASKS):
                self._conductor = None
            case events.ConductorUnreachable(reason, _, task_name):
                self._refused = {**self._refused, task_name: reason}
            case events.ConductorBack(_, task_name):
                self._refused = {task: why for task, why in self._refused.items() if task != task_name}
            case events.WaitingForLakeFS(slot, text):
                self._waiting = {**self._waiting, slot: text}
            case events.LakeFSBack(slot, text) if service_in(text) != service_in(self._waiting.get(slot, text)):
                pass
            case events.LakeFSBack(slot) | events.AttemptEnded(worker_id=slot) | events.SlotDied(slot):
                self._waiting = {its: text for its, text in self._waiting.items() if its != slot}
            case events.PollingPaused(reason):
                self._host = reason
            case events.PollingResumed():
                self._host = None
            case events.Draining():
                self._state = "draining"
            case events.Stopped():
                self._state = "stopped"

    def alive(self) -> Verdict:
        """Whether the worker must not be killed. This is also true before its supervisor runs and after it has
        ended."""
        if self._pulsed_at is None or self._pulse is None or self._state == "stopped":
            return Verdict(self._state, ())
        problems = []
        still = time.monotonic() - self._pulsed_at
        if still > LOOP_LIMIT:
            problems.append(f"the event loop has been blocked for {still:.0f} s")
        if self._pulse.beating > BEAT_LIMIT:
            problems.append(f"a heartbeat has had no answer for {self._pulse.beating:.0f} s")
        return Verdict(self._state, tuple(problems))

    def ready(self, *more: str | None) -> Verdict:
        """Whether it takes work now; `more` are problems that other checks found."""
        problems = [*self.alive().problems]
        if self._state != "working":
            problems.append(_NOT_WORKING[self._state])
        problems += [f"slots for {task} cannot start: {why}" for task, why in sorted(self._failing.items())]
        rejections = self._incidents.rejections
        problems += filter(None, (rejections["Conductor"], self._conductor, self._host, *more, rejections["lakeFS"]))
        warnings = [f"Conductor refuses polls for {task}: {why}" for task, why in sorted(self._refused.items())]
        warnings += [f"{task}: {death.reason}; {HELD_BACK}" for task, death in sorted(self._incidents.deaths().items())]
        waiting = sorted(self._waiting.items())
        warnings += [f"{slot}: {text}" for slot, text in waiting if not text.startswith(REJECTED)]
        return Verdict(self._state, self._shown(problems), self._shown(warnings))

    def _shown(self, texts: Iterable[str]) -> tuple[str, ...]:
        return tuple(one_line(self._mask(text)) for text in texts)


HELD_BACK = f"if it dies again, its restart is delayed by up to {RESTARTS.longest:g} s"
_NOT_WORKING = {
    "starting": "the worker is starting and waits for a server or for its task module",
    "draining": "the worker was asked to stop and takes no more work",
    "stopped": "the worker has stopped",
}


CHECK_INTERVAL = 15.0
"""Seconds between two checks whether lakeFS answers."""


LEAVE_LIMIT = 0.5
"""Seconds that a check gets at the end of the worker. A check that takes longer ends with the process."""


class LakeFSCheck:
    """Checks at an interval, on its own thread, whether lakeFS answers. It uses no credentials. Only slots have them,
    and their attempts report wrong ones."""

    def __init__(self, find_problem: Callable[[], str | None] | None) -> None:
        self.problem: str | None = None
        self._has_answered = False
        self._find_problem = find_problem
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="perago-lakefs-check", daemon=True)

    def __enter__(self) -> LakeFSCheck:
        if self._find_problem is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(LEAVE_LIMIT)

    def is_up(self) -> bool | None:
        """Whether lakeFS has answered the last check; None before the first one, and if lakeFS is not needed."""
        return self.problem is None if self._has_answered else None

    def _run(self) -> None:
        while self._find_problem is not None and not self._ended.is_set():
            self.problem = self._find_problem()
            self._has_answered = True
            self._ended.wait(CHECK_INTERVAL)
