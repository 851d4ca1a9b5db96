"""Objects to disk, on parallel streams, as files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType

from perago.adapters.http import CallPolicy, HttpPool, retry
from perago.adapters.lakefs.addresses import Addresses
from perago.adapters.lakefs.block_store import BlockStore
from perago.adapters.lakefs.direct_download import DirectDownload
from perago.adapters.lakefs.fetch import EMPTY_MD5, Fetcher
from perago.adapters.lakefs.transfer_pool import JobQueue, TransferPool
from perago.cache import ObjectId, Shelf
from perago.ports import CorruptTransfer, ObjectEntry, Placement, Progress, Unavailable

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_MODE = 0o644


class Download:
    """One download of objects of a commit (`WorkspaceStore.download`)."""

    def __init__(
        self,
        pool: HttpPool,
        policy: CallPolicy,
        threads: int,
        repository: str,
        commit: str,
        *,
        shelf: Shelf | None = None,
        block_store: BlockStore | None = None,
    ) -> None:
        """`shelf`: where objects are looked for first, and where those that had to be fetched are kept. `block_store`:
        where they are fetched from, as far as that works."""
        self._pool = pool
        self._policy = policy
        self._threads = threads
        self._repository = repository
        self._commit = commit
        self._shelf = shelf
        self._block_store = block_store
        self._fetcher = Fetcher(pool, policy, repository, commit)
        self._direct: DirectDownload | None = None

    def run(self, workspace: Path, placements: Sequence[Placement], on_progress: Progress) -> int:
        """Bring the bytes of all that has a place; returns how many objects were on the shelf."""
        wanted = [(placement.entry, placement.path) for placement in placements if placement.path is not None]
        jobs: JobQueue[tuple[ObjectEntry, Path]] = JobQueue(wanted, size=lambda job: job[0].size)
        tally = Tally(on_progress)
        if self._block_store is not None:
            missing = [entry for entry, _ in wanted if self._shelf is None or not self._shelf.holds(object_id(entry))]
            addresses = Addresses(self._pool, self._repository, self._commit, missing)
            self._direct = DirectDownload(self._block_store, addresses, self._fetcher)

        def work(thread: int) -> None:
            while not workers.stopped.is_set() and (job := jobs.take(thread)) is not None:
                self._bring(*job, writer, workers)
                tally.count(job[0].size)

        with FileWriter(workspace, {path.parent for _, path in wanted}) as writer, TransferPool() as workers:
            workers.start(jobs.width(self._threads), work)
            workers.join()
        return self._shelf.hits if self._shelf is not None else 0

    def _bring(self, entry: ObjectEntry, path: Path, writer: FileWriter, workers: TransferPool) -> None:
        def fill(file: int) -> None:
            if entry.size == 0 and entry.checksum == EMPTY_MD5:
                return  # nothing to ask for
            known = object_id(entry)
            if self._shelf is not None and self._shelf.copy_to(known, file):
                return
            self._fetch(entry, file, workers)
            if self._shelf is not None:
                self._shelf.add(known, file)

        writer.write(entry, path, fill)

    def _fetch(self, entry: ObjectEntry, file: int, workers: TransferPool) -> None:
        def consume(chunks: Iterable[bytes]) -> None:
            write_chunks(file, chunks)

        if self._direct is not None and self._direct.fetch(entry, workers.wire, consume):
            return
        retry(
            lambda: self._fetcher.fetch(entry, workers.wire, consume),
            self._policy,
            stopped=workers.stopped,
            after=(Unavailable, CorruptTransfer),
        )


def object_id(entry: ObjectEntry) -> ObjectId:
    """What the cache knows an object by."""
    return ObjectId(entry.physical_address, entry.checksum, entry.size)


class Tally:
    """Counts what is finished, over all threads."""

    def __init__(self, on_progress: Progress) -> None:
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._objects = 0
        self._bytes = 0

    def count(self, size: int) -> None:
        """One more object of `size` bytes is done."""
        with self._lock:
            self._objects += 1
            self._bytes += size
            self._on_progress(self._objects, self._bytes)


class FileWriter:
    """Files grow in a private directory beside the workspace, where no key can name them, and are renamed when done.

    Raises:
        OSError: from every method, if the disk refuses.
    """

    def __init__(self, workspace: Path, directories: Iterable[Path]) -> None:
        """`directories`: those of the files."""
        self._workspace = workspace
        self._directories = directories
        self._numbers = itertools.count()

    def __enter__(self) -> FileWriter:
        for directory in sorted(self._directories):
            directory.mkdir(parents=True, exist_ok=True)
        self._workspace.parent.mkdir(parents=True, exist_ok=True)
        self._directory = tempfile.mkdtemp(prefix=f".{self._workspace.name}-incoming-", dir=self._workspace.parent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)

    def write(self, entry: ObjectEntry, path: Path, fill: Callable[[int], None]) -> None:
        """Make a file of mode 0644 less umask with the object's modification time; `fill` gives it verified bytes."""
        temporary = f"{self._directory}/{next(self._numbers)}"
        try:
            handle = os.open(temporary, _FLAGS, _MODE)
            try:
                fill(handle)
                os.utime(handle, (entry.mtime, entry.mtime))
            finally:
                os.close(handle)
            os.rename(temporary, path)  # noqa: PTH104 - a thousand files a second, and both are plain strings
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
            raise


def write_chunks(handle: int, chunks: Iterable[bytes]) -> None:
    """Make an open file consist of `chunks`, whatever an earlier try has left in it."""
    if os.lseek(handle, 0, os.SEEK_CUR):
        os.ftruncate(handle, 0)  # only now: ext4 writes a file that was ever truncated to its disk at once
        os.lseek(handle, 0, os.SEEK_SET)
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            view = view[os.write(handle, view) :]
