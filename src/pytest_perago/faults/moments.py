"""Moments in the author's code, at which something can happen to it: each call that it makes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from perago.driver import Interrupted
from pytest_perago.faults.author import AuthorCode
from pytest_perago.faults.patching import patched
from pytest_perago.watch import is_deaf

Place = tuple[str, int]
"""File and line."""


class Moments:
    """Counts the calls that the author's code makes in its block, in the thread that opens it.

    Args:
        author: whose code it is.
        at: the number of the call, from 0, at which `happen` is called; None: at none.
        happen: may raise there. A signal handler that the function has set is called instead.
        counts: False does nothing at all, and costs nothing.
    """

    def __init__(
        self,
        author: AuthorCode,
        *,
        at: int | None = None,
        happen: Callable[[], None] | None = None,
        counts: bool = True,
    ) -> None:
        self._files = author.files
        self._at = sys.maxsize if at is None else at
        self._happen = happen
        self._counts = counts
        self._inside_c: set[FrameType] = set()
        self.places: list[Place] = []
        """Where each call was made."""
        self.met: Place | None = None
        """Where it happened."""
        self.dropped: list[BaseException] = []
        """Exceptions that Python only warns of; if the one that happened is among them, no code has met it."""
        self.handled = False
        """Whether a signal handler of the function's own took it."""

    @property
    def is_planned(self) -> bool:
        """Whether anything is to happen."""
        return self._happen is not None

    def __enter__(self) -> Moments:
        self._former = sys.getprofile()
        self._owner = os.getpid()
        self._handler = signal.getsignal(signal.SIGTERM)
        if self._counts:
            sys.setprofile(self._seen)
        return self

    def __exit__(self, *_: object) -> None:
        if self._counts:
            sys.setprofile(self._former)
        self._inside_c.clear()

    def _seen(self, frame: FrameType, event: str, _: Any) -> None:
        caller = frame.f_back if event == "call" else frame
        if caller is None or event == "return" or caller.f_code.co_filename not in self._files:
            return
        if event in ("c_return", "c_exception"):
            self._inside_c.discard(caller)
            return
        if event == "call" and caller in self._inside_c:
            return  # a callback, such as that of a fork: Python may drop what is raised there
        if event == "c_call":
            self._inside_c.add(caller)
        place = caller.f_code.co_filename, caller.f_lineno
        self.places.append(place)
        due = len(self.places) > self._at and self._happen is not None and not self.met
        if due and os.getpid() == self._owner and not is_deaf(frame):
            self.met = place
            self._meet(caller)

    def _meet(self, frame: FrameType) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        self.handled = handler is not self._handler
        if not self.handled and self._happen is not None:
            self._happen()
        elif callable(handler):
            handler(signal.SIGTERM, frame)


@contextmanager
def silenced() -> Iterator[list[BaseException]]:
    """What an interrupted function leaves unfinished is not told of: coroutines, threads without their files. The list
    then has what Python dropped, such as an exception in a destructor."""
    dropped: list[BaseException] = []

    def drop(unraisable: Any) -> None:
        dropped.append(unraisable.exc_value)

    with warnings.catch_warnings(), patched(sys, unraisablehook=drop), patched(threading, excepthook=_forget):
        warnings.simplefilter("ignore")
        yield dropped


def _forget(_: object) -> None:
    pass


def choose(places: list[Place], most: int) -> list[int]:
    """The numbers of up to `most` calls, spread over the lines that make any, in order."""
    last = {place: number for number, place in enumerate(places)}
    numbers = sorted(last.values())
    if len(numbers) <= most:
        return numbers
    return [numbers[index * (len(numbers) - 1) // (most - 1)] for index in range(most)]


def end() -> None:
    """What a worker does to a function whose attempt is cancelled or lost.

    Raises:
        Interrupted: inside the function.
    """
    raise Interrupted
