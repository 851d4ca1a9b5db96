"""The ports between an attempt and its two services.

The protocol (`perago.attempt`) and the driver (`perago.driver`) know lakeFS and Conductor only through these protocols.
`perago.adapters` implements them on the servers' REST APIs, `perago.embedded` in memory.

Errors answer the important question after a failed call: *did it take effect?* `Unavailable` means that it certainly
did not, or that a repetition is harmless. `Unclear` means that only another read can answer this.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class Clock(Protocol):
    """The source of time, which a test can replace."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def sleep(self, seconds: float) -> None:
        """Return once `seconds` have passed on this clock."""


class SystemClock:
    """The system's clock."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Return once `seconds` have passed; a negative duration counts as 0."""
        time.sleep(max(0.0, seconds))


VIRTUAL_START = 1_767_225_600.0
"""The default start of virtual time: 2026-01-01T00:00:00Z."""


class VirtualClock:
    """A `Clock` for models and tests. Its time moves only on request (`advance`), or when a thread waits (`sleep`)."""

    def __init__(self, start: float = VIRTUAL_START) -> None:
        self._now = float(start)
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move time forward by `seconds`.

        Raises:
            ValueError: `seconds` is negative or not finite.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"time moves forward by a finite number of seconds, not by {seconds!r}")
        with self._lock:
            self._now += seconds

    def sleep(self, seconds: float) -> None:
        """Move time forward by `seconds`, even if other threads are awake.

        Raises:
            ValueError: `seconds` is not finite.
        """
        self.advance(max(0.0, seconds))


class ServiceError(Exception):
    """A call to lakeFS or Conductor that failed.

    `service` is `"lakeFS"` or `"Conductor"`, `operation` the call in plain words (`"merge into main"`), `detail` the
    message of the service or the network, without secrets.
    """

    def __init__(self, service: str, operation: str, detail: str) -> None:
        super().__init__(f"{service}: {operation}: {detail}")
        self.service = service
        self.operation = operation
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.service, self.operation, self.detail))


class Unavailable(ServiceError):
    """The service did not do it: unreachable, overloaded, or failing (429, 5xx, timeout of a read)."""


class Untrusted(Unavailable):
    """The certificate of the server is not trusted, so nothing was sent."""


class Overloaded(Unavailable):
    """The service asked the client to wait `retry_after` seconds (the header `Retry-After`)."""

    retry_after: float = 0.0


class RateLimited(Overloaded):
    """The service, or a proxy in front of it, limits the number of requests (429)."""


class Unclear(ServiceError):
    """A write was sent, but got no usable answer. It may have taken effect, so read before you repeat it."""


class AccessDenied(ServiceError):
    """The credentials are missing or wrong, or lack the permission (401, 403)."""


class Forbidden(AccessDenied):
    """lakeFS says that these credentials do not have the permission (401 with its text), or that the branch is
    protected (403). Waiting does not help."""


class NotFound(ServiceError):
    """The repository, branch, commit or task that the call names does not exist."""


FENCE_MARKER = "perago-publish-fence"
"""A text in every refusal of perago's pre-merge hook, which distinguishes its 412 from that of another hook."""


class MergeRefusal(StrEnum):
    """The reason why lakeFS refused a merge (`docs/dev/servers/lakefs.md`, "Statuses with the hook in place")."""

    HEAD_MOVED = "head moved"  # 412 carrying the marker text of perago's publish fence
    HOOK = "hook"  # 412 of another pre-merge hook
    CONFLICT = "conflict"  # 409: both sides changed one path
    NO_CHANGES = "no changes"  # 400: this source has been merged already
    DIRTY = "uncommitted changes"  # 400: objects are staged on the target


class Refused(ServiceError):
    """The service understood the call and refused it for good (any other 4xx)."""


class MergeRefused(Refused):
    """lakeFS refused a merge; `reason` says which of the known refusals it was."""

    def __init__(self, service: str, operation: str, detail: str, reason: MergeRefusal) -> None:
        super().__init__(service, operation, detail)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.service, self.operation, self.detail, self.reason))


class NothingToCommit(Refused):
    """The branch has no staged changes (400 `no changes`)."""


class RevertConflict(Refused):
    """Later changes are in the way of a revert (409)."""


class CorruptTransfer(ServiceError):
    """An object's bytes do not match its recorded size or checksum."""


