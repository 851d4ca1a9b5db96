"""The order of what has none: the entries of a directory, and threads that run side by side."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.thread
import glob
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pytest_perago.faults.author import AuthorCode
from pytest_perago.faults.patching import patched, rebound

_PATIENCE = 0.3
_PAUSE = 0.002
_GLOBBER: Any = getattr(glob, "_StringGlobber", None)
"""Keeps `os.scandir` for itself, from Python 3.13 on."""


class _Entries:
    """What `os.scandir` returns, in an order."""

    def __init__(self, entries: list[os.DirEntry[Any]]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> _Entries:
        return self

    def __next__(self) -> os.DirEntry[Any]:
        return next(self._entries)

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())


@contextmanager
def listing_order(*, backwards: bool, note: Callable[[], object]) -> Iterator[None]:
    """Every listing of a directory is sorted by name, or the other way round. A file system promises neither.
    Each is noted."""
    listdir, scandir = os.listdir, os.scandir

    def names(*args: Any, **kwargs: Any) -> list[Any]:
        note()
        return sorted(listdir(*args, **kwargs), reverse=backwards)

    def entries(*args: Any, **kwargs: Any) -> _Entries:
        note()
        with scandir(*args, **kwargs) as found:
            return _Entries(sorted(found, key=lambda entry: entry.name, reverse=backwards))

    with ExitStack() as stack:
        stack.enter_context(patched(os, listdir=names, scandir=entries))
        if hasattr(_GLOBBER, "scandir"):
            stack.enter_context(patched(_GLOBBER, scandir=staticmethod(entries)))
        yield


class Threads:
    """Has the threads, and the calls in pools of threads, that the author starts in its block work one after the other.

    Each waits for the one before it. With `swapped` 1 they change places in pairs: the first of `expected` waits for
    the second, the third for the fourth. With 2 the pairs begin with the second. Where that is impossible, because they
    need each other, it is given up after a moment. `as_completed` and `imap_unordered` give results in the order of the
    inputs, or backwards.
    """

    def __init__(self, author: AuthorCode, *, swapped: int = 0, expected: int = 0, ordered: bool = True) -> None:
        self._author = author
        self._swapped = swapped
        self._expected = expected
        self.ordered = ordered
        """Whether the order could be kept so far."""
        self._ended: list[threading.Event] = []
        self._unordered = 0
        self._threads: list[threading.Thread] = []
        self._stack = ExitStack()
        self._owner = os.getpid()

    @property
    def number(self) -> int:
        """How many there were."""
        return len(self._ended) + self._unordered

    def __enter__(self) -> Threads:
        item: Any = concurrent.futures.thread._WorkItem
        start, run, make = threading.Thread.start, item.run, item.__init__
        as_completed = concurrent.futures.as_completed

        def started(thread: Any) -> None:
            self._threads.append(thread)
            thread.daemon = True  # one that a play leaves waiting must not keep pytest from ending
            if sys._getframe(1).f_code.co_filename in self._author.files:  # those of libraries need each other
                thread.run = self._in_turn(thread.run)
            start(thread)

        def made(item: Any, *args: Any, **kwargs: Any) -> None:
            make(item, *args, **kwargs)
            item.perago_turn = self._in_turn(lambda *rest: run(item, *rest))

        def ran(item: Any, *args: Any) -> Any:
            turn = getattr(item, "perago_turn", None)
            return turn(*args) if turn else run(item, *args)

        def arrived(futures: Iterable[Any], timeout: float | None = None) -> Iterator[Any]:
            given = list(dict.fromkeys(futures))
            places = {id(future): place for place, future in enumerate(given)}
            self._unordered += 1
            found = as_completed(given, timeout)
            yield from sorted(found, key=lambda future: places[id(future)], reverse=bool(self._swapped))

        def unordered(pool: Any, function: Any, given: Iterable[Any], chunksize: int = 1) -> Iterator[Any]:
            self._unordered += 1
            found = list(pool.imap(function, given, chunksize))
            return iter(found[::-1] if self._swapped else found)

        if (pools := sys.modules.get("multiprocessing.pool")) is not None:
            self._stack.enter_context(patched(pools.Pool, imap_unordered=unordered))
        self._stack.enter_context(patched(threading.Thread, start=started))
        self._stack.enter_context(patched(item, run=ran, __init__=made))
        self._stack.enter_context(patched(concurrent.futures, as_completed=arrived))
        self._stack.enter_context(rebound(self._author.modules.values(), {id(as_completed): arrived}))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def join(self, seconds: float) -> None:
        """Wait until they have ended, at most so long."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
                if thread.is_alive():  # at its end Python waits for the workers of pools, daemons or not
                    concurrent.futures.thread._threads_queues.pop(thread, None)  # type: ignore[attr-defined]

    def _in_turn(self, run: Callable[..., Any]) -> Callable[..., Any]:
        number = len(self._ended)
        ended = threading.Event()
        self._ended.append(ended)

        def in_turn(*args: Any) -> Any:
            self._wait(number)
            try:
                return run(*args)
            finally:
                ended.set()

        return in_turn

    def _before(self, number: int) -> int:
        """Which one it waits for; a negative number for none."""
        first = self._swapped - 1
        if not self._swapped or number < first:
            return number - 1
        if (number - first) % 2:
            return number - 3 if number - 3 >= first else first - 1
        return number + 1 if number + 1 < self._expected else number - 2

    def _wait(self, number: int) -> None:
        before = self._before(number)
        deadline = time.monotonic() + _PATIENCE
        while self.ordered and before >= 0 and os.getpid() == self._owner:
            if before < len(self._ended) and self._ended[before].wait(_PAUSE):
                return
            if time.monotonic() > deadline:
                self.ordered = False
            elif before >= len(self._ended):
                time.sleep(_PAUSE)
