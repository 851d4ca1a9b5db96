"""`LakeFSStore`: the versioned trees of a real lakeFS server."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from os.path import commonprefix
from pathlib import Path
from sys import intern
from types import MappingProxyType
from typing import TypeVar

from perago.adapters.http import Answer, CallPolicy, ServerAbout
from perago.adapters.http_answers import AS_EXPECTED, reading, typed, unreadable
from perago.adapters.lakefs.block_store import BlockStore
from perago.adapters.lakefs.download import Download
from perago.adapters.lakefs.session import (
    ANSWER,
    BRANCH_REFUSALS,
    COMMIT_REFUSALS,
    MERGE_REFUSALS,
    REVERT_REFUSALS,
    SERVICE,
    Call,
    Json,
    LakeFSSession,
    commit_of,
    json_of,
    just_before,
    once,
    path_in,
)
from perago.adapters.lakefs.transfers import Transfer
from perago.adapters.lakefs.upload import Uploads
from perago.cache import ObjectCache, Shelf, on_disk
from perago.ports import (
    AccessDenied,
    Commit,
    Forbidden,
    NotFound,
    ObjectEntry,
    OnPage,
    Placement,
    Progress,
    RateLimited,
    Refused,
    Staged,
    StoreNotes,
    Unavailable,
    Upload,
    no_progress,
    shortened,
)
from perago.retry import retry
from perago.settings import LakeFSSettings
from perago.text import count, short
from perago.workspace.sweep import CACHE

T = TypeVar("T")
_COMMIT_ID = re.compile(r"[0-9a-f]{64}")
_CONTROL_CONNECTIONS = 2
_LOG_PAGE = 10
"""A commit's metadata may be 2 MB and more (`docs/dev/servers/lakefs.md`, "REST facts"), and a complete page of the log
is in memory."""
_DELETE_BATCH = 1000
_LONGEST_AFTER = 1000
"""The longest key, in bytes, at which a page can begin. lakeFS accepts 1,024."""
_NO_METADATA: Mapping[str, str] = MappingProxyType({})


class LakeFSStore:
    """A `WorkspaceStore`.

    It opens no connection and starts no thread before the first call, so it may be made before a fork. Transfers run on
    their own threads, which have ended when the call returns.

    Args:
        settings: where the server is; the URL with or without `/api/v1`.
        threads: streams of one transfer.
        policy: time limits and repetitions, for tests.
        cache: keeps objects on this machine; None: every object is fetched each time.
    """

    def __init__(
        self,
        settings: LakeFSSettings,
        *,
        threads: int = 16,
        policy: CallPolicy | None = None,
        cache: ObjectCache | None = None,
    ) -> None:
        self._cache = cache and replace(cache, access_key=settings.access_key_id)
        self._broken: tuple[Path | None, int] = (None, 0)
        """The workspace of the last download that failed, and the number of its objects that the cache had."""
        self._damaged = 0
        """Number of damaged cache entries since the last call of `take_notes`."""
        self._threads = threads
        self._session = LakeFSSession(settings, policy or CallPolicy(), threads + _CONTROL_CONNECTIONS)
        self._block_store = BlockStore(self._session, threads)

    # ------------------------------------------------------------------ reads

    def ping(self) -> None:
        """Check whether a lakeFS answers and accepts the credentials, without changing anything. The call for the
        current user needs valid credentials and no permission.

        Raises:
            Unavailable: no answer, or the answer is not from a lakeFS.
            AccessDenied: the credentials are not accepted.
        """
        call = Call("answer", "", "the user of these credentials")
        try:
            answer = once(call, lambda: self._session.pool.call("GET", "/user"), lambda answer: answer)
        except (NotFound, Refused) as error:
            raise unreadable(SERVICE, AS_EXPECTED, ANSWER, error.detail) from error
        with reading(SERVICE, AS_EXPECTED, ANSWER):
            typed(json_of(answer)["user"], dict, "user")

    def about(self) -> ServerAbout:
        """Return the version and the clock of the server."""
        call, sent = Call("tell its version", "", "the version"), time.time()
        answer = once(call, lambda: self._session.pool.call("GET", "/config/version"), lambda answer: answer)
        try:
            version = json_of(answer)["version"]
        except (ValueError, KeyError, TypeError, RecursionError):
            version = None
        return ServerAbout.of(answer, version, sent)

    def get_commit(self, repository: str, ref: str) -> Commit:
        """Return the commit of a full commit id, or the head of a branch of exactly this name.

        lakeFS also resolves an abbreviated id, a tag or an expression (`docs/dev/servers/lakefs.md`, "REST facts").
        These do not count.
        """
        commit_id = ref if _COMMIT_ID.fullmatch(ref) else self._head(repository, ref)
        call = Call(f"read commit {short(commit_id)}… of {repository}", repository, f"commit {commit_id}")
        commit = self._session.get(call, path_in(repository, "commits", commit_id), commit_of)
        if commit.id != commit_id:
            raise NotFound(SERVICE, call.operation, f"{call.missing} does not exist")
        return commit

    def resolve(self, repository: str, expression: str) -> Commit:
        """Return the commit of an expression in lakeFS' own syntax, such as `main~1` or `main^`."""
        call = Call(f"read commit {expression} of {repository}", repository, f"commit {expression}")
        return self._session.get(call, path_in(repository, "commits", expression), commit_of)

    def history(self, repository: str, branch: str, *, until: str, limit: int) -> tuple[Commit, ...]:
        """Return the first-parent commits from the head down to `until`. All pages are read from the same head, so that
        they fit together.

        Commits below the head lack the metadata that is only needed at the head, so that a long history fits into
        memory.
        """
        head = self._head(repository, branch)
        return () if head == until else tuple(self._log(repository, head, until, limit))

    def ancestry(self, repository: str, commit: str, *, limit: int) -> tuple[Commit, ...]:
        """Return the commit with exactly this id and its first-parent ancestors, newest first, shortened like the
        commits of `history`."""
        commits = tuple(map(shortened, self._log(repository, commit, "", limit)))
        if commits and commits[0].id != commit:  # the name of a branch or a tag
            raise NotFound(SERVICE, f"read the history of {repository}", f"commit {commit} does not exist")
        return commits

    def has_uncommitted_changes(self, repository: str, branch: str) -> bool:
        """Whether anything is staged on `branch`."""
        call = Call(f"look for uncommitted changes on {branch} of {repository}", repository, f"branch {branch}")
        return bool(self._session.page(call, path_in(repository, "branches", branch, "diff"), dict, {}, amount=1)[0])

    def newest_staged(self, repository: str, branch: str) -> int | None:
        """Return the upload time of the newest staged object of `branch`, or None.

        Only the bare name of a branch shows staged objects (`docs/dev/servers/lakefs.md`, "Semantics"), and only a
        listing shows their times.
        """
        call = Call(f"list what is staged on {branch} of {repository}", repository, f"branch {branch}")
        changes = self._items(call, _change, "branches", branch, "diff")
        staged = frozenset(path for path, size in changes if size is not None)
        last = max(staged, default="")  # code points are in the order of their UTF-8
        shared = commonprefix(list(staged))  # noqa: RUF071 - a listing's prefix is one of characters, too
        times: list[int] = []
        listing = _listing(repository, branch, f"branch {branch}")
        for page in self._session.pages(*listing, _entry, {"prefix": shared}) if staged else ():
            times += [entry.mtime for entry in page if entry.key in staged]
            if page and page[-1].key >= last:
                break
        return max(times, default=None)

    def list_branches(self, repository: str, prefix: str) -> tuple[str, ...]:
        """Return all branches whose names begin with `prefix`, hidden ones included."""
        call = Call(f"list branches of {repository}", repository, f"repository {repository}")
        query = {"prefix": prefix, "show_hidden": "true"}
        return tuple(self._items(call, lambda branch: typed(branch["id"], str, "id"), "branches", query=query))

    def list_objects(
        self, repository: str, commit: str, prefix: str, on_page: OnPage | None = None
    ) -> Sequence[ObjectEntry]:
        """Return every object below `prefix`."""
        objects: list[ObjectEntry] = []
        listing = _listing(repository, commit, f"commit {commit}")
        for page in self._session.pages(*listing, _entry, {"prefix": prefix}):
            if on_page is not None:
                on_page(page)
            objects += page
        return objects

    def stat_objects(self, repository: str, commit: str, keys: Collection[str]) -> Mapping[str, ObjectEntry]:
        """Return the objects of a commit at `keys`.

        Each page of the listing begins at the first open key, so it settles at least one key, and no object is listed
        twice. The last key, and a key at which no page can begin, is requested alone.
        """
        listing = _listing(repository, commit, f"commit {commit}")
        left = sorted(keys, reverse=True)  # code points are in the order of their UTF-8
        entries: dict[str, ObjectEntry] = {}
        while left:
            key = left[-1]
            if len(left) > 1 and len(key.encode(errors="replace")) <= _LONGEST_AFTER:
                page, last = self._session.page(*listing, _entry, {}, just_before(key))
                listed = {entry.key: entry for entry in page}
                while left and not (last is not None and left[-1] > last):
                    if left[-1] in listed:
                        entries[left[-1]] = listed[left[-1]]
                    left.pop()
            if left and left[-1] == key:
                if (entry := self._stat(repository, commit, key)) is not None:
                    entries[key] = entry
                left.pop()
        return entries

    def diff(self, repository: str, left: str, right: str) -> Mapping[str, int | None]:
        """Return the keys at which two commits differ, with their sizes in `right`."""
        call = Call(f"compare commits of {repository}", repository, f"commit {left} or {right}")
        return dict(self._items(call, _change, "refs", left, "diff", right, query={"type": "two_dot"}))

    # -------------------------------------------------------------- transfers

    def download(
        self,
        repository: str,
        commit: str,
        workspace: Path,
        placements: Sequence[Placement],
        on_progress: Progress = no_progress,
    ) -> int:
        """Download objects to disk, and verify each before it appears. Return how many came from the cache. Earlier
        failed calls for the same workspace count, too."""
        broken, hits = self._broken
        earlier = hits if broken == workspace else 0
        needed = sum(on_disk(placement.entry.size) for placement in placements if placement.path is not None)
        with self._shelf(needed) as shelf:
            transfer = self._transfer(repository, shelf)
            try:
                return earlier + Download(transfer, commit).run(workspace, placements, on_progress)
            except BaseException:
                self._broken = workspace, earlier + (shelf.hits if shelf else 0)
                raise
            finally:
                self._damaged += shelf.damaged if shelf else 0

    def upload(self, repository: str, branch: str, uploads: Sequence[Upload], on_staged: Staged | None = None) -> None:
        """Stage files on `branch`.

        Raises:
            FileChanging: a file has changed since the scan.
            CorruptTransfer: lakeFS has stored bytes that differ from those of the scan.
        """
        with self._shelf() as shelf:
            Uploads(self._transfer(repository, shelf), branch).run(uploads, on_staged)

    def take_notes(self) -> StoreNotes:
        """Return messages for the log about the transfers since the last call, and the number of damaged cache
        entries."""
        damaged, self._damaged = self._damaged, 0
        notes = self._block_store.take_notes()
        if self._cache is None or not damaged:
            return StoreNotes(notes, damaged)
        had = f"The cache {self._cache.root / CACHE} had {count(damaged, 'damaged object')}"
        advice = "Check the disk, and run perago cache --verify."
        return StoreNotes((*notes, f"{had}, deleted and downloaded from lakeFS again. {advice}"), damaged)

    # ----------------------------------------------------------------- writes

    def create_branch(self, repository: str, branch: str, source: str) -> None:
        """Create a hidden branch at commit `source`, with one request."""
        operation = f"create branch {branch} of {repository}"
        call = Call(operation, repository, f"commit {source}", write=True, refusals=BRANCH_REFUSALS)
        self._write(
            call, "POST", path_in(repository, "branches"), {"name": branch, "source": source, "hidden": True}, _nothing
        )

    def delete_branch(self, repository: str, branch: str) -> None:
        """Delete a branch; one that no longer exists is fine."""
        call = Call(f"delete branch {branch} of {repository}", repository, f"branch {branch}")
        try:
            self._write(call, "DELETE", path_in(repository, "branches", branch), None, _nothing, repeated=True)
        except NotFound:
            return

    def delete_objects(self, repository: str, branch: str, keys: Sequence[str]) -> None:
        """Stage the deletion of `keys`. An unknown branch answers 200 without errors (`docs/dev/servers/lakefs.md`,
        "REST facts"), and the commit fails."""
        for start in range(0, len(keys), _DELETE_BATCH):
            batch = list(keys[start : start + _DELETE_BATCH])
            call = Call(f"delete {len(batch)} objects on {branch} of {repository}", repository, f"branch {branch}")
            path = path_in(repository, "branches", branch, "objects", "delete")
            self._write(call, "POST", path, {"paths": batch}, partial(_raise_first, call), repeated=True)

    def commit(
        self, repository: str, branch: str, message: str, metadata: Mapping[str, str], *, allow_empty: bool = False
    ) -> Commit:
        """Commit the staged changes of `branch`, with one request."""
        operation = f"commit to {branch} of {repository}"
        call = Call(operation, repository, f"branch {branch}", write=True, refusals=COMMIT_REFUSALS)
        body = {"message": message, "metadata": dict(metadata), "allow_empty": allow_empty}

        def read(answer: Answer) -> Commit:
            return commit_of(json_of(answer))

        return self._write(call, "POST", path_in(repository, "branches", branch, "commits"), body, read)

    def revert(self, repository: str, branch: str, commit: str) -> None:
        """Undo a merge commit on `branch`, with one request."""

        def check(answer: Answer) -> None:
            if answer.status != 204:
                raise ValueError("a revert answers 204")

        operation = f"revert {short(commit)}… on {branch} of {repository}"
        missing = f"branch {branch} or commit {commit}"
        call = Call(operation, repository, missing, write=True, refusals=REVERT_REFUSALS)
        path = path_in(repository, "branches", branch, "revert")
        self._write(call, "POST", path, {"ref": commit, "parent_number": 1}, check)

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
        """Merge commit id `source` into `branch`, with one request, without strategy, squash or force
        (`docs/dev/servers/lakefs.md`, "What follows for perago"); returns the merge commit's id."""

        def read(answer: Answer) -> str:
            return typed(json_of(answer)["reference"] or None, str, "reference")

        operation = f"merge {short(source)}… into {branch} of {repository}"
        missing = f"branch {branch} or commit {source}"
        call = Call(operation, repository, missing, write=True, refusals=MERGE_REFUSALS)
        body = {"message": message, "metadata": dict(metadata), "allow_empty": allow_empty}
        path, seconds = path_in(repository, "refs", source, "merge", branch), within or self._session.policy.merge
        return self._write(call, "POST", path, body, read, answer_within=seconds)

    def close(self) -> None:
        """Close the connections; calls after this fail."""
        self._session.pool.close()
        self._block_store.close()

    # ---------------------------------------------------------------- helpers

    def _shelf(self, needed: int = 0) -> AbstractContextManager[Shelf | None]:
        """Open the cache for one transfer, which needs `needed` bytes of the disk."""
        return (self._cache and self._cache.open(needed)) or nullcontext()

    def _transfer(self, repository: str, shelf: Shelf | None) -> Transfer:
        return Transfer(self._session, self._threads, repository, shelf, self._block_store)

    def _head(self, repository: str, branch: str) -> str:
        """Return the commit id at the head of a branch. A tag or commit of that name does not count."""
        call = Call(f"read branch {branch} of {repository}", repository, f"branch {branch}")
        path = path_in(repository, "branches", branch)
        return self._session.get(call, path, lambda row: typed(row["commit_id"], str, "commit_id"))

    def _stat(self, repository: str, commit: str, key: str) -> ObjectEntry | None:
        """Return one object; None only if lakeFS says that the commit exists and the object does not."""
        call = Call(f"look for {key} in {short(commit)}… of {repository}", repository, f"{key} in commit {commit}")
        path = path_in(repository, "refs", commit, "objects", "stat")
        try:
            return self._session.get(call, path, _entry, {"path": key})
        except NotFound:
            self.get_commit(repository, commit)
            return None

    def _log(self, repository: str, head: str, until: str, limit: int) -> Iterator[Commit]:
        """Yield a commit and its first-parent ancestors down to `until` (left out), newest first, at most `limit`.
        Those below the head are `shortened`.

        Raises:
            Refused: lakeFS does not name `head` either (`docs/dev/servers/lakefs.md`, "REST facts"). An error must not
            look like
                an unmoved branch.
        """
        missing = f"commit {head} or {until}" if until else f"commit {head}"
        call = Call(f"read the history of {repository}", repository, missing)
        path = path_in(repository, "refs", head, "commits")

        def read(reply: Json) -> tuple[list[Commit], bool]:
            rows = [commit_of(row) for row in reply["results"]]
            return rows, bool(rows) and bool(reply["pagination"]["has_more"])

        after, read_before, more = "", 0, True
        while more and read_before < limit:
            amount = min(_LOG_PAGE, limit - read_before + bool(until))  # `until` comes along as the last one
            query: dict[str, str | int] = {"first_parent": "true", "stop_at": until, "after": after, "amount": amount}
            page, more = self._session.get(call, path, read, query)
            if not page and not after:
                detail = f"lakeFS lists no commit, not even {head}; the date of that commit may be before the year 1"
                raise Refused(SERVICE, call.operation, detail)
            for commit in page[: limit - read_before]:
                if commit.id == until:
                    return
                yield shortened(commit) if read_before else commit
                after, read_before = commit.id, read_before + 1

    def _items(
        self, call: Call, read: Callable[[Json], T], *parts: str, query: Mapping[str, str] | None = None
    ) -> Iterator[T]:
        """Yield the result of `read` for all entries of a list of a repository."""
        for page in self._session.pages(call, path_in(call.repository, *parts), read, query):
            yield from page

    def _write(
        self,
        call: Call,
        method: str,
        path: str,
        body: Json | None,
        read: Callable[[Answer], T],
        *,
        answer_within: float | None = None,
        repeated: bool = False,
    ) -> T:
        """Send a request that changes something once. With `repeated`, send it again while lakeFS cannot be reached."""
        headers, data = (
            ({}, None) if body is None else ({"Content-Type": "application/json"}, json.dumps(body).encode())
        )
        send = partial(self._session.pool.call, method, path, headers=headers, body=data, answer_within=answer_within)

        def send_once() -> T:
            return once(call, send, read)

        return retry(send_once, self._session.policy.retries()) if repeated else send_once()


