"""The threads of one transfer: choose their number, and end all of them with the transfer."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from perago.adapters.http_connections import Wire
from perago.adapters.lakefs.block_store import BlockStore, DirectFailed
from perago.adapters.lakefs.session import LakeFSSession
from perago.cache import Shelf
from perago.ports import Overloaded

if TYPE_CHECKING:
    from hashlib import _Hash

LARGE = 8 * 1024 * 1024
"""The size in bytes from which an object counts as large, so that few streams are as fast as many."""
FIRST_LARGE, FIRST_SMALL = 4, 8
"""Streams that a transfer begins with (`docs/dev/servers/lakefs.md`, "Performance")."""
MIN_SPEED_GAIN = 1.1
"""The minimum gain in speed for which a doubled number of streams is kept."""
RETRY_WINDOWS = 8
"""Windows after which a number of streams that was not faster is tried again."""
CALM_SECONDS = 0.25
"""Seconds for which an overload counts once, because all streams meet it at about the same moment."""
_WINDOW = 4
"""Number of objects of each stream over which the speed is measured."""
_REQUEST = 64 * 1024
"""Bytes that take about as long to transfer as the fixed cost of a request."""


class Pace:
    """The number of streams of one transfer. Its methods may be called by several threads.

    It doubles the number for a window. If the gain is less than `MIN_SPEED_GAIN`, it halves the number again, and
    repeats the experiment later. An overload halves the number.
    """

    def __init__(self, most: int, *, large: bool, now: Callable[[], float] = time.monotonic) -> None:
        """`most`: streams at most. `large`: whether the transfer begins with large objects."""
        self._most = most
        self._large = large
        self._now = now
        self._lock = threading.Lock()
        self.width: int = min(most, FIRST_LARGE if large else FIRST_SMALL)
        """The desired number of streams."""
        self._smaller: tuple[int, float] | None = None
        """The previous number of streams and its speed, while a larger number is tried."""
        self._hold = 0
        self._calm_at = self._open_at = 0.0
        self._begin_window()

    def finished(self, size: int) -> None:
        """Note that a stream has transferred `size` bytes with one request."""
        with self._lock:
            if self._large and size < LARGE:
                self._large, self._smaller, self._hold = False, None, 0  # their speeds cannot be compared
                self.width = max(self.width, min(self._most, FIRST_SMALL))
                self._begin_window()
                return
            self._requests += 1
            self._done += size + _REQUEST
            passed = self._now() - self._begun
            if self._requests >= _WINDOW * self.width and passed > 0:
                self._judge(self._done / passed)
                self._begin_window()

    def overloaded(self, seconds: float) -> None:
        """Record that the server asks the client to wait: send no request for `seconds`, possibly 0."""
        with self._lock:
            now = self._now()
            self._open_at = max(self._open_at, now + seconds)
            if now >= self._calm_at:
                self.width = max(1, self.width // 2)
                self._smaller, self._hold = None, RETRY_WINDOWS
                self._begin_window()
            self._calm_at = max(self._calm_at, self._open_at, now + CALM_SECONDS)

    @property
    def pause(self) -> float:
        """Seconds for which no request should begin."""
        with self._lock:
            return max(0.0, self._open_at - self._now())

    def _judge(self, speed: float) -> None:
        if self._smaller is not None:
            (width, before), self._smaller = self._smaller, None
            if speed < MIN_SPEED_GAIN * before:
                self.width, self._hold = width, RETRY_WINDOWS
        if self._hold:
            self._hold -= 1
        elif self.width < self._most:
            self._smaller = self.width, speed
            self.width = min(self._most, 2 * self.width)

    def _begin_window(self) -> None:
        self._begun, self._requests, self._done = self._now(), 0, 0


def new_md5() -> _Hash:
    """Return an MD5 hash that works even if MD5 is banned for security. Here it only detects accidental changes."""
    return hashlib.md5(usedforsecurity=False)


_OVERDUE_INTERVAL = 1.0

Job = TypeVar("Job")


@dataclass(frozen=True, slots=True)
class Transfer:
    """The connections and limits of one download or upload."""

    session: LakeFSSession
    threads: int
    """The largest number of streams."""
    repository: str
    shelf: Shelf | None
    """The cache that is read first, and that keeps objects that were downloaded or uploaded."""
    block_store: BlockStore
    """The store for direct transfers, as far as they work."""

    def seconds(self, size: int, *, requests: int = 1) -> float:
        """Return the time limit of requests that carry `size` bytes together."""
        policy = self.session.policy
        return requests * (policy.connect + policy.answer) + size / policy.slowest


class TransferPool(Generic[Job]):
    """Does jobs on the number of threads that its pace sets. The first error ends the waits of all other threads, and
    `run` raises it.

    It is a context manager whose exit always ends all threads.
    """

    def __init__(self, transfer: Transfer, jobs: Iterable[Job], size: Callable[[Job], int]) -> None:
        """The largest job comes first, so that no large job is left for the end."""
        ordered = sorted(jobs, key=size, reverse=True)
        self._jobs = deque(ordered)
        self._size = size
        self._transfer = transfer
        self._pace = Pace(transfer.threads, large=bool(ordered) and size(ordered[0]) >= LARGE)
        self.wire: Wire = Wire()
        self.stopped: threading.Event = threading.Event()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._working = 0

    def __enter__(self) -> TransferPool[Job]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(error)
        self._wait()

    def run(self, do: Callable[[Job], object]) -> None:
        """Do all jobs.

        Raises:
            BaseException: the first error of any thread.
        """
        self._grow(do)
        self._wait()
        if self._error is not None:
            raise self._error

    def notice(self, error: Exception) -> None:
        """Check the error of a request. If the server asks the client to wait, send fewer requests from now on."""
        if isinstance(error, Overloaded):
            self._pace.overloaded(min(error.retry_after, self._transfer.session.policy.delays.longest))

    def direct_failed(self, failure: DirectFailed) -> None:
        """Note a failure of the block store, unless this pool itself has cut the connection."""
        if self.wire.is_cut:
            return
        if failure.overload is not None:
            self.notice(failure.overload)
        else:
            self._transfer.block_store.failed(failure)

    def _grow(self, do: Callable[[Job], object]) -> None:
        """Start the threads that are missing for the remaining jobs."""
        with self._lock:
            for _ in range(min(self._pace.width - self._working, len(self._jobs))):
                name = f"perago-transfer-{len(self._threads)}"
                thread = threading.Thread(target=self._work, args=(do,), name=name, daemon=True)
                self._threads.append(thread)
                self._working += 1
                thread.start()

    def _work(self, do: Callable[[Job], object]) -> None:
        try:
            while (job := self._next()) is not None:
                do(job)
                self._pace.finished(self._size(job))
                self._grow(do)
        except BaseException as error:  # noqa: BLE001 - handed to run()
            self._stop(error)

    def _next(self) -> Job | None:
        """Return the next job; None for a thread that must end."""
        if pause := self._pace.pause:
            self.stopped.wait(pause)
        with self._lock:
            if self._jobs and self._working <= self._pace.width and not self.stopped.is_set():
                return self._jobs.popleft()
            self._working -= 1
            return None

    def _stop(self, error: BaseException | None) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
            self._jobs.clear()
        self.stopped.set()
        self.wire.cut()

    def _wait(self) -> None:
        for thread in self._threads:  # a thread started in the meantime comes after the one that starts it
            while thread.is_alive():
                thread.join(_OVERDUE_INTERVAL)
                self.wire.cut_overdue()
