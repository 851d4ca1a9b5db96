"""What servers have answered, kept for a moment or for long, so that windows that look again ask little."""

from __future__ import annotations

import copy
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from perago.adapters.http import NoAnswerError, Overloaded
from perago.adapters.http.failures import AnswerTooLargeError
from perago.ports import Unavailable

T = TypeVar("T")

MOMENT = 2.0
"""Seconds that an answer which may change is kept."""
PAUSE = 5.0
"""Seconds that a server which said nothing is left alone: a page asks many questions."""
ROOM = 50_000
"""What is kept of answers that never change, by their weight."""


class Kept:
    """The answers of one server. Safe to use from several threads.

    Two threads that ask the same at once may both ask the server.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._moment: dict[Hashable, tuple[float, Any]] = {}
        self._lasting: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()
        self._weight = 0
        self._away: tuple[float, Unavailable] | None = None

    def for_a_moment(self, key: Hashable, ask: Callable[[], T], seconds: float = MOMENT) -> T:
        """An answer that may change, and is kept for so many `seconds`."""
        with self._lock:
            now = self._clock()
            known = self._moment.get(key)
            if known is not None and now < known[0]:
                value: T = known[1]
                return value
            self._moment = {each: kept for each, kept in self._moment.items() if now < kept[0]}
        value = self.ask(ask)
        with self._lock:
            self._moment[key] = (self._clock() + seconds, value)
        return value

    def lasting(self, key: Hashable, ask: Callable[[], T], weight: Callable[[T], int] = lambda _: 1) -> T:
        """An answer that never changes, such as a commit. `weight` is about its size in kilobytes."""
        found = self.known(key)
        if found is None:
            found = self.ask(ask)
            self.keep(key, found, weight(found))
        value: T = found
        return value

    def known(self, key: Hashable) -> Any:
        """A lasting answer that is still kept, or None."""
        with self._lock:
            found = self._lasting.get(key)
            if found is None:
                return None
            self._lasting.move_to_end(key)
            return found[1]

    def keep(self, key: Hashable, value: Any, weight: int = 1) -> None:
        """Keep a lasting answer; those that were not asked for since longest make room."""
        with self._lock:
            self._weight += weight - self._lasting.pop(key, (0, None))[0]
            self._lasting[key] = (weight, value)
            while self._weight > ROOM:
                self._weight -= self._lasting.popitem(last=False)[1][0]

    def ask(self, question: Callable[[], T]) -> T:
        """The server's answer.

        Raises:
            Unavailable: it does not answer, or did not a moment ago.
        """
        with self._lock:
            if self._away is not None and self._clock() < self._away[0]:
                raise copy.copy(self._away[1])
        try:
            return question()
        except Unavailable as error:
            if _is_silent(error):
                with self._lock:
                    self._away = (self._clock() + PAUSE, copy.copy(error))
            raise


def _is_silent(error: Unavailable) -> bool:
    """Whether the server would keep the next question waiting, too. One that gave an answer of no use would not."""
    cause = error.__cause__
    no_answer = isinstance(cause, NoAnswerError) and not isinstance(cause, AnswerTooLargeError)
    return no_answer or isinstance(error, Overloaded)
