"""What a command is doing at the moment, on a terminal; nothing where standard error is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from perago.workspace.text import one_line

T = TypeVar("T")

_BATCH = 0.5
"""Seconds between two batches."""


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """Show `text`, and what the function that this gives is called with, until the end of the block. Nothing may be
    printed in it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(file=sys.stderr, highlight=False).status(escape(text)) as status:
        yield lambda now: status.update(escape(one_line(now)))


def in_batches(items: Iterable[T], text: str) -> Iterator[list[T]]:
    """Items that take their time, those of each half second together, to be printed between two shows of `text`."""
    source = iter(items)
    ended = False
    while not ended:
        batch: list[T] = []
        until = time.monotonic() + _BATCH
        with working(text):
            for item in source:
                batch.append(item)
                if time.monotonic() >= until:
                    break
            else:
                ended = True
        yield batch
