"""The events of a worker, as values that the supervisor passes to its listeners.

A new listener of every worker is an exporter (`perago.worker.exporters.EXPORTERS`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from perago.attempt.events import FenceState
from perago.authoring.context import Measured
from perago.driver import AttemptRecord
from perago.driver.runtime import Direction
from perago.ports import Delivery, TaskStatus
from perago.workspace.changes import Changes

MOST_VERDICTS = 200


@dataclass(frozen=True, slots=True)
class JudgedRule:
    """The verdict of one guardrail."""

    phase: str
    rule: str
    satisfied: bool
    message: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes and counts of one attempt."""

    objects: int = 0
    """Files of the workspace before the function."""
    from_cache: int = 0
    """Number of objects that came from the cache."""
    downloaded: int = 0
    """Bytes that were put into the workspace, from lakeFS or the cache."""
    uploaded: int = 0
    """Bytes that were staged."""
    fence_refusals: int = 0
    """Merges that were refused because the head had moved."""
    metrics: tuple[Measured, ...] = ()
    """The metrics that the function has reported."""
    changed: int = 0
    """Files that were added, changed or removed."""
    changed_bytes: int = 0
    """The size of the files that were added or changed."""
    input_ref: str | None = None
    """The commit that the attempt began with."""
    verdicts: tuple[JudgedRule, ...] = ()
    """Those of the guardrails, at most `MOST_VERDICTS`."""
    failed_step: str = ""
    """The step after which the attempt failed or was lost; empty for a success."""
    error_type: str = ""
    """The class of the exception that the function raised; empty if it raised none."""
    cache_damaged: int = 0
    """Number of objects that were downloaded because their copies in the cache were damaged."""


NO_USAGE = Usage()


class TransferMeter:
    """Sums the bytes of transfers. A transfer that begins again reports a smaller number than before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[Direction, int] = {"download": 0, "upload": 0}
        self._total: dict[Direction, int] = {"download": 0, "upload": 0}

    def transferred(self, direction: Direction, size: int) -> None:
        """Report the number of bytes of the current transfer."""
        with self._lock:
            before = self._last[direction]
            self._total[direction] += size - before if size >= before else size
            self._last[direction] = size

    def total(self, direction: Direction) -> int:
        """Bytes of all transfers."""
        with self._lock:
            return self._total[direction]


class Event:
    """Something that happened in a worker. Each kind is a frozen dataclass."""

    __slots__ = ()


class Watched(Event):
    """An event that `WorkerPlan.watch` or `LogPlan.forward` adds. Slots send it.

    The supervisor does not log it, because the slot's own log has it.
    """

    __slots__ = ()


def kinds_of(base: type[Event]) -> dict[str, type[Event]]:
    """Return the kinds of events directly below `base`, by their names."""
    return {kind.__name__: kind for kind in base.__subclasses__()}  # one with slots replaces a class of its name


@dataclass(frozen=True, slots=True)
class WorkerReady(Event):
    """Polling for a task begins, because its first slot is ready, or because it shares slots that are created when
    there is work. `seconds` is the time since the call of `Supervisor.run`."""

    module: str
    task_name: str
    worker_id: str
    slots: int
    """The number of its attempts that may run at the same time."""
    seconds: float
    shared: bool = False


@dataclass(frozen=True, slots=True)
class SlotReady(Event):
    """A slot process has imported the task module and takes deliveries."""

    worker_id: str
    pid: int
    task_name: str


@dataclass(frozen=True, slots=True)
class SlotStartFailed(Event):
    """A slot process could not be started, could not import the task module or could not make its store. The next one
    starts after `restart_seconds`."""

    worker_id: str
    reason: str
    task_name: str
    restart_seconds: float


@dataclass(frozen=True, slots=True)
class SlotDied(Event):
    """A slot process that had not failed to start ended unexpectedly. A new one starts after `restart_seconds`."""

    worker_id: str
    pid: int
    reason: str
    restart_seconds: float
    delivery: Delivery | None = None
    """Its attempt, if it had one."""
    task_name: str = ""


@dataclass(frozen=True, slots=True)
class SlotReplaced(Event):
    """A slot process was ended on purpose, for `reason`; a new one starts immediately. `delivery`: its attempt, if it
    had one."""

    worker_id: str
    pid: int
    reason: str
    delivery: Delivery | None = None


@dataclass(frozen=True, slots=True)
class SlotEnded(Event):
    """A shared slot's process was ended on purpose, for `reason`; its place is free."""

    worker_id: str
    pid: int
    reason: str


