"""A whole prefix to disk, on parallel streams."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from perago.adapters.http import HttpPool, Patience, repeat
from perago.adapters.lakefs.checksums import EMPTY_MD5
from perago.adapters.lakefs.crew import Crew, Lanes
from perago.adapters.lakefs.fetching import Fetcher
from perago.adapters.lakefs.landing import Landing
from perago.adapters.lakefs.listing import list_objects
from perago.ports import CorruptTransfer, Layout, ObjectEntry, Placement, Progress, ServiceError, Unavailable

EARLY_BUDGET = 32 * 1024 * 1024
"""Bytes of small objects that may wait in memory for the layout's approval."""
_EARLY_SIZE = 256 * 1024
_EARLY_THREADS = 8
_EARLY_GRACE = 1.0


class Download:
    """One download of everything below a prefix of a commit (`WorkspaceStore.download`)."""

    def __init__(self, pool: HttpPool, patience: Patience, threads: int, repository: str, commit: str) -> None:
        self._pool = pool
        self._patience = patience
        self._threads = threads
        self._repository = repository
        self._commit = commit
        self._fetcher = Fetcher(pool, patience, repository, commit)

    def run(self, prefix: str, layout: Layout, on_progress: Progress) -> Sequence[Placement]:
        """List, have the listing approved, bring the bytes. Nothing is written before `layout` has returned."""
        with EarlyBirds(self._fetcher, min(self._threads, _EARLY_THREADS)) as early:
            entries: list[ObjectEntry] = []
            pages = list_objects(self._pool, self._patience, self._repository, self._commit, prefix)
            for page, more in pages:
                entries.extend(page)
                if more:
                    early.offer(page)
            placements = layout(entries)
            bodies = early.collect()
        with Landing(placements, prefix) as landing:
            self._land(placements, landing, bodies, Tally(on_progress))
        return placements

    def _land(self, placements: Sequence[Placement], landing: Landing, bodies: dict[str, bytes], tally: Tally) -> None:
        lanes: Lanes[tuple[ObjectEntry, Path]] = Lanes(_wanted(placements), size=lambda job: job[0].size)

        def work(thread: int) -> None:
            while not crew.stopped.is_set() and (job := lanes.take(thread)) is not None:
                self._land_one(*job, landing, bodies.pop(job[0].key, None), crew)
                tally.count(job[0].size)

        with Crew() as crew:
            crew.start(lanes.width(self._threads), work)
            crew.join()

    def _land_one(self, entry: ObjectEntry, path: Path, landing: Landing, body: bytes | None, crew: Crew) -> None:
        if entry.size == 0 and entry.checksum == EMPTY_MD5:
            landing.write(entry, path, ())  # nothing to ask the server for
        elif body is not None:
            landing.write(entry, path, (body,))
        else:
            repeat(
                lambda: self._fetcher.fetch(entry, crew.wire, lambda chunks: landing.write(entry, path, chunks)),
                self._patience,
                stopped=crew.stopped,
                after=(Unavailable, CorruptTransfer),
            )


class EarlyBirds:
    """Fetches small objects into memory while later pages are still being listed.

    Only a head start: what fails or does not fit is fetched again in its turn, so no error comes from here.
    """

    def __init__(self, fetcher: Fetcher, threads: int) -> None:
        self._fetcher = fetcher
        self._threads = threads
        self._crew = Crew()
        self._waiting: deque[ObjectEntry] = deque()
        self._signal = threading.Condition()
        self._started = False
        self._closed = False
        self._reserved = 0
        self._bodies: dict[str, bytes] = {}

    def __enter__(self) -> EarlyBirds:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._crew.__exit__(None, None, None)

    def offer(self, entries: Iterable[ObjectEntry]) -> None:
        """Fetch those of `entries` that are small, while the budget lasts."""
        with self._signal:
            for entry in entries:
                if 0 < entry.size <= _EARLY_SIZE and self._reserved + entry.size <= EARLY_BUDGET:
                    self._reserved += entry.size
                    self._waiting.append(entry)
            self._signal.notify_all()
        if not self._started:
            self._started = True
            self._crew.start(self._threads, self._work)

    def collect(self) -> dict[str, bytes]:
        """What has come, by key. Nothing more is begun, and what hangs is not waited for."""
        self._close()
        self._crew.settle(_EARLY_GRACE)
        return self._bodies

    def _close(self) -> None:
        with self._signal:
            self._closed = True
            self._signal.notify_all()

    def _work(self, _: int) -> None:
        for entry in iter(self._next, None):
            chunks: list[bytes] = []
            try:
                self._fetcher.fetch(entry, self._crew.wire, chunks.extend)
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
