"""Read Conductor's queues: one row per task type, with waiting and running attempts and workers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from perago.adapters.conductor.overview import ConductorOverview, LastPoll, OpenAttempt
from perago.adapters.http_answers import NoAnswerError
from perago.failure import Finding, Level
from perago.hanging import done_within
from perago.ports import ServiceError, Unavailable
from perago.taskdef.definition import Declared
from perago.text import age, count, one_line
from perago.worker.plan import is_worker_id
from perago.worker.presence import WorkerHere, WorkerProcess, dead_workers, worker_processes, workers_here
from perago.workspace.sweep import dead_attempts, living_attempts

RECENT_POLL = 86_400.0
"""Seconds for which a task type that was polled counts as one in use."""
UNATTENDED_AFTER = 120.0
"""Seconds without a poll after which waiting attempts have no worker, if none runs, because an idle worker polls more
often."""
MAX_ROWS = 100
MAX_HEARTBEAT_INTERVAL = 60.0
"""Seconds between two heartbeats of a perago worker, or a third of the response timeout if that is less."""
_MISSED_HEARTBEATS = 2.5
"""Number of such intervals after which a heartbeat was lost or its worker has died."""
_CONCURRENT_REQUESTS = 8
"""The number of requests at the same time."""
LIMIT = 20.0
"""Seconds after which the unanswered calls of a reading are given up."""
_LIST_READ_LIMIT = 10.0
"""Seconds for reading lists of attempts, because the server reads the complete list for each page of 1,000. The first
page of each list is always read, unless another list got no answer."""
K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Waiting:
    """An attempt that waits; `since` in milliseconds since the epoch."""

    task_id: str
    workflow_id: str
    since: int


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt that is with a worker. Times in milliseconds since the epoch; `silent` since when its worker has been
    silent, 0 if it is not."""

    task_id: str
    workflow_id: str
    worker_id: str
    started: int
    silent: int


@dataclass(frozen=True, slots=True)
class Silent:
    """An attempt whose worker has sent no heartbeat for longer than the heartbeat interval. A worker of another SDK
    sends few heartbeats or none, so it counts as silent once Conductor may deliver the attempt again. `since` is the
    last sign of life, `freed` the redelivery, both in milliseconds since the epoch."""

    task_id: str
    workflow_id: str
    worker_id: str
    since: int
    freed: int


@dataclass(frozen=True, slots=True)
class TaskTypeStatus:
    """One task type, without a domain or in one. perago workers do not poll domains."""

    task_name: str
    domain: str
    registered: bool
    waiting: int
    """Attempts in the queue, including delayed retries."""
    oldest: Waiting | None
    """The oldest of these. None if Conductor did not report it."""
    running: int | None
    """Attempts that are with a worker. None: unknown."""
    all_read: bool
    """Whether all attempts were read. If not, `oldest`, `running` and `silent` cover only a part of them."""
    silent: tuple[Silent, ...]
    """The running attempts whose worker seems to be dead, the longest first."""
    attempts: tuple[Running, ...]
    """The running attempts, the longest first: those of `running` that were read."""
    running_here: int
    """Running attempts in this workspace root."""
    workers: tuple[WorkerHere, ...]
    """The workers of this workspace root."""
    last_poll: LastPoll | None

    @property
    def slots_here(self) -> int:
        """The attempts that the workers of this root take at a time."""
        return sum(worker.slots for worker in self.workers)

    def silence(self, now: float) -> float | None:
        """Seconds since the last poll, at `now` (seconds since the epoch). None: no poll is known."""
        return None if self.last_poll is None else max(0.0, now - self.last_poll.time / 1000)

    def is_unattended(self, now: float) -> bool:
        """Whether attempts wait that no worker takes. A worker with busy slots does not poll either, so no attempt may
        be running."""
        silence = self.silence(now)
        return self.waiting > 0 and not self.running and (silence is None or silence > UNATTENDED_AFTER)

    def absence(self, now: float) -> str:
        """Describe that no worker takes the waiting attempts, and how certain that is."""
        silence = self.silence(now)
        asked = "no worker has ever asked for it" if silence is None else f"no worker has asked for {age(silence)}"
        if self.running is None or self.all_read:
            return asked
        return f"{asked}; none of the checked attempts is with a worker"


@dataclass(frozen=True, slots=True)
class QueueReport:
    """The rows by name, the number of omitted rows, and the unanswered questions."""

    rows: tuple[TaskTypeStatus, ...]
    workers: tuple[WorkerProcess, ...]
    """The workers of the workspace root."""
    killed: tuple[str, ...]
    """The workers there that ended without a stop, as Conductor names them."""
    left_out: int
    problems: tuple[ServiceError, ...]


