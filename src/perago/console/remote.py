"""The configured servers as a source of the console. It never changes anything on them.

What a server says is taken for hostile: an answer that is no such thing as was asked for is an `Unavailable`.
"""

from __future__ import annotations

import copy
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from operator import itemgetter
from typing import Any, TypeVar

from urllib3.util import parse_url

from perago.adapters.conductor import ConductorOverview, ConductorWorkflows
from perago.adapters.http import AnswerTooLargeError, CallPolicy, NoAnswerError, Overloaded
from perago.adapters.lakefs import LakeFSBrowser
from perago.console import source as shapes
from perago.console.app import without
from perago.console.source import (
    STAGING_PREFIX,
    STATUSES,
    Change,
    File,
    HistoryEvent,
    Json,
    News,
    NoSuchPage,
    Page,
    Poll,
    Ref,
    Repository,
    Source,
    Traces,
    WorkflowSummary,
)
from perago.ports import Commit, NotFound, Refused, Unavailable, shortened
from perago.settings import Settings

T = TypeVar("T")

MOMENT = 2.0
"""Seconds that an answer which may change is kept."""
PAUSE = 5.0
"""Seconds that a server which said nothing is left alone: a page asks many questions."""
ROOM = 50_000
"""What is kept of answers that never change, by their weight."""


class Kept:
    """The answers of one server. Safe to use from several threads.

    Two threads that ask the same at once may both ask the server.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._moment: dict[Hashable, tuple[float, Any]] = {}
        self._lasting: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()
        self._weight = 0
        self._away: tuple[float, Unavailable] | None = None

    def for_a_moment(self, key: Hashable, ask: Callable[[], T], seconds: float = MOMENT) -> T:
        """An answer that may change, and is kept for so many `seconds`."""
        with self._lock:
            now = self._clock()
            known = self._moment.get(key)
            if known is not None and now < known[0]:
                value: T = known[1]
                return value
            self._moment = {each: kept for each, kept in self._moment.items() if now < kept[0]}
        value = self.ask(ask)
        with self._lock:
            self._moment[key] = (self._clock() + seconds, value)
        return value

    def lasting(self, key: Hashable, ask: Callable[[], T], weight: Callable[[T], int] = lambda _: 1) -> T:
        """An answer that never changes, such as a commit. `weight` is about its size in kilobytes."""
        found = self.known(key)
        if found is None:
            found = self.ask(ask)
            self.keep(key, found, weight(found))
        value: T = found
        return value

    def known(self, key: Hashable) -> Any:
        """A lasting answer that is still kept, or None."""
        with self._lock:
            found = self._lasting.get(key)
            if found is None:
                return None
            self._lasting.move_to_end(key)
            return found[1]

    def keep(self, key: Hashable, value: Any, weight: int = 1) -> None:
        """Keep a lasting answer; those that were not asked for since longest make room."""
        with self._lock:
            self._weight += weight - self._lasting.pop(key, (0, None))[0]
            self._lasting[key] = (weight, value)
            while self._weight > ROOM:
                self._weight -= self._lasting.popitem(last=False)[1][0]

    def ask(self, question: Callable[[], T]) -> T:
        """The server's answer.

        Raises:
            Unavailable: it does not answer, or did not a moment ago.
        """
        with self._lock:
            if self._away is not None and self._clock() < self._away[0]:
                raise copy.copy(self._away[1])
        try:
            return question()
        except Unavailable as error:
            if _is_silent(error):
                with self._lock:
                    self._away = (self._clock() + PAUSE, copy.copy(error))
            raise


def _is_silent(error: Unavailable) -> bool:
    """Whether the server would keep the next question waiting, too. One that gave an answer of no use would not."""
    cause = error.__cause__
    no_answer = isinstance(cause, NoAnswerError) and not isinstance(cause, AnswerTooLargeError)
    return no_answer or isinstance(error, Overloaded)


_COMMITS = 25
"""Of a page of the history. A commit's metadata may be 1 MiB, and a page is in memory at once."""


_LONGEST = 60.0
"""Seconds that the log of an attempt which ended long ago is kept."""
EVERY = 4.0
"""Seconds after which a window that is seen looks again."""
_EXPRESSION = re.compile(r"[~^@$]")
"""What makes a ref an expression of commits. One that lakeFS cannot read is answered with 500."""
_PATIENCE = CallPolicy(connect=3.0, answer=10.0, tries=2, largest=64 * 1024 * 1024)
"""For one who waits for a page."""