@dataclass(frozen=True, slots=True)
class AttemptReceived(Event):
    """A delivery went to a slot."""

    delivery: Delivery
    worker_id: str


class Ending(StrEnum):
    """The end of an attempt, from the view of Conductor."""

    REPORTED = "reported"
    """Its result."""
    LOST = "lost"
    """No report is sent, because the delivery is no longer current or was canceled."""
    UNREPORTED = "unreported"
    """The report did not arrive. The response timeout ends the attempt."""
    HANDED_BACK = "handed_back"
    """The attempt is delivered again, because the disk of this host prevented its function."""


@dataclass(frozen=True, slots=True)
class AttemptEnded(Event):
    """The attempt has ended. `seconds` from the hand-over to the slot until the slot was free again."""

    delivery: Delivery
    worker_id: str
    ending: Ending
    seconds: float
    reason: str | None = None
    """The reason of the report, or why it was not reported."""
    status: TaskStatus | None = None
    """The status of the report. None for a lost attempt."""
    published_commit: str | None = None
    steps: tuple[tuple[str, float], ...] = ()
    remarks: tuple[str, ...] = ()
    """Facts about the publication for an operator: adopted, undone, not fenced."""
    fence: FenceState | None = None
    """The publish fence of the publication. None if the attempt did not read it."""
    usage: Usage = NO_USAGE
    """The numbers that its slot has reported."""

    @property
    def completed(self) -> bool:
        """Whether Conductor has a success."""
        return self.ending is Ending.REPORTED and self.status is TaskStatus.COMPLETED


@dataclass(frozen=True, slots=True)
class FenceNotEnforced(Event):
    """The lakeFS server does not run the hooks of `repository`, so publications there are not guarded. Emitted once for
    each repository."""

    repository: str


@dataclass(frozen=True, slots=True)
class HandedBack(Event):
    """A delivery that no slot took was given back to Conductor, or could not be (`error`). `reason`: why a free slot
    did not take it."""

    delivery: Delivery
    error: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PollingPaused(Event):
    """The worker takes no work until `PollingResumed`, because this host cannot run attempts, for `reason`."""

    reason: str