def read_queues(
    overview: ConductorOverview,
    root: Path,
    names: Sequence[str] | None,
    now: float,
    progress: Callable[[str], None] = lambda _: None,
) -> QueueReport:
    """Return the state of task types.

    Args:
        overview: the Conductor.
        root: the workspace root, whose workers count as those of this machine.
        names: the task types; None: all that have a worker here, and all that are registered and have a queue or a
            poll of the last day.
        now: seconds since the epoch.
        progress: gets the current activity.

    Raises:
        ServiceError: Conductor did not report its queues and polls.
    """
    progress("reading the queues")
    until = time.monotonic() + LIMIT
    asked: Sequence[Callable[[], Any]] = (overview.queue_sizes, overview.task_names, overview.last_polls)
    answers, errors = _answers(asked, lambda ask: ask(), until)
    for error in errors:
        raise error
    sizes, registered, last_polls = map(answers.__getitem__, asked)
    polls = {(poll.task_name, poll.domain): poll for poll in last_polls}
    here = workers_here(root)
    # A worker here whose task type was never registered, or was deleted, must not be hidden.
    selected = registered | {worker.task_name for worker in here} if names is None else frozenset(names)
    keys = _keys(sizes, polls.values(), here, selected, names or (), now)
    shown = keys[:MAX_ROWS]
    progress(f"reading the attempts of {count(len({name for name, _ in shown}), 'task type')}")
    attempts, problems = _open_attempts(overview, {name for name, _ in shown}, until)
    killed = dead_workers(root)
    dead = killed | {f"{attempt.get('task_id')} {attempt.get('start_time')}" for attempt in dead_attempts(root)}
    ids_here = {f"{worker.worker_id}@{worker.host}:{worker.pid}" for worker in here}
    at_work = Counter(str(fields.get("task_name")) for fields in living_attempts(root))

    def row(name: str, domain: str) -> TaskTypeStatus:
        open_attempts, all_read = attempts.get(name, ((), False))
        rows = [attempt for attempt in open_attempts if attempt.domain == domain]
        waiting = [
            Waiting(attempt.task_id, attempt.workflow_id, attempt.scheduled)
            for attempt in rows
            if attempt.status == "SCHEDULED"
        ]
        return TaskTypeStatus(
            task_name=name,
            domain=domain,
            registered=name in registered,
            waiting=sizes.get(f"{domain}:{name}" if domain else name, 0),
            oldest=min(waiting, key=lambda attempt: attempt.since, default=None),
            running=sum(attempt.status == "IN_PROGRESS" for attempt in rows) if name in attempts else None,
            all_read=all_read,
            silent=_silent(rows, now, dead),
            attempts=_running(rows, now, dead),
            # An attempt has no directory before it has listed its files, and Conductor lists only some attempts.
            running_here=0 if domain else max(at_work[name], sum(attempt.worker_id in ids_here for attempt in rows)),
            workers=() if domain else tuple(worker for worker in here if worker.task_name == name),
            last_poll=polls.get((name, domain)),
        )

    rows = tuple(row(*key) for key in shown)
    return QueueReport(rows, worker_processes(here), tuple(sorted(killed)), len(keys) - len(shown), problems)


def _keys(
    sizes: Mapping[str, int],
    polls: Iterable[LastPoll],
    here: Sequence[WorkerHere],
    selected: frozenset[str],
    always: Sequence[str],
    now: float,
) -> list[tuple[str, str]]:
    """Return task types with their domains, in order. `always` are included in any case."""
    parted = [queue.rpartition(":") for queue, size in sizes.items() if size]  # perago's task types have no colon
    queued = {(name, domain) for domain, _, name in parted}
    polled = {(poll.task_name, poll.domain) for poll in polls if now - poll.time / 1000 < RECENT_POLL}
    in_use = queued | polled | {(worker.task_name, "") for worker in here}
    return sorted({key for key in in_use if key[0] in selected} | {(name, "") for name in always})


def _open_attempts(
    overview: ConductorOverview, names: set[str], limit: float
) -> tuple[dict[str, tuple[Sequence[OpenAttempt], bool]], tuple[ServiceError, ...]]:
    def ask(name: str) -> tuple[Sequence[OpenAttempt], bool]:
        if silent and time.monotonic() > until:  # each of the others would be waited for as long
            raise silent[0]
        try:
            return overview.open_attempts(name, until)
        except ServiceError as error:
            if isinstance(error.__cause__, NoAnswerError):
                silent.append(error)
            raise

    until = time.monotonic() + _LIST_READ_LIMIT
    silent: list[ServiceError] = []
    return _answers(names, ask, limit)


