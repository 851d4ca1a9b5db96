"""Read the configured servers, or the embedded ones of this process, over HTTP for the pages.

Answers of servers are untrusted: one with an unexpected shape raises `Unavailable`. Long lists are read page by page.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, cast

from pydantic import BaseModel, Field, TypeAdapter
from pydantic.alias_generators import to_camel
from urllib3.util import parse_url

from perago.adapters.conductor.overview import (
    STATUSES,
    ConductorOverview,
    ConductorWorkflows,
    LastPoll,
    OpenAttempt,
    WorkflowQuery,
    WorkflowSummary,
)
from perago.adapters.http import CallPolicy
from perago.adapters.http_answers import AnswerTooLargeError, NoAnswerError
from perago.adapters.lakefs import LakeFSBrowser
from perago.adapters.lakefs.session import PAGE
from perago.configuration import Servers
from perago.ports import Commit, NotFound, Overloaded, Refused, ServiceError, Unavailable, shortened
from perago.worker.log_reader import AttemptTrace

if TYPE_CHECKING:
    from perago.embedded.conductor.model import ConductorModel
    from perago.embedded.conductor.state import HistoryEntry
    from perago.settings import Settings

T = TypeVar("T")
Json: TypeAlias = Mapping[str, Any]
Page: TypeAlias = tuple[Sequence[T], str | None]
"""A page of a list, and the entry after which the next page begins; None for the last page."""

MAX_QUEUED = 1000
"""Maximum number of queued attempts that are listed. A server returns the complete queue, unsorted, in each answer."""
MAX_TASK_TYPES = 100
"""Maximum number of task types whose running attempts are read for one page: those with the latest polls."""
RUNNING_READ_LIMIT = 8.0
"""Seconds for reading running attempts. The remaining task types are skipped after it."""
STAGING_PREFIX = "perago-"
"""The prefix of the names of perago's hidden branches."""
CHANGEABLE_TTL = 2.0
"""TTL of changeable answers in seconds."""
SILENT_SERVER_BACKOFF = 5.0
"""Seconds to back off from a server that did not answer, because a page makes many calls."""
CACHE_WEIGHT_LIMIT = 50_000
"""Maximum total weight of the cached answers that never change."""
RELOAD_INTERVAL = 4.0
"""Seconds after which a visible window reloads its page."""
_COMMITS = 25
"""Page size of the history. A page is in memory in full, and the metadata of one commit can have 1 MiB."""
MAX_LOG_TTL = 60.0
"""TTL in seconds of the log of an attempt that ended long ago."""
_EXPRESSION = re.compile(r"[~^@$]")
"""Matches refs that are expressions of commits. lakeFS answers 500 to an expression that it cannot parse."""
_PAGE_POLICY = CallPolicy(connect=3.0, answer=10.0, tries=2, largest=64 * 1024 * 1024)
"""Limits for a person who waits for a page."""


class NoSuchPage(Exception):
    """This address has no page. The message is shown to the user."""


# ------------------------------------------------------------------------- models of answers

Count = Annotated[int, Field(ge=0, lt=2**53)]
"""A number, or a time in milliseconds. Larger numbers are refused."""


class _Open(BaseModel, extra="allow", strict=True, alias_generator=to_camel):
    """A model of Conductor's JSON that allows further fields. Conductor omits fields that are null."""


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
        """Validate the branches of a dynamic fork, which are in its input. Other inputs can be any JSON."""
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
    parent_workflow_id: str | None = None
    tasks: list[Attempt]


class WorkflowDefinition(_Open):
    """A version of a workflow definition."""

    name: str
    version: Count
    tasks: list[Any] = Field(default_factory=list)


class LogEntry(_Open):
    """An entry of an attempt's log. The time is only displayed, because the user code sets it."""

    created_time: Annotated[int, Field(ge=0)]
    log: str


def checked(shape: Any, answer: T) -> T:
    """Return `answer` unchanged.

    Raises:
        ValueError: it does not have the shape.
    """
    _adapter(shape).validate_python(answer)
    return answer


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


class Repository(BaseModel, strict=True):
    """A repository; `creation_date` in seconds since the epoch."""

    id: str
    storage_namespace: str
    default_branch: str
    creation_date: int


