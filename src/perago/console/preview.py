"""The content of a file that is safe to show: text, the first rows of a table, or an image.

The first bytes decide the type of a file, and the name for CSV. Declared types are ignored.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from perago.console import links
from perago.console.source import File, NoSuchPage, Source
from perago.console.text import Shown, line
from perago.text import count, size
from perago.workspace.file_types import DELIMITERS, HEAD_ROWS, delimited_rows, suffix_of

TEXT_BYTES = 64 * 1024
"""The part of a text or of a CSV file that is read."""
TABLE_BYTES = 16 * 1024 * 1024
"""The largest Parquet file that is opened, because its metadata are at its end."""
IMAGE_BYTES = 8 * 1024 * 1024
COLUMNS = 30
CELL = 100
"""Characters."""
_SECONDS = 20.0
_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF87a", 0, "image/gif"),
    (b"GIF89a", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
)
"""Raster images that browsers show: the bytes, their offset, and the type. SVG can contain scripts, so it is shown as
text."""


@dataclass(frozen=True, slots=True)
class Table:
    """The first rows of a table. None is a missing value. `note` names the omitted part."""

    columns: tuple[Shown, ...]
    rows: tuple[tuple[Shown | None, ...], ...]
    note: str


@dataclass(frozen=True, slots=True)
class Preview:
    """The visible part of a file. `image` is the address of its bytes, `note` says why nothing is shown."""

    text: Shown | None = None
    table: Table | None = None
    image: str | None = None
    note: str = ""


def preview_of(source: Source, repository: str, commit_id: str, file: File) -> Preview:
    """Return the part of a file that can be shown."""
    head = _read(source, repository, commit_id, file, TEXT_BYTES)
    if image_type(head):
        if file.size_bytes > IMAGE_BYTES:
            return Preview(note=f"An image of more than {size(IMAGE_BYTES)}. Download it to look at it.")
        return Preview(image=links.image(repository, commit_id, file.path))
    if head.startswith(b"PAR1"):
        return _parquet(source, repository, commit_id, file)
    text = _text(head, file.size_bytes)
    if text is None:
        return Preview(note="Not text. Download it to look at it.")
    return Preview(text=text, table=_csv(file, text))


def read_text(source: Source, repository: str, commit_id: str, file: File) -> str | None:
    """Return the beginning of a file as text; None if it is not text."""
    text = _text(_read(source, repository, commit_id, file, TEXT_BYTES), file.size_bytes)
    return None if text is None else text.text


def image_of(source: Source, repository: str, commit_id: str, file: File) -> tuple[bytes, str]:
    """Return the bytes of an image and its type.

    Raises:
        NoSuchPage: it is not an image that is shown.
    """
    data = _read(source, repository, commit_id, file, IMAGE_BYTES) if file.size_bytes <= IMAGE_BYTES else b""
    media_type = image_type(data)
    if media_type is None:
        raise NoSuchPage(f"{file.path!r} is not an image that is shown here.")
    return data, media_type


def image_type(head: bytes) -> str | None:
    """Return the type of an image that is safe to show, by its first bytes."""
    return next((kind for magic, at, kind in _IMAGES if head[at : at + len(magic)] == magic), None)


def _read(source: Source, repository: str, commit_id: str, file: File, limit: int) -> bytes:
    return b"".join(source.lakefs.read(repository, commit_id, file.path, limit))


def _text(data: bytes, whole: int) -> Shown | None:
    """Return the beginning as text, or None if it is not UTF-8 or contains NULs."""
    is_whole = len(data) == whole
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data, final=is_whole)
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    return Shown(text, "" if is_whole else f"cut: the first {size(len(data))} of {size(whole)} are shown")


def _csv(file: File, text: Shown) -> Table | None:
    """Return the first rows of a CSV file, the first as the names of the columns; None if it is not a table."""
    suffix = suffix_of(file.path)
    if suffix not in DELIMITERS:
        return None
    lines = text.text.removeprefix("\ufeff").splitlines(keepends=True)
    whole = lines[:-1] if text.note and len(lines) > 1 else lines  # the last line may go on
    try:
        read = list(itertools.islice(delimited_rows("".join(whole), DELIMITERS[suffix]), HEAD_ROWS + 2))
    except csv.Error:
        return None
    rows = [row for row in read if row]
    if not rows or (len(rows[0]) < 2 and len(rows) < 2):
        return None
    return _table(rows[0], rows[1:], bool(text.note))


def _parquet(source: Source, repository: str, commit_id: str, file: File) -> Preview:
    if find_spec("pyarrow") is None:
        return Preview(note="A Parquet file. Its first rows are shown where pyarrow is installed (the extra tables).")
    if file.size_bytes > TABLE_BYTES:
        return Preview(note=f"A Parquet file of more than {size(TABLE_BYTES)}. Download it to look at it.")
    head = _in_a_process(_read(source, repository, commit_id, file, TABLE_BYTES))
    if head is None:
        return Preview(note="A Parquet file that cannot be read here. Download it to look at it.")
    table = _table(head["columns"], head["rows"], head["total"] > HEAD_ROWS)
    return Preview(table=table, note=f"{count(head['total'], 'row')}, {count(head['width'], 'column')}")


def _in_a_process(data: bytes) -> Any:
    """Return the head of a Parquet file, read in a separate process (`print_parquet_head`)."""
    command = [sys.executable, "-I", "-m", "perago.workspace.file_types"]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=_SECONDS, check=True, env={})
        return json.loads(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError):
        return None


def _table(columns: Sequence[Any], rows: Sequence[Sequence[Any]], more: bool) -> Table:
    width = max(map(len, (columns, *rows)))
    shown = [[*row, *[None] * (width - len(row))][:COLUMNS] for row in (columns, *rows[:HEAD_ROWS])]
    left_out = [f"{width - COLUMNS:,} more columns"] if width > COLUMNS else []
    left_out += ["more rows"] if more or len(rows) > HEAD_ROWS else []
    return Table(
        columns=tuple(line(str(name or ""), CELL) for name in shown[0]),
        rows=tuple(tuple(None if cell is None else line(str(cell), CELL) for cell in row) for row in shown[1:]),
        note=f"and {' and '.join(left_out)}" if left_out else "",
    )
