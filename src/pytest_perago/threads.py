"""The order of the threads of user code."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.thread
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from pytest_perago.confinement import patched
from pytest_perago.user_code import UserCode, rebound

_PATIENCE = 0.3
_ENDING_SECONDS = 0.02
"""Seconds that a thread gets to end after the function has returned."""
_POLL_SECONDS = 0.002
_ALL = concurrent.futures.ALL_COMPLETED


class Threads:
    """Runs the user threads and thread-pool calls one after the other.

    Each waits for the previous one. With `swapped` 1, neighbors change places: the first of `expected` waits for the
    second, the third for the fourth. With 2, the pairs begin at the second. If threads need each other, the order is
    given up after a short time. `as_completed` and `imap_unordered` return results in the order of the inputs, or
    backwards. `wait` for the first result returns one at a time, in such an order.
    """

    def __init__(self, user_code: UserCode, *, swapped: int = 0, expected: int = 0, ordered: bool = True) -> None:
        self._user_code = user_code
        self._swapped = swapped
        self._expected = expected
        self.ordered: bool = ordered
        """Whether the order has been kept so far."""
        self._ended: list[threading.Event] = []
        self._unordered = 0
        self._places: dict[int, int] = {}
        """The place of each future in the order of the calls, by its id."""
        self._threads: list[threading.Thread] = []
        self._own: list[threading.Thread] = []
        """The threads that user code has started itself."""
        self._stack = ExitStack()
        self._owner = os.getpid()

    @property
    def number(self) -> int:
        """The number of threads."""
        return len(self._ended) + self._unordered

    def __enter__(self) -> Threads:
        item: Any = concurrent.futures.thread._WorkItem
        start, run, make = threading.Thread.start, item.run, item.__init__
        as_completed, wait = concurrent.futures.as_completed, concurrent.futures.wait

        def start_thread(thread: Any) -> None:
            self._threads.append(thread)
            thread.daemon = True  # one that an interrupted call leaves waiting must not keep pytest from ending
            if sys._getframe(1).f_code.co_filename in self._user_code.files:  # those of libraries need each other
                thread.run = self._in_turn(thread.run)
                self._own.append(thread)
            start(thread)

        def init_item(item: Any, *args: Any, **kwargs: Any) -> None:
            make(item, *args, **kwargs)
            self._places[id(item.future)] = len(self._places)
            item.perago_turn = self._in_turn(lambda *rest: run(item, *rest))

        def run_item(item: Any, *args: Any) -> Any:
            turn = getattr(item, "perago_turn", None)
            return turn(*args) if turn else run(item, *args)

        def as_completed_in_order(futures: Iterable[Any], timeout: float | None = None) -> Iterator[Any]:
            distinct = list(dict.fromkeys(futures))
            places = {id(future): place for place, future in enumerate(distinct)}
            self._unordered += 1
            completed = as_completed(distinct, timeout)
            yield from sorted(completed, key=lambda future: places[id(future)], reverse=bool(self._swapped))

        def wait_in_order(futures: Iterable[Any], timeout: float | None = None, return_when: str = _ALL) -> Any:
            pending = set(futures)
            if return_when != concurrent.futures.FIRST_COMPLETED:
                return wait(pending, timeout, return_when)
            self._unordered += 1
            state = wait(pending, _PATIENCE if timeout is None else min(timeout, _PATIENCE))
            if not state.done:
                state = wait(pending, timeout, return_when)
            ended = sorted(state.done, key=lambda future: self._places.get(id(future), 0), reverse=bool(self._swapped))
            return type(state)(set(ended[:1]), pending - set(ended[:1]))

        def imap_in_order(pool: Any, function: Any, arguments: Iterable[Any], chunksize: int = 1) -> Iterator[Any]:
            self._unordered += 1
            results = list(pool.imap(function, arguments, chunksize))
            return iter(results[::-1] if self._swapped else results)

        if (pools := sys.modules.get("multiprocessing.pool")) is not None:
            self._stack.enter_context(patched(pools.Pool, imap_unordered=imap_in_order))
        self._stack.enter_context(patched(threading.Thread, start=start_thread))
        self._stack.enter_context(patched(item, run=run_item, __init__=init_item))
        self._stack.enter_context(patched(concurrent.futures, as_completed=as_completed_in_order, wait=wait_in_order))
        replacements = {id(as_completed): as_completed_in_order, id(wait): wait_in_order}
        self._stack.enter_context(rebound(self._user_code.modules.values(), replacements))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def running(self) -> list[str]:
        """Return the names of the user threads that are running and do not end within a short time."""
        alive = [thread for thread in self._own if thread.is_alive()]
        if alive:
            time.sleep(_ENDING_SECONDS)
        return [thread.name for thread in alive if thread.is_alive()]

    def join(self, seconds: float) -> None:
        """Wait until the threads have ended, for at most `seconds`."""
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
        """The number of the thread to wait for; negative for no thread."""
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
            if before < len(self._ended) and self._ended[before].wait(_POLL_SECONDS):
                return
            if time.monotonic() > deadline:
                self.ordered = False
            elif before >= len(self._ended):
                time.sleep(_POLL_SECONDS)
