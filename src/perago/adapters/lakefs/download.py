"""Objects to disk, on parallel streams, as files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from perago.adapters.http import Wire
from perago.adapters.lakefs.block_store import Addresses, DirectFailed
from perago.adapters.lakefs.fetch import EMPTY_MD5, RANGE, Arrival, Fetcher, Range, has_md5
from perago.adapters.lakefs.transfers import Transfer, TransferPool
from perago.cache import ObjectId
from perago.ports import CorruptTransfer, ObjectEntry, Placement, Progress, Unavailable
from perago.retry import retry

LARGEST_WHOLE = 64 * 1024 * 1024
"""Bytes of the largest object that one thread fetches. Larger ones come as ranges, side by side."""
_ASKING = 600.0
"""Seconds for asking lakeFS, in which threads wait for each other; each request has a shorter limit of its own."""
_BREAKS = 3
"""Times that a connection may break within one range, each time after some bytes, before the rest comes through
lakeFS."""
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_MODE = 0o644


class Download:
    """One download of objects of a commit (`WorkspaceStore.download`)."""

    def __init__(self, transfer: Transfer, commit: str) -> None:
        self._transfer = transfer
        self._shelf = transfer.shelf
        self._store = transfer.block_store
        self._commit = commit
        self._fetcher = Fetcher(transfer.pool, transfer.policy, transfer.repository, commit)
        self._wanted: list[tuple[ObjectEntry, Path]] = []
        self._addresses: Addresses | None = None
        self._finding_addresses = threading.Lock()
        self._objections: dict[str, CorruptTransfer] = {}
        """The block store's own answers have shown these errors of objects that have not come since, by key."""

    def run(self, workspace: Path, placements: Sequence[Placement], on_progress: Progress) -> int:
        """Bring the bytes of all that has a place; returns how many objects were on the shelf."""
        self._wanted = [(placement.entry, placement.path) for placement in placements if placement.path is not None]
        objects, size, lock = 0, 0, threading.Lock()
        with (
            FileWriter(workspace, {path.parent for _, path in self._wanted}) as writer,
            TransferPool(self._transfer, self._jobs(), size=lambda job: job.size) as workers,
        ):

            def work(job: _Job) -> None:
                nonlocal objects, size
                if self._bring(job, writer, workers):
                    with lock:
                        objects, size = objects + 1, size + job.entry.size
                        on_progress(objects, size)

            workers.run(work)
        return self._shelf.hits if self._shelf is not None else 0

    def _is_on_the_shelf(self, entry: ObjectEntry) -> bool:
        return self._shelf is not None and self._shelf.holds(object_id(entry))

    def _jobs(self) -> Iterator[_Job]:
        for entry, path in self._wanted:
            if entry.size > LARGEST_WHOLE and has_md5(entry) and not self._is_on_the_shelf(entry):
                if self._shelf is not None:
                    self._shelf.note_miss()
                parts = _Parts(entry)
                yield from (_Job(entry, path, parts, number) for number in range(parts.count))
            else:
                yield _Job(entry, path)

    def _bring(self, job: _Job, writer: FileWriter, workers: TransferPool[_Job]) -> bool:
        """Do a job; returns whether its object is there now."""
        if job.parts is None:
            writer.write(job.entry, job.path, lambda file: self._fill(job.entry, file, workers))
            return True
        if not job.parts.is_given_up:
            try:
                self._fetch(job.parts.range(job.number, writer), workers)
            except CorruptTransfer:
                job.parts.is_given_up = True
        if not job.parts.was_last():
            return False
        if (taken := job.parts.take(writer)) is None:
            return self._bring(_Job(job.entry, job.path), writer, workers)
        file, arrival = taken
        self._note_verified(arrival)
        writer.finish(file, job.entry, job.path)
        return True

    def _fill(self, entry: ObjectEntry, file: int, workers: TransferPool[_Job]) -> None:
        if entry.size == 0 and entry.checksum == EMPTY_MD5:
            return  # nothing to ask for
        if self._shelf is not None and self._shelf.copy_to(object_id(entry), file):
            return
        arrival = Arrival(entry, file)
        self._fetch(arrival.ranges[0], workers)
        self._note_verified(arrival)

    def _note_verified(self, arrival: Arrival) -> None:
        self._objections.pop(arrival.entry.key, None)
        if self._shelf is not None:
            self._shelf.add(object_id(arrival.entry), arrival.file, arrival.checksum)

    def _fetch(self, wanted: Range, workers: TransferPool[_Job]) -> None:
        if self._fetch_directly(wanted, workers):
            return
        try:
            retry(
                lambda: self._fetcher.fetch(wanted, workers.wire),
                self._transfer.policy.retries((Unavailable, CorruptTransfer) if wanted.is_whole else (Unavailable,)),
                stopped=workers.stopped,
                notice=workers.notice,
            )
        except Unavailable as error:
            if not (objections := list(self._objections.values())):
                raise
            # lakeFS breaks off where the store has fewer bytes than the listing says. That looks like an outage.
            raise objections[0] from error

    # -------------------------------------------------- straight from the block store

    def _fetch_directly(self, wanted: Range, workers: TransferPool[_Job]) -> bool:
        """Fill a range from the block store; False if the rest has to come through lakeFS.

        An object without an MD5 comes through lakeFS where an attacker on that connection could have changed its
        address.
        """
        entry = wanted.arrival.entry
        if not (self._store.encrypted or has_md5(entry)):
            return False
        with workers.wire.exchange(_ASKING):
            if not self._store.offer().objects:
                return False
        try:
            self._fetch_by_addresses(wanted, workers.wire)
        except CorruptTransfer as error:
            self._objections[entry.key] = error
            workers.direct_failed(DirectFailed(error.detail))
            return False
        except DirectFailed as failure:
            workers.direct_failed(failure)
            return False
        self._store.worked()
        return True

    def _fetch_by_addresses(self, wanted: Range, wire: Wire) -> None:
        """Ask once more for an address that the store refuses, perhaps because it has expired."""
        key, used, breaks = wanted.arrival.entry.key, "", 0
        while True:
            before = wanted.at
            address = self._address(key, wire, other_than=used)
            try:
                self._fetcher.fetch_directly(wanted, self._store, address, wire)
            except DirectFailed as failure:
                if failure.refused and not used:
                    used = address
                elif wanted.at > before and breaks < _BREAKS:
                    breaks += 1
                else:
                    raise
            else:
                return

    def _address(self, key: str, wire: Wire, *, other_than: str) -> str:
        with wire.exchange(_ASKING):
            with self._finding_addresses:
                if self._addresses is None:
                    missing = [entry for entry, _ in self._wanted if not self._is_on_the_shelf(entry)]
                    transfer = self._transfer
                    self._addresses = Addresses(transfer.pool, transfer.repository, self._commit, missing)
            address = self._addresses.of(key, other_than=other_than)
        if address is None:
            raise DirectFailed(self._addresses.problem, unreachable=True)
        return address