class Ref(BaseModel, strict=True):
    """A branch or a tag, and the commit that it names."""

    id: str
    commit_id: str


class File(BaseModel, strict=True):
    """One object of a tree; `mtime` in seconds since the epoch."""

    path: str
    size_bytes: int
    mtime: int
    checksum: str
    content_type: str | None = None
    metadata: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One changed file: `kind` is added, changed or removed; sizes in bytes, None where there is no file or the size is
    unknown."""

    path: str
    kind: str
    before: int | None
    after: int | None


# --------------------------------------------------------------------------------- cached answers


class Answers:
    """A thread-safe cache of the answers of one server.

    Two threads that need the same answer at the same time can both call the server.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._changeable: dict[Hashable, tuple[float, Any]] = {}
        self._permanent: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()
        self._weight = 0
        self._outage: tuple[float, Unavailable] | None = None

    def changeable(self, key: Hashable, ask: Callable[[], T], seconds: float = CHANGEABLE_TTL) -> T:
        """Return a changeable answer, with a TTL of `seconds`."""
        with self._lock:
            now, answers = self._clock(), self._changeable
            known = answers.get(key)
            if known is not None and now < known[0]:
                value: T = known[1]
                return value
            for old in [known_key for known_key, (ends, _) in answers.items() if ends <= now]:
                del answers[old]
        value = self.ask(ask)
        with self._lock:
            answers[key] = (self._clock() + seconds, value)
        return value

    def forget(self) -> None:
        """Drop all changeable answers, including those of calls in flight."""
        with self._lock:
            self._changeable = {}

    def permanent(self, key: Hashable, ask: Callable[[], T], weight: Callable[[T], int] = lambda _: 1) -> T:
        """Return an answer that never changes, such as a commit. `weight` is its approximate size in kilobytes."""
        answer = self.known(key)
        if answer is None:
            answer = self.ask(ask)
            self.remember(key, answer, weight(answer))
        value: T = answer
        return value

    def known(self, key: Hashable) -> Any:
        """Return a cached answer that never changes, or None."""
        with self._lock:
            weighted = self._permanent.get(key)
            if weighted is None:
                return None
            self._permanent.move_to_end(key)
            return weighted[1]

    def remember(self, key: Hashable, value: Any, weight: int = 1) -> None:
        """Cache an answer that never changes, and evict the least recently used ones beyond the limit."""
        with self._lock:
            self._weight += weight - self._permanent.pop(key, (0, None))[0]
            self._permanent[key] = (weight, value)
            while self._weight > CACHE_WEIGHT_LIMIT:
                self._weight -= self._permanent.popitem(last=False)[1][0]

    def ask(self, question: Callable[[], T]) -> T:
        """Return the server's answer.

        Raises:
            Unavailable: the server does not answer, or did not answer a short time ago.
        """
        with self._lock:
            if self._outage is not None and self._clock() < self._outage[0]:
                raise copy.copy(self._outage[1])
        try:
            return question()
        except Unavailable as error:
            # Only back off from a server that keeps callers waiting, not from one with invalid answers.
            cause = error.__cause__
            no_answer = isinstance(cause, NoAnswerError) and not isinstance(cause, AnswerTooLargeError)
            if no_answer or isinstance(error, Overloaded):
                with self._lock:
                    self._outage = (self._clock() + SILENT_SERVER_BACKOFF, copy.copy(error))
            raise


# ------------------------------------------------------------------------------------- Conductor


