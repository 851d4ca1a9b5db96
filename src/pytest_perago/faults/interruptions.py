"""Interrupt the author's code while it runs: at calls, at files that it opens, with a full disk."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from perago.driver import Interrupted
from pytest_perago.confinement import is_deaf
from pytest_perago.faults.conditions import AuthorCode, patched

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_STARTS = ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system", "os.exec")
_NAMES = {"os.mkdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1, "sqlite3.connect": 0}
_PASSED_OVER = ("/dev/", "/proc/", sys.prefix, sys.base_prefix)

_active: list[Audit] = []
_installed: list[bool] = []


class Audit:
    """Watches its block.

    Args:
        own: directories that belong to the attempt.
        full_from: from the so many-th opening of a file to write there on, counted from 0, the disk is full. None:
            never.
        position: returns how many calls the author's code has made.
    """

    def __init__(
        self, own: Iterable[Path | None], *, full_from: int | None = None, position: Callable[[], int] = lambda: 0
    ) -> None:
        self._position = position
        self._own = tuple(os.path.join(os.path.realpath(path), "") for path in own if path is not None)  # noqa: PTH118
        self._full_from = full_from
        self._owner = os.getpid()
        self.writes = 0
        """The number of times that a file of the attempt was opened to be written."""
        self.outside: list[Path] = []
        """The files that were written elsewhere, in order."""
        self.first_outside = 0
        """The number of calls of the author's code before the first."""
        self.starts_processes = False

    def __enter__(self) -> Audit:
        if not _installed:  # a hook cannot be taken out again, so there is one, which does nothing most of the time
            sys.addaudithook(_hook)
            _installed.append(True)
        _active.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _active.remove(self)

    def note(self, event: str, args: tuple[Any, ...]) -> None:
        """Take one event.

        Raises:
            OSError: the disk is full.
        """
        if os.getpid() != self._owner:
            return
        if event in _STARTS:
            self.starts_processes = True
        elif event == "open":
            path, mode, flags = args
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool((flags or 0) & _WRITES)
            if writes:
                self._written(path, is_file=True)
        elif event in _NAMES:
            self._written(args[_NAMES[event]], is_file=False)

    def _written(self, path: Any, *, is_file: bool) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        name = os.path.realpath(os.fsdecode(path))
        if any(name.startswith(own) or name + os.sep == own for own in self._own):
            if is_file:
                self.writes += 1
                if self._full_from is not None and self.writes > self._full_from:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        elif not name.startswith(_PASSED_OVER) and "__pycache__" not in name:
            found = Path(name)
            if not self.outside:
                self.first_outside = self._position()
            if found not in self.outside:
                self.outside.append(found)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _active and (event == "open" or event in _NAMES or event in _STARTS):
        _active[-1].note(event, args)


Place = tuple[str, int]
"""File and line."""


class Interruption:
    """Counts the calls that the author's code makes in its block, in the thread that opens it.

    Args:
        author: whose code it is.
        at: the number of the call, from 0, at which `act` is called; None: at none.
        act: may raise there. A signal handler that the function has set is called instead.
        counts: False does nothing at all, and costs nothing.
    """

    def __init__(
        self,
        author: AuthorCode,
        *,
        at: int | None = None,
        act: Callable[[], None] | None = None,
        counts: bool = True,
    ) -> None:
        self._files = author.files
        self._at = sys.maxsize if at is None else at
        self._act = act
        self._counts = counts
        self._inside_c: set[FrameType] = set()
        self.calls: list[Place] = []
        """The place of each call."""
        self.place: Place | None = None
        """The place at which it happened."""
        self.dropped: list[BaseException] = []
        """Exceptions that Python only warns of; if the one that happened is among them, no code has met it."""
        self.handled = False
        """Whether a signal handler of the function's own took it."""

    @property
    def is_planned(self) -> bool:
        """Whether anything is to happen."""
        return self._act is not None

    def __enter__(self) -> Interruption:
        self._former = sys.getprofile()
        self._owner = os.getpid()
        self._handler = signal.getsignal(signal.SIGTERM)
        if self._counts:
            sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        if self._counts:
            sys.setprofile(self._former)
        self._inside_c.clear()

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
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
        self.calls.append(place)
        due = len(self.calls) > self._at and self._act is not None and not self.place
        if due and os.getpid() == self._owner and not is_deaf(frame):
            self.place = place
            self._interrupt(caller)

    def _interrupt(self, frame: FrameType) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        self.handled = handler is not self._handler
        if not self.handled and self._act is not None:
            self._act()
        elif callable(handler):
            handler(signal.SIGTERM, frame)


@contextmanager
def silenced() -> Iterator[list[BaseException]]:
    """Silence reports about what an interrupted function leaves unfinished: coroutines, threads without their files.
    The list then has what Python dropped, such as an exception in a destructor."""
    dropped: list[BaseException] = []

    def drop(unraisable: Any) -> None:
        dropped.append(unraisable.exc_value)

    with warnings.catch_warnings(), patched(sys, unraisablehook=drop), patched(threading, excepthook=lambda _: None):
        warnings.simplefilter("ignore")
        yield dropped


def choose(places: list[Place], most: int) -> list[int]:
    """The numbers of up to `most` calls, spread over the lines that make any, in order."""
    last = {place: number for number, place in enumerate(places)}
    numbers = sorted(last.values())
    if len(numbers) <= most:
        return numbers
    return [numbers[index * (len(numbers) - 1) // (most - 1)] for index in range(most)]


def end() -> None:
    """Interrupt a function as a worker does when its attempt is canceled or lost.

    Raises:
        Interrupted: inside the function.
    """
    raise Interrupted