@dataclass(frozen=True, slots=True)
class PollingResumed(Event):
    """The host can run attempts again after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class LeaseDoubtful(Event):
    """No heartbeat has arrived for as long as Conductor waits. The attempt continues, because its delivery checks
    decide."""

    delivery: Delivery
    worker_id: str
    reason: str


ALL_TASKS = ""
"""Used in place of the name of one task."""


@dataclass(frozen=True, slots=True)
class ConductorUnreachable(Event):
    """Polling fails until `ConductorBack`. `denied`: the credentials are rejected. With `task_name`, only the polls for
    that task are refused."""

    reason: str
    denied: bool
    task_name: str = ALL_TASKS


@dataclass(frozen=True, slots=True)
class ConductorBack(Event):
    """Polling works again after `seconds`; with `task_name`, that for this task."""

    seconds: float
    task_name: str = ALL_TASKS


@dataclass(frozen=True, slots=True)
class DirectoriesSwept(Event):
    """Attempt directories that an earlier worker left behind were removed."""

    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class BranchesSwept(Event):
    """Staging branches that attempts left behind were removed; `branches` as `repository/branch`."""

    branches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BranchSweepFailed(Event):
    """Staging branches in `repositories` could not be listed, or not all of them could be removed. The next sweep tries
    again."""

    repositories: tuple[str, ...]
    error: str


@dataclass(frozen=True, slots=True)
class CleanUpFailed(Event):
    """An attempt directory could not be removed. The next start tries again."""

    path: Path
    error: str


@dataclass(frozen=True, slots=True)
class CacheFailed(Event):
    """The cache of objects cannot be used, or exceeds its limit. Attempts download their objects from lakeFS."""

    error: str


@dataclass(frozen=True, slots=True)
class CacheTrimmed(Event):
    """The objects of the cache that were unused for longest were deleted, to keep it to its limit."""

    objects: int


@dataclass(frozen=True, slots=True)
class LogsTrimmed(Event):
    """Log files were removed because they were too old or too many."""

    files: int


@dataclass(frozen=True, slots=True)
class Draining(Event):
    """The worker takes no more work and finishes `running` attempts."""

    running: int


@dataclass(frozen=True, slots=True)
class Cancelling(Event):
    """A second signal: `running` attempts are being canceled."""

    signal: str
    running: int


@dataclass(frozen=True, slots=True)
class Stopped(Event):
    """The worker is down."""

    exit_code: int


@dataclass(frozen=True, slots=True)
class StepStarted(Watched):
    """Watched attempts only: the driver begins to carry out a command."""

    worker_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Transferred(Watched):
    """Watched attempts only: progress of a download or an upload in objects and bytes."""

    worker_id: str
    direction: Direction
    objects: int
    size: int
    total_objects: int
    total_size: int


@dataclass(frozen=True, slots=True)
class FunctionSaid(Watched):
    """Watched attempts only: a line that the function printed or logged, or its traceback."""

    worker_id: str
    text: str


@dataclass(frozen=True, slots=True)
class FunctionProgress(Watched):
    """Watched attempts only: `current().progress(done, total)`."""

    worker_id: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class AttemptRecorded(Watched):
    """Watched attempts only: everything about the attempt, before it is reported. A long record comes in parts, each
    with a part of its lists (`joined`)."""

    worker_id: str
    record: AttemptRecord


IN_PARTS = ("steps", "findings", "notes", "left_files", "ignored_params", "metrics")
"""Fields of a record that are spread over its parts, as its changed files are."""


def joined(first: AttemptRecord | None, record: AttemptRecord) -> AttemptRecord:
    """Join `record` with `first`, the already received part of the same record."""
    if first is None or first.delivery != record.delivery:
        return record
    before, after = first.changes, record.changes
    lists: dict[str, Any] = {name: getattr(first, name) + getattr(record, name) for name in IN_PARTS}
    return replace(
        record,
        **lists,
        changed_since_adopted={**first.changed_since_adopted, **record.changed_since_adopted},
        changes=Changes(before.added + after.added, before.changed + after.changed, before.removed + after.removed),
    )


@dataclass(frozen=True, slots=True)
class Logged(Watched):
    """A line of a slot's log, made by `logs.LogLines`, only with `LogPlan.forward`. The slot chooses its fields."""

    worker_id: str
    line: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Pulse(Event):
    """The event loop runs. Emitted once a second, for probes and metrics. Not logged."""

    slots: int
    free: int
    busy: int
    unreported: int
    """Attempts that have left their slot and whose report has not arrived."""
    beating: float
    """Age of the oldest heartbeat without an answer, in seconds; 0 without one."""
    ages: Mapping[str, float] = field(default_factory=dict)
    """Age of the oldest running attempt of each task that has one, in seconds."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Attempts whose call hangs or is repeated, by the service that does not answer."""
    free_bytes: Mapping[str, int] = field(default_factory=dict)
    """Free bytes for workspaces and for logs, as far as they could be read."""
    disk_bytes: Mapping[str, int] = field(default_factory=dict)
    """Sizes of the same disks in bytes."""
    stopped: int = 0
    """Slots whose process a signal has stopped (state T)."""


@dataclass(frozen=True, slots=True)
class CallRepeated(Event):
    """An attempt repeats a call to `service`, which did not answer. Not logged."""

    worker_id: str
    service: str


@dataclass(frozen=True, slots=True)
class WaitingForLakeFS(Event):
    """An attempt waits for lakeFS, which does not answer; `text` names the call."""

    worker_id: str
    text: str
    delivery: Delivery | None = None


@dataclass(frozen=True, slots=True)
class LakeFSBack(Event):
    """An attempt continues, because lakeFS answers again; `text` says how long it did not."""

    worker_id: str
    text: str
    delivery: Delivery | None = None


UNLOGGED = (Watched, Pulse, CallRepeated)
"""Events that are not logged."""

Listener = Callable[[Event], None]
"""Accepts every event, on the supervisor's thread. `Stopped` is the last one. It must be quick and must not raise
exceptions."""
