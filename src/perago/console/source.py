"""The servers that the pages show, read over HTTP: configured ones, or the embedded ones of this process.

No answer of a server is trusted: one of another shape raises `Unavailable`. Long lists are read page by page.
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

from perago.adapters.conductor import (
    STATUSES,
    ConductorOverview,
    ConductorWorkflows,
    LastPoll,
    OpenAttempt,
    WorkflowQuery,
    WorkflowSummary,
)
from perago.adapters.http import AnswerTooLargeError, CallPolicy, NoAnswerError
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
"""Some items of a list, and the entry after which the next ones begin; None at the end."""

MOST_QUEUED = 1000
"""Attempts of a queue that are listed. A server lists them in no order, and reads them all for each answer."""
MOST_TYPES = 100
"""Task types whose running attempts are read for one page, those that were polled last."""
READING = 8.0
"""Seconds after which the running attempts of no further task type are read."""
STAGING_PREFIX = "perago-"
"""The beginning of the names of perago's own hidden branches."""
MOMENT = 2.0
"""Seconds for which a changeable answer is cached."""
PAUSE = 5.0
"""Seconds without a call to a server that did not answer, because a page makes many calls."""
ROOM = 50_000
"""The maximum weight of the cached answers that never change."""
EVERY = 4.0
"""Seconds after which a visible window reads its page again."""
_COMMITS = 25
"""The size of a page of the history. A commit's metadata can have 1 MiB, and a page is in memory in full."""
_LONGEST = 60.0
"""Seconds for which the log of an attempt that ended long ago is cached."""
_EXPRESSION = re.compile(r"[~^@$]")
"""Finds refs that are expressions of commits. lakeFS answers 500 to one that it cannot read."""
_PATIENCE = CallPolicy(connect=3.0, answer=10.0, tries=2, largest=64 * 1024 * 1024)
"""Limits for a person who waits for a page."""


class NoSuchPage(Exception):
    """There is nothing at this address; the message is shown."""


# ------------------------------------------------------------------------- the shapes of answers

Count = Annotated[int, Field(ge=0, lt=2**53)]
"""A number, or a time in milliseconds. Larger numbers are refused."""


class _Open(BaseModel, extra="allow", strict=True, alias_generator=to_camel):
    """JSON of Conductor that may hold more. Fields that are null are left out on the wire."""


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
        """Check the branches of a dynamic fork, which are in its input. The input of a task may be anything."""
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
    """An entry of an attempt's log. Its author gave the time, which is only shown."""

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


# ---------------------------------------------------------------------------- remembered answers


