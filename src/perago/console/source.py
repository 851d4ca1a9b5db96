"""The interface through which the console reads servers, and the checks of what servers answer.

Whatever may be long is read by the page. A server may not tell of an attempt's history or of what waits in a queue;
these are empty then.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel, Field, TypeAdapter
from pydantic.alias_generators import to_camel

from perago.console.worker_logs import AttemptTrace
from perago.ports import Commit

Checked = TypeVar("Checked")

Count = Annotated[int, Field(ge=0, lt=2**53)]
"""A number, or a time in milliseconds. Larger ones cannot be reckoned with."""


class _Open(BaseModel, extra="allow", strict=True, alias_generator=to_camel):
    """JSON that may hold more. Fields that are null are left out on the wire."""


class Step(_Open):
    """A step of a definition."""

    task_reference_name: str
    name: str | None = None
    type: str | None = None
    decision_cases: dict[str, list[Step]] | None = None
    default_case: list[Step] | None = None
    loop_over: list[Step] | None = None
    fork_tasks: list[list[Step]] | None = None


class _OfFork(_Open):
    forked_task_defs: list[Step] | None = None


class Attempt(_Open):
    """An attempt, or the row of a system task."""

    task_id: str
    workflow_instance_id: str
    task_def_name: str
    task_type: str
    reference_task_name: str
    status: str
    iteration: Count
    poll_count: Count
    retry_count: Count
    scheduled_time: Count
    start_time: Count
    end_time: Count
    worker_id: str | None = None
    reason_for_incompletion: str | None = None
    retried_task_id: str | None = None
    sub_workflow_id: str | None = None
    input_data: dict[str, Any] = Field(default_factory=dict)
    workflow_task: Step | None = None

    def model_post_init(self, context: Any, /) -> None:  # noqa: ARG002 - pydantic's signature
        """The branches of a dynamic fork are in its input; that of a task is anything."""
        if self.task_type == "FORK":
            _OfFork.model_validate(self.input_data)


class Workflow(_Open):
    """A workflow with its attempts."""

    workflow_id: str
    workflow_name: str
    workflow_version: Count
    status: str
    start_time: Count
    end_time: Count | None = None
    reason_for_incompletion: str | None = None
    correlation_id: str | None = None
    tasks: list[Attempt]


class WorkflowDefinition(_Open):
    """A version of a workflow definition."""

    name: str
    version: Count
    tasks: list[Any] = Field(default_factory=list)


class LogEntry(_Open):
    """An entry of an attempt's log."""

    created_time: Count
    log: str


def checked(shape: Any, answer: Checked) -> Checked:
    """`answer` as it is.

    Raises:
        ValueError: it has not the shape.
    """
    _adapter(shape).validate_python(answer)
    return answer


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


Json: TypeAlias = Mapping[str, Any]


T = TypeVar("T")
Page: TypeAlias = tuple[Sequence[T], str | None]
"""Some items of a list, and the entry after which the next ones begin; None at the end."""


class NoSuchPage(Exception):
    """There is nothing at this address; the message is shown."""


STATUSES = ("RUNNING", "PAUSED", "COMPLETED", "FAILED", "TIMED_OUT", "TERMINATED")
"""Of a workflow."""


@dataclass(frozen=True, slots=True)
class WorkflowSummary:
    """One workflow in a list. Times are milliseconds since the epoch, 0 for not yet."""

    workflow_id: str
    name: str
    version: int
    status: str
    start_time: int
    end_time: int
    reason: str
    failed_references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """Something that happened to an attempt at `time` (milliseconds). `status` is the one afterwards."""

    time: int
    what: str
    task_id: str
    reference_name: str
    status: str
    poll_count: int
    worker_id: str


@dataclass(frozen=True, slots=True)
class Poll:
    """The last poll of a task type in a domain (empty: in none)."""

    time: int
    worker_id: str
    domain: str


class Conductor(Protocol):
    """Reads in the JSON of Conductor's API. Methods raise `perago.ports.ServiceError`."""

    def now(self) -> int:
        """Milliseconds since the epoch."""
        ...

    def workflow_counts(self) -> Mapping[str, int]:
        """How many workflows there are of each status; one that no workflow has may be missing."""
        ...

    def workflows(self, status: str | None, start: int, limit: int) -> Sequence[WorkflowSummary]:
        """Workflows, newest first: at most `limit` of one status, or of all, without the first `start`."""
        ...

    def workflow(self, workflow_id: str) -> Json:
        """A workflow with its attempts."""
        ...

    def knows(self, workflow_id: str) -> bool:
        """Whether a link to this workflow leads somewhere, as far as that is known without asking a server."""
        ...

    def history(self, workflow_id: str) -> Sequence[HistoryEvent]:
        """What happened to its attempts, oldest first."""
        ...

    def task_log(self, task: Json) -> Sequence[Json]:
        """The entries of an attempt's task log: `createdTime` and `log`."""
        ...

    def task_definition(self, name: str) -> Json | None:
        """A task definition."""
        ...

    def task_definitions(self) -> Sequence[Json]:
        """All of them."""
        ...

    def workflow_versions(self, name: str) -> Sequence[int]:
        """The versions of a workflow definition, the oldest first; none if there is none of that name."""
        ...

    def workflow_definition(self, name: str, version: int) -> Json:
        """One version of a workflow definition."""
        ...

    def queue_sizes(self) -> Mapping[str, int]:
        """How many attempts wait, by task type."""
        ...

    def queued(self, name: str, start: int, limit: int) -> Sequence[Json]:
        """Attempts of a task type that wait to be polled; `MOST_QUEUED` of a longer queue are known."""
        ...

    def last_polls(self, name: str) -> Sequence[Poll]:
        """Who polled for a task type."""
        ...


