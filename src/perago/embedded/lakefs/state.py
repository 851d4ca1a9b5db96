"""What all calls of the modelled server share: its repositories, its clock and its lock."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from perago.embedded.lakefs.hooks import PreMergeHook
from perago.embedded.lakefs.repository import Repository, check_repository_name
from perago.embedded.lakefs.values import Blob, BlobStore, Entry, Missing, ReadOnly
from perago.ports import Clock


class ServerState:
    """All repositories of one server under one lock. The groups of calls build on it."""

    def __init__(self, clock: Clock, *, committer: str, hooks: Mapping[str, PreMergeHook]) -> None:
        self.blobs = BlobStore()
        self.started = int(clock.now())
        self._clock = clock
        self.committer = committer
        self._hooks = hooks
        self._repositories: dict[str, Repository] = {}
        self._namespaces: set[str] = set()
        self._addresses = itertools.count()
        self._linkable: set[str] = set()
        """Addresses that were given to clients."""
        self._lock = threading.RLock()

    def close(self) -> None:
        """Drop the bytes of large objects."""
        self.blobs.close()

    @contextmanager
    def if_free(self) -> Iterator[bool]:
        """Hold the lock for the duration of a `with` block if it is free; gives whether it was."""
        taken = self._lock.acquire(blocking=False)
        try:
            yield taken
        finally:
            if taken:
                self._lock.release()

    def _now(self) -> int:
        return int(self._clock.now())

    def _repository(self, name: str) -> Repository:
        try:
            return self._repositories[name]
        except KeyError:
            check_repository_name(name)
            raise Missing("repository not found") from None

    @contextmanager
    def _open(self, repository: str) -> Iterator[Repository]:
        """A repository, with the lock held."""
        with self._lock:
            yield self._repository(repository)

    @contextmanager
    def _open_to_write(self, repository: str, force: bool = False) -> Iterator[Repository]:
        """A repository that may be written to, with the lock held.

        Raises:
            ReadOnly: it may not, and the call is not forced.
        """
        with self._open(repository) as found:
            if found.info.read_only and not force:
                raise ReadOnly
            yield found

    def _new_entry(
        self, repository: Repository, path: str, blob: Blob, content_type: str, metadata: Mapping[str, str]
    ) -> Entry:
        """An entry of now, with an address of its own."""
        return Entry(path, blob, content_type, metadata, self._now(), self._new_address(repository))

    def _new_address(self, repository: Repository) -> str:
        return f"{repository.info.storage_namespace}/data/{next(self._addresses):016x}"
