"""`LakeFSStore`: the versioned trees of a real lakeFS server."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from urllib3.util import make_headers

from perago.adapters.http import CallPolicy, HttpPool, NoAnswerError
from perago.adapters.http.server_clock import ServerAbout, seconds_ahead
from perago.adapters.lakefs.block_store import BlockStore
from perago.adapters.lakefs.control import Control
from perago.adapters.lakefs.download import Download
from perago.adapters.lakefs.errors import SERVICE, Call, refusal, unanswered, version_in
from perago.adapters.lakefs.listing import list_objects, newest_upload, stat_objects
from perago.adapters.lakefs.upload import Uploads
from perago.cache import ObjectCache, Shelf, on_disk
from perago.ports import Commit, ObjectEntry, OnPage, Placement, Progress, Staged, Upload, no_progress
from perago.settings import LakeFSSettings
from perago.workspace.sweep import CACHE
from perago.workspace.text import count

_API = "/api/v1"
_COMMIT_ID = re.compile(r"[0-9a-f]{64}")
_CONTROL_CONNECTIONS = 2


def _base_url(settings: LakeFSSettings) -> str:
    return settings.endpoint_url.rstrip("/").removesuffix(_API) + _API


def open_pool(settings: LakeFSSettings, size: int, policy: CallPolicy) -> HttpPool:
    """Connections to lakeFS's API with the configured credentials, `size` of them kept for re-use."""
    key, secret = settings.access_key_id, settings.secret_access_key.get_secret_value()
    headers = make_headers(basic_auth=f"{key}:{secret}")
    return HttpPool(SERVICE, _base_url(settings), headers=headers, size=size, policy=policy)