@dataclass(slots=True)
class Conductor:
    """Reads Conductor. Methods return the JSON of its API, and raise `perago.ports.ServiceError`."""

    _workflows: ConductorWorkflows
    _overview: ConductorOverview
    _now: Callable[[], float]
    answers: Answers = field(default_factory=Answers)

    def now(self) -> int:
        """Milliseconds since the epoch, by this machine's clock, because a server does not report its own."""
        return round(self._now() * 1000)

    def workflow_counts(self) -> Mapping[str, int]:
        """Count the workflows of each status."""
        return {status: self.workflows(WorkflowQuery(status), 0, 0)[0] for status in STATUSES}

    def workflows(self, query: WorkflowQuery, start: int, limit: int) -> tuple[int, Sequence[WorkflowSummary]]:
        """Return the number of workflows that a query has, and at most `limit` of them, newest first, without the first
        `start`."""
        key = ("search", query, start, limit)
        return self.answers.changeable(key, lambda: self._workflows.find_workflows(query, start=start, size=limit))

    def workflow(self, workflow_id: str) -> Json:
        """Return a workflow with its attempts."""
        return self._checked(Workflow, self._workflows.workflow, workflow_id)

    def task_log(self, task: Json) -> Sequence[Json]:
        """Return the entries of an attempt's task log: `createdTime` and `log`.

        Workers send entries after their reports, so more can follow after the end. The TTL grows with the time since
        the end.
        """
        task_id, ended = task["taskId"], task["endTime"]
        seconds = min(max(CHANGEABLE_TTL, (self.now() - ended) / 10_000), MAX_LOG_TTL) if ended else CHANGEABLE_TTL
        return self._checked(list[LogEntry], self._workflows.log_entries, task_id, seconds=seconds)

    def task_definition(self, name: str) -> Json | None:
        """Return a task definition."""
        return next((definition for definition in self.task_definitions() if definition["name"] == name), None)

    def task_definitions(self) -> Sequence[Json]:
        """Return all task definitions."""
        return self.answers.changeable("task definitions", self._overview.task_definitions)

    def workflow_versions(self, name: str) -> Sequence[int]:
        """Return the versions of a workflow definition, the oldest first; empty if no definition has that name."""
        try:
            return self.answers.changeable(("versions", name), lambda: self._workflows.workflow_versions(name))
        except (NotFound, Refused):  # Conductor has no address for a name with a slash
            return ()

    def workflow_definition(self, name: str, version: int) -> Json:
        """Return one version of a workflow definition."""
        return self._checked(WorkflowDefinition, self._workflows.workflow_definition, name, version)

    def newest_definitions(self) -> Sequence[Json]:
        """Return the newest version of every workflow definition."""
        return self._checked(list[WorkflowDefinition], self._overview.workflow_definitions)

    def queue_sizes(self) -> Mapping[str, int]:
        """Count the queued attempts by task type."""
        return self.answers.changeable("queue sizes", self._overview.queue_sizes)

    def queued(self, name: str, start: int, limit: int) -> Sequence[Json]:
        """Return the queued attempts of a task type, the oldest first. At most `MAX_QUEUED` of them are known."""
        try:
            rows = self._checked(list[Attempt], self._overview.pending, name)
        except (NotFound, Refused):  # Conductor has no address for a name with a slash
            return ()
        waiting = [row for row in rows if row["status"] == "SCHEDULED"]
        waiting.sort(key=itemgetter("scheduledTime"))
        return waiting[start : start + limit]

    def attempt(self, task_id: str) -> Json:
        """Return one attempt."""
        return self._checked(Attempt, self._workflows.task, task_id)

    def last_polls(self) -> Sequence[LastPoll]:
        """Return the last poll for each task type and domain, the latest first."""
        polls = self.answers.changeable("polls", self._overview.last_polls)
        return sorted(polls, key=lambda poll: -poll.time)

    def running(self) -> tuple[Sequence[OpenAttempt], bool]:
        """Return the running attempts, the oldest first, and whether the list is complete.

        Each of them was polled, so only task types with a poll are read.
        """
        names = list(dict.fromkeys(poll.task_name for poll in self.last_polls()))

        def ask() -> tuple[Sequence[OpenAttempt], bool]:
            until, running, is_all = (
                time.monotonic() + RUNNING_READ_LIMIT,
                list[OpenAttempt](),
                len(names) <= MAX_TASK_TYPES,
            )
            for name in names[:MAX_TASK_TYPES]:
                if time.monotonic() > until:
                    is_all = False
                    break
                with contextlib.suppress(NotFound, Refused):  # Conductor has no address for a name with a slash
                    attempts, all_read = self._overview.open_attempts(name, until)
                    running += [attempt for attempt in attempts if attempt.status == "IN_PROGRESS"]
                    is_all = is_all and all_read
            return sorted(running, key=lambda attempt: attempt.started), is_all

        return self.answers.changeable("running", ask)

    def _checked(self, shape: Any, ask: Callable[..., T], *arguments: Hashable, seconds: float = CHANGEABLE_TTL) -> T:
        """Return an answer that fits the model `shape`, and cache it for `seconds`."""

        def read() -> T:
            answer = ask(*arguments)
            with _checked_shape("Conductor"):
                return checked(shape, answer)

        return self.answers.changeable((ask.__name__, *arguments), read, seconds)