_TRACEPARENT = re.compile(
    r"(?!ff)(?!00.{54})"  # version ff is not valid, and version 00 has these four fields only
    r"[0-9a-f]{2}-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<parent>(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(-.*)?"
)
_SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class WorkflowSpan:
    """The span of one run of a workflow. Ids are lowercase hexadecimal digits: 32 of a trace, 16 of a span."""

    workflow_id: str
    trace_id: str
    span_id: str
    caller_id: str | None = None
    """The span in which the workflow was started; None: unknown, so the trace begins with the workflow."""
    sampled: bool = True
    """Whether the span of the caller is sampled. Child spans do the same, unless configured differently."""
    run_before: int = 0
    """The end of the run before, if the workflow was rerun or retried by hand; milliseconds since the epoch."""
    parent: WorkflowSpan | None = None
    """The workflow that this is a sub-workflow of."""


def workflow_span(
    workflow_id: str,
    traceparent: object = None,
    *,
    created: int = 0,
    run_before: int = 0,
    parent: WorkflowSpan | None = None,
) -> WorkflowSpan:
    """Return the span of a run of a workflow.

    Args:
        workflow_id: the id of the workflow. Without a usable `traceparent`, the id of the trace is derived from it, so
            that all attempts of a workflow are in one trace.
        traceparent: the header with which the workflow was started. A malformed one is ignored, as W3C requires.
        created: when Conductor created the workflow. A restart changes it, so that each run has a span of its own.
        run_before: as in the result. A rerun or retry keeps the end of the run before.
        parent: as in the result.
    """
    match = _TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    return WorkflowSpan(
        workflow_id,
        trace_id=match["trace"] if match else _digest(f"perago:{workflow_id}")[:32],
        span_id=_digest(f"perago:workflow:{workflow_id}:{created}:{run_before}")[:16],
        caller_id=match["parent"] if match else None,
        sampled=bool(int(match["flags"], 16) & _SAMPLED) if match else True,
        run_before=run_before,
        parent=parent,
    )


Identity = tuple[str, int, int]
"""Task id, poll count and start time, which identify a delivery."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The span of one delivery."""

    span_id: str
    workflow: WorkflowSpan
    """The span of its workflow, which is the parent of this span."""
    retry_of: str | None = None
    """The span of the attempt before this one."""

    @property
    def trace_id(self) -> str:
        """The trace of the workflow."""
        return self.workflow.trace_id

    @property
    def traceparent(self) -> str:
        """The header that passes the span on to the publication and to the function."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.workflow.sampled else '00'}"


def trace_of(identity: Identity, workflow: WorkflowSpan, retry_of: Identity | None = None) -> Trace:
    """Return the trace of one delivery, from whose identity the id of its span is derived. `retry_of` is the last
    delivery of the attempt before."""
    return Trace(_span_of(identity), workflow, _span_of(retry_of) if retry_of else None)


def _span_of(identity: Identity) -> str:
    return _digest(":".join(map(str, identity)))[:16]


@dataclass(frozen=True, slots=True)
class WorkflowEnd:
    """The end of a run of a workflow. Times are milliseconds since the epoch, by Conductor's clock."""

    name: str
    status: str
    """As Conductor spells it, `COMPLETED` for a success."""
    reason: str
    began: int
    ended: int
    last: Identity | None
    """The delivery that ended last, here or in a sub-workflow; None: there was none."""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One hand-over of an attempt to a worker.

    `(task_id, poll_count, start_time)` is its identity: rerun and redelivery keep the task id
    (`docs/dev/servers/conductor.md`, "Measured later"). Times are milliseconds since the epoch, durations seconds.
    Fields have no defaults, so that no adapter can forget one.
    """

    task_id: str
    poll_count: int
    start_time: int
    task_name: str
    workflow_id: str
    workflow_name: str
    """The name of the definition of its workflow; empty: unknown."""
    reference_name: str
    iteration: int
    retry_count: int
    retried_task_id: str | None
    input: Mapping[str, Any]
    external_input: bool
    """Conductor moved the input to external storage, so `input` is empty (from about 4 MB)."""
    input_is_too_deep: bool
    """The input is nested too deeply to be read, so `input` is empty."""
    retried: bool
    """Whether a retry has replaced it. If a workflow is rerun from a later step, Conductor hands out such attempts
    again, waits for their end, and ignores it. If that rerun has removed the retry, the attempt counts again, and this
    is false."""
    retry_output: Mapping[str, Any] | None
    """The report of the retry, if Conductor has forgotten the retry. Conductor restarts a canceled attempt when a
    sub-workflow next to it continues, and then a failure of this attempt would count."""
    response_timeout_seconds: float
    timeout_seconds: float
    """0: no limit."""
    spent_seconds: float
    """Seconds from the first delivery of the attempt to this one, by Conductor's clock; 0 for a first delivery."""
    waited_seconds: float
    """Seconds that it was in Conductor's queue, by Conductor's clock."""
    trace: Trace | None
    """None: the worker sends no traces."""
    timeout_policy: str = "TIME_OUT_WF"
    """Conductor's reaction after `timeout_seconds`: `RETRY`, `TIME_OUT_WF` or `ALERT_ONLY`."""

    @property
    def identity(self) -> tuple[str, int, int]:
        return (self.task_id, self.poll_count, self.start_time)


