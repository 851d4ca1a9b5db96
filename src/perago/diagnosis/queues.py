"""Read Conductor's queues: one row per task type, with waiting and running attempts and workers."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perago.adapters.conductor import ConductorOverview, LastPoll, OpenAttempt
from perago.adapters.http import NoAnswerError
from perago.ports import ServiceError
from perago.text import age, count
from perago.worker.plan import is_worker_id
from perago.worker.presence import WorkerHere, workers_here
from perago.workspace.sweep import living_attempts

RECENTLY = 86_400.0
"""Seconds for which a task type that was polled counts as one in use."""
UNATTENDED_AFTER = 120.0
"""Seconds without a poll after which attempts that wait, while none runs, have no worker: an idle one polls more
often."""
MOST_ROWS = 100
LONGEST_BEAT = 60.0
"""Seconds between two heartbeats of a perago worker, or a third of the response timeout if that is less."""
_LATE = 2.5
"""Times that interval, a heartbeat was lost or its worker."""
_REQUESTS = 8
"""The number of requests at the same time."""
_READING = 10.0
"""Seconds for lists of attempts, because the server reads the complete list for each thousand of it. The first thousand
of each list is always read, unless another list got no answer."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An attempt that waits; `since` in milliseconds since the epoch."""

    task_id: str
    workflow_id: str
    since: int


@dataclass(frozen=True, slots=True)
class Silent:
    """An attempt that is with a worker which has not been heard of for longer than heartbeats are apart; a worker of
    another SDK beats rarely or never, and is silent once Conductor may hand the attempt out again. `since` and `freed`,
    when Conductor does so, are milliseconds since the epoch."""

    task_id: str
    workflow_id: str
    worker_id: str
    since: int
    freed: int


@dataclass(frozen=True, slots=True)
class TaskTypeStatus:
    """One task type, in no domain (`domain` is empty) or in one, which no perago worker polls."""

    task_name: str
    domain: str
    registered: bool
    waiting: int
    """Attempts in the queue, those of a delayed retry included."""
    oldest: Waiting | None
    """The part of these that Conductor reported. None if it reported nothing."""
    running: int | None
    """Attempts that are with a worker. None: Conductor did not say."""
    all_read: bool
    """Whether all attempts were read. If not, `oldest`, `running` and `silent` cover only a part of them."""
    silent: tuple[Silent, ...]
    """The running attempts whose worker seems to be dead, the longest first."""
    running_here: int
    """Attempts that are at work in this workspace root."""
    workers: tuple[WorkerHere, ...]
    """The workers of this workspace root."""
    last_poll: LastPoll | None

    @property
    def slots_here(self) -> int:
        """The attempts that the workers of this root take at a time."""
        return sum(worker.slots for worker in self.workers)

    def silence(self, now: float) -> float | None:
        """Seconds since the last poll, at `now` (seconds since the epoch); None: none is known."""
        return None if self.last_poll is None else max(0.0, now - self.last_poll.time / 1000)

    def is_unattended(self, now: float) -> bool:
        """Whether attempts wait that no worker takes. One with all slots busy does not poll, so none may be running."""
        silence = self.silence(now)
        return self.waiting > 0 and not self.running and (silence is None or silence > UNATTENDED_AFTER)

    def absence(self, now: float) -> str:
        """Words that no worker takes the waiting attempts, and how certain that is."""
        silence = self.silence(now)
        asked = "no worker has ever asked for it" if silence is None else f"no worker has asked for {age(silence)}"
        if self.running is None or self.all_read:
            return asked
        return f"{asked}; none of those that were looked at is with one"


@dataclass(frozen=True, slots=True)
class QueueReport:
    """The rows by name, how many more there were, and what could not be found out."""

    rows: tuple[TaskTypeStatus, ...]
    left_out: int
    problems: tuple[ServiceError, ...]


