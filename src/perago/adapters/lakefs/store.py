"""`LakeFSStore`: the versioned trees of a real lakeFS server."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

from urllib3 import PoolManager
from urllib3.exceptions import HTTPError
from urllib3.util import make_headers

from perago.adapters.http import Answer, CallPolicy, HttpPool, ServerAbout, no_answer, seconds_ahead
from perago.adapters.lakefs import errors
from perago.adapters.lakefs.block_store import BlockStore
from perago.adapters.lakefs.download import Download
from perago.adapters.lakefs.errors import SERVICE, Call
from perago.adapters.lakefs.listing import list_objects, newest_upload, stat_objects
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
    Refused,
    ServiceError,
    Staged,
    Unavailable,
    Upload,
    no_progress,
    shortened,
)
from perago.retry import retry
from perago.settings import LakeFSSettings
from perago.text import count
from perago.workspace.sweep import CACHE

_API = "/api/v1"
_COMMIT_ID = re.compile(r"[0-9a-f]{64}")
_CONTROL_CONNECTIONS = 2
_PAGE = 1000
_LOG_PAGE = 10
"""A commit's metadata may be 2 MB and more (`docs/dev/servers/lakefs.md` 2), and a page of the log is in memory at
once."""
_DELETE_BATCH = 1000


def open_pool(settings: LakeFSSettings, size: int, policy: CallPolicy) -> HttpPool:
    """Connections to lakeFS's API with the configured credentials, `size` of them kept for re-use."""
    key, secret = settings.access_key_id, settings.secret_access_key.get_secret_value()
    headers = make_headers(basic_auth=f"{key}:{secret}")
    return HttpPool(SERVICE, _base_url(settings), headers=headers, size=size, policy=policy)


