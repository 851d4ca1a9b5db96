"""A tree as text that stays the same as long as its files say the same: what snapshots of trees hold.

Texts stand there line by line, tables row by row with numbers written in one way, everything else as size and digest.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from perago.testing.published import as_text
from perago.workspace.text import count, visible

MOST_LINES = 100
"""Lines or rows of a file that are shown; of longer ones the first ten, and a digest of all."""

MOST_ROWS = 100_000
"""Rows up to which a table is read. Larger ones are compared by their bytes."""

_FIRST = 10
_FLOAT = re.compile(r"[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+")


def rendered(tree: Mapping[str, str | bytes | None]) -> str:
    """The tree as text, sorted by path. None is a directory."""
    return "".join(f"{line}\n" for path in sorted(tree) for line in _file(path, tree[path]))


def _file(path: str, content: str | bytes | None) -> Iterator[str]:
    if content is None:
        yield f"{visible(path)}: directory"
        return
    data = content.encode() if isinstance(content, str) else content
    read = _READERS.get(PurePosixPath(path).suffix.lower())
    try:
        rows = read(data) if read is not None else None
    except (ValueError, csv.Error, RecursionError):  # not what its name says
        rows = None
    if rows is not None:
        yield from _lines(f"{visible(path)}: table", rows, "row", len(rows) - 1)
        return
    text = as_text(data)
    if text is None:
        yield f"{visible(path)}: {_digest(data)}"
    else:
        lines = text.split("\n")
        lines = lines[:-1] if lines[-1] == "" else [*lines[:-1], f"{lines[-1]} (no line end)"]
        yield from _lines(
            f"{visible(path)}: text", [line.replace("\r", "⟨U+000D⟩") for line in lines], "line", len(lines)
        )


def _lines(title: str, lines: Sequence[str], noun: str, number: int) -> Iterator[str]:
    """Title and lines, or the first of them and the digest of all."""
    if len(lines) <= MOST_LINES + 1 and sum(map(len, lines)) <= MOST_LINES * 200:
        yield f"{title}, {count(number, noun)}"
        yield from (f"    {visible(line)}".rstrip() for line in lines)
        return
    yield f"{title}, {count(number, noun)}, {_digest(chr(10).join(lines).encode('utf-8', 'surrogatepass'), size=False)}"
    yield from (f"    {visible(line[:200])}".rstrip() for line in lines[:_FIRST])
    yield "    ..."


def _digest(data: bytes, *, size: bool = True) -> str:
    digest = f"sha256 {hashlib.sha256(data).hexdigest()}"
    return f"{len(data):,} B, {digest}" if size else digest


# ------------------------------------------------------------------ tables: a line for the columns, then their rows


def _number(value: Any) -> Any:
    """A float in one spelling, to twelve digits: what comes after is the luck of libraries and machines."""
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, Mapping):
        return {key: _number(item) for key, item in value.items()}
    return [_number(item) for item in value] if isinstance(value, list | tuple) else value


def _cell(text: str) -> str:
    return repr(_number(float(text))) if _FLOAT.fullmatch(text) else text


def _delimited(data: bytes, delimiter: str) -> list[str] | None:
    text = as_text(data)
    if text is None or not text:
        return None
    found = list(
        islice(
            csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter, strict=True),
            MOST_ROWS + 1,
        )
    )
    if len(found) > MOST_ROWS:
        return None
    lines = io.StringIO()
    csv.writer(lines, delimiter=delimiter, lineterminator="\n").writerows([*map(_cell, row)] for row in found)
    return lines.getvalue().split("\n")[:-1]


def _json_lines(data: bytes) -> list[str] | None:
    text = as_text(data)
    if text is None or text.count("\n") > MOST_ROWS:
        return None
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    return ["JSON Lines", *(_json(row) for row in rows)]


def _parquet(data: bytes) -> list[str] | None:
    """Needs the extra `tables`; without it the file is compared by its bytes."""
    try:
        arrow: Any = import_module("pyarrow")
        file = import_module("pyarrow.parquet").ParquetFile(arrow.BufferReader(data))
    except ImportError:
        return None
    except arrow.ArrowException as error:
        raise ValueError(str(error)) from None
    if file.metadata.num_rows > MOST_ROWS:
        return None
    columns = ", ".join(f"{field.name}: {field.type}" for field in file.schema_arrow)
    rows = (row for batch in file.iter_batches() for row in batch.to_pylist())
    return [columns, *(_json(list(row.values())) for row in rows)]


def _json(value: Any) -> str:
    return json.dumps(_number(value), sort_keys=True, ensure_ascii=False, default=str)


_READERS: dict[str, Callable[[bytes], list[str] | None]] = {
    ".csv": lambda data: _delimited(data, ","),
    ".tsv": lambda data: _delimited(data, "\t"),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