def read_queues(
    overview: ConductorOverview,
    root: Path,
    names: Sequence[str] | None,
    now: float,
    tell: Callable[[str], None] = lambda _: None,
) -> QueueReport:
    """Return the state of task types.

    Args:
        overview: the Conductor.
        root: the workspace root, whose workers count as those of this machine.
        names: the task types;
        None: all that are registered and have a queue, a worker here, or a poll of the last day.
        now: seconds since the epoch.
        tell: gets the current activity.

    Raises:
        ServiceError: Conductor did not report its queues and polls.
    """
    tell("reading the queues")
    sizes, registered = overview.queue_sizes(), overview.task_names()
    polls = {(poll.task_name, poll.domain): poll for poll in overview.last_polls()}
    here = workers_here(root)
    keys = _keys(sizes, polls.values(), here, registered if names is None else frozenset(names), names or (), now)
    shown = keys[:MOST_ROWS]
    tell(f"reading the attempts of {count(len({name for name, _ in shown}), 'task type')}")
    attempts, problems = _open_attempts(overview, {name for name, _ in shown})
    at_work = Counter(str(fields.get("task_name")) for fields in living_attempts(root))

    def row(name: str, domain: str) -> TaskTypeStatus:
        found, all_read = attempts.get(name, ((), False))
        rows = [one for one in found if one.domain == domain]
        return TaskTypeStatus(
            task_name=name,
            domain=domain,
            registered=name in registered,
            waiting=sizes.get(f"{domain}:{name}" if domain else name, 0),
            oldest=_oldest(rows),
            running=sum(one.status == "IN_PROGRESS" for one in rows) if name in attempts else None,
            all_read=all_read,
            silent=_silent(rows, now),
            running_here=0 if domain else at_work[name],
            workers=() if domain else tuple(worker for worker in here if worker.task_name == name),
            last_poll=polls.get((name, domain)),
        )

    return QueueReport(tuple(row(*key) for key in shown), len(keys) - len(shown), problems)


def _keys(
    sizes: Mapping[str, int],
    polls: Iterable[LastPoll],
    here: Sequence[WorkerHere],
    wanted: frozenset[str],
    always: Sequence[str],
    now: float,
) -> list[tuple[str, str]]:
    """Return task types with their domains, in order. `always` are included in any case."""
    parted = [queue.rpartition(":") for queue, size in sizes.items() if size]  # perago's task types have no colon
    queued = {(name, domain) for domain, _, name in parted}
    polled = {(poll.task_name, poll.domain) for poll in polls if now - poll.time / 1000 < RECENTLY}
    found = queued | polled | {(worker.task_name, "") for worker in here}
    return sorted({key for key in found if key[0] in wanted} | {(name, "") for name in always})


def _open_attempts(
    overview: ConductorOverview, names: set[str]
) -> tuple[dict[str, tuple[Sequence[OpenAttempt], bool]], tuple[ServiceError, ...]]:
    def ask(name: str) -> tuple[Sequence[OpenAttempt], bool] | ServiceError:
        if silent and time.monotonic() > until:  # each of the others would be waited for as long
            return silent[0]
        try:
            return overview.open_attempts(name, until)
        except ServiceError as error:
            if isinstance(error.__cause__, NoAnswerError):
                silent.append(error)
            return error

    def work() -> None:
        for name in left:
            found[name] = ask(name)

    until = time.monotonic() + _READING
    silent: list[ServiceError] = []
    found: dict[str, tuple[Sequence[OpenAttempt], bool] | ServiceError] = {}
    left = iter(list(names))
    # Daemons, unlike the threads of an executor: a command that is interrupted does not wait for a server that hangs.
    threads = [threading.Thread(target=work, name="perago-status", daemon=True) for _ in range(_REQUESTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    problems = tuple(answer for answer in found.values() if isinstance(answer, ServiceError))
    return {name: answer for name, answer in found.items() if not isinstance(answer, ServiceError)}, problems


def _oldest(rows: Sequence[OpenAttempt]) -> Waiting | None:
    waiting = [Waiting(one.task_id, one.workflow_id, one.scheduled) for one in rows if one.status == "SCHEDULED"]
    return min(waiting, key=lambda one: one.since, default=None)


def _silent(rows: Sequence[OpenAttempt], now: float) -> tuple[Silent, ...]:
    found = [
        Silent(one.task_id, one.workflow_id, one.worker_id, one.updated, one.updated + one.response_timeout * 1000)
        for one in rows
        if one.status == "IN_PROGRESS" and one.response_timeout and now - one.updated / 1000 > _longest_silence(one)
    ]
    return tuple(sorted(found, key=lambda each: each.since))


def _longest_silence(attempt: OpenAttempt) -> float:
    """Seconds that a worker which is alive may say nothing for."""
    if not is_worker_id(attempt.worker_id):
        return attempt.response_timeout
    return _LATE * min(attempt.response_timeout / 3, LONGEST_BEAT)
