"""The environment and the record of an attempt: clock, limits, observer, and events.

The delivery check runs before the steps that cannot be undone. Between them, a transfer can last for hours, or a call
to a server without an answer can be repeated. The worker interrupts these when it notices a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, wait
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from perago.attempt.events import FenceState
from perago.attempt.state import Step
from perago.authoring.context import Measured
from perago.driver.fencing import FenceProofs
from perago.driver.function import FunctionCaller, call_function
from perago.guardrails.evaluation import Finding
from perago.ports import Clock, Delivery, DeliveryCheck, Report, ServiceError, StoreNotes, WorkspaceStore
from perago.settings.sources import PublishFence
from perago.taskdef.payload import HEAD_OF
from perago.text import count, listing, quoted, short
from perago.workspace.changes import Changes


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are bytes, times seconds."""

    max_result_bytes: int = 1024 * 1024
    """`PERAGO_MAX_RESULT_BYTES`: a result is stored in full in the publication's metadata."""
    max_workspace_bytes: int | None = None
    """`PERAGO_MAX_WORKSPACE_BYTES`; None: no limit."""
    max_workspace_objects: int = 10_000_000
    """`PERAGO_MAX_WORKSPACE_OBJECTS`: of objects below the task's prefix."""
    history: int = 1000
    """Commits that are looked through between the branch head and the input ref."""
    publish_fence: PublishFence = PublishFence.AUTO
    """`PERAGO_PUBLISH_FENCE`: how strictly a publication insists on the publish fence."""
    answer_patience: float = 120.0
    """Seconds for which Conductor is asked again while it does not answer, and lakeFS while it rejects the credentials.
    Wrong credentials stay wrong, because a worker reads them once; only the problems of a proxy pass."""
    outage_patience: float = 2700.0
    """The seconds for which an attempt waits while lakeFS does not answer or fails. Restarts, upgrades and failovers
    take less time. The limit is below the hour after which `perago gc` can remove an idle staging branch. A task's
    `timeoutSeconds` ends the wait earlier."""
    rebase_tries: int = 100
    """The number of times that changes are applied to another head while others advance the branch."""
    fail_on_left_files: bool = False
    """An attempt fails if its function leaves files in its current directory; else they are noted."""
    allowed_workspaces: tuple[str, ...] | None = None
    """`PERAGO_ALLOWED_WORKSPACES`: glob patterns `repository/branch` that an input may name; None: any."""

    def allows(self, repository: str, branch: str) -> bool:
        """Whether an input may name this branch. Matching is case-sensitive, and no name contains a slash."""
        if self.allowed_workspaces is None:
            return True
        if "/" in repository or "/" in branch:
            return False
        return any(fnmatchcase(f"{repository}/{branch}", pattern) for pattern in self.allowed_workspaces)


Direction = Literal["download", "upload"]


class Observer:
    """Watches an attempt. Several threads can call its methods, which must be quick and must not raise exceptions. An
    observer overrides the methods that it needs."""

    def step(self, name: str) -> None:
        """Report that a command begins."""

    def transferred(self, direction: Direction, objects: int, size: int, total_objects: int, total_size: int) -> None:
        """Report the number of transferred objects and bytes."""

    def log(self, text: str) -> None:
        """Report a line that the function logged with `current().log`."""

    def progress(self, done: int, total: int) -> None:
        """Report the progress from `current().progress`."""

    def waiting(self, text: str, is_over: bool) -> None:
        """lakeFS does not answer and is waited for, or answers again (`is_over`); `text` is a line about it."""

    def publishing(self, repository: str, branch: str, expected_head: str, words: str) -> None:
        """Report that a merge with this expected head is about to be sent, or was answered. `words` describe the
        outcome in case the process dies. Empty: the attempt has nothing on the branch, and nothing can appear there."""


SILENT = Observer()
"""An observer that ignores everything."""


class Interrupted(BaseException):
    """Raised when the delivery is lost, to end all running work. It is not an `Exception`, so that no handler mistakes
    it for a failure of the interrupted call."""


Answer = TypeVar("Answer")


class SentAhead(Generic[Answer]):
    """A call that was sent ahead of its turn."""

    def __init__(self, sent: Future[Answer] | None, repeat: Callable[[], Answer]) -> None:
        """`sent`: the call, which must end by itself; None: it was not sent. `repeat` as in `Ahead.begin`."""
        self._sent = sent
        self._repeat = repeat

    def __call__(self) -> Answer:
        """Wait for the answer. If no thread has taken the call yet, or a server did not answer it, return the answer of
        `repeat`."""
        if self._sent is not None and not self._sent.cancel():
            with suppress(ServiceError):
                return self._sent.result()
        return self._repeat()

    def withdraw(self, limit: float) -> bool:
        """Keep the call from being sent. If it was sent, wait at most `limit` seconds for its end, and return True."""
        if self._sent is None or self._sent.cancel():
            return False
        wait([self._sent], limit)
        return True


