"""The renderer of all commands: lines, labeled entries, tables, changed files, JSON, and the current step.

A terminal gets colors, wrapped lines and a status line. A pipe gets the same text without them.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TextIO, TypeVar

from perago.cli import messages
from perago.cli.messages import Colour, painted
from perago.hanging import HANGS
from perago.text import one_line, size, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

T = TypeVar("T")

_NARROWEST = 20
"""The smallest number of characters of a line next to its label, however narrow the terminal is."""
_BATCH = 0.5
"""Seconds between two batches."""
STATUS_COLOURS = dict.fromkeys(("SCHEDULED", "IN_PROGRESS", "RUNNING", "PAUSED"), Colour.YELLOW)
STATUS_COLOURS["COMPLETED"] = Colour.GREEN
"""The colors of the statuses of an attempt or a workflow. All other statuses are red."""
_FILES = {"added": ("+", Colour.GREEN), "changed": ("~", Colour.YELLOW), "removed": ("-", Colour.RED)}


@dataclass(frozen=True)  # with slots, Python 3.11 cannot make a Column[int](...)
class Column(Generic[T]):
    """One column of a table: its title, its meaning, and the text of a cell."""

    title: str
    meaning: str
    cell: Callable[[T], str]


def legend(columns: Sequence[Column[Any]]) -> str:
    """Return the meaning of each column, a line each, for the help of a command."""
    width = max(len(column.title) for column in columns)
    return "\n".join(f"{column.title:{width}}  {column.meaning}" for column in columns if column.meaning)


def print_json(document: Any) -> None:
    """Print a JSON document to standard output. Escape all characters that are not ASCII."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


class Renderer:
    """Prints to one stream. Callers pass texts from outside through `one_line`, so that they cannot forge a line."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._console: Console | None = None
        self._status: Status | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    @property
    def has_status_line(self) -> bool:
        """Whether a status line is shown now."""
        return self._status is not None

    def paint(self, text: str, colour: Colour) -> str:
        """Return `text` in a color, if the stream shows colors."""
        return painted(text, colour, self._stream)

    def status(self, status: str) -> str:
        """Return the status of an attempt or a workflow in its color."""
        return self.paint(one_line(status), STATUS_COLOURS.get(status, Colour.RED))

    def line(self, text: str = "") -> None:
        """Print one line, above the status line if there is one."""
        if self._console is not None:
            from rich.text import Text

            self._console.print(Text.from_ansi(text))
        else:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def entry(self, label: str, lines: Iterable[str], *, width: int = 10) -> None:
        """Print a label and its lines next to it, or nothing if there are no lines.

        Args:
            label: the word on the left. A colored label must be padded to its visible `width`.
            lines: printable texts. On a terminal, long lines continue below.
            width: characters of the column of the label.
        """
        columns = shutil.get_terminal_size().columns if self.is_terminal else None
        room = None if columns is None else max(_NARROWEST, columns - width - 1)
        first = label if len(label) >= width else label.ljust(width)
        for line in lines:
            parts = [line] if room is None else textwrap.wrap(line, room, subsequent_indent="  ") or [""]
            for part in parts:
                self.line(f"{first}{part}".rstrip())
                first = " " * width

    def table(
        self, columns: Sequence[Column[T]], rows: Sequence[T], details: Callable[[T], Iterable[str]] = lambda _: ()
    ) -> None:
        """Print a table with titles. All columns but the last are aligned on the right.

        Args:
            columns: the columns, from left to right.
            rows: the rows.
            details: returns further lines below a row.
        """
        cells = [[column.cell(row) for column in columns] for row in rows]
        titles = [column.title for column in columns]
        widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)][:-1]

        def joined(line: Sequence[str]) -> str:
            aligned = [cell.rjust(width) for cell, width in zip(line, widths, strict=False)]
            return "  ".join([*aligned, line[-1]])

        self.line(joined(titles))
        for row, line in zip(rows, cells, strict=True):
            self.line(joined(line))
            for detail in details(row):
                self.line(f"         {detail}")

    def file(self, kind: str, path: str, bytes_of_file: int | None) -> str:
        """Return the line of a changed file. Pass None as the size of a removed file."""
        sign, colour = _FILES.get(kind, ("?", Colour.RED))
        amount = "" if bytes_of_file is None else f"  {size(bytes_of_file)}"
        name = visible(path).replace("\n", "⏎")
        return f"{self.paint(sign, colour)} {name}{amount}"

    # ---------------------------------------------------------------------------- the current step

    def doing(self, text: str) -> None:
        """Show `text` in the status line of a terminal; do nothing elsewhere."""
        if self._status is not None:
            from rich.markup import escape

            self._status.update(escape(one_line(text)))

    def begin(self, text: str) -> None:
        """Show a status line until `end`, if the stream is a terminal."""
        if self.is_terminal:
            from rich.console import Console
            from rich.markup import escape

            self._console = Console(file=self._stream, highlight=False, soft_wrap=True)
            self._status = self._console.status(escape(text))
            self._status.start()

    def end(self) -> None:
        """Remove the status line, if there is one."""
        if self._status is not None:
            self._status.stop()
        self._console = self._status = None


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """Show `text` on standard error during the block, then each text that the yielded function gets.

    The block must not print anything else.
    """
    renderer = Renderer(sys.stderr)
    renderer.begin(text)
    before = HANGS.report_to(lambda line, _: renderer.line(messages.note_text(line)))
    try:
        yield renderer.doing
    finally:
        HANGS.report_to(before)
        renderer.end()


def in_batches(items: Iterable[T], text: str) -> Iterator[list[T]]:
    """Yield slow items in batches of half a second. Print a batch while `text` is not shown."""
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
