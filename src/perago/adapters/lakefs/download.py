"""Objects to disk, on parallel streams, as files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from perago.adapters.http import CallPolicy, HttpPool, retry
from perago.adapters.lakefs.fetch import EMPTY_MD5, Fetcher
from perago.adapters.lakefs.transfer_pool import JobQueue, TransferPool
from perago.ports import CorruptTransfer, ObjectEntry, Placement, Progress, Unavailable

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_MODE = 0o644


class Download:
    """One download of objects of a commit (`WorkspaceStore.download`)."""

    def __init__(self, pool: HttpPool, policy: CallPolicy, threads: int, repository: str, commit: str) -> None:
        self._pool = pool
        self._policy = policy
        self._threads = threads
        self._repository = repository
        self._commit = commit
        self._fetcher = Fetcher(pool, policy, repository, commit)

    def run(self, workspace: Path, placements: Sequence[Placement], on_progress: Progress) -> None:
        """Bring the bytes of all that has a place."""
        wanted = [(placement.entry, placement.path) for placement in placements if placement.path is not None]
        jobs: JobQueue[tuple[ObjectEntry, Path]] = JobQueue(wanted, size=lambda job: job[0].size)
        tally = Tally(on_progress)

        def work(thread: int) -> None:
            while not workers.stopped.is_set() and (job := jobs.take(thread)) is not None:
                self._bring(*job, writer, workers)
                tally.count(job[0].size)

        with FileWriter(workspace, {path.parent for _, path in wanted}) as writer, TransferPool() as workers:
            workers.start(jobs.width(self._threads), work)
            workers.join()

    def _bring(self, entry: ObjectEntry, path: Path, writer: FileWriter, workers: TransferPool) -> None:
        if entry.size == 0 and entry.checksum == EMPTY_MD5:
            writer.write(entry, path, ())  # nothing to ask the server for
            return
        retry(
            lambda: self._fetcher.fetch(entry, workers.wire, lambda chunks: writer.write(entry, path, chunks)),
            self._policy,
            stopped=workers.stopped,
            after=(Unavailable, CorruptTransfer),
        )


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

    def write(self, entry: ObjectEntry, path: Path, chunks: Iterable[bytes]) -> None:
        """Make a file of mode 0644 less umask with the object's modification time; `chunks` verify themselves."""
        temporary = f"{self._directory}/{next(self._numbers)}"
        try:
            handle = os.open(temporary, _FLAGS, _MODE)
            try:
                for chunk in chunks:
                    _write_all(handle, chunk)
                os.utime(handle, (entry.mtime, entry.mtime))
            finally:
                os.close(handle)
            os.rename(temporary, path)  # noqa: PTH104 - a thousand files a second, and both are plain strings
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
            raise


def _write_all(handle: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(handle, view) :]