class LakeFSStore:
    """A `WorkspaceStore`: the calls that move refs go through the official SDK's API classes.

    Making one imports the SDK (about 0.6 s). It opens no connection and starts no thread before the first call, so it
    may be made before a fork. Transfers run on their own threads, which have ended when the call returns.

    Args:
        settings: where the server is; the URL with or without `/api/v1`.
        threads: streams of one transfer.
        policy: time limits and repetitions, for tests.
        cache: keeps objects on this machine; None: each is fetched each time.
    """

    def __init__(
        self,
        settings: LakeFSSettings,
        *,
        threads: int = 16,
        policy: CallPolicy | None = None,
        cache: ObjectCache | None = None,
    ) -> None:
        import lakefs_sdk

        self._sdk: Any = lakefs_sdk
        self._cache = cache and replace(cache, access_key=settings.access_key_id)
        self._broken: tuple[Path | None, int] = (None, 0)
        """The workspace of the last download that broke, and how many of its objects the cache had."""
        self._damaged = 0
        """Entries of the cache that were damaged, since the last call of `take_notes`."""
        self._policy = policy or CallPolicy()
        self._threads = threads
        self._pool = open_pool(settings, threads + _CONTROL_CONNECTIONS, self._policy)
        self._block_store = BlockStore(self._pool, self._policy, threads, lakefs_url=_base_url(settings))
        client = _sdk_client(lakefs_sdk, settings, self._pool)
        self._branches: Any = lakefs_sdk.BranchesApi(client)
        self._commits: Any = lakefs_sdk.CommitsApi(client)
        self._refs: Any = lakefs_sdk.RefsApi(client)
        self._objects: Any = lakefs_sdk.ObjectsApi(client)
        self._users: Any = lakefs_sdk.AuthApi(client)

    # ------------------------------------------------------------------ reads

    def ping(self) -> None:
        """Find out whether a lakeFS answers and lets us in, without changing anything: the one call that needs valid
        credentials and no permission asks who we are.

        Raises:
            Unavailable: no answer, or an answer of something that is not a lakeFS.
            AccessDenied: the credentials are not accepted.
        """
        call = Call("answer", "", "the user of these credentials")
        try:
            self._once(call, self._users.get_current_user)
        except (NotFound, Refused) as error:
            raise errors.unreadable(call) from error

    def about(self) -> ServerAbout:
        """Return the version and the clock of the server."""

        def read(answer: Answer) -> ServerAbout:
            received = time.time()
            ahead = seconds_ahead(answer.headers, sent, received)
            return ServerAbout(errors.version_in(answer), ahead, received - sent)

        sent = time.time()
        return errors.ask(self._pool, Call("tell its version", "", "the version"), "/config/version", read)

    def get_commit(self, repository: str, ref: str) -> Commit:
        """Return the commit of a full commit id, or the head of a branch of exactly this name.

        lakeFS also resolves an abbreviated id, a tag or an expression (`docs/dev/servers/lakefs.md` 2). These do not
        count.
        """
        commit_id = ref if _COMMIT_ID.fullmatch(ref) else self._head(repository, ref)
        call = Call(f"read commit {commit_id[:12]}… of {repository}", repository, f"commit {commit_id}")
        commit: Commit = self._retry(call, self._commits.get_commit, repository, commit_id, read_as=_commit)
        if commit.id != commit_id:
            raise NotFound(SERVICE, call.operation, f"{call.missing} does not exist")
        return commit

    def history(self, repository: str, branch: str, *, until: str, limit: int) -> tuple[Commit, ...]:
        """Return the first-parent commits from the head down to `until`, read from one head so that pages fit together.

        Commits below the head are kept without what only the head is asked for, so that a long history of large
        metadata fits into memory.
        """
        head = self._head(repository, branch)
        found: list[Commit] = []
        more = head != until
        while more and len(found) < limit:
            page, more = self._log_page(repository, head, found[-1].id if found else None, until, limit - len(found))
            for commit in page:
                if commit.id == until or len(found) == limit:
                    return tuple(found)
                found.append(shortened(commit) if found else commit)
        return tuple(found)

    def ancestry(self, repository: str, commit: str, *, limit: int) -> tuple[Commit, ...]:
        """Return the commit with exactly this id and its first-parent ancestors, newest first, kept as the commits of
        `history` are."""
        found: list[Commit] = []
        more = True
        while more and len(found) < limit:
            after = found[-1].id if found else None
            page, more = self._log_page(repository, commit, after, None, limit - len(found))
            if not found and page[0].id != commit:  # the name of a branch or a tag
                raise NotFound(SERVICE, f"read the history of {repository}", f"commit {commit} does not exist")
            found += map(shortened, page)
        return tuple(found)

    def has_uncommitted_changes(self, repository: str, branch: str) -> bool:
        """Whether anything is staged on `branch`."""
        call = Call(f"look for uncommitted changes on {branch} of {repository}", repository, f"branch {branch}")
        dirty: bool = self._retry(
            call, self._branches.diff_branch, repository, branch, amount=1, read_as=lambda answer: bool(answer.results)
        )
        return dirty

    def newest_staged(self, repository: str, branch: str) -> int | None:
        """Return when the newest object that is staged on `branch` was uploaded, or None."""
        call = Call(f"list what is staged on {branch} of {repository}", repository, f"branch {branch}")
        changes = self._pages(call, self._branches.diff_branch, repository, branch)
        staged = frozenset(str(change.path) for change in changes if change.type != "removed")
        return newest_upload(self._pool, self._policy, repository, branch, staged) if staged else None

    def list_branches(self, repository: str, prefix: str) -> tuple[str, ...]:
        """Return all branches whose names begin with `prefix`, hidden ones included."""
        call = Call(f"list branches of {repository}", repository, f"repository {repository}")
        listed = self._pages(call, self._branches.list_branches, repository, prefix=prefix, show_hidden=True)
        return tuple(str(branch.id) for branch in listed)

    def list_objects(
        self, repository: str, commit: str, prefix: str, on_page: OnPage | None = None
    ) -> Sequence[ObjectEntry]:
        """Return every object below `prefix`."""
        return list_objects(self._pool, self._policy, repository, commit, prefix, on_page)

    def stat_objects(self, repository: str, commit: str, keys: Collection[str]) -> Mapping[str, ObjectEntry]:
        """Return the objects that a commit has at `keys`."""
        return stat_objects(self._pool, self._policy, repository, commit, keys, partial(self._stat, repository, commit))

    def diff(self, repository: str, left: str, right: str) -> Mapping[str, int | None]:
        """Return the keys at which two commits differ, with their sizes in `right`."""
        call = Call(f"compare commits of {repository}", repository, f"commit {left} or {right}")
        changes = self._pages(call, self._refs.diff_refs, repository, left, right, type="two_dot")
        return {change.path: None if change.type == "removed" else change.size_bytes or 0 for change in changes}

    # -------------------------------------------------------------- transfers

    def download(
        self,
        repository: str,
        commit: str,
        workspace: Path,
        placements: Sequence[Placement],
        on_progress: Progress = no_progress,
    ) -> int:
        """Bring objects to disk, each verified before it appears; returns how many were on this machine before, those
        of calls for the same workspace included that broke."""
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
            FileChanging: a file is not what the scan saw any more.
            CorruptTransfer: lakeFS has stored other bytes than those that the scan saw.
        """
        with self._shelf() as shelf:
            Uploads(self._transfer(repository, shelf), branch).run(uploads, on_staged)

    def take_notes(self) -> tuple[str, ...]:
        """Return what is to be said about the transfers since the last call."""
        damaged, self._damaged = self._damaged, 0
        notes = self._block_store.take_notes()
        if self._cache is None or not damaged:
            return notes
        had = f"The cache {self._cache.root / CACHE} had {count(damaged, 'damaged object')}"
        advice = "Check the disk, and run perago cache --verify."
        return (*notes, f"{had}, deleted and downloaded from lakeFS again. {advice}")

    # ----------------------------------------------------------------- writes

    def create_branch(self, repository: str, branch: str, source: str) -> None:
        """Create a hidden branch at commit `source`, with one request."""
        call = Call(f"create branch {branch} of {repository}", repository, f"commit {source}", write=True)
        creation = self._sdk.BranchCreation(name=branch, source=source, hidden=True)
        self._once(call, self._branches.create_branch, repository, creation, refusal=errors.branch_refusal)

    def delete_branch(self, repository: str, branch: str) -> None:
        """Delete a branch; one that no longer exists is fine."""
        call = Call(f"delete branch {branch} of {repository}", repository, f"branch {branch}")
        try:
            self._retry(call, self._branches.delete_branch, repository, branch)
        except NotFound:
            return

    def delete_objects(self, repository: str, branch: str, keys: Sequence[str]) -> None:
        """Stage the deletion of `keys`. An unknown branch answers 200 without errors (`docs/dev/servers/lakefs.md` 2):
        the commit tells."""
        for start in range(0, len(keys), _DELETE_BATCH):
            batch = list(keys[start : start + _DELETE_BATCH])
            call = Call(f"delete {len(batch)} objects on {branch} of {repository}", repository, f"branch {branch}")
            paths = self._sdk.PathList(paths=batch)
            answer = self._retry(call, self._objects.delete_objects, repository, branch, paths)
            _raise_first(call, answer.errors)

    def commit(
        self, repository: str, branch: str, message: str, metadata: Mapping[str, str], *, allow_empty: bool = False
    ) -> Commit:
        """Commit what is staged on `branch`, with one request."""
        call = Call(f"commit to {branch} of {repository}", repository, f"branch {branch}", write=True)
        creation = self._sdk.CommitCreation(message=message, metadata=dict(metadata), allow_empty=allow_empty)
        refusal = errors.commit_refusal
        commit: Commit = self._once(
            call, self._commits.commit, repository, branch, creation, refusal=refusal, read_as=_commit
        )
        return commit

    def revert(self, repository: str, branch: str, commit: str) -> None:
        """Undo a merge commit on `branch`, with one request."""

        def check(answer: Any) -> None:
            if answer.status_code != 204:
                raise ValueError("a revert answers 204")

        operation = f"revert {commit[:12]}… on {branch} of {repository}"
        call = Call(operation, repository, f"branch {branch} or commit {commit}", write=True)
        creation, send = (
            self._sdk.RevertCreation(ref=commit, parent_number=1),
            self._branches.revert_branch_with_http_info,
        )
        self._once(call, send, repository, branch, creation, refusal=errors.revert_refusal, read_as=check)

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
        (`docs/dev/servers/lakefs.md` 1.10); returns the merge commit's id."""

        def read(answer: Any) -> str:
            if not answer.reference:
                raise ValueError("a merge without a commit")
            return str(answer.reference)

        operation = f"merge {source[:12]}… into {branch} of {repository}"
        call = Call(operation, repository, f"branch {branch} or commit {source}", write=True)
        merge_id: str = self._once(
            call,
            self._refs.merge_into_branch,
            repository,
            source,
            branch,
            merge=self._sdk.Merge(message=message, metadata=dict(metadata), allow_empty=allow_empty),
            refusal=errors.merge_refusal,
            answer_within=within or self._policy.merge,
            read_as=read,
        )
        return merge_id

    def close(self) -> None:
        """Close the connections; calls after this fail."""
        self._pool.close()
        self._block_store.close()

    # ---------------------------------------------------------------- helpers

    def _shelf(self, needed: int = 0) -> AbstractContextManager[Shelf | None]:
        """The open cache for one transfer, which itself takes `needed` bytes of the disk."""
        return (self._cache and self._cache.open(needed)) or nullcontext()

    def _transfer(self, repository: str, shelf: Shelf | None) -> Transfer:
        return Transfer(self._pool, self._policy, self._threads, repository, shelf, self._block_store)

    def _head(self, repository: str, branch: str) -> str:
        """The commit id at the head of a branch, and of nothing else that has this name."""
        call = Call(f"read branch {branch} of {repository}", repository, f"branch {branch}")
        read, get = (lambda answer: str(answer.commit_id)), self._branches.get_branch
        head: str = self._retry(call, get, repository, branch, read_as=read)
        return head

    def _stat(self, repository: str, commit: str, key: str) -> ObjectEntry | None:
        """Return one object; None only if lakeFS says that the commit is there and the object is not."""
        call = Call(f"look for {key} in {commit[:12]}… of {repository}", repository, f"{key} in commit {commit}")
        try:
            found: ObjectEntry = self._retry(call, self._objects.stat_object, repository, commit, key, read_as=_object)
        except NotFound:
            self.get_commit(repository, commit)
            return None
        return found

    def _log_page(
        self, repository: str, head: str, after: str | None, until: str | None, remaining: int
    ) -> tuple[list[Commit], bool]:
        """Some commits and whether more follow.

        Raises:
            Refused: lakeFS does not name `head` either (`docs/dev/servers/lakefs.md` 2). An error must not look like
                an unmoved branch.
        """
        missing = f"commit {head}" if until is None else f"commit {head} or {until}"
        call = Call(f"read the history of {repository}", repository, missing)
        options: dict[str, Any] = {"amount": min(_LOG_PAGE, remaining), "first_parent": True}
        if until is not None:  # comes along as the last one
            options |= {"amount": min(_LOG_PAGE, remaining + 1), "stop_at": until}
        if after is not None:
            options["after"] = after
        page: tuple[list[Commit], bool] = self._retry(
            call, self._refs.log_commits, repository, head, read_as=_log, **options
        )
        if after is None and not page[0]:
            detail = (
                f"lakeFS tells no commit of it, not even {head}, as where the date of that one is before the year 1"
            )
            raise Refused(SERVICE, call.operation, detail)
        return page

    def _pages(self, call: Call, method: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
        """The items of a listing, from as many pages as there are."""
        more, after = True, ""
        while more:
            page = self._retry(call, method, *arguments, after=after, amount=_PAGE, read_as=_page, **options)
            results, more, following = page
            yield from results
            if more and following <= after:  # would be read for ever
                raise errors.unreadable(call)
            after = following

    def _retry(self, call: Call, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return retry(lambda: self._once(call, method, *arguments, **options), self._policy.retries())

    def _once(
        self,
        call: Call,
        method: Callable[..., Any],
        *arguments: Any,
        refusal: Callable[[Call, Answer], ServiceError] = errors.refusal,
        read_as: Callable[[Any], Any] = lambda answer: answer,
        answer_within: float | None = None,
        **options: Any,
    ) -> Any:
        """One SDK call, sent once and with a time limit; its errors in the port's words."""
        limits = (self._policy.connect, answer_within or self._policy.answer)
        try:
            return errors.reading(read_as)(method(*arguments, _request_timeout=limits, **options))
        except self._sdk.ApiException as error:
            if not error.status:  # the SDK's way to say that TLS failed
                raise errors.unanswered(call, no_answer(error)) from error
            body = error.body if isinstance(error.body, bytes) else (error.body or "").encode()
            raise refusal(call, Answer(error.status, error.headers or {}, body)) from error
        except (HTTPError, HTTPException, OSError) as error:
            raise errors.unanswered(call, no_answer(error)) from error
        except (errors.UnreadableAnswer, UnicodeDecodeError) as error:  # the SDK decodes the body of an error by itself
            raise errors.unreadable(call) from error


def _base_url(settings: LakeFSSettings) -> str:
    return settings.endpoint_url.rstrip("/").removesuffix(_API) + _API


def _sdk_client(sdk: Any, settings: LakeFSSettings, pool: HttpPool) -> Any:
    """The SDK's client on the store's own connections: with the proxy and TLS variables, and without urllib3's hidden
    repetitions.

    Raises:
        Refused: the SDK no longer has what is replaced here. It would open connections of its own.
    """
    key, secret = settings.access_key_id, settings.secret_access_key.get_secret_value()
    client = sdk.ApiClient(sdk.Configuration(host=_base_url(settings), username=key, password=secret))
    replaced = getattr(getattr(client, "rest_client", None), "pool_manager", None)
    if not isinstance(replaced, PoolManager) or not hasattr(client, "deserialize"):
        from importlib.metadata import version

        raise Refused(
            SERVICE,
            "set up the connection",
            f"this perago cannot work with lakefs-sdk {version('lakefs-sdk')}: its ApiClient has no "
            "rest_client.pool_manager or no deserialize. Install a version that perago's own requirements allow",
        )
    client.rest_client.pool_manager = pool.manager
    client.deserialize = errors.reading(client.deserialize)
    return client


def _raise_first(call: Call, problems: Sequence[Any]) -> None:
    """Raise for the first entry of a batch answer's error list, which comes with status 200."""
    if not problems:
        return
    first = problems[0]
    status = int(first.status_code)
    kind = {401: AccessDenied, 403: Forbidden, 429: Unavailable}.get(status, Unavailable if status >= 500 else Refused)
    detail = f"{len(problems)} were refused, first {first.path!r}: status {first.status_code}: {first.message}"
    raise kind(SERVICE, call.operation, detail)


def _log(answer: Any) -> tuple[list[Commit], bool]:
    return [_commit(item) for item in answer.results], bool(answer.results) and answer.pagination.has_more


def _page(answer: Any) -> tuple[list[Any], bool, str]:
    """The items of a page, whether more follow, and after which name they do."""
    more = bool(answer.results) and answer.pagination.has_more
    return answer.results, more, str(answer.pagination.next_offset) if more else ""


def _object(answer: Any) -> ObjectEntry:
    return ObjectEntry(
        key=answer.path,
        size=answer.size_bytes or 0,
        checksum=answer.checksum,
        mtime=answer.mtime,
        content_type=answer.content_type or "application/octet-stream",
        metadata=answer.metadata or {},
        physical_address=answer.physical_address or "",
    )


def _commit(answer: Any) -> Commit:
    return Commit(
        id=answer.id,
        parents=tuple(answer.parents),
        committer=answer.committer,
        message=answer.message,
        created=answer.creation_date,
        metadata=dict(answer.metadata or {}),
        meta_range_id=answer.meta_range_id,
    )
