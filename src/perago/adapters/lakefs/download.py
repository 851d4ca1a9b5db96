"""A whole prefix to disk, on parallel streams, as files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType

from perago.adapters.http import CallPolicy, HttpPool, retry
from perago.adapters.lakefs.fetch import EMPTY_MD5, Fetcher
from perago.adapters.lakefs.listing import list_objects
from perago.adapters.lakefs.transfer_pool import JobQueue, TransferPool
from perago.ports import CorruptTransfer, Layout, ObjectEntry, Placement, Progress, ServiceError, Unavailable

PREFETCH_BUDGET = 32 * 1024 * 1024
"""Bytes of small objects that may wait in memory for the layout's approval."""
_PREFETCH_SIZE = 256 * 1024
_PREFETCH_THREADS = 8
_PREFETCH_GRACE = 1.0
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_MODE = 0o644


class Download:
    """One download of everything below a prefix of a commit (`WorkspaceStore.download`)."""

    def __init__(self, pool: HttpPool, policy: CallPolicy, threads: int, repository: str, commit: str) -> None:
        self._pool = pool
        self._policy = policy
        self._threads = threads
        self._repository = repository
        self._commit = commit
        self._fetcher = Fetcher(pool, policy, repository, commit)

    def run(self, prefix: str, layout: Layout, on_progress: Progress) -> Sequence[Placement]:
        """List, have the listing approved, bring the bytes. Nothing is written before `layout` has returned."""
        with Prefetcher(self._fetcher, min(self._threads, _PREFETCH_THREADS)) as prefetcher:
            entries: list[ObjectEntry] = []
            pages = list_objects(self._pool, self._policy, self._repository, self._commit, prefix)
            for page, more in pages:
                entries.extend(page)
                if more:
                    prefetcher.offer(page)
            placements = layout(entries)
            bodies = prefetcher.collect()
        with FileWriter(placements, prefix) as writer:
            self._write_files(placements, writer, bodies, Tally(on_progress))
        return placements

    def _write_files(
        self, placements: Sequence[Placement], writer: FileWriter, bodies: dict[str, bytes], tally: Tally
    ) -> None:
        jobs: JobQueue[tuple[ObjectEntry, Path]] = JobQueue(_wanted(placements), size=lambda job: job[0].size)

        def work(thread: int) -> None:
            while not workers.stopped.is_set() and (job := jobs.take(thread)) is not None:
                self._write_one(*job, writer, bodies.pop(job[0].key, None), workers)
                tally.count(job[0].size)

        with TransferPool() as workers:
            workers.start(jobs.width(self._threads), work)
            workers.join()

    def _write_one(
        self, entry: ObjectEntry, path: Path, writer: FileWriter, body: bytes | None, workers: TransferPool
    ) -> None:
        if entry.size == 0 and entry.checksum == EMPTY_MD5:
            writer.write(entry, path, ())  # nothing to ask the server for
        elif body is not None:
            writer.write(entry, path, (body,))
        else:
            retry(
                lambda: self._fetcher.fetch(entry, workers.wire, lambda chunks: writer.write(entry, path, chunks)),
                self._policy,
                stopped=workers.stopped,
                after=(Unavailable, CorruptTransfer),
            )


class Prefetcher:
    """Fetches small objects into memory while later pages are still being listed.

    Only a head start: what fails or does not fit is fetched again in its turn, so no error comes from here.
    """

    def __init__(self, fetcher: Fetcher, threads: int) -> None:
        self._fetcher = fetcher
        self._threads = threads
        self._workers = TransferPool()
        self._waiting: deque[ObjectEntry] = deque()
        self._signal = threading.Condition()
        self._started = False
        self._closed = False
        self._reserved = 0
        self._bodies: dict[str, bytes] = {}

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._workers.__exit__(None, None, None)

    def offer(self, entries: Iterable[ObjectEntry]) -> None:
        """Fetch those of `entries` that are small, while the budget lasts."""
        with self._signal:
            for entry in entries:
                if 0 < entry.size <= _PREFETCH_SIZE and self._reserved + entry.size <= PREFETCH_BUDGET:
                    self._reserved += entry.size
                    self._waiting.append(entry)
            self._signal.notify_all()
        if not self._started:
            self._started = True
            self._workers.start(self._threads, self._work)

    def collect(self) -> dict[str, bytes]:
        """What has come, by key. Nothing more is begun, and what hangs is not waited for."""
        self._close()
        self._workers.settle(_PREFETCH_GRACE)
        return self._bodies

    def _close(self) -> None:
        with self._signal:
            self._closed = True
            self._signal.notify_all()

    def _work(self, _: int) -> None:
        for entry in iter(self._next, None):
            chunks: list[bytes] = []
            try:
                self._fetcher.fetch(entry, self._workers.wire, chunks.extend)
            except ServiceError:
                continue
            self._bodies[entry.key] = b"".join(chunks)

    def _next(self) -> ObjectEntry | None:
        with self._signal:
            while not self._waiting and not self._closed:
                self._signal.wait()
            return None if self._closed else self._waiting.popleft()


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


def _wanted(placements: Iterable[Placement]) -> Iterator[tuple[ObjectEntry, Path]]:
    return ((placement.entry, placement.path) for placement in placements if placement.path is not None)


class FileWriter:
    """Files grow in a private directory beside the workspace, where no key can name them, and are renamed when done.

    Raises:
        OSError: from every method, if the disk refuses.
    """

    def __init__(self, placements: Sequence[Placement], prefix: str) -> None:
        self._placements = placements
        self._root = _workspace_of(placements, prefix)
        self._directory: str | None = None
        self._numbers = itertools.count()

    def __enter__(self) -> FileWriter:
        for directory in sorted({path.parent for path in self._paths()}):
            directory.mkdir(parents=True, exist_ok=True)
        if self._root is not None:
            self._root.parent.mkdir(parents=True, exist_ok=True)
            self._directory = tempfile.mkdtemp(prefix=f".{self._root.name}-incoming-", dir=self._root.parent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._directory is not None:
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

    def _paths(self) -> Iterable[Path]:
        return (placement.path for placement in self._placements if placement.path is not None)


def _write_all(handle: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(handle, view) :]


def _workspace_of(placements: Sequence[Placement], prefix: str) -> Path | None:
    """The directory that keys are relative to; None when there is nothing to place."""
    for placement in placements:
        if placement.path is not None:
            parts = PurePosixPath(placement.entry.key[len(prefix) :]).parts
            if placement.path.parts[-len(parts) :] == parts:
                return placement.path.parents[len(parts) - 1]
            return placement.path.parent
    return None