class Ahead:
    """Calls that an attempt sends ahead of their turn, on other threads. They end with the attempt."""

    def __init__(self, threads: Executor | None = None) -> None:
        self._threads = threads
        self._begun: list[Future[Any]] = []
        self._is_over = False

    def begin(self, call: Callable[[], Answer], repeat: Callable[[], Answer]) -> SentAhead[Answer]:
        """Send a call, which must end by itself. `repeat` sends it again when its turn has come."""
        sent = None
        with suppress(RuntimeError):  # no thread can be started
            sent = self._threads.submit(call) if self._threads is not None else None
        if sent is not None:
            self._begun.append(sent)
        return SentAhead(sent, repeat)

    def check(self) -> None:
        """Raise `Interrupted` in a call whose attempt has ended."""
        if self._is_over:
            raise Interrupted

    def end(self) -> None:
        """Send none of the calls that still wait for a thread."""
        self._is_over = True
        for begun in self._begun:
            begun.cancel()


class KnownRoots:
    """Workflows without a parent. A workflow never gets another parent, so an attempt that knows it need not ask."""

    LIMIT = 1000

    def __init__(self) -> None:
        self._workflow_ids: dict[str, None] = {}

    def has(self, workflow_id: str) -> bool:
        """Whether the workflow has no parent."""
        return workflow_id in self._workflow_ids

    def add(self, workflow_id: str) -> None:
        """Keep a workflow without a parent. The oldest ones are dropped."""
        self._workflow_ids[workflow_id] = None
        while len(self._workflow_ids) > self.LIMIT:
            del self._workflow_ids[next(iter(self._workflow_ids))]


Interruptible = Callable[[], AbstractContextManager[object]]
"""Makes a block that raises `Interrupted` as soon as the delivery is lost, at its beginning or at any point within."""


CleanUp = Callable[[], str | None]
"""Removes something that no publication needs. Returns a message about what it leaves behind, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRuntime:
    """Services and settings that a worker gives its attempts."""

    store: WorkspaceStore | None
    """lakeFS; None only for a task without a workspace."""
    delivery_check: DeliveryCheck
    """Answers whether the delivery is still current."""
    workspace_root: Path
    """The directory in which attempt directories are made."""
    clock: Clock
    limits: Limits = field(default_factory=Limits)
    call: FunctionCaller = call_function
    """The caller of the task function; a worker captures its output there."""
    observer: Observer = SILENT
    store_notes: Callable[[], StoreNotes] = StoreNotes
    """Returns notes for an operator about the store's transfers since the last call, such as a failed direct
    transfer."""
    worker_id: str = ""
    worker: str = ""
    """The worker id with host and process, for commits."""
    interruptible: Interruptible = nullcontext
    """Creates the blocks in which a loss that is noticed elsewhere ends the attempt immediately."""
    around_guardrails: Callable[[], AbstractContextManager[object]] = nullcontext
    """A context that is entered while guardrails read files, because some of them are the author's code."""
    later: Callable[[CleanUp], None] | None = None
    """Takes the clean-up of an attempt whose outcome is known, to do it while the outcome is reported. None: it is done
    before."""
    threads: Executor | None = None
    """Send requests whose order does not matter at the same time. None: the attempt sends one after the other."""
    is_likely_to_publish: bool = False
    """Whether requests that only a publication needs are sent ahead, because the last attempt has published."""
    proofs: FenceProofs | None = None
    """The results of challenges that this process knows. None: the attempt challenges its server itself."""
    roots: KnownRoots | None = None
    """The workflows without a parent that this process knows. None: the attempt asks."""


