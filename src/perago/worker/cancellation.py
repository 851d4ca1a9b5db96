"""How a running attempt learns, inside its slot, that Conductor or its worker has given it up.

The supervisor announces a cancellation over the pipe and sends TERM to the slot's process group, which reaches what
the function has started. In the slot itself TERM means "look whether a cancellation was announced": a service manager
that sends it to every process of a unit at the start of a shutdown must not end an attempt that is to be finished.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from perago.driver import Interrupted
from perago.processes import ENDING, release_signals

REPEATS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Seconds before each further signal to an attempt that the last one has not interrupted."""


class AttemptCancelled(Interrupted):
    """Raised inside the author's function, so that its `finally` blocks and context managers still run, and inside a
    transfer or a question, so that nothing more is sent."""


class Cancellation:
    """The slot's knowledge of it. `announce` and `insist` may be called by any thread; everything else by the main
    thread."""

    def __init__(self) -> None:
        self._announced = threading.Event()
        self._is_interruptible = False
        self._was_interrupted = False

    def install(self) -> None:
        """Take over the signals of this process, which has been started with them held."""
        for number in ENDING:  # a handler, not SIG_IGN, which the function's child processes would inherit
            signal.signal(number, self._on_signal)
        release_signals()

    def announced(self) -> bool:
        """Whether the attempt has been cancelled."""
        return self._announced.is_set()

    def announce(self) -> None:
        """Cancel: interrupt what the attempt does, now or as soon as it lets the interpreter run."""
        self._announced.set()
        self._signal()

    def insist(self) -> None:
        """Signal again, a few times, if the announcement has interrupted nothing: a signal right before the main thread
        waits in the kernel does not wake it. Outside of `interrupting` there is nothing to wake, as the next block
        raises by itself; and a handler that the function has set is not called more often."""
        for pause in REPEATS:
            time.sleep(pause)
            is_ours = signal.getsignal(signal.SIGTERM) == self._on_signal
            if self._was_interrupted or not self._is_interruptible or not is_ours:
                return
            self._signal()

    def _signal(self) -> None:
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, signal.SIGTERM)

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Inside such blocks, and only there, a cancellation raises `AttemptCancelled`: once, and again at the
        beginning of each block after that. The process of a cancelled attempt is replaced, so there is no way back."""
        before, self._is_interruptible = self._is_interruptible, True
        try:
            if self._announced.is_set():
                self._was_interrupted = True
                raise AttemptCancelled
            yield
        finally:
            self._is_interruptible = before

    def _on_signal(self, _signum: int, _frame: FrameType | None) -> None:
        if self._is_interruptible and self._announced.is_set() and not self._was_interrupted:
            self._was_interrupted = True
            raise AttemptCancelled
