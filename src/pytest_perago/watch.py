"""Watching code of authors while it runs in this process: a time limit, and Ctrl-C that ends the session.

In the main thread of a POSIX system the limit is an alarm that raises inside the watched code, every second until the
code gives up. What cannot be reached that way (a call into C that never comes back, code that swallows everything) is
ended with its process `GRACE` seconds later, by faulthandler, which prints where each thread stands; under
pytest-xdist that costs one test, not the session. In other threads, which have no alarm, faulthandler does it right at
the limit. A process of its own could always be killed, but a debugger, coverage and a
conftest's patches would not reach into it, and it would cost more than most tasks.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from traceback import FrameSummary
from types import FrameType, TracebackType
from typing import Any

from pytest_perago.confinement import confined
from pytest_perago.frames import author_stack

GRACE = 10.0
_AGAIN = 1.0
_SOON = 0.005
_POSTPONED = 100
"""How often an alarm waits for code to be over that would drop what it raises."""

_DEAF_FILES = frozenset(
    made.__init__.__code__.co_filename
    for made in (weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet)
)
_MODULE_LOCK = "_get_module_lock.<locals>.cb"


class TimeLimitExceeded(BaseException):
    """Raised inside watched code. Not an Exception, so that `except Exception` does not swallow it."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """The limit in seconds, and what authors' code was doing when it was over."""

    seconds: float
    stack: tuple[FrameSummary, ...]


class LastResort:
    """Ends the process when nothing else ends its code. Not used where the user's `faulthandler_timeout` is."""

    def __init__(self, *, enabled: bool) -> None:
        self.debugging = False
        """Whether a debugger has opened since the last time limit began: from then on that does not count."""
        self._output: int | None = None
        if enabled:
            try:
                self._output = os.dup(sys.__stderr__.fileno()) if sys.__stderr__ else None
            except (OSError, ValueError):
                self._output = None

    def debugger_opened(self) -> None:
        """A person may think for as long as they like."""
        self.debugging = True
        self.disarm()

    def arm(self, seconds: float) -> None:
        """End the process in so many seconds, unless `disarm` is called first."""
        self.debugging = False
        if self._output is not None:
            faulthandler.dump_traceback_later(seconds, exit=True, file=self._output)

    def disarm(self) -> None:
        """Call it off."""
        if self._output is not None:
            faulthandler.cancel_dump_traceback_later()


class Watch:
    """A time limit of `seconds` for the whole `with` block; it strikes only inside `code_of_author()`.

    `stuck` is set once the limit is over.
    """

    def __init__(self, seconds: float, last_resort: LastResort) -> None:
        self.seconds = seconds
        self.stuck: Stuck | None = None
        self._last_resort = last_resort
        self._inside = False
        self._postponed = 0
        self._interrupted = False
        self._started = 0.0
        self._previous: dict[signal.Signals, Any] = {}
        self._others_alarm = (0.0, 0.0)

    def __enter__(self) -> Watch:
        self._started = time.monotonic()
        is_main = threading.current_thread() is threading.main_thread()
        if is_main:
            self._previous[signal.SIGINT] = signal.signal(signal.SIGINT, self._on_interrupt)
        if is_main and hasattr(signal, "SIGALRM"):
            self._set_alarm()
            self._last_resort.arm(self.seconds + GRACE)
        else:
            self._last_resort.arm(self.seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._last_resort.disarm()
        if hasattr(signal, "SIGALRM") and signal.SIGALRM in self._previous:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._give_back_alarm()
        if self._interrupted:  # code of the author may have swallowed it
            raise KeyboardInterrupt

    @contextmanager
    def code_of_author(self) -> Iterator[None]:
        """The part that may be interrupted, and that cannot close the output or end the process.

        Raises:
            TimeLimitExceeded: at once if the limit is over, else when it is.
        """
        with confined():
            self._inside = True
            try:
                if self.stuck:
                    raise TimeLimitExceeded
                yield
            finally:
                self._inside = False

    def _set_alarm(self) -> None:
        self._others_alarm = signal.getitimer(signal.ITIMER_REAL)
        if 0 < self._others_alarm[0] <= self.seconds:  # another shorter limit, such as pytest-timeout's
            self._others_alarm = (0.0, 0.0)
            return
        self._previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._on_alarm)
        signal.setitimer(signal.ITIMER_REAL, self.seconds, _AGAIN)

    def _give_back_alarm(self) -> None:
        delay, interval = self._others_alarm
        if delay:
            left = delay - (time.monotonic() - self._started)
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001), interval)

    def _on_alarm(self, _number: int, frame: FrameType | None) -> None:
        if self._last_resort.debugging:
            return
        self.stuck = self.stuck or Stuck(self.seconds, author_stack(frame))
        if not self._inside:
            return
        if self._postponed < _POSTPONED and is_deaf(frame):
            self._postponed += 1
            signal.setitimer(signal.ITIMER_REAL, _SOON, _AGAIN)
            return
        self._postponed = 0
        raise TimeLimitExceeded

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupted = True
        raise KeyboardInterrupt


def is_deaf(frame: FrameType | None) -> bool:
    """Whether Python may drop what is raised here. In destructors, and in callbacks of weak references and of the
    garbage collector, it only warns of an exception; importing has many. A generator that is destroyed cannot be told
    from one that ends: there it takes the next alarm."""
    collecting = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        code = frame.f_code
        known = code.co_filename in _DEAF_FILES or code.co_qualname == _MODULE_LOCK or code in collecting
        if known or code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