def _listing(repository: str, ref: str, missing: str) -> tuple[Call, str]:
    """Return the call that lists the objects of a commit or a branch, and its path."""
    call = Call(f"list {repository} at {short(ref)}", repository, missing)
    return call, path_in(repository, "refs", ref, "objects", "ls")


def _nothing(_: Answer) -> None:
    """Read nothing from an answer."""


def _raise_first(call: Call, answer: Answer) -> None:
    """Raise for the first entry of a batch answer's error list, which comes with status 200."""
    problems = json_of(answer).get("errors") or []
    if not problems:
        return
    path, status, message = (problems[0].get(name) for name in ("path", "status_code", "message"))
    status = int(status)
    kind = {401: AccessDenied, 403: Forbidden, 429: RateLimited}.get(status, Unavailable if status >= 500 else Refused)
    detail = f"{len(problems)} were refused, first {path!r}: status {status}: {message}"
    raise kind(SERVICE, call.operation, detail)


def _change(item: Json) -> tuple[str, int | None]:
    """Return the key of a change and the new size, which is None for a removed object."""
    return typed(item["path"], str, "path"), None if item["type"] == "removed" else int(item.get("size_bytes") or 0)


def _entry(item: Json) -> ObjectEntry:
    return ObjectEntry(
        key=typed(item["path"], str, "path"),
        size=typed(item["size_bytes"], int, "size_bytes"),
        checksum=typed(item["checksum"], str, "checksum"),
        mtime=typed(item["mtime"], int, "mtime"),
        content_type=intern(item.get("content_type") or "application/octet-stream"),  # one text for 100,000 objects
        metadata=typed(item.get("metadata") or {}, dict, "metadata") or _NO_METADATA,
        physical_address=typed(item.get("physical_address") or "", str, "physical_address"),
    )
