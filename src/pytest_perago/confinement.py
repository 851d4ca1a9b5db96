"""Run user code in pytest's own process: with a time limit, and with no process left running.

A worker runs a function in its own process, and can lose that process. Here the process is pytest's. A closed output
would break all later tests, and `os._exit` would end the session silently.

In the main thread of a POSIX system the limit is an alarm that raises inside the watched code, every second until the
code gives up. An alarm cannot end a C call that never returns, or code that swallows every exception. `GRACE` seconds
later, faulthandler prints the stacks and ends the process. Under pytest-xdist this costs one test, not the session.
Other threads have no alarm, so faulthandler ends the process right at the limit. A separate process could always be
killed, but a debugger, coverage and patches of a conftest would not reach it, and starting it would take longer than
most tasks.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import io
import os
import re
import signal
import sys
import sysconfig
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from traceback import FrameSummary
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, NoReturn

import pydantic
import pytest

import perago
from perago.trees.cases import CaseFailed, Cause

if TYPE_CHECKING:
    from perago.processes import Process


_PLUGIN = str(Path(__file__).parent)
_OURS = (
    _PLUGIN,
    str(Path(perago.__file__).parent),
    str(Path(pydantic.__file__).parent),
    str(Path(importlib.__file__).parent),
    str(Path(pytest.__file__).parent.with_name("_pytest")),
    "<frozen importlib",
)
_PYTHON = sysconfig.get_paths()["stdlib"]


def user_traceback(error: BaseException | None) -> str:
    """Return the traceback of an error in user code, or an empty text if none of it is left."""
    if error is None:
        return ""
    shown = traceback.TracebackException.from_exception(error)
    frames = [frame for frame in shown.stack if not _is_ours(frame)]
    library = [
        frame for frame in frames if frame.filename.startswith(_PYTHON) and "site-packages" not in frame.filename
    ]
    if len(library) == len(frames) and not isinstance(error, SyntaxError):  # it says nothing if no author called it
        return ""
    shown.stack = traceback.StackSummary.from_list(frames)
    shown.__cause__ = shown.__context__ = None
    return "".join(shown.format())


def without_plugin_frames(formatted: str) -> str:
    """Return a printed traceback without the frames of this plugin."""
    frame = rf'^  File "{re.escape(_PLUGIN)}.*\n(?:    .*\n)*'
    return re.sub(frame, "", formatted, flags=re.MULTILINE)


def user_stack(frame: FrameType | None) -> tuple[traceback.FrameSummary, ...]:
    """The calls of user code when `frame` was interrupted, the outermost call first."""
    stack = traceback.extract_stack(frame)
    calls = [index for index, summary in enumerate(stack) if summary.filename.startswith(_PLUGIN)]
    return tuple(summary for summary in stack[calls[-1] :] if not _is_ours(summary)) if calls else ()


def formatted_stack(stack: Sequence[traceback.FrameSummary]) -> str:
    """The stack as Python prints it; empty for none."""
    return "It was here:\n" + "".join(traceback.format_list(list(stack))) if stack else ""


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(_OURS)


class ProcessEnded(BaseException):
    """`os._exit` was called. Not an Exception, so that `except Exception` does not swallow it."""


ProcessEnded.__module__ = "builtins"  # authors know `os._exit`, not this


class OpenText(io.TextIOWrapper):
    """A text stream over bytes of another owner. User code can close neither of them, not even by dropping a
    wrapper."""

    def __init__(self, target: IO[bytes], *, encoding: str = "utf-8", errors: str = "backslashreplace") -> None:
        super().__init__(_OpenBytes(target), encoding=encoding, errors=errors, newline="", write_through=True)

    def close(self) -> None:
        """Only flush, because the output must stay open."""
        self.flush()


class _OpenBytes(io.BufferedIOBase):
    def __init__(self, target: IO[bytes]) -> None:
        self._target = target

    @property
    def name(self) -> str:
        """The name of a standard stream."""
        return str(getattr(self._target, "name", "<output>"))

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._target.write(data)

    def flush(self) -> None:
        with suppress(ValueError):  # the owner has closed it, long after user code
            self._target.flush()

    def fileno(self) -> int:
        return self._target.fileno()

    def isatty(self) -> bool:
        return self._target.isatty()

    def close(self) -> None:
        self.flush()


@contextmanager
def patched(owner: Any, **members: Any) -> Iterator[None]:
    """Replace attributes of the owner, such as a module or a class, during the block."""
    with pytest.MonkeyPatch.context() as patch:
        for name, member in members.items():
            patch.setattr(owner, name, member)
        yield


@contextmanager
def confined() -> Iterator[None]:
    """Keep the output open and the process alive while user code runs."""
    outputs = sys.stdout, sys.stderr
    end = os._exit
    sys.stdout, sys.stderr = map(_without_close, outputs)
    os._exit = _refuser(end)
    try:
        yield
    finally:
        os._exit = end
        for output in (sys.stdout, sys.stderr):
            with suppress(Exception):
                output.flush()
        sys.stdout, sys.stderr = outputs


def _without_close(stream: Any) -> Any:
    """Return a stream that `close` does not close. A stream that is not text over bytes is returned unchanged."""
    buffer = getattr(stream, "buffer", None)
    if not isinstance(stream, io.TextIOWrapper) or buffer is None:
        return stream
    stream.flush()
    return OpenText(buffer, encoding=stream.encoding, errors=stream.errors or "backslashreplace")


def _refuser(end: Any) -> Any:
    owner = os.getpid()
    others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}

    def refuse(status: int) -> NoReturn:
        if os.getpid() != owner:  # a child, such as multiprocessing's, ends this way
            end(status)
        if threading.get_ident() in others:  # no user code, but pytest-timeout's last resort
            end(status)
        raise ProcessEnded(f"os._exit({status}) would end the whole worker process; raise an exception instead")

    return refuse


_SETTLE = 0.1
"""Seconds that an ending process gets."""


@contextmanager
def leaving_no_process() -> Iterator[list[str]]:
    """Wrap a task function: end the processes that it leaves running, and put their command lines into the list. This
    is cheap if this process has no child. On systems other than Linux the list stays empty."""
    from perago.processes import adopting_orphans, end_processes

    remaining: list[str] = []
    before = {process.pid for process in _children()}
    with adopting_orphans():
        try:
            yield remaining
        finally:
            deadline = time.monotonic() + _SETTLE
            while (processes := _children(but=before)) and time.monotonic() < deadline:
                time.sleep(0.005)
            remaining += [f"{process.command_line()} (pid {process.pid})" for process in processes]
            if processes:
                end_processes(lambda: _children(but=before))
            for process in processes:
                with suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)


def _children(but: Collection[int] = ()) -> list[Process]:
    """Return the descendants of this process, without the permanent helpers of multiprocessing."""
    from perago.processes import descendants, running_processes

    try:  # much cheaper than a look at all processes
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (ChildProcessError, AttributeError):
        return []
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    helpers = (getattr(tracker, "_pid", None) or 0, getattr(server, "_forkserver_pid", None) or 0)
    return descendants(os.getpid(), running_processes(), but={*but, *helpers})


_POLL_SECONDS = 0.002


def signal_of_a_copy(call: Callable[[], object], seconds: float) -> str:
    """Call the function in a forked copy of this process, which gets so many seconds. Return the name of the signal
    that ended the copy; empty if the call ended, or if the time was over."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the copy needs none of them
        child = os.fork()
    if child == 0:
        try:
            faulthandler.disable()
            call()
        finally:
            os._exit(0)
    deadline = time.monotonic() + seconds
    while (answer := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return ""
        time.sleep(_POLL_SECONDS)
    return signal.Signals(os.WTERMSIG(answer[1])).name if os.WIFSIGNALED(answer[1]) else ""


GRACE = 10.0
_ALARM_INTERVAL = 1.0
_POSTPONED_ALARM = 0.005
_POSTPONED = 100
"""The number of times that an alarm waits for the end of code that would drop its exception."""

_DROPPING_FILES = frozenset(
    collection.__init__.__code__.co_filename
    for collection in (weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet)
)
_MODULE_LOCK = "_get_module_lock.<locals>.cb"


class TimeLimitExceeded(BaseException):
    """Raised inside watched code. Not an Exception, so that `except Exception` does not swallow it."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """The limit in seconds, and the line of the user code when it was exceeded."""

    seconds: float
    stack: tuple[FrameSummary, ...]


class LastResort:
    """Ends the process if nothing else ends its code. Not used if the user has set `faulthandler_timeout`."""

    def __init__(self, *, enabled: bool) -> None:
        self.debugging: bool = False
        """Whether a debugger has opened since the last time limit began, which ends that limit."""
        self._output: int | None = None
        if enabled:
            try:
                self._output = os.dup(sys.__stderr__.fileno()) if sys.__stderr__ else None
            except (OSError, ValueError):
                self._output = None

    def debugger_opened(self) -> None:
        """Suspend the limit, because a person needs time to think."""
        self.debugging = True
        self.disarm()

    def arm(self, seconds: float) -> None:
        """End the process in `seconds`, unless `disarm` is called before."""
        self.debugging = False
        if self._output is not None:
            faulthandler.dump_traceback_later(seconds, exit=True, file=self._output)

    def disarm(self) -> None:
        """Cancel it."""
        if self._output is not None:
            faulthandler.cancel_dump_traceback_later()


class Watch:
    """Set a time limit of `seconds` for the `with` block. It only takes effect inside `user_code()`.

    `stuck` is set once the limit is exceeded.
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
            self._set_alarm()
            self._last_resort.arm(self.seconds + GRACE)
        else:
            self._last_resort.arm(self.seconds)
        return self

    def __exit__(self, *_: object) -> None:
        self._last_resort.disarm()
        if signal.SIGALRM in self._previous:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        delay, interval = self._others_alarm
        if delay:
            remaining = delay - (time.monotonic() - self._started)
            signal.setitimer(signal.ITIMER_REAL, max(remaining, 0.001), interval)
        if self._interrupted:  # user code may have swallowed it
            raise KeyboardInterrupt

    @contextmanager
    def case(self, label: str) -> Iterator[None]:
        """Run the case of this label within the limit.

        Raises:
            CaseFailed: the limit is exceeded. Such a failure replaces any other one.
        """
        try:
            with self:
                yield
        except (TimeLimitExceeded, CaseFailed) as failure:
            if isinstance(failure, CaseFailed) and not self.stuck:
                raise
            summary = f"case {label!r} did not end within {self.seconds:g} s (perago_run_timeout)"
            details = [formatted_stack(self.stuck.stack)] if self.stuck else ()
            raise CaseFailed(Cause.MISTAKE, summary, details=details) from None

    @contextmanager
    def user_code(self) -> Iterator[None]:
        """Run the part that can be interrupted, and that cannot close the output or end the process.

        Raises:
            TimeLimitExceeded: the limit is exceeded, before the block or in it.
        """
        with confined():
            self._inside = True
            try:
                if self.stuck:
                    raise TimeLimitExceeded
                yield
            finally:
                self._inside = False

    @contextmanager
    def task_function(self) -> Iterator[list[str]]:
        """Run a task function as `user_code`, and end the processes that it leaves running. The list then has
        their command lines."""
        with leaving_no_process() as remaining, self.user_code():
            yield remaining

    def _set_alarm(self) -> None:
        self._others_alarm = signal.getitimer(signal.ITIMER_REAL)
        if 0 < self._others_alarm[0] <= self.seconds:  # another shorter limit, such as pytest-timeout's
            self._others_alarm = (0.0, 0.0)
            return
        self._previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._on_alarm)
        signal.setitimer(signal.ITIMER_REAL, self.seconds, _ALARM_INTERVAL)

    def _on_alarm(self, _number: int, frame: FrameType | None) -> None:
        if self._last_resort.debugging:
            return
        self.stuck = self.stuck or Stuck(self.seconds, user_stack(frame))
        if not self._inside:
            return
        if self._postponed < _POSTPONED and drops_exceptions(frame):
            self._postponed += 1
            signal.setitimer(signal.ITIMER_REAL, _POSTPONED_ALARM, _ALARM_INTERVAL)
            return
        self._postponed = 0
        raise TimeLimitExceeded

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupted = True
        raise KeyboardInterrupt


def drops_exceptions(frame: FrameType | None) -> bool:
    """Whether Python may drop an exception here. Python only warns of exceptions in destructors and in callbacks of
    weak references and the garbage collector. Imports have many of them. A generator that is destroyed looks like one
    that ends, so the next alarm raises there."""
    collecting = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        code = frame.f_code
        known = code.co_filename in _DROPPING_FILES or code.co_qualname == _MODULE_LOCK or code in collecting
        if known or code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