def _answers(keys: Iterable[K], ask: Callable[[K], T], until: float) -> tuple[dict[K, T], tuple[ServiceError, ...]]:
    """Ask for all keys, several at a time, until the moment `until` of the monotonic clock. Return the answers by key,
    and the errors."""
    answers: dict[K, T] = {}
    errors: list[ServiceError] = []
    left = iter(list(keys))

    def work() -> None:
        for key in left:
            try:
                answers[key] = ask(key)
            except ServiceError as error:
                errors.append(error)

    if not done_within(until - time.monotonic(), "perago-queues", [work] * _CONCURRENT_REQUESTS):
        errors.append(Unavailable("Conductor", "report its queues and attempts", f"no answer within {LIMIT:g} s"))
    return dict(answers), tuple(errors)


def _running(rows: Sequence[OpenAttempt], now: float, dead: Set[str]) -> tuple[Running, ...]:
    silent = {attempt.task_id: attempt.since for attempt in _silent(rows, now, dead)}
    running = sorted(
        (attempt for attempt in rows if attempt.status == "IN_PROGRESS"), key=lambda attempt: attempt.started
    )
    return tuple(
        Running(
            attempt.task_id, attempt.workflow_id, attempt.worker_id, attempt.started, silent.get(attempt.task_id, 0)
        )
        for attempt in running
    )


def _silent(rows: Sequence[OpenAttempt], now: float, dead: Set[str]) -> tuple[Silent, ...]:
    """Return the attempts whose heartbeats are late. `dead` has workers of this host that were killed, and the task ids
    and starts of attempts whose slot was: their heartbeats need not be late."""
    silent = [
        Silent(
            attempt.task_id,
            attempt.workflow_id,
            attempt.worker_id,
            attempt.updated,
            attempt.updated + attempt.response_timeout * 1000,
        )
        for attempt in rows
        if attempt.status == "IN_PROGRESS"
        and attempt.response_timeout
        and (
            {attempt.worker_id, f"{attempt.task_id} {attempt.started}"} & dead
            or now - attempt.updated / 1000 > _longest_silence(attempt)
        )
    ]
    return tuple(sorted(silent, key=lambda attempt: attempt.since))


def _longest_silence(attempt: OpenAttempt) -> float:
    """Return the longest silence of a living worker, in seconds."""
    if not is_worker_id(attempt.worker_id):
        return attempt.response_timeout
    return _MISSED_HEARTBEATS * min(attempt.response_timeout / 3, MAX_HEARTBEAT_INTERVAL)


def check_queues(
    overview: ConductorOverview, root: Path, tasks: Sequence[Declared] | None, now: float
) -> Iterator[Finding]:
    """Check whether attempts wait and no worker takes them. `tasks`: None for all task types in use.

    Raises:
        ServiceError: Conductor did not answer.
    """
    names = None if tasks is None else [task.name for task in tasks]
    modules = {task.name: task.module for task in tasks or ()}
    report = read_queues(overview, root, names, now)
    stuck = [row for row in report.rows if row.is_unattended(now) or (row.domain and row.waiting)]
    for row in stuck:
        yield _stuck_finding(row, now, modules.get(row.task_name, "MODULE"))
    silent = [row for row in report.rows if row.silent]
    for row in silent:
        yield _silent_finding(row, now)
    if not stuck and not silent:
        waiting, running = sum(row.waiting for row in report.rows), sum(row.running or 0 for row in report.rows)
        types = count(len(report.rows), "task type")
        yield Finding("queues", Level.OK, f"{types}: {count(waiting, 'attempt')} waiting, {running:,} running")


def _silent_finding(row: TaskTypeStatus, now: float) -> Finding:
    first = row.silent[0]
    silent = f"{count(len(row.silent), 'attempt')} of {row.task_name} with a silent worker"
    since = age(now - first.since / 1000)
    what = f"{silent}, the first for {since}: task {first.task_id}, worker {first.worker_id}"
    left = first.freed / 1000 - now
    freed = f"in {age(left)}" if left > 0 else "when it checks this workflow next"
    why = f"the worker was killed or does not reach Conductor; Conductor delivers the attempt again {freed}"
    advice = f"perago show {one_line(first.task_id)}; start a worker"
    return Finding("queues", Level.PROBLEM, one_line(what), why, advice)


def _stuck_finding(row: TaskTypeStatus, now: float, module: str) -> Finding:
    since = f", the oldest for {age(now - row.oldest.since / 1000)}" if row.oldest else ""
    waits = f"{count(row.waiting, 'attempt')} of {row.task_name} {'waits' if row.waiting == 1 else 'wait'}{since}"
    if row.domain:
        what = f"{waits}, in the domain {row.domain}"
        advice = "start the workflow without a taskToDomain for this task"
        return Finding("queues", Level.PROBLEM, one_line(what), "perago workers do not poll domains", advice)
    why = "no worker runs for this task type, or it polls another Conductor"
    return Finding("queues", Level.PROBLEM, one_line(f"{waits}, and {row.absence(now)}"), why, f"perago start {module}")
