"""End a command when a signal tells it to: the signal unwinds the command, so that nothing it started stays behind.

A signal handler raises wherever the program happens to be. In a destructor or in the callback of a weak reference,
which every import has, Python drops what is raised. While a class is made, Python wraps it in another error (until
Python 3.12). Therefore each signal is noted as well. The note is read when the block of its handler is left, and by
code that waits for long inside the block (`end_if_told`).

`perago start` ends with status 0 (`ends_well`): before its supervisor runs, there is nothing that it could leave
undone. From then on the supervisor gets the signals instead (`hand_over`).
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from perago.processes import ENDING

INTERRUPTED = "interrupted"
"""The reason for the end of an attempt that Ctrl-C canceled. The command reports the interruption itself."""
_PATIENCE = 1.0
"""Seconds that the unwinding may take before a further signal unwinds again. Until then it would only interrupt what is
being tidied up."""

_noted: set[int] = set()
"""The signals that have told this process to end and whose block has not been left yet."""
_unwound_at = -_PATIENCE
_ends_well = False
_told_instead: Callable[[signal.Signals], None] | None = None


@contextlib.contextmanager
def sigint_noted() -> Iterator[None]:
    """Note Ctrl-C inside the block; it raises KeyboardInterrupt as always. An ignored interrupt stays ignored."""
    usual = signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _note)
    with _handled(signal.SIGINT) if usual and _is_main_thread() else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM unwind the block, so that neither a process nor a directory stays behind."""
    with _handled(signal.SIGTERM):
        yield


@contextlib.contextmanager
def ends_well(stopped: Callable[[], None]) -> Iterator[None]:
    """Make a command end with status 0 whenever a signal tells it to, and call `stopped` then.

    This is the outermost block of a process: later signals are ignored.
    """
    global _ends_well
    _ends_well = True
    _listen()
    try:
        yield
    except BaseException:  # it may come of the signal
        if not _noted:
            raise
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
    if _noted:
        stopped()
        raise SystemExit(0)


def hand_over(told: Callable[[signal.Signals], None]) -> None:
    """Call `told` from now on for each signal, instead of unwinding; also for a signal that was dropped before."""
    global _told_instead
    _told_instead = told
    _listen()
    while _noted:
        told(signal.Signals(_noted.pop()))


@contextlib.contextmanager
def heard(told: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call `told` inside the block for each signal that ends a process, for a server that runs until then."""

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape that `signal` wants
        told(signal.Signals(number))

    before = {number: signal.signal(number, note) for number in _ending()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_if_told() -> None:
    """Unwind if a signal has come, and the code that it interrupted has dropped the exception. Only the
    main thread, which handles signals, is unwound.

    Raises:
        KeyboardInterrupt: SIGINT has come.
        SystemExit: another one has come; with its exit code. Of a command that ends well: any has come.
    """
    global _unwound_at
    if not _noted or not _is_main_thread():
        return
    _unwound_at = time.monotonic()
    if _ends_well:
        raise SystemExit(0)
    if signal.SIGINT in _noted:
        raise KeyboardInterrupt
    raise SystemExit(128 + signal.SIGTERM)


def _note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape that `signal` wants
    if _told_instead is not None:
        _told_instead(signal.Signals(number))
        return
    _noted.add(number)
    if time.monotonic() - _unwound_at >= _PATIENCE:
        end_if_told()


def _listen() -> None:
    """Take over all signals that end a process."""
    for number in _ending():
        signal.signal(number, _note)


def _ending() -> list[signal.Signals]:
    """All signals that end a process, but not a hang-up that is ignored (nohup)."""
    hang_up = getattr(signal, "SIGHUP", None)
    return [number for number in ENDING if number != hang_up or signal.getsignal(number) != signal.SIG_IGN]


@contextlib.contextmanager
def _handled(number: signal.Signals) -> Iterator[None]:
    before = signal.signal(number, _note)
    try:
        yield
        end_if_told()
    except Exception:
        end_if_told()  # an error that a signal caused is not an error of the command
        raise
    finally:
        signal.signal(number, before)
        if before is not _note:
            _noted.discard(number)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
