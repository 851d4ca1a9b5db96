"""How a running attempt learns, inside its slot, that nobody waits for it any more.

The supervisor announces a cancellation over the pipe and sends TERM to the slot's process group, which reaches what
the function has started. In the slot itself TERM means "look whether a cancellation was announced": a service manager
that sends it to every process of a unit at the start of a shutdown must not end an attempt that is to be finished.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from perago.driver import Interrupted


class AttemptCancelled(Interrupted):
    """Raised inside the author's function, so that its `finally` blocks and context managers still run, and inside a
    transfer or a question, so that nothing more is sent."""


class Cancellation:
    """The slot's knowledge of it. `announce` may be called by any thread; everything else by the main thread."""

    def __init__(self) -> None:
        self._announced = threading.Event()
        self._is_interruptible = False
        self._was_interrupted = False

    def install(self) -> None:
        """Take over the signals of this process."""
        signal.signal(signal.SIGTERM, self._on_signal)
        # A handler, not SIG_IGN, which the function's child processes would inherit.
        signal.signal(signal.SIGINT, self._on_signal)

    def announced(self) -> bool:
        """Whether the attempt has been cancelled."""
        return self._announced.is_set()

    def announce(self) -> None:
        """Cancel: interrupt what the attempt does, now or as soon as it lets the interpreter run."""
        self._announced.set()
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