class LakeFSStore:
    """A `WorkspaceStore` on the official SDK.

    Opens no connection and starts no thread before the first call, so it may be made before a fork. Transfers run on
    their own threads, which are gone when the call returns.

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
        self._cache = cache and replace(cache, access_key=settings.access_key_id)
        self._broken: tuple[Path | None, int] = (None, 0)
        """The workspace of the last download that broke, and how many of its objects the cache had."""
        self._damaged = 0
        """Entries of the cache that were damaged, since the last call of `take_notes`."""
        self._policy = policy or CallPolicy()
        self._threads = threads
        base_url = _base_url(settings)
        key, secret = settings.access_key_id, settings.secret_access_key.get_secret_value()
        self._pool = open_pool(settings, threads + _CONTROL_CONNECTIONS, self._policy)
        self._block_store = BlockStore(self._pool, self._policy, threads, lakefs_url=base_url)
        self._control = Control(base_url, key, secret, self._pool, self._policy)

    def ping(self) -> None:
        """Find out whether a lakeFS answers and lets us in, without changing anything.

        Raises:
            Unavailable: no answer, or an answer of something that is not a lakeFS.
            AccessDenied: the credentials are not accepted.
        """
        self._control.ping()

    def get_commit(self, repository: str, ref: str) -> Commit:
        """The commit of a full commit id, or the head of a branch of exactly this name.

        Never what lakeFS would make of an abbreviated id, a tag or an expression (`docs/servers/lakefs.md` 2).
        """
        full = _COMMIT_ID.fullmatch(ref) is not None
        return self._control.commit_by_id(repository, ref if full else self._control.head(repository, ref))

    def history(self, repository: str, branch: str, *, until: str, limit: int) -> tuple[Commit, ...]:
        """First-parent commits of `branch`, newest first, down to `until` (left out)."""
        return self._control.history(repository, branch, until=until, limit=limit)

    def ancestry(self, repository: str, commit: str, *, limit: int) -> tuple[Commit, ...]:
        """A commit and its first-parent ancestors, newest first."""
        return self._control.ancestry(repository, commit, limit=limit)

    def has_uncommitted_changes(self, repository: str, branch: str) -> bool:
        """Whether anything is staged on `branch`."""
        return self._control.has_uncommitted_changes(repository, branch)

    def newest_staged(self, repository: str, branch: str) -> int | None:
        """When the newest object that is staged on `branch` was uploaded, or None."""
        staged = self._control.staged_keys(repository, branch)
        return newest_upload(self._pool, self._policy, repository, branch, staged) if staged else None

    def list_objects(
        self, repository: str, commit: str, prefix: str, on_page: OnPage | None = None
    ) -> Sequence[ObjectEntry]:
        """Every object below `prefix`."""
        return list_objects(self._pool, self._policy, repository, commit, prefix, on_page)

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
            transfer = Download(
                self._pool,
                self._policy,
                self._threads,
                repository,
                commit,
                shelf=shelf,
                block_store=self._block_store,
            )
            try:
                return earlier + transfer.run(workspace, placements, on_progress)
            except BaseException:
                self._broken = workspace, earlier + (shelf.hits if shelf else 0)
                raise
            finally:
                self._damaged += shelf.damaged if shelf else 0

    def create_branch(self, repository: str, branch: str, source: str) -> None:
        """Create a hidden branch at commit `source`."""
        self._control.create_branch(repository, branch, source)

    def upload(self, repository: str, branch: str, uploads: Sequence[Upload], on_staged: Staged | None = None) -> None:
        """Stage files on `branch`.

        Raises:
            FileChanging: a file is not what the scan saw any more.
            CorruptTransfer: lakeFS has stored other bytes than those that the scan saw.
        """
        with self._shelf() as shelf:
            transfer = Uploads(
                self._pool,
                self._policy,
                self._threads,
                repository,
                branch,
                shelf=shelf,
                block_store=self._block_store,
            )
            transfer.run(uploads, on_staged)

    def delete_objects(self, repository: str, branch: str, keys: Sequence[str]) -> None:
        """Stage the deletion of `keys`."""
        self._control.delete_objects(repository, branch, keys)

    def commit(
        self, repository: str, branch: str, message: str, metadata: Mapping[str, str], *, allow_empty: bool = False
    ) -> Commit:
        """Commit what is staged on `branch`."""
        return self._control.commit(repository, branch, message, metadata, allow_empty=allow_empty)

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
        """Merge commit id `source` into `branch`; returns the merge commit's id."""
        return self._control.merge(
            repository, source, branch, message, metadata, allow_empty=allow_empty, within=within
        )

    def revert(self, repository: str, branch: str, commit: str) -> None:
        """Undo a merge commit on `branch`."""
        self._control.revert(repository, branch, commit)

    def diff(self, repository: str, left: str, right: str) -> Mapping[str, int | None]:
        """The keys at which two commits differ, with their sizes in `right`."""
        return self._control.diff(repository, left, right)

    def about(self) -> ServerAbout:
        """The version and the clock of the server."""
        sent = time.time()
        call = Call("tell its version", "", "the version")
        try:
            answer = self._pool.call("GET", "/config/version")
        except NoAnswerError as failure:
            raise unanswered(call, failure) from failure
        received = time.time()
        if answer.status != 200:
            raise refusal(call, answer)
        return ServerAbout(version_in(answer), seconds_ahead(answer.headers, sent, received), received - sent)

    def stat_objects(self, repository: str, commit: str, keys: Collection[str]) -> Mapping[str, ObjectEntry]:
        """Return the objects that a commit has at `keys`."""
        stat = partial(self._control.stat, repository, commit)
        return stat_objects(self._pool, self._policy, repository, commit, keys, stat)

    def list_branches(self, repository: str, prefix: str) -> tuple[str, ...]:
        """All branches whose names begin with `prefix`, hidden ones included."""
        return self._control.list_branches(repository, prefix)

    def delete_branch(self, repository: str, branch: str) -> None:
        """Delete a branch; one that is already gone is fine."""
        self._control.delete_branch(repository, branch)

    def take_notes(self) -> tuple[str, ...]:
        """What is to be said about the transfers since the last call."""
        damaged, self._damaged = self._damaged, 0
        notes = self._block_store.take_notes()
        if self._cache is None or not damaged:
            return notes
        had = f"The cache {self._cache.root / CACHE} had {count(damaged, 'damaged object')}"
        advice = "Check the disk, and run perago cache --verify."
        return (*notes, f"{had}, deleted and downloaded from lakeFS again. {advice}")

    def _shelf(self, needed: int = 0) -> AbstractContextManager[Shelf | None]:
        """The open cache for one transfer, which itself takes `needed` bytes of the disk."""
        return (self._cache and self._cache.open(needed)) or nullcontext()

    def close(self) -> None:
        """Close the connections; calls after this fail."""
        self._pool.close()
        self._block_store.close()