OPEN_WORKFLOWS = ("RUNNING", "PAUSED")
"""The statuses of a workflow that has not ended, as Conductor spells them."""
ENDED_WORKFLOWS = ("COMPLETED", "FAILED", "TIMED_OUT", "TERMINATED")
"""The statuses of a workflow that has ended, as Conductor spells them."""


class TaskStatus(StrEnum):
    """The statuses that perago reports, spelled as Conductor spells them."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    FAILED_WITH_TERMINAL_ERROR = "FAILED_WITH_TERMINAL_ERROR"


@dataclass(frozen=True, slots=True)
class Report:
    """The report to Conductor about a finished delivery. `reason` is at most 500 characters (the server cuts there)."""

    status: TaskStatus
    output: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None


OPEN_STATUSES = ("SCHEDULED", "IN_PROGRESS")
"""The statuses of a task that has not ended, as Conductor spells them."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """Conductor's current record of one execution of a step.

    Fields have no defaults, so that no adapter can forget one. A row changes after it was read: a rerun resets it, and
    a late report completes it.
    """

    task_id: str
    reference_name: str
    status: str
    """As Conductor spells it."""
    poll_count: int
    start_time: int
    """Milliseconds since the epoch; 0 for a row that was never polled, or is to run again."""
    retried_task_id: str | None
    """The row that this one retries."""
    is_operator: bool
    """Whether the server runs it, such as a JOIN. Attempts and sub-workflows are not operators."""
    is_sub_workflow: bool
    sub_workflow_id: str | None
    """The sub-workflow that the row names. A sub-workflow can run before its row names it."""
    is_optional: bool
    input_commits: frozenset[str]
    """The commit ids anywhere in its input."""
    published_commit: str | None
    """The commit in the workspace of its output."""

    @property
    def is_open(self) -> bool:
        """Whether it is scheduled or running."""
        return self.status in OPEN_STATUSES


@dataclass(frozen=True, slots=True)
class WorkflowRow:
    """Conductor's current record of a workflow with its rows, oldest first.

    Fields have no defaults, so that no adapter can forget one.
    """

    workflow_id: str
    parent_id: str | None
    """The id of its parent workflow, which never changes."""
    rows: tuple[TaskRow, ...]
    forgets_rounds: bool
    """Whether the workflow has begun a loop that keeps only its last rounds (`keepLastN`), so that rows of valid rounds
    are removed."""

    def row(self, task_id: str) -> TaskRow | None:
        """Return the row with this id, or None."""
        return next((row for row in self.rows if row.task_id == task_id), None)

    def has_retry(self, row: TaskRow) -> bool:
        """Whether another row retries this one. Conductor's own mark stays on a row whose retry a rerun has removed."""
        return any(retry.retried_task_id == row.task_id for retry in self.rows)

    def retries_of(self, row: TaskRow) -> tuple[str, ...]:
        """Return the ids of the rows that `row` retries, directly or not, newest first."""
        chain = list[str]()
        above = row.retried_task_id
        while above is not None and above not in chain:
            chain.append(above)
            retried = self.row(above)
            above = retried.retried_task_id if retried is not None else None
        return tuple(chain)


class DeliveryCheck(Protocol):
    """Answers the delivery check, which precedes every step that cannot be undone."""

    def is_current(self, delivery: Delivery) -> bool:
        """Whether Conductor is still waiting for this delivery. It reads the task, and never guesses.

        Raises:
            ServiceError: no answer, which means neither yes nor no.
        """

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow | None:
        """Return any workflow with its rows, on behalf of `delivery`; None: Conductor itself says that it does not
        exist.

        Raises:
            ServiceError: no answer.
        """


POLL_MARGIN = 30.0
"""Seconds beyond its wait after which a client gives up a poll. A poll that is given up loses its deliveries."""


