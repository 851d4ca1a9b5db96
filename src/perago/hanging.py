"""Calls to servers that do not answer: report one while it still waits, and wait no longer than a limit for several."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

HANGING_AFTER = 5.0
"""Seconds without an answer after which a call is reported."""

Tell = Callable[[str, bool], object]
"""Called with a line about a hanging call, and whether the call has been answered in the meantime."""


def done_within(seconds: float, name: str, works: Sequence[Callable[[], object]]) -> bool:
    """Do all concurrently, on daemons of this name, and wait no longer for them.

    Unlike the threads of an executor, a daemon ends with the process. So a command that is interrupted, or has waited
    long enough, does not wait for a server that hangs.
    """
    threads = [threading.Thread(target=work, name=name, daemon=True) for work in works]
    until = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


@dataclass(slots=True)
class _Call:
    service: str
    operation: str
    began: float
    due: float
    limit: float = 0.0
    is_reported: bool = False


class HangWatch:
    """Watches the calls of this process on a thread of its own, once `report_to` has named a listener.

    A service that does not answer is reported once, until a call to it is answered, which is reported, too.
    """

    def __init__(self) -> None:
        self.soonest: float = math.inf
        """Seconds that a person waits without a word. `HANGING_AFTER` if that is less."""
        self._tell: Tell | None = None
        self._calls: dict[int, _Call] = {}
        """By the thread that waits."""
        self._silent: dict[str, float] = {}
        """Services that were reported, and when the reported call began."""
        self._changed = threading.Condition()
        self._sleeps = False
        self._thread: threading.Thread | None = None

    def report_to(self, tell: Tell | None) -> Tell | None:
        """Report to `tell`, on the thread of this watch, from now on; None: watch no further calls. Return the listener
        until now."""
        before, self._tell = self._tell, tell
        return before

    @contextlib.contextmanager
    def call(self, service: str, operation: str, *, expected: float = 0.0) -> Iterator[None]:
        """Watch the call that this thread makes in the block. `expected`: seconds that the server may take anyway."""
        if self._tell is None:
            yield
            return
        now, me = time.monotonic(), threading.get_ident()
        call = _Call(service, operation, now, now + expected + min(HANGING_AFTER, self.soonest))
        with self._changed:
            self._calls[me] = call
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="perago-hanging", daemon=True)
                self._thread.start()
            elif self._sleeps:
                self._changed.notify()
        try:
            yield
        except BaseException:
            self._end(me)
            raise
        self._end(me, service)

    def limit(self, seconds: float) -> None:
        """Note the time limit of the call that this thread makes."""
        if (call := self._calls.get(threading.get_ident())) is not None:
            call.limit = seconds

    def _end(self, thread: int, answered: str = "") -> None:
        """Forget a call, and report that the service `answered` unless another reported call to it still waits."""
        with self._changed:
            self._calls.pop(thread, None)
            waits = any(call.is_reported and call.service == answered for call in self._calls.values())
            began = None if waits else self._silent.pop(answered, None)
        if began is not None and (tell := self._tell) is not None:
            tell(f"{answered} answers again, after {time.monotonic() - began:.0f} s", True)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._calls:
                    self._sleeps = True
                    self._changed.wait()
                    self._sleeps = False
                now = time.monotonic()
                new = []
                for call in [call for call in self._calls.values() if call.due <= now]:
                    call.due = math.inf
                    if call.service not in self._silent:
                        self._silent[call.service] = call.began
                        call.is_reported = True
                        new.append(call)
            for call in new:
                if (tell := self._tell) is not None:
                    tell(_words(call), False)
            with self._changed:
                # A call that begins during this wait is not due before its end, so no call needs to wake this thread.
                following = min((call.due for call in self._calls.values()), default=math.inf)
                self._changed.wait(min(max(0.0, following - time.monotonic()), HANGING_AFTER, self.soonest))


def _words(call: _Call) -> str:
    ends = f"; this call ends after {call.limit:g} s" if call.limit else ""
    waited = time.monotonic() - call.began
    asked = "" if call.operation == "answer" else f" when asked to {call.operation}"
    return f"{call.service} has not answered for {waited:.0f} s{asked}{ends}"


HANGS = HangWatch()
"""The watch of this process."""
