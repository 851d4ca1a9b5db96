"""Labelled lines: a word on the left, what belongs to it beside it. Wrapped on a terminal, whole lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable

_LEAST = 20
"""Characters of a line beside its label, however narrow the terminal is."""


def write_entry(label: str, lines: Iterable[str], *, width: int = 10) -> None:
    """Print one entry; without lines, nothing.

    Args:
        label: may have escape sequences of colours; then `width` counts what is to be seen, and it is padded already.
        lines: printable texts; those that are too long for the terminal are continued below.
        width: characters of the column of the label.
    """
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    beside = None if columns is None else max(_LEAST, columns - width - 1)
    first = label if len(label) >= width else label.ljust(width)
    for line in lines:
        parts = [line] if beside is None else textwrap.wrap(line, beside, subsequent_indent="  ") or [""]
        for part in parts:
            sys.stdout.write(f"{first}{part}".rstrip() + "\n")
            first = " " * width
