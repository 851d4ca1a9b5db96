"""What a command is doing at the moment, on a terminal; nothing where standard error is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perago.workspace.text import one_line


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """Show `text`, and what the function that this gives is called with, until the end of the block."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(file=sys.stderr, highlight=False).status(escape(text)) as status:
        yield lambda now: status.update(escape(one_line(now)))