@dataclass(frozen=True, slots=True)
class _Job:
    """An object to bring to a path, or one range of it."""

    entry: ObjectEntry
    path: Path
    parts: _Parts | None = None
    number: int = 0

    @property
    def size(self) -> int:
        """Bytes, about."""
        return self.entry.size // (self.parts.count if self.parts else 1)


class _Parts:
    """A large object whose ranges several threads fetch into one file.

    Only a quicker way: if anything about the ranges is odd, they are given up, and the object is fetched as one.
    """

    def __init__(self, entry: ObjectEntry) -> None:
        self.count = -(-entry.size // RANGE)
        self.is_given_up = False
        self._entry = entry
        self._left = self.count
        self._lock = threading.Lock()
        self._begun: tuple[Unfinished, Arrival] | None = None

    def range(self, number: int, writer: FileWriter) -> Range:
        """One of the ranges. The first that is asked for makes the file."""
        with self._lock:
            if self._begun is None:
                file = writer.begin()
                self._begun = file, Arrival(self._entry, file.handle, self.count)
            return self._begun[1].ranges[number]

    def was_last(self) -> bool:
        """Note that a range is over; whether all are now."""
        with self._lock:
            self._left -= 1
            return self._left == 0

    def take(self, writer: FileWriter) -> tuple[Unfinished, Arrival] | None:
        """Return the file and its verified bytes, for the last thread. None if the bytes are not those of the object:
        then the file no longer exists."""
        if self._begun is None:
            return None
        file, arrival = self._begun
        if not self.is_given_up and arrival.mismatch() is None:
            return self._begun
        writer.discard(file)
        return None


def object_id(entry: ObjectEntry) -> ObjectId:
    """The identity of an object in the cache."""
    return ObjectId(entry.physical_address, entry.checksum, entry.size)


class Unfinished(NamedTuple):
    """A file that is not in its place yet."""

    path: str
    handle: int


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
        self._naming = threading.Lock()  # threads that wait for a directory in the kernel take a third longer
        self._open: set[Unfinished] = set()

    def __enter__(self) -> FileWriter:
        for directory in sorted(self._directories):
            directory.mkdir(parents=True, exist_ok=True)
        self._workspace.parent.mkdir(parents=True, exist_ok=True)
        self._directory = tempfile.mkdtemp(prefix=f".{self._workspace.name}-incoming-", dir=self._workspace.parent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in list(self._open):
            self.discard(file)
        shutil.rmtree(self._directory, ignore_errors=True)

    def write(self, entry: ObjectEntry, path: Path, fill: Callable[[int], None]) -> None:
        """Make a file; `fill` gives it verified bytes."""
        file = self.begin()
        try:
            fill(file.handle)
            self.finish(file, entry, path)
        except BaseException:
            self.discard(file)
            raise

    def begin(self) -> Unfinished:
        """An empty file, for `finish` or `discard`."""
        path = f"{self._directory}/{next(self._numbers)}"
        with self._naming:
            file = Unfinished(path, os.open(path, _FLAGS, _MODE))
        self._open.add(file)
        return file

    def finish(self, file: Unfinished, entry: ObjectEntry, path: Path) -> None:
        """Put it in its place, with mode 0644 less umask and the object's modification time."""
        os.utime(file.handle, (entry.mtime, entry.mtime))
        self._close(file)
        with self._naming:
            os.rename(file.path, path)  # noqa: PTH104 - a thousand files a second, and both are plain strings

    def discard(self, file: Unfinished) -> None:
        """Remove it, if it is still there."""
        self._close(file)
        with contextlib.suppress(OSError):
            os.unlink(file.path)  # noqa: PTH108

    def _close(self, file: Unfinished) -> None:
        if file in self._open:
            self._open.discard(file)
            os.close(file.handle)
