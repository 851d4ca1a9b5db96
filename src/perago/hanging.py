"""Report calls to servers while they have no answer, and run calls concurrently with a time limit."""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

HANGING_AFTER = 5.0
"""Seconds without an answer after which a call is reported."""


def service_in(line: str) -> str:
    """Return the service that a line about waiting begins with, here and in `perago.retry`."""
    return re.split(" (?:does|has|answers) ", line, maxsplit=1)[0]


HangListener = Callable[[str, bool], object]
"""Gets a line about a hanging call, and whether the service has answered since then."""


def done_within(seconds: float, name: str, works: Sequence[Callable[[], object]]) -> bool:
    """Call all `works` concurrently, on daemon threads of this name. Return whether all ended within `seconds`.

    Unlike the threads of an executor, daemon threads end with the process. So a command that is interrupted, or whose
    limit has passed, does not wait for a server that hangs.
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
    """Watches the calls of this process on its own thread, once `report_to` has set a listener.

    It reports a service that does not answer once, and reports again when that service answers a call.
    """

    def __init__(self) -> None:
        self.soonest: float = math.inf
        """Seconds that a person waits without output. It has an effect only below `HANGING_AFTER`."""
        self._listener: HangListener | None = None
        self._calls: dict[int, _Call] = {}
        """The calls by the id of the thread that waits."""
        self._reported: dict[str, float] = {}
        """The times at which the reported calls began, by service."""
        self._changed = threading.Condition()
        self._sleeps = False
        self._thread: threading.Thread | None = None

    def report_to(self, listener: HangListener | None) -> HangListener | None:
        """Set the listener, which is called on the thread of this watch. Return the previous one.

        With None, further calls are not watched.
        """
        previous, self._listener = self._listener, listener
        return previous

    @contextlib.contextmanager
    def call(self, service: str, operation: str, *, expected: float = 0.0) -> Iterator[None]:
        """Watch the call that this thread makes in the block. A healthy server can take `expected` seconds for it."""
        if self._listener is None:
            yield
            return
        now, thread_id = time.monotonic(), threading.get_ident()
        call = _Call(service, operation, now, now + expected + min(HANGING_AFTER, self.soonest))
        with self._changed:
            self._calls[thread_id] = call
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="perago-hanging", daemon=True)
                self._thread.start()
            elif self._sleeps:
                self._changed.notify()
        try:
            yield
        except BaseException:
            self._end(thread_id)
            raise
        self._end(thread_id, service)

    def limit(self, seconds: float) -> None:
        """Set the time limit of the call that this thread makes. Only its report uses it."""
        if (call := self._calls.get(threading.get_ident())) is not None:
            call.limit = seconds

    def _end(self, thread_id: int, answered: str = "") -> None:
        """Remove a call. Report that the service `answered`, unless another reported call to it still waits."""
        with self._changed:
            self._calls.pop(thread_id, None)
            waits = any(call.is_reported and call.service == answered for call in self._calls.values())
            began = None if waits else self._reported.pop(answered, None)
        if began is not None:
            self._report(f"{answered} answers again, after {time.monotonic() - began:.0f} s", has_answered=True)

    def _report(self, line: str, *, has_answered: bool) -> None:
        if (listener := self._listener) is not None:
            listener(line, has_answered)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._calls:
                    self._sleeps = True
                    self._changed.wait()
                    self._sleeps = False
                now = time.monotonic()
                unanswered = []
                for call in [call for call in self._calls.values() if call.due <= now]:
                    call.due = math.inf
                    if call.service not in self._reported:
                        self._reported[call.service] = call.began
                        call.is_reported = True
                        unanswered.append(call)
            for call in unanswered:
                ends = f"; this call ends after {call.limit:g} s" if call.limit else ""
                asked = "" if call.operation == "answer" else f" when asked to {call.operation}"
                waited = f"{time.monotonic() - call.began:.0f} s"
                self._report(f"{call.service} has not answered for {waited}{asked}{ends}", has_answered=False)
            with self._changed:
                # A call that begins during this wait is due after it, so no call needs to wake this thread.
                following = min((call.due for call in self._calls.values()), default=math.inf)
                self._changed.wait(min(max(0.0, following - time.monotonic()), HANGING_AFTER, self.soonest))


HANGS = HangWatch()
"""The watch of this process."""
