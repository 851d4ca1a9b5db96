"""The modeled server: its repositories, and the clock, the block store and the lock that they share.

Functions on a repository are in `references`, `objects` and `commits`. They answer as lakeFS 1.84 does
(`docs/dev/servers/lakefs.md`, "REST facts" and "Semantics"), or raise a `LakeFSError` that carries the real status and
words. What lakeFS has and they do not (imports, garbage collection, other hooks than pre-merge, ...) is not modeled.
"""

from __future__ import annotations

import itertools
import posixpath
import threading
from collections.abc import Mapping

from perago.attempt.publication import FENCE_PATH
from perago.embedded.journal import Journal, Table
from perago.embedded.lakefs.hooks import HeadFence, PreMergeHook
from perago.embedded.lakefs.repository import Repository, check_repository_name
from perago.embedded.lakefs.values import BlobStore, Exists, Invalid, Missing, Page, RepositoryInfo, page_of
from perago.ports import Clock

NAMESPACE = "local://"


class LakeFSServer:
    """All repositories of one server. Hold `lock` to use one of them from several threads."""

    def __init__(
        self, clock: Clock, *, committer: str = "admin", hooks: Mapping[str, PreMergeHook] | None = None
    ) -> None:
        self.clock = clock
        self.committer = committer
        self.hooks: Mapping[str, PreMergeHook] = {FENCE_PATH: HeadFence()} if hooks is None else hooks
        self.started: int = int(clock.now())
        self.blobs: BlobStore = BlobStore()
        self.lock: threading.RLock = threading.RLock()
        self.journal: Journal = Journal()
        self.repositories: Table[str, Repository] = Table(self.journal, "repository")
        self.namespaces: Table[str, bool] = Table(self.journal, "namespace")
        """Storage namespaces that have been used; that of a deleted repository stays used."""
        self.addresses: itertools.count[int] = itertools.count()
        """The running numbers in the addresses of objects."""
        self.linkable: set[str] = set()
        """Addresses that were given to clients."""

    def close(self) -> None:
        """Drop the bytes of large objects."""
        self.blobs.close()

    def repository(self, name: str) -> Repository:
        """Return a repository.

        Raises:
            Missing: no repository has this name.
            ImpossibleName: there can be none.
        """
        try:
            return self.repositories[name]
        except KeyError:
            check_repository_name(name)
            raise Missing("repository not found") from None

    def create_repository(
        self,
        name: str,
        storage_namespace: str | None = None,
        *,
        default_branch: str = "main",
        read_only: bool = False,
        bare: bool = False,
    ) -> RepositoryInfo:
        """Create a repository with one empty commit on its default branch; a `bare` one has neither.

        Raises:
            Invalid: a name or namespace that lakeFS refuses, or a namespace that has been used before. That is not
                checked for a bare or read-only repository.
            Exists: the name is taken.
        """
        namespace = storage_namespace or f"{NAMESPACE}{name}"
        check_repository_name(name)
        with self.lock:
            if name in self.repositories:
                raise Exists("error creating repository: not unique")
            if not namespace.startswith(NAMESPACE):
                raise Invalid(f"failed to match required regex ^{NAMESPACE}: invalid namespace")
            if not (bare or read_only):
                self._take(namespace)
            now = int(self.clock.now())
            info = RepositoryInfo(name, namespace, default_branch or "main", now, read_only)
            self.repositories[name] = Repository(self, info, bare=bare)
            return info

    def _take(self, namespace: str) -> None:
        """Note that a namespace is used."""
        place = posixpath.normpath(namespace.removeprefix(NAMESPACE).lstrip("/"))
        if place.split("/")[0] in (".", ".."):
            raise Invalid("failed to create repository: failed to access storage")
        if f"{NAMESPACE}{place}" in self.namespaces:
            raise Invalid(
                f"failed to create repository: found lakeFS objects in the storage (:{namespace}) key(_lakefs/dummy): "
                "storage namespace already in use"
            )
        self.namespaces[f"{NAMESPACE}{place}"] = True

    def list_repositories(
        self, *, prefix: str = "", after: str = "", search: str = "", amount: int = -1
    ) -> Page[RepositoryInfo]:
        """One page of repositories, by name; `search` is any part of the name."""
        with self.lock:
            found = [self.repositories[name].info for name in sorted(self.repositories) if name > after]
        shown = (info for info in found if info.name.startswith(prefix) and search in info.name)
        return page_of(shown, lambda info: info.name, amount)

    def delete_repository(self, name: str, *, force: bool = False) -> None:
        """Delete a repository; a read-only one only with `force`."""
        with self.lock:
            repository = self.repository(name)
            repository.check_writable(force)
            repository.clear()
            del self.repositories[name]