class TaskQueue(DeliveryCheck, Protocol):
    """The calls of a worker to Conductor. Every method may raise any `ServiceError`; each has a time limit."""

    def poll(self, task_name: str, worker_id: str, *, count: int, wait_seconds: float) -> Sequence[Delivery]:
        """Take up to `count` deliveries. Return once there are `count`, at the latest after `wait_seconds` (at most 5).
        An attempt that must repeat the report of its retry goes back until the retry has ended."""

    def queue_depths(self, task_names: Sequence[str]) -> Mapping[str, int]:
        """Return the number of attempts in each queue, including those that are not due yet; 0 for an unknown queue."""

    def extend_lease(self, delivery: Delivery) -> None:
        """Extend the response timeout. This does not show whether the delivery is still current, so call `is_current`
        first."""

    def hand_back(self, delivery: Delivery, seconds: int = 0) -> None:
        """Give an attempt back for redelivery to any poller, after `seconds`."""

    def report(self, delivery: Delivery, report: Report, worker_id: str) -> None:
        """Send the final status. Success does not mean that it was accepted (`docs/dev/servers/conductor.md`, "Fifteen
        behaviors", point 2)."""

    def add_log(self, task_id: str, text: str) -> None:
        """Append one entry to the task's log."""

    def get_task_definition(self, name: str) -> Mapping[str, Any] | None:
        """Return the registered TaskDef as JSON, or None."""

    def register_task_definitions(self, definitions: Sequence[Mapping[str, Any]]) -> None:
        """Create or replace TaskDefs."""

    def close(self) -> None:
        """Close connections and end threads."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One lakeFS commit. `created` is in seconds since the epoch."""

    id: str
    parents: tuple[str, ...]
    committer: str
    message: str
    created: int
    metadata: Mapping[str, str]
    meta_range_id: str
    """Identity of the tree: equal trees have equal ids."""


_LONGEST_BELOW = 1000
"""Maximum length of a message or a metadata value that is kept of a commit below the head."""
_WHOLE = frozenset({"perago.step_key", "perago.prefix", "perago.supersedes", "perago.shared"})
"""Metadata that are never shortened, because recovery compares them or needs all their ids and keys."""


def shortened(commit: Commit) -> Commit:
    """Return a commit as a history keeps it below its head: without long texts and foreign metadata."""
    metadata = {
        key: value
        for key, value in commit.metadata.items()
        if key in _WHOLE or (key.startswith("perago.") and len(value) <= _LONGEST_BELOW)
    }
    return replace(commit, message=commit.message[:_LONGEST_BELOW], metadata=metadata)


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """One object of a listing. `key` is relative to the repository, `mtime` in seconds."""

    key: str
    size: int
    checksum: str
    """The listed checksum: a hex MD5 if the server computed one, otherwise an opaque text."""
    mtime: int
    content_type: str
    metadata: Mapping[str, str]
    physical_address: str
    """The address of the bytes in the block store, as listed. Empty: unknown. lakeFS never writes to an address
    twice."""


@dataclass(frozen=True, slots=True)
class Placement:
    """An object and the absolute local path of its file. `path` is None for objects that are left out."""

    entry: ObjectEntry
    path: Path | None


@dataclass(frozen=True, slots=True)
class Upload:
    """A local file to stage under `key`.

    `checksum` is the hex MD5 that change detection computed. A file that vanished or changed since then raises
    `perago.workspace.scan.FileChanging`; stored bytes that differ raise `CorruptTransfer`. With `content_type` None,
    the store decides. No part of `path` below `root`, by default the file's directory, may be a symlink.
    """

    key: str
    path: Path
    size: int
    checksum: str
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None

    @property
    def place(self) -> tuple[Path, str]:
        """The root, and where the file is below it."""
        root = self.root or self.path.parent
        return root, self.path.relative_to(root).as_posix()


OnPage = Callable[[Sequence[ObjectEntry]], None]
"""Gets the objects of a listing, in batches, in the order of their keys."""
Progress = Callable[[int, int], None]
"""Called with (objects, bytes) finished by one download so far. May be called from several threads."""


class StoreNotes(NamedTuple):
    """Notes of a store about its transfers, for an operator."""

    texts: tuple[str, ...] = ()
    damaged: int = 0
    """Number of objects whose copies in the cache were damaged, and that were downloaded again."""


Staged = Callable[[Upload], object]
"""Called with each file of one upload that is staged. May be called from several threads."""


def no_progress(objects: int, transferred: int) -> None:
    """A `Progress` that does nothing."""


