"""Parts of exporters that send to a server: they report an outage once, and their end takes a limited time."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from perago.settings.mask import Mask
from perago.text import one_line
from perago.worker.logs import LineWriter, terminal_missing
from perago.worker.plan import Notices

END_LIMIT = 3.0
"""Seconds that the end of a worker can take for unsent data."""
LONGEST_REASON = 400
"""Characters of the reason in a warning. Clients quote more than an operator wants to read."""

Say = Callable[[str], None]


@contextmanager
def warnings_to(notices: Notices) -> Iterator[Say]:
    """Print warnings while a worker runs. Like everything that a worker prints, they do not wait for the reader."""
    writer = LineWriter(sys.stderr, terminal_missing)
    try:
        yield lambda text: writer.write(notices.warning_text(text))
    finally:
        writer.close()


class ClientMessages(logging.Handler):
    """Collects the messages of some loggers until `end`, so that they are not printed, and keeps the first message of
    each thread."""

    def __init__(self, mask: Mask, *loggers: str) -> None:
        super().__init__(logging.WARNING)
        self.mask: Mask = mask
        self._first = threading.local()
        self._loggers = [logging.getLogger(name) for name in loggers]
        self._propagated = [logger.propagate for logger in self._loggers]
        for logger in self._loggers:
            logger.propagate = False
            logger.addHandler(self)

    def end(self) -> None:
        """Restore the previous handling."""
        for logger, propagated in zip(self._loggers, self._propagated, strict=True):
            logger.removeHandler(self)
            logger.propagate = propagated

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record if it is the first."""
        self._first.text = getattr(self._first, "text", "") or record.getMessage()

    def take(self) -> str:
        """Return the first message of this thread since the last call; empty: there was none."""
        text, self._first.text = getattr(self._first, "text", ""), ""
        return self.mask(text)


class Watch:
    """Reports once that a server accepts nothing, and once that it does again, with the number of lost items.

    Args:
        server: the beginning of the lines, such as `OpenTelemetry: the collector`.
        what: the items that are sent, in plural.
        words: the messages of the client, as reasons.
        say: takes the lines. Several threads call it.
    """

    def __init__(self, server: str, what: str, messages: ClientMessages, say: Say) -> None:
        self._server = server
        self._what = what
        self._messages = messages
        self._say = say
        self._lock = threading.Lock()
        self._lost = 0
        self._since: float | None = None
        """The begin of the outage."""

    def __call__(self, export: Callable[[], Any], items: int = 1) -> bool:
        """Whether `export` was a success. It raises, or returns a result of OpenTelemetry; None is a success."""
        self._messages.take()
        try:
            result = export()
            succeeded, reason = result is None or bool(result.name == "SUCCESS"), ""
        except Exception as error:  # noqa: BLE001 - whatever it is, the next ones are to be sent
            succeeded, reason = False, self._messages.mask(f"{type(error).__name__}: {error}")
        if succeeded:
            self._succeeded()
        else:
            self.lose(items, reason or self._messages.take() or "no answer")
        return succeeded

    def lose(self, items: int, reason: str) -> None:
        """Report an outage, unless that was done already, and count what is lost in it."""
        with self._lock:
            self._lost += items
            is_new, self._since = self._since is None, self._since or time.monotonic()
        if is_new:
            reason = one_line(reason)[:LONGEST_REASON]
            self._say(f"{self._server} does not accept {self._what}, which are lost until it does: {reason}")

    def _succeeded(self) -> None:
        with self._lock:
            since, self._since, lost = self._since, None, self._lost
            self._lost = 0
        if since is not None:
            seconds = time.monotonic() - since
            self._say(f"{self._server} accepts {self._what} again after {seconds:.0f} s; lost: {lost:,} {self._what}")