@contextmanager
def source_of_servers(settings: Settings, traces: Traces, now: Callable[[], float] = time.time) -> Iterator[Source]:
    """What the pages are made of, as the configured servers tell it; a server that is not configured tells nothing.

    Args:
        settings: Where they are. Nothing is asked before the first page.
        traces: What workers wrote about an attempt.
        now: The time that durations go by, in seconds since the epoch.
    """
    with ExitStack() as stack:
        news = News(EVERY)
        stack.callback(news.close)
        absent: Any = None
        source = Source(absent, absent, traces, news, f"{_places(settings)}, read only")
        if settings.conductor is None:
            source = without(source, _not_configured("Conductor", "CONDUCTOR_SERVER_URL"))
        else:
            workflows = ConductorWorkflows(settings.conductor, policy=_PATIENCE)
            overview = ConductorOverview(settings.conductor, policy=_PATIENCE)
            stack.callback(workflows.close)
            stack.callback(overview.close)
            source = replace(source, conductor=RemoteConductor(workflows, overview, now))
        if settings.lakefs is None:
            source = without(source, _not_configured("lakeFS", "LAKECTL_SERVER_ENDPOINT_URL"))
        else:
            browser = LakeFSBrowser(settings.lakefs, policy=_PATIENCE)
            stack.callback(browser.close)
            source = replace(source, lakefs=RemoteLakeFS(browser))
        yield source


def _places(settings: Settings) -> str:
    """Host and port of each server. The rest of an address may hold a token."""
    addresses = [settings.conductor and settings.conductor.server_url, settings.lakefs and settings.lakefs.endpoint_url]
    places = [parse_url(address).netloc for address in addresses if address]
    return " and ".join(dict.fromkeys(filter(None, places)))


def _not_configured(service: str, variable: str) -> Unavailable:
    return Unavailable(service, "find it", f"{variable} is not set")