@dataclass(frozen=True, slots=True)
class StepTime:
    """The time that one command took. `name` is that of the command, `seconds` by a clock that only runs forward."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One delivery, from its receipt until before its report. It can be pickled."""

    delivery: Delivery
    report: Report | None
    """None: the delivery was lost, and nothing must be reported."""
    lost_reason: str | None
    reached: Step
    """The last step of a successful attempt, or the step at which it failed or was lost."""
    steps: tuple[StepTime, ...]
    findings: tuple[Finding, ...]
    """Verdicts of the guardrails that were evaluated, `pre` before `post`."""
    changes: Changes
    input_ref: str | None
    published_commit: str | None
    """The commit that now holds the workspace: the merge, or the input ref if nothing changed."""
    adopted_commit: str | None = None
    """The adopted publication of an earlier attempt. Then no function ran."""
    changed_since_adopted: Mapping[str, str] = field(default_factory=dict)
    """Files of the adopted publication that others have changed since, by key, each with the last commit. Empty if that
    is unknown."""
    rebased_onto: str | None = None
    """The branch head that was published on, if others had moved it and the task tolerates that (`on_moved_head`)."""
    lost_races: int = 0
    """Number of times that the publication was built again because others published first."""
    fence_refusals: int = 0
    """Merges that were refused because the head had moved."""
    superseded_commits: tuple[str, ...] = ()
    """Stale publications that this one undid, newest first."""
    fence: FenceState | None = None
    """The publish fence of the publication, or of the intended one. None if the attempt did not read it."""
    brought_fence: bool = False
    """Whether the publication installed the publish fence."""
    left_files: tuple[str, ...] = ()
    """Files that the function left in its current directory and its task does not allow, sorted. They are removed."""
    objects: int = 0
    """Files in the workspace before the function."""
    from_cache: int = 0
    """Number of objects that came from the cache of this machine."""
    cache_damaged: int = 0
    """Number of objects that were downloaded because their copies in the cache were damaged."""
    hand_back: bool = False
    """Whether the function was not called for a reason that passes, such as a full disk of this host. Then a worker
    sends no `report`, but hands the delivery back."""
    waits: bool = False
    """Whether it is handed back because another attempt of the family must end first."""
    notes: tuple[str, ...] = ()
    """Failures that did not change the outcome, such as a directory that could not be removed."""
    ignored_params: tuple[str, ...] = ()
    """Keys of the params that the model ignored, as JSON pointers, each with a similar field name if there is one."""
    metrics: tuple[Measured, ...] = ()
    """Values that the function has reported by `current().count`, `.gauge` and `.observe`."""
    failed_step: str = ""
    """The command after which the attempt failed or was lost; empty for a success."""
    error_type: str = ""
    """The class of the exception that the function raised; empty if it raised none."""

    @property
    def only_reads_head(self) -> bool:
        """Whether it has answered with the newest commit of the branch, and no function ran."""
        return HEAD_OF in self.delivery.input and self.published_commit is not None

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes for an operator about params, stray files, cache and publication, in a few words each."""
        parts = (
            (self.ignored_params, f"ignored params: {', '.join(self.ignored_params)}"),
            (
                self.left_files,
                f"wrote {listing([quoted(path) for path in self.left_files], 3)} to its current directory",
            ),
        )
        cached = f"{self.from_cache:,} of {count(self.objects, 'object')} from the cache"
        return (*(text for is_said, text in (*parts, (self.from_cache, cached)) if is_said), *self._publication)

    @property
    def _publication(self) -> tuple[str, ...]:
        if self.only_reads_head:
            return ("read the newest commit of the branch for a schedule",)
        if self.published_commit is not None and self.published_commit == self.input_ref:
            return ("nothing changed",)
        if self.delivery.retry_output is not None:
            return ("did nothing, because its retry has done the work",)
        remarks = []
        if self.published_commit is not None and self.adopted_commit is not None:
            remarks.append(f"adopted {short(self.adopted_commit)} of an earlier attempt{self._changed_since()}")
        if self.rebased_onto is not None:
            remarks.append(f"rebased onto {short(self.rebased_onto)}")
        if self.lost_races:
            remarks.append(f"lost {count(self.lost_races, 'race')} to others")
        if self.superseded_commits:
            remarks.append(f"undid {count(len(self.superseded_commits), 'stale publication')}")
        if self.brought_fence:
            remarks.append("installed the publish fence")
        if self.published_commit is not None and self.fence in (FenceState.NOT_ENFORCED, FenceState.ABSENT):
            remarks.append(f"publish fence {self.fence}")
        return tuple(remarks)

    def _changed_since(self) -> str:
        changed = self.changed_since_adopted
        if not changed:
            return ""
        commits = [short(commit) for commit in dict.fromkeys(changed.values()) if commit]
        was = "was" if len(changed) == 1 else "were"
        by = f" by {', '.join(commits[:3])}" if commits else ""
        return f", though {listing([quoted(key) for key in changed], 3)} {was} changed since{by}"
