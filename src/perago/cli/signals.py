"""How a command ends when it is told to: SIGINT and SIGTERM unwind it, so that nothing it has started stays behind.

A signal handler raises wherever the program happens to be. In a destructor or a weak reference's callback, which every
import has, Python drops what is raised; in the making of a class it is wrapped in another error (until Python 3.12).
So what a signal has said is noted as well. The note is looked at when the block of its handler is left, however that
is, and by whoever waits for long inside of it (`end_if_told`).
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from perago.cli.exit_codes import ExitCode

_noted: set[int] = set()
"""The signals that have told this process to end and whose block has not been left yet."""


@contextlib.contextmanager
def sigint_noted() -> Iterator[None]:
    """Inside the block Ctrl-C raises KeyboardInterrupt as always, and is noted. Where it is ignored, it stays so."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with _handled(signal.SIGINT) if usual and _is_main_thread() else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def sigterm_unwinds() -> Iterator[None]:
    """SIGTERM unwinds like any other end, so that neither a process nor a directory stays behind."""
    with _handled(signal.SIGTERM):
        yield


def end_if_told() -> None:
    """Unwind, if a signal has said so and whoever was interrupted by it has dropped that. Only the main thread, whose
    business signals are, is unwound.

    Raises:
        KeyboardInterrupt: SIGINT has come.
        SystemExit: SIGTERM has come; with its exit code.
    """
    if not _is_main_thread():
        return
    if signal.SIGINT in _noted:
        raise KeyboardInterrupt
    if _noted:
        raise SystemExit(ExitCode.TERMINATED)


@contextlib.contextmanager
def _handled(number: signal.Signals) -> Iterator[None]:
    def note(received: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape that `signal` wants
        _noted.add(received)
        end_if_told()

    before = signal.signal(number, note)
    try:
        yield
        end_if_told()
    except Exception:
        end_if_told()  # an error that comes of a signal is none of the command's
        raise
    finally:
        signal.signal(number, before)
        _noted.discard(number)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