class WorkspaceStore(Protocol):
    """The calls of an attempt to lakeFS. Every method may raise any `ServiceError`; each has a time limit."""

    def get_commit(self, repository: str, ref: str) -> Commit:
        """Return the commit that a full commit id or a branch name points at.

        Raises:
            NotFound: no such repository or ref.
        """

    def history(self, repository: str, branch: str, *, until: str, limit: int) -> tuple[Commit, ...]:
        """Return the first-parent commits of `branch`, newest first, down to `until` (left out) or its root.

        At most `limit` are returned; a result of exactly `limit` may be cut short. An empty tuple means that
        `until` is the head. Commits below the head are `shortened`.
        """

    def ancestry(self, repository: str, commit: str, *, limit: int) -> tuple[Commit, ...]:
        """Return the commit with this full id and its first-parent ancestors, newest first, at most `limit`.

        There are fewer only where the history begins. As in `history`, long texts and foreign metadata can be missing.

        Raises:
            NotFound: no such repository or commit.
        """

    def has_uncommitted_changes(self, repository: str, branch: str) -> bool:
        """Whether objects are staged on `branch`, so that a merge into it would be refused."""

    def newest_staged(self, repository: str, branch: str) -> int | None:
        """Return the time at which the newest staged object of `branch` was uploaded, in seconds since the epoch. None:
        no object is staged. A staged deletion is not an object."""

    def list_objects(
        self, repository: str, commit: str, prefix: str, on_page: OnPage | None = None
    ) -> Sequence[ObjectEntry]:
        """Return every object of a commit whose key begins with `prefix` (`""` or ending in `/`), in the order of their
        keys.

        `on_page` gets the objects as they arrive. An error that it raises ends the listing.

        Raises:
            NotFound: no such repository or commit.
        """

    def download(
        self,
        repository: str,
        commit: str,
        workspace: Path,
        placements: Sequence[Placement],
        on_progress: Progress = no_progress,
    ) -> int:
        """Download objects of an immutable commit, as `list_objects` returned them, to their paths below `workspace`.
        Return the number of objects that came from the cache.

        Files are written in a private directory next to `workspace`, and moved when they are complete and verified.
        They get the object's modification time. If a download fails, the complete files stay.

        Raises:
            CorruptTransfer: size or MD5 differ from the listing.
            OSError: the local disk failed (full, read-only, ...).
        """

    def create_branch(self, repository: str, branch: str, source: str) -> None:
        """Create a hidden branch at commit `source`.

        Raises:
            Refused: there is a branch of this name, perhaps from an earlier call.
            Unclear: the answer was lost; the branch shows the outcome.
        """

    def upload(self, repository: str, branch: str, uploads: Sequence[Upload], on_staged: Staged | None = None) -> None:
        """Stage files on `branch`. A repetition is harmless, and only needed for files that were not passed to
        `on_staged`."""

    def delete_objects(self, repository: str, branch: str, keys: Sequence[str]) -> None:
        """Stage the deletion of `keys`, however many. Repeating is harmless."""

    def commit(
        self, repository: str, branch: str, message: str, metadata: Mapping[str, str], *, allow_empty: bool = False
    ) -> Commit:
        """Commit the staged changes of `branch`. `allow_empty`: allow a commit without changes.

        Raises:
            NothingToCommit: nothing is staged.
            Unclear: the answer was lost; the branch head shows the outcome.
        """

    def revert(self, repository: str, branch: str, commit: str) -> None:
        """Revert merge commit `commit` on `branch` with a new commit. This must not be repeated blindly.

        Raises:
            RevertConflict: later changes conflict.
            NothingToCommit: it changes nothing.
            Unclear: the answer was lost; the branch head shows the outcome.
        """

    def diff(self, repository: str, left: str, right: str) -> Mapping[str, int | None]:
        """Return the keys at which two commits differ (a two-dot diff, complete), each with its size in bytes in
        `right`; None: it is not there."""

    def stat_objects(self, repository: str, commit: str, keys: Collection[str]) -> Mapping[str, ObjectEntry]:
        """Return the objects that a commit has at `keys`, as listings show them.

        Sends at most one request for each key, and at most one for each 1,000 objects of the commit.

        Raises:
            NotFound: no such repository or commit.
        """

    def merge(
        self,
        repository: str,
        source: str,
        branch: str,
        message: str,
        metadata: Mapping[str, str],
        *,
        allow_empty: bool = False,
        within: float | None = None,
    ) -> str:
        """Merge commit id `source` into `branch`, without strategy, squash or force. Return the merge commit's id.

        `allow_empty` allows a merge that changes nothing, such as that of the head into its own branch. `within` limits
        the wait for the answer, in seconds; None leaves it to the store.

        Raises:
            MergeRefused: with the reason.
            Unclear: the answer was lost; the history of `branch` shows the outcome.
        """

    def list_branches(self, repository: str, prefix: str) -> tuple[str, ...]:
        """Return all branches whose names begin with `prefix`, hidden ones included, in order."""

    def delete_branch(self, repository: str, branch: str) -> None:
        """Delete a branch, unless it no longer exists."""

    def close(self) -> None:
        """Close connections and end threads."""