class RemoteConductor:
    """A `Conductor` of the console."""

    def __init__(
        self,
        workflows: ConductorWorkflows,
        overview: ConductorOverview,
        now: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workflows = workflows
        self._overview = overview
        self._now = now
        self._kept = Kept(clock)

    def now(self) -> int:
        """Not by the server's clock, which it does not tell."""
        return round(self._now() * 1000)

    def workflow_counts(self) -> Mapping[str, int]:
        """How many there are of each status."""
        return {status: self._search(f"status='{status}'", 0, 0)[0] for status in STATUSES}

    def workflows(self, status: str | None, start: int, limit: int) -> Sequence[WorkflowSummary]:
        """Some workflows, newest first."""
        if status is not None and status not in STATUSES:
            return ()
        rows = self._search("" if status is None else f"status='{status}'", start, limit)[1]
        with _readable("Conductor"):
            return [_summary(row) for row in rows]

    def workflow(self, workflow_id: str) -> Json:
        """A workflow with its attempts."""
        return self._checked(("workflow", workflow_id), lambda: self._workflows.workflow(workflow_id), shapes.Workflow)

    def knows(self, workflow_id: str) -> bool:  # noqa: ARG002 - not worth a question
        """Perhaps: the page behind the link will say."""
        return True

    def history(self, workflow_id: str) -> Sequence[HistoryEvent]:  # noqa: ARG002 - servers keep none
        """Not told."""
        return ()

    def task_log(self, task: Json) -> Sequence[Json]:
        """The entries of an attempt's task log. Workers send them after their reports, so there may be more for a while
        after the end: the older the end, the longer they are kept."""
        task_id, ended = task["taskId"], task["endTime"]
        seconds = min(max(MOMENT, (self.now() - ended) / 10_000), _LONGEST) if ended else MOMENT
        key = ("log", task_id, ended)
        return self._checked(key, lambda: self._workflows.log_entries(task_id), list[shapes.LogEntry], seconds)

    def task_definition(self, name: str) -> Json | None:
        """A task definition."""
        return next((each for each in self.task_definitions() if each["name"] == name), None)

    def task_definitions(self) -> Sequence[Json]:
        """All of them."""
        return self._kept.for_a_moment("task definitions", self._overview.task_definitions)

    def workflow_versions(self, name: str) -> Sequence[int]:
        """The versions of a definition."""
        return self._kept.for_a_moment(("versions", name), lambda: self._workflows.workflow_versions(name))

    def workflow_definition(self, name: str, version: int) -> Json:
        """A definition."""
        key = ("definition", name, version)
        return self._checked(key, lambda: self._workflows.workflow_definition(name, version), shapes.WorkflowDefinition)

    def queue_sizes(self) -> Mapping[str, int]:
        """How many attempts wait."""
        return self._kept.for_a_moment("queue sizes", self._overview.queue_sizes)

    def queued(self, name: str, start: int, limit: int) -> Sequence[Json]:
        """Attempts that wait, those that were scheduled first come first."""
        rows = self._checked(("pending", name), lambda: self._overview.pending(name), list[shapes.Attempt])
        waiting = [row for row in rows if row["status"] == "SCHEDULED"]
        waiting.sort(key=itemgetter("scheduledTime"))
        return waiting[start : start + limit]

    def last_polls(self, name: str) -> Sequence[Poll]:
        """Who polled."""
        polls = self._kept.for_a_moment("polls", self._overview.last_polls)
        return [Poll(each.time, each.worker_id, each.domain) for each in polls if each.task_name == name]

    def _checked(self, key: Hashable, ask: Callable[[], T], shape: Any, seconds: float = MOMENT) -> T:
        """An answer that has this shape, and is kept for a while."""

        def read() -> T:
            answer = ask()
            with _readable("Conductor"):
                return shapes.checked(shape, answer)

        return self._kept.for_a_moment(key, read, seconds)

    def _search(self, query: str, start: int, limit: int) -> tuple[int, Sequence[Json]]:
        key = ("search", query, start, limit)
        return self._kept.for_a_moment(key, lambda: self._workflows.search_workflows(query, start=start, size=limit))


class RemoteLakeFS:
    """A `LakeFS` of the console. Commits and what they changed never change, so they are asked for once."""

    def __init__(self, browser: LakeFSBrowser) -> None:
        self._browser = browser
        self._kept = Kept()

    def repositories(self, after: str, limit: int) -> Page[Repository]:
        """Repositories."""
        return self._page(("repositories", after, limit), lambda: self._browser.repositories(after, limit), _repository)

    def repository(self, name: str) -> Repository:
        """One repository."""
        return self._one(("repository", name), lambda: self._browser.repository(name), _repository)

    def branches(self, repository: str, after: str, limit: int, *, staging: bool) -> Page[Ref]:
        """Perago's own hidden branches, or those that are not hidden."""
        prefix = STAGING_PREFIX if staging else ""

        def ask() -> tuple[Sequence[Json], str | None]:
            return self._browser.branches(repository, after, limit, prefix=prefix, hidden=staging)

        return self._page(("branches", repository, after, limit, staging), ask, _ref)

    def branch(self, repository: str, name: str) -> Ref:
        """One branch."""
        return self._one(("branch", repository, name), lambda: self._browser.branch(repository, name), _ref)

    def tags(self, repository: str, after: str, limit: int) -> Page[Ref]:
        """Tags."""
        key = ("tags", repository, after, limit)
        return self._page(key, lambda: self._browser.tags(repository, after, limit), _ref)

    def commit(self, repository: str, ref: str) -> Commit:
        """A commit, with all of its message and metadata."""
        if _EXPRESSION.search(ref):
            raise NoSuchPage(f"{ref!r} is not the name of a commit")
        return self._one(("commit", repository, ref), lambda: self._browser.commit(repository, ref), _commit)

    def first_parents(self, repository: str, ref: str) -> Iterator[Commit]:
        """A commit and those before it; long texts may be missing."""
        following: str | None = self.commit(repository, ref).id
        while following is not None:
            found = self._kept.known((repository, following)) or self._read_history(repository, following)
            yield found
            following = found.parents[0] if found.parents else None

    def changes(self, repository: str, commit: Commit, after: str, limit: int) -> Page[Change]:
        """What a commit changed; of a changed file lakeFS tells the size afterwards only."""

        def ask() -> Page[Change]:
            with _found(), _readable("lakeFS"):
                if commit.parents:
                    rows, following = self._browser.changes(repository, commit.parents[0], commit.id, after, limit)
                    return [_change(row) for row in rows], following
                rows, following = self._browser.objects(repository, commit.id, "", after, limit)
                return [Change(str(row["path"]), "added", None, int(row["size_bytes"])) for row in rows], following

        return self._kept.lasting(
            ("changes", repository, commit.id, after, limit), ask, lambda page: 1 + len(page[0]) // 5
        )

    def uncommitted(self, repository: str, branch: str, limit: int) -> Page[Change]:
        """What is staged on a branch."""
        key = ("uncommitted", repository, branch, limit)
        return self._page(key, lambda: self._browser.uncommitted(repository, branch, limit), _change)

    def count(self, repository: str, commit_id: str, limit: int) -> int:
        """How many objects there are."""

        def ask() -> int:
            rows, following = self._browser.objects(repository, commit_id, "", "", limit)
            return limit if following else len(rows)

        with _found():
            return self._kept.lasting(("count", repository, commit_id, limit), ask)

    def listing(self, repository: str, commit_id: str, prefix: str, after: str, limit: int) -> Page[File | str]:
        """One directory."""
        key = ("listing", repository, commit_id, prefix, after, limit)

        def ask() -> tuple[Sequence[Json], str | None]:
            return self._browser.objects(repository, commit_id, prefix, after, limit, delimiter="/")

        return self._page(key, ask, lambda row: _file(row) if row["path_type"] == "object" else str(row["path"]))

    def file(self, repository: str, commit_id: str, path: str) -> File:
        """One object."""
        return self._one(
            ("file", repository, commit_id, path), lambda: self._browser.stat(repository, commit_id, path), _file
        )

    def read(self, repository: str, commit_id: str, path: str, limit: int | None = None) -> Iterator[bytes]:
        """The bytes of a file."""
        size = self.file(repository, commit_id, path).size
        return self._browser.read(repository, commit_id, path, size if limit is None else min(size, limit))

    def _read_history(self, repository: str, commit_id: str) -> Commit:
        """The commit, which is kept from now on with those before it."""
        with _found(), _readable("lakeFS"):
            rows = self._kept.ask(lambda: self._browser.first_parents(repository, commit_id, _COMMITS))
            commits = [shortened(_commit(row)) for row in rows]
            if not commits or commits[0].id != commit_id:
                raise ValueError("a history that begins elsewhere")
        for each in commits:
            self._kept.keep((repository, each.id), each)
        return commits[0]

    def _one(self, key: Any, ask: Callable[[], Json], read: Callable[[Json], T]) -> T:
        with _found():
            answer = self._kept.for_a_moment(key, ask)
        with _readable("lakeFS"):
            return read(answer)

    def _page(
        self, key: Any, ask: Callable[[], tuple[Sequence[Json], str | None]], read: Callable[[Json], T]
    ) -> Page[T]:
        with _found():
            rows, following = self._kept.for_a_moment(key, ask)
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
        raise Unavailable(service, "answer", "the answer is not what this server should say") from error


def _summary(row: Json) -> WorkflowSummary:
    return WorkflowSummary(
        workflow_id=str(row["workflowId"]),
        name=str(row["workflowType"]),
        version=int(row.get("version", 0)),
        status=str(row["status"]),
        start_time=_milliseconds(row.get("startTime")),
        end_time=_milliseconds(row.get("endTime")),
        reason=str(row.get("reasonForIncompletion") or ""),
        failed_references=tuple(filter(None, str(row.get("failedReferenceTaskNames") or "").split(","))),
    )


def _milliseconds(text: Any) -> int:
    return round(datetime.fromisoformat(str(text)).timestamp() * 1000) if text else 0


def _repository(row: Json) -> Repository:
    return Repository(
        str(row["id"]), str(row["storage_namespace"]), str(row["default_branch"]), int(row["creation_date"])
    )


def _ref(row: Json) -> Ref:
    return Ref(str(row["id"]), str(row["commit_id"]))


def _commit(row: Json) -> Commit:
    return Commit(
        id=str(row["id"]),
        parents=tuple(str(parent) for parent in row["parents"]),
        committer=str(row["committer"]),
        message=str(row["message"]),
        created=int(row["creation_date"]),
        metadata={str(key): str(value) for key, value in (row.get("metadata") or {}).items()},
        meta_range_id=str(row["meta_range_id"]),
    )


def _change(row: Json) -> Change:
    kind, size = str(row["type"]), int(row.get("size_bytes") or 0)
    return Change(str(row["path"]), kind, size if kind == "removed" else None, None if kind == "removed" else size)


def _file(row: Json) -> File:
    return File(
        path=str(row["path"]),
        size=int(row["size_bytes"]),
        mtime=int(row["mtime"]),
        checksum=str(row["checksum"]),
        content_type=str(row.get("content_type") or ""),
        metadata={str(key): str(value) for key, value in (row.get("metadata") or {}).items()},
    )
