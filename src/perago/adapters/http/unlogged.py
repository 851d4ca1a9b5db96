"""Requests of which urllib3 logs nothing: it logs whole addresses, and a signed one is as good as a password."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_thread = threading.local()


@contextmanager
def unlogged() -> Iterator[None]:
    """What urllib3 says in this block, in this thread, is dropped."""
    _thread.silent = True
    try:
        yield
    finally:
        _thread.silent = False


def _may_be_logged(_: logging.LogRecord) -> bool:
    return not getattr(_thread, "silent", False)


for _name in ("urllib3.connectionpool", "urllib3.connection"):  # a filter is not inherited by loggers below
    logging.getLogger(_name).addFilter(_may_be_logged)