class Answers:
    """The answers of one server. Safe to use from several threads.

    Two threads that ask the same question at the same time may both ask the server.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._moment: dict[Hashable, tuple[float, Any]] = {}
        self._lasting: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()
        self._weight = 0
        self._away: tuple[float, Unavailable] | None = None

    def for_a_moment(self, key: Hashable, ask: Callable[[], T], seconds: float = MOMENT) -> T:
        """Return a changeable answer, which is cached for `seconds`."""
        with self._lock:
            now, answers = self._clock(), self._moment
            known = answers.get(key)
            if known is not None and now < known[0]:
                value: T = known[1]
                return value
            for old in [each for each, (ends, _) in answers.items() if ends <= now]:
                del answers[old]
        value = self.ask(ask)
        with self._lock:
            answers[key] = (self._clock() + seconds, value)
        return value

    def forget(self) -> None:
        """Forget every changeable answer, including those in flight."""
        with self._lock:
            self._moment = {}

    def lasting(self, key: Hashable, ask: Callable[[], T], weight: Callable[[T], int] = lambda _: 1) -> T:
        """Return an answer that never changes, such as a commit. `weight` is about its size in kilobytes."""
        found = self.known(key)
        if found is None:
            found = self.ask(ask)
            self.remember(key, found, weight(found))
        value: T = found
        return value

    def known(self, key: Hashable) -> Any:
        """Return a lasting answer that is still remembered, or None."""
        with self._lock:
            found = self._lasting.get(key)
            if found is None:
                return None
            self._lasting.move_to_end(key)
            return found[1]

    def remember(self, key: Hashable, value: Any, weight: int = 1) -> None:
        """Add a lasting answer; the least recently used ones make room."""
        with self._lock:
            self._weight += weight - self._lasting.pop(key, (0, None))[0]
            self._lasting[key] = (weight, value)
            while self._weight > ROOM:
                self._weight -= self._lasting.popitem(last=False)[1][0]

    def ask(self, question: Callable[[], T]) -> T:
        """Return the server's answer.

        Raises:
            Unavailable: the server does not answer, or did not answer a short time ago.
        """
        with self._lock:
            if self._away is not None and self._clock() < self._away[0]:
                raise copy.copy(self._away[1])
        try:
            return question()
        except Unavailable as error:
            # A server that gave a useless answer would not keep the next question waiting.
            cause = error.__cause__
            no_answer = isinstance(cause, NoAnswerError) and not isinstance(cause, AnswerTooLargeError)
            if no_answer or isinstance(error, Overloaded):
                with self._lock:
                    self._away = (self._clock() + PAUSE, copy.copy(error))
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
        return self.answers.for_a_moment(key, lambda: self._workflows.find_workflows(query, start=start, size=limit))

    def workflow(self, workflow_id: str) -> Json:
        """Return a workflow with its attempts."""
        return self._checked(Workflow, self._workflows.workflow, workflow_id)

    def task_log(self, task: Json) -> Sequence[Json]:
        """Return the entries of an attempt's task log: `createdTime` and `log`.

        Workers send them after their reports, so that more may follow for a while after the end. The older the end, the
        longer the entries are remembered.
        """
        task_id, ended = task["taskId"], task["endTime"]
        seconds = min(max(MOMENT, (self.now() - ended) / 10_000), _LONGEST) if ended else MOMENT
        return self._checked(list[LogEntry], self._workflows.log_entries, task_id, seconds=seconds)

    def task_definition(self, name: str) -> Json | None:
        """Return a task definition."""
        return next((each for each in self.task_definitions() if each["name"] == name), None)

    def task_definitions(self) -> Sequence[Json]:
        """Return all task definitions."""
        return self.answers.for_a_moment("task definitions", self._overview.task_definitions)

    def workflow_versions(self, name: str) -> Sequence[int]:
        """Return the versions of a workflow definition, the oldest first; empty if no definition has that name."""
        try:
            return self.answers.for_a_moment(("versions", name), lambda: self._workflows.workflow_versions(name))
        except (NotFound, Refused):  # Conductor has no address for a name with a slash
            return ()

    def workflow_definition(self, name: str, version: int) -> Json:
        """Return one version of a workflow definition."""
        return self._checked(WorkflowDefinition, self._workflows.workflow_definition, name, version)

    def newest_definitions(self) -> Sequence[Json]:
        """Return the newest version of every workflow definition."""
        return self._checked(list[WorkflowDefinition], self._overview.workflow_definitions)

    def queue_sizes(self) -> Mapping[str, int]:
        """Count the attempts that wait, by task type."""
        return self.answers.for_a_moment("queue sizes", self._overview.queue_sizes)

    def queued(self, name: str, start: int, limit: int) -> Sequence[Json]:
        """Return attempts of a task type that wait to be polled, the oldest first; of a longer queue `MOST_QUEUED` are
        known."""
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
        polls = self.answers.for_a_moment("polls", self._overview.last_polls)
        return sorted(polls, key=lambda poll: -poll.time)

    def running(self) -> tuple[Sequence[OpenAttempt], bool]:
        """Return the attempts that are with a worker, the oldest first, and whether these are all.

        A worker has polled for each of them, so the task types without a poll are not read.
        """
        names = list(dict.fromkeys(poll.task_name for poll in self.last_polls()))

        def ask() -> tuple[Sequence[OpenAttempt], bool]:
            until, found, is_all = time.monotonic() + READING, list[OpenAttempt](), len(names) <= MOST_TYPES
            for name in names[:MOST_TYPES]:
                if time.monotonic() > until:
                    is_all = False
                    break
                with contextlib.suppress(NotFound, Refused):  # Conductor has no address for a name with a slash
                    attempts, all_read = self._overview.open_attempts(name, until)
                    found += [each for each in attempts if each.status == "IN_PROGRESS"]
                    is_all = is_all and all_read
            return sorted(found, key=lambda each: each.started), is_all

        return self.answers.for_a_moment("running", ask)

    def _checked(self, shape: Any, ask: Callable[..., T], *given: Hashable, seconds: float = MOMENT) -> T:
        """Return an answer that has this shape, and remember it for a while."""

        def read() -> T:
            answer = ask(*given)
            with _readable("Conductor"):
                return checked(shape, answer)

        return self.answers.for_a_moment((ask.__name__, *given), read, seconds)


# ---------------------------------------------------------------------------------------- lakeFS


class LakeFS:
    """Reads lakeFS. Methods raise `NoSuchPage` for a thing that does not exist, and `perago.ports.ServiceError`.

    Methods with `after` and `limit` return one page of a list: the items after that entry (empty: the first ones), and
    the entry after which the next page begins, None at the end. Commits and their changes never change, so they are
    read once.
    """

    def __init__(self, browser: LakeFSBrowser) -> None:
        self._browser = browser
        self.answers: Answers = Answers()

    def repositories(self, after: str, limit: int) -> Page[Repository]:
        """Return repositories by name."""
        return self._page(Repository.model_validate, self._browser.repositories, after, limit)

    def repository(self, name: str) -> Repository:
        """Return one repository."""
        return self._one(Repository.model_validate, self._browser.repository, name)

    def branches(self, repository: str, after: str, limit: int, *, staging: bool) -> Page[Ref]:
        """Return branches by name: perago's own hidden ones, or those that are not hidden."""
        options = {"prefix": STAGING_PREFIX if staging else "", "hidden": staging}
        return self._page(Ref.model_validate, self._browser.branches, repository, after, limit, **options)

    def branch(self, repository: str, name: str) -> Ref:
        """Return one branch."""
        return self._one(Ref.model_validate, self._browser.branch, repository, name)

    def tags(self, repository: str, after: str, limit: int) -> Page[Ref]:
        """Return tags by name."""
        return self._page(Ref.model_validate, self._browser.tags, repository, after, limit)

    def commit(self, repository: str, ref: str) -> Commit:
        """Return the commit that a branch, a tag or the beginning of an id names, in full."""
        if _EXPRESSION.search(ref):
            raise NoSuchPage(f"{ref!r} is not the name of a commit")
        with _found():
            return self.answers.for_a_moment(("commit", repository, ref), lambda: self._browser.commit(repository, ref))

    def first_parents(self, repository: str, ref: str) -> Iterator[Commit]:
        """Yield the commit, its first parent, and so on; long texts may be missing."""
        following: str | None = self.commit(repository, ref).id
        while following is not None:
            found = self.answers.known((repository, following)) or self._read_history(repository, following)
            yield found
            following = found.parents[0] if found.parents else None

    def _read_history(self, repository: str, commit_id: str) -> Commit:
        """Return a commit, and remember it with the commits before it."""
        with _found(), _readable("lakeFS"):
            read = self.answers.ask(lambda: self._browser.first_parents(repository, commit_id, _COMMITS))
            commits = [shortened(each) for each in read]
            if not commits or commits[0].id != commit_id:
                raise ValueError("a history that begins elsewhere")
        for each in commits:
            self.answers.remember((repository, each.id), each)
        return commits[0]

    def changes(self, repository: str, commit: Commit, after: str, limit: int) -> Page[Change]:
        """Compare a commit with its first parent, by path; the first commit with nothing.

        lakeFS reports only the new size of a changed file. The size before is that of the first thousand objects that
        the parent has from the first change on.
        """

        def ask() -> Page[Change]:
            with _found(), _readable("lakeFS"):
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
        return self.answers.lasting(key, ask, lambda page: 1 + len(page[0]) // 5)

    def uncommitted(self, repository: str, branch: str, limit: int) -> Page[Change]:
        """Return the first changes that are not committed."""
        return self._page(_change, self._browser.uncommitted, repository, branch, limit)

    def count(self, repository: str, commit_id: str, limit: int) -> int:
        """Count the objects of a commit up to `limit`."""

        def ask() -> int:
            rows, following = self._browser.objects(repository, commit_id, "", "", limit)
            return limit if following else len(rows)

        with _found():
            return self.answers.lasting(("count", repository, commit_id, limit), ask)

    def listing(self, repository: str, commit_id: str, prefix: str, after: str, limit: int) -> Page[File | str]:
        """Return one directory of a commit's tree: files, and directories as their paths.

        `prefix` is the path of the directory with a slash at its end, empty for the root.
        """

        def item(row: Json) -> File | str:
            return File.model_validate(row) if row["path_type"] == "object" else str(row["path"])

        return self._page(item, self._browser.objects, repository, commit_id, prefix, after, limit, delimiter="/")

    def file(self, repository: str, commit_id: str, path: str) -> File:
        """Return one object."""
        return self._one(File.model_validate, self._browser.stat, repository, commit_id, path)

    def read(self, repository: str, commit_id: str, path: str, limit: int | None = None) -> Iterator[bytes]:
        """Return the first `limit` bytes of a file, or all of them."""
        size = self.file(repository, commit_id, path).size_bytes
        return self._browser.read(repository, commit_id, path, size if limit is None else min(size, limit))

    def _one(self, read: Callable[[Json], T], ask: Callable[..., Json], *given: Hashable) -> T:
        with _found():
            answer = self.answers.for_a_moment((ask.__name__, *given), lambda: ask(*given))
        with _readable("lakeFS"):
            return read(answer)

    def _page(
        self, read: Callable[[Json], T], ask: Callable[..., Page[Json]], *given: Hashable, **options: Hashable
    ) -> Page[T]:
        with _found():
            key = ask.__name__, *given, *options.values()
            rows, following = self.answers.for_a_moment(key, lambda: ask(*given, **options))
        with _readable("lakeFS"):
            return [read(row) for row in rows], following


@contextmanager
def _found() -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise NoSuchPage(error.detail) from error
    except Refused as error:  # nothing can have a name that lakeFS does not take; inputs and metadata may hold any
        raise NoSuchPage(str(error)) from error


@contextmanager
def _readable(service: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Unavailable(service, "answer", "the answer is not that of such a server") from error


def _change(row: Json, before: int | None = None) -> Change:
    kind, size = str(row["type"]), int(row.get("size_bytes") or 0)
    return Change(str(row["path"]), kind, *((size, None) if kind == "removed" else (before, size)))


# ------------------------------------------------------------------------------------ the source


class News:
    """Notifies clients that wait for a change. Nothing runs in between.

    Waiting clients read servers that do not report changes again every `every` seconds.
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
        """End every stream, because nothing will change any more. Any thread can call it."""
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
    """The Conductor behind an embedded server: the history that no HTTP call returns, and changes from the pages.

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
        """Read everything again that may have changed. Embedded servers report changes immediately."""
        if self.embedded is not None:
            self.conductor.answers.forget()
            self.lakefs.answers.forget()

    def without(self, error: ServiceError) -> Source:
        """Return the same source without the service that `error` is about."""
        missing = {**self.missing, error.service: str(error)}
        if error.service == "lakeFS":
            return replace(self, lakefs=cast("LakeFS", _Nothing(error, _OF_LAKEFS)), missing=missing)
        return replace(self, conductor=cast("Conductor", _Nothing(error, _OF_CONDUCTOR)), missing=missing)

    def history(self, workflow_id: str) -> Sequence[HistoryEntry]:
        """Return the events of the attempts of a workflow, oldest first. Real servers do not provide them."""
        return () if self.embedded is None else self.embedded.conductor.history(workflow_id)


_NO_PAGE: Any = ((), None)
_LISTS = ("task_log", "task_definitions", "workflow_versions", "newest_definitions", "queued", "last_polls")
_OF_CONDUCTOR: Json = {
    **dict.fromkeys(_LISTS, ()),
    "workflow_counts": {},
    "workflows": (0, ()),
    "task_definition": None,
    "queue_sizes": {},
    "running": ((), False),
}
_OF_LAKEFS: Json = dict.fromkeys(("repositories", "branches", "tags", "changes", "uncommitted"), _NO_PAGE)


class _Nothing:
    """A service that does not answer: lists are empty, and a single thing is not there."""

    def __init__(self, error: ServiceError, empty: Json) -> None:
        self._error = error
        self._empty = empty

    def now(self) -> int:
        """Return the time of this machine's clock."""
        return round(time.time() * 1000)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def answer(*arguments: Any, **options: Any) -> Any:  # noqa: ARG001 - whatever is asked
            if name in self._empty:
                return self._empty[name]
            raise NoSuchPage(str(self._error)) from self._error

        return answer


@contextmanager
def source_of(
    settings: Settings, traces: Traces, *, embedded: Embedded | None = None, now: Callable[[], float] = time.time
) -> Iterator[Source]:
    """Open the source of the pages. A server that is not configured has no data. The first page makes the first call.

    Args:
        settings: where the servers are.
        traces: the logs of workers about an attempt.
        embedded: the model behind the server, if it is an embedded one.
        now: the time that durations go by, in seconds since the epoch.
    """
    with ExitStack() as stack:
        news = News(EVERY if embedded is None else None)
        stack.callback(news.close)
        servers = stack.enter_context(Servers(settings, policy=_PATIENCE))
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
    return " and ".join(dict.fromkeys(filter(None, (parse_url(each).netloc for each in addresses if each))))