MOST_QUEUED = 1000
"""Attempts of a queue that are listed. A real server gives any of them first, and reads them all for each answer."""


class Actions(Protocol):
    """What the pages can change. Methods raise `perago.ports.ServiceError`."""

    samples: Mapping[str, Any]
    """Parameters that forms begin with, by the name of the workflow."""

    def startable(self) -> Sequence[tuple[str, int]]:
        """What can be started: names with their newest versions."""
        ...

    def start(self, name: str, version: int, payload: Json) -> str:
        """Start a workflow; returns its id."""
        ...

    def terminate(self, workflow_id: str, reason: str) -> None:
        """End a workflow."""
        ...


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository; `created` in seconds since the epoch."""

    name: str
    namespace: str
    default_branch: str
    created: int


STAGING_PREFIX = "perago-"
"""What the names of perago's own hidden branches begin with."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A branch or a tag, and the commit that it names."""

    name: str
    commit_id: str


@dataclass(frozen=True, slots=True)
class Change:
    """One changed file: `kind` is added, changed or removed; sizes in bytes, None where there is no file or it is not
    told."""

    path: str
    kind: str
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class File:
    """One object of a tree; `mtime` in seconds since the epoch."""

    path: str
    size: int
    mtime: int
    checksum: str
    content_type: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class LakeFS(Protocol):
    """Methods raise `NoSuchPage` for what is not there, and `perago.ports.ServiceError`.

    Those with `after` and `limit` give one page of a list: what comes after that entry (empty: the first), and the
    entry after which the next page begins, None at the end.
    """

    def repositories(self, after: str, limit: int) -> Page[Repository]:
        """Repositories by name."""
        ...

    def repository(self, name: str) -> Repository:
        """One repository."""
        ...

    def branches(self, repository: str, after: str, limit: int, *, staging: bool) -> Page[Ref]:
        """Branches by name: perago's own hidden ones, or those that are not hidden."""
        ...

    def branch(self, repository: str, name: str) -> Ref:
        """One branch."""
        ...

    def tags(self, repository: str, after: str, limit: int) -> Page[Ref]:
        """Tags by name."""
        ...

    def commit(self, repository: str, ref: str) -> Commit:
        """The commit that a branch, a tag or the beginning of an id names."""
        ...

    def first_parents(self, repository: str, ref: str) -> Iterator[Commit]:
        """The commit, its first parent, and so on."""
        ...

    def changes(self, repository: str, commit: Commit, after: str, limit: int) -> Page[Change]:
        """What a commit changed against its first parent, by path; the first commit against nothing."""
        ...

    def uncommitted(self, repository: str, branch: str, limit: int) -> Page[Change]:
        """The first changes that are not committed."""
        ...

    def count(self, repository: str, commit_id: str, limit: int) -> int:
        """How many objects a commit has, counted up to `limit`."""
        ...

    def listing(self, repository: str, commit_id: str, prefix: str, after: str, limit: int) -> Page[File | str]:
        """One directory of a commit's tree: files, and directories as their paths.

        `prefix` is the path of the directory with a slash at its end, empty for the root.
        """
        ...

    def file(self, repository: str, commit_id: str, path: str) -> File:
        """One object."""
        ...

    def read(self, repository: str, commit_id: str, path: str, limit: int | None = None) -> Iterator[bytes]:
        """The bytes of a file.

        Args:
            repository: The repository.
            commit_id: The commit.
            path: The key of the object.
            limit: How many bytes are wanted; None for all.
        """
        ...


class News:
    """Rings for those who wait for anything to change. Nothing runs while nothing rings.

    Servers that do not say when something changes are looked at `every` so many seconds, by those who wait.
    """

    def __init__(self, every: float | None = None) -> None:
        self.every = every
        self._lock = threading.Lock()
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self.closed = False

    def ring(self) -> None:
        """Something changed. For any thread."""
        with self._lock:
            for event, loop in self._waiting.items():
                with contextlib.suppress(RuntimeError):  # the server is gone
                    loop.call_soon_threadsafe(event.set)

    def close(self) -> None:
        """Nothing more will ring: every stream ends. For any thread."""
        self.closed = True
        self.ring()

    def join(self, limit: int) -> asyncio.Event | None:
        """An event that every ring sets, to be given to `leave`; None if `limit` others wait already."""
        with self._lock:
            if self.closed or len(self._waiting) >= limit:
                return None
            event = asyncio.Event()
            self._waiting[event] = asyncio.get_running_loop()
            return event

    def leave(self, event: asyncio.Event) -> None:
        """Undo `join`."""
        with self._lock:
            self._waiting.pop(event, None)


Traces: TypeAlias = Callable[[str], AttemptTrace]
"""What workers logged about an attempt, by its task id."""


@dataclass(frozen=True, slots=True)
class Source:
    """Everything that the pages are made of."""

    conductor: Conductor
    lakefs: LakeFS
    traces: Traces
    news: News
    place: str
    """Where the servers are, for the foot of each page."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a service tells nothing, by its name."""
    actions: Actions | None = None
    """None: the pages change nothing."""