# ---------------------------------------------------------------------------------------- lakeFS


class LakeFS:
    """Reads lakeFS. Methods raise `NoSuchPage` for a thing that does not exist, and `perago.ports.ServiceError`.

    Methods with `after` and `limit` return one page of a list, which begins after that entry (empty: the first page),
    and the entry after which the next page begins (None: there is no next page). Commits never change, so they and
    their changes are read once.
    """

    def __init__(self, browser: LakeFSBrowser) -> None:
        self._browser = browser
        self.answers: Answers = Answers()

    def repositories(self, after: str, limit: int) -> Page[Repository]:
        """Return repositories by name."""
        return self._page(Repository.model_validate, self._browser.repositories, after, limit)

    def repository(self, name: str) -> Repository:
        """Return one repository."""
        return self._object(Repository.model_validate, self._browser.repository, name)

    def branches(self, repository: str, after: str, limit: int, *, staging: bool) -> Page[Ref]:
        """Return branches by name: perago's own hidden ones, or those that are not hidden."""
        options = {"prefix": STAGING_PREFIX if staging else "", "hidden": staging}
        return self._page(Ref.model_validate, self._browser.branches, repository, after, limit, **options)

    def branch(self, repository: str, name: str) -> Ref:
        """Return one branch."""
        return self._object(Ref.model_validate, self._browser.branch, repository, name)

    def tags(self, repository: str, after: str, limit: int) -> Page[Ref]:
        """Return tags by name."""
        return self._page(Ref.model_validate, self._browser.tags, repository, after, limit)

    def commit(self, repository: str, ref: str) -> Commit:
        """Return the commit that a branch, a tag or the beginning of an id names, in full."""
        if _EXPRESSION.search(ref):
            raise NoSuchPage(f"{ref!r} is not the name of a commit")
        with _missing_as_no_page():
            return self.answers.changeable(("commit", repository, ref), lambda: self._browser.commit(repository, ref))

    def first_parents(self, repository: str, ref: str) -> Iterator[Commit]:
        """Yield the commit, its first parent, and so on. Long texts can be missing."""
        following: str | None = self.commit(repository, ref).id
        while following is not None:
            commit = self.answers.known((repository, following)) or self._read_history(repository, following)
            yield commit
            following = commit.parents[0] if commit.parents else None

    def _read_history(self, repository: str, commit_id: str) -> Commit:
        """Return a commit. Cache it and the commits before it."""
        with _missing_as_no_page(), _checked_shape("lakeFS"):
            read = self.answers.ask(lambda: self._browser.first_parents(repository, commit_id, _COMMITS))
            commits = [shortened(commit) for commit in read]
            if not commits or commits[0].id != commit_id:
                raise ValueError("a history that begins elsewhere")
        for commit in commits:
            self.answers.remember((repository, commit.id), commit)
        return commits[0]

    def changes(self, repository: str, commit: Commit, after: str, limit: int) -> Page[Change]:
        """Compare a commit with its first parent, by path; the first commit with nothing.

        lakeFS reports only the new size of a changed file. The size before is that of the first thousand objects that
        the parent has from the first change on.
        """

        def ask() -> Page[Change]:
            with _missing_as_no_page(), _checked_shape("lakeFS"):
                if not commit.parents:
                    rows, following = self._browser.objects(repository, commit.id, "", after, limit)
                    return [Change(str(row["path"]), "added", None, int(row["size_bytes"])) for row in rows], following
                rows, following = self._browser.changes(repository, commit.parents[0], commit.id, after, limit)
                changed = [str(row["path"]) for row in rows if row["type"] == "changed"]
                before: dict[str, int] = {}
                if changed:
                    objects, _ = self._browser.objects(repository, commit.parents[0], "", changed[0][:-1], PAGE)
                    before = {str(row["path"]): int(row["size_bytes"]) for row in objects}
                return [_change(row, before.get(str(row["path"]))) for row in rows], following

        key = ("changes", repository, commit.id, after, limit)
        return self.answers.permanent(key, ask, lambda page: 1 + len(page[0]) // 5)

    def uncommitted(self, repository: str, branch: str, limit: int) -> Page[Change]:
        """Return the first changes that are not committed."""
        return self._page(_change, self._browser.uncommitted, repository, branch, limit)

    def count(self, repository: str, commit_id: str, limit: int) -> int:
        """Count the objects of a commit up to `limit`."""

        def ask() -> int:
            rows, following = self._browser.objects(repository, commit_id, "", "", limit)
            return limit if following else len(rows)

        with _missing_as_no_page():
            return self.answers.permanent(("count", repository, commit_id, limit), ask)

    def listing(self, repository: str, commit_id: str, prefix: str, after: str, limit: int) -> Page[File | str]:
        """Return one directory of a commit's tree: files, and directories as their paths.

        `prefix` is the path of the directory with a slash at its end, empty for the root.
        """

        def item(row: Json) -> File | str:
            return File.model_validate(row) if row["path_type"] == "object" else str(row["path"])

        return self._page(item, self._browser.objects, repository, commit_id, prefix, after, limit, delimiter="/")

    def file(self, repository: str, commit_id: str, path: str) -> File:
        """Return one object."""
        return self._object(File.model_validate, self._browser.stat, repository, commit_id, path)

    def read(self, repository: str, commit_id: str, path: str, limit: int | None = None) -> Iterator[bytes]:
        """Return the first `limit` bytes of a file, or all of them."""
        size = self.file(repository, commit_id, path).size_bytes
        return self._browser.read(repository, commit_id, path, size if limit is None else min(size, limit))

    def _object(self, read: Callable[[Json], T], ask: Callable[..., Json], *arguments: Hashable) -> T:
        with _missing_as_no_page():
            answer = self.answers.changeable((ask.__name__, *arguments), lambda: ask(*arguments))
        with _checked_shape("lakeFS"):
            return read(answer)

    def _page(
        self, read: Callable[[Json], T], ask: Callable[..., Page[Json]], *arguments: Hashable, **options: Hashable
    ) -> Page[T]:
        with _missing_as_no_page():
            key = ask.__name__, *arguments, *options.values()
            rows, following = self.answers.changeable(key, lambda: ask(*arguments, **options))
        with _checked_shape("lakeFS"):
            return [read(row) for row in rows], following


@contextmanager
def _missing_as_no_page() -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise NoSuchPage(error.detail) from error
    except Refused as error:  # inputs and metadata can contain names that lakeFS does not accept
        raise NoSuchPage(str(error)) from error


@contextmanager
def _checked_shape(service: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Unavailable(service, "answer", "the answer is not that of such a server") from error


def _change(row: Json, before: int | None = None) -> Change:
    kind, size = str(row["type"]), int(row.get("size_bytes") or 0)
    return Change(str(row["path"]), kind, *((size, None) if kind == "removed" else (before, size)))


# ------------------------------------------------------------------------------------ the source


class News:
    """Notifies open pages of changes, without a thread of its own.

    If the servers do not report changes, pages reload every `every` seconds.
    """

    def __init__(self, every: float | None = None) -> None:
        self.every = every
        self._lock = threading.Lock()
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self.closed: bool = False

    def ring(self) -> None:
        """Report a change. Thread-safe."""
        with self._lock:
            for event, loop in self._waiting.items():
                with contextlib.suppress(RuntimeError):  # the server has ended
                    loop.call_soon_threadsafe(event.set)

    def close(self) -> None:
        """End all streams. Thread-safe."""
        self.closed = True
        self.ring()

    def join(self, limit: int) -> asyncio.Event | None:
        """Return an event that every change sets, for `leave`. Return None if `limit` clients already wait."""
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


@dataclass(frozen=True, slots=True)
class Embedded:
    """The model behind an embedded Conductor. It has the history that no HTTP call returns, and accepts changes.

    `samples` are the initial parameters of forms, by the name of the workflow.
    """

    conductor: ConductorModel
    samples: Json


Traces: TypeAlias = Callable[[str], AttemptTrace]
"""Returns the logs of workers about an attempt, by its task id."""


@dataclass(frozen=True, slots=True)
class Source:
    """The data of all pages."""

    conductor: Conductor
    lakefs: LakeFS
    traces: Traces
    news: News
    place: str
    """The place of the servers, for the foot of each page."""
    embedded: Embedded | None = None
    """The embedded services that the pages can change; None: the pages are read-only."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """The reasons of services without data, by name."""

    def refresh(self) -> None:
        """Drop changeable answers of embedded servers, which report changes immediately."""
        if self.embedded is not None:
            self.conductor.answers.forget()
            self.lakefs.answers.forget()

    def without(self, error: ServiceError) -> Source:
        """Return the same source without the service that `error` is about."""
        missing = {**self.missing, error.service: str(error)}
        if error.service == "lakeFS":
            return replace(self, lakefs=cast("LakeFS", _UnavailableService(error, _EMPTY_LAKEFS)), missing=missing)
        return replace(self, conductor=cast("Conductor", _UnavailableService(error, _EMPTY_CONDUCTOR)), missing=missing)

    def history(self, workflow_id: str) -> Sequence[HistoryEntry]:
        """Return the events of the attempts of a workflow, oldest first. Real servers do not provide them."""
        return () if self.embedded is None else self.embedded.conductor.history(workflow_id)


_EMPTY_PAGE: Any = ((), None)
_LISTS = ("task_log", "task_definitions", "workflow_versions", "newest_definitions", "queued", "last_polls")
_EMPTY_CONDUCTOR: Json = {
    **dict.fromkeys(_LISTS, ()),
    "workflow_counts": {},
    "workflows": (0, ()),
    "task_definition": None,
    "queue_sizes": {},
    "running": ((), False),
}
_EMPTY_LAKEFS: Json = dict.fromkeys(("repositories", "branches", "tags", "changes", "uncommitted"), _EMPTY_PAGE)


class _UnavailableService:
    """A service that does not answer: its lists are empty, and single objects raise `NoSuchPage`."""

    def __init__(self, error: ServiceError, empty: Json) -> None:
        self._error = error
        self._empty = empty

    def now(self) -> int:
        """Return the time of this machine's clock."""
        return round(time.time() * 1000)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def answer(*arguments: Any, **options: Any) -> Any:  # noqa: ARG001 - any method of the service
            if name in self._empty:
                return self._empty[name]
            raise NoSuchPage(str(self._error)) from self._error

        return answer


@contextmanager
def source_of(
    settings: Settings, traces: Traces, *, embedded: Embedded | None = None, now: Callable[[], float] = time.time
) -> Iterator[Source]:
    """Open the source of the pages. An unconfigured server has no data. The first page makes the first call.

    Args:
        settings: where the servers are.
        traces: the logs of workers about an attempt.
        embedded: the model behind the server, if it is an embedded one.
        now: the clock for durations, in seconds since the epoch.
    """
    with ExitStack() as stack:
        news = News(RELOAD_INTERVAL if embedded is None else None)
        stack.callback(news.close)
        servers = stack.enter_context(Servers(settings, policy=_PAGE_POLICY))
        place = "on this machine only" if embedded else f"{_places(settings)}, read only"
        absent: Any = None
        source = Source(absent, absent, traces, news, place, embedded)
        if settings.conductor is None:
            source = source.without(Unavailable("Conductor", "find it", "CONDUCTOR_SERVER_URL is not set"))
        else:
            source = replace(source, conductor=Conductor(servers.workflows, servers.overview, now))
        if settings.lakefs is None:
            source = source.without(Unavailable("lakeFS", "find it", "LAKECTL_SERVER_ENDPOINT_URL is not set"))
        else:
            source = replace(source, lakefs=LakeFS(servers.browser))
        yield source


def _places(settings: Settings) -> str:
    """Host and port of each server. The rest of an address can contain a token."""
    conductor, lakefs = settings.conductor, settings.lakefs
    addresses = [conductor and conductor.server_url, lakefs and lakefs.endpoint_url]
    return " and ".join(dict.fromkeys(filter(None, (parse_url(address).netloc for address in addresses if address))))
