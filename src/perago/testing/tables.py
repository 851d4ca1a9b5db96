"""Tables in files, compared by rows and columns: CSV and JSON Lines by the standard library, Parquet by pyarrow.

Values are compared as the file has them: in a CSV file `1` and `1.0` differ.
"""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perago.workspace.text import count, listing

_SHOWN_ROWS = 10
_LONGEST_VALUE = 60
MOST_CELLS = 4_000_000
"""Values of a Parquet file that is compared by rows."""


@dataclass(frozen=True, slots=True)
class Table:
    """Column names, and rows as tuples of values in that order."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class TableDifference:
    """How two tables differ."""

    summary: str
    lines: tuple[str, ...]
    columns: tuple[str, ...]
    """Columns with other values, and those that only one of the tables has."""


def read_table(path: str, content: bytes) -> Table | None:
    """The table in a file, by the suffix of its path; None if it is none, or cannot be read."""
    reader = TABLES.get(Path(path).suffix.lower())
    try:
        return None if reader is None else reader(content)
    except (ValueError, csv.Error, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return None


def _read_csv(content: bytes) -> Table | None:
    return _separated(content, ",")


def _read_tsv(content: bytes) -> Table | None:
    return _separated(content, "\t")


def _separated(content: bytes, delimiter: str) -> Table | None:
    text = io.StringIO(content.decode("utf-8-sig"), newline="")
    lines = [tuple(row) for row in csv.reader(text, delimiter=delimiter, strict=True)]
    if not lines or len(set(lines[0])) != len(lines[0]) or any(len(row) != len(lines[0]) for row in lines):
        return None  # rows of unequal length are told better by lines
    return Table(lines[0], tuple(lines[1:]))


def _read_json_lines(content: bytes) -> Table | None:
    rows = [json.loads(line) for line in content.decode("utf-8").splitlines() if line.strip()]
    if not rows or not all(isinstance(row, dict) for row in rows):
        return None
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    return Table(columns, tuple(tuple(_hashable(row.get(column)) for column in columns) for row in rows))


def _hashable(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value


def _read_parquet(content: bytes) -> Table | None:
    try:
        pyarrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:  # the extra `tables` is not installed: compared by size and digest
        return None
    try:
        facts = parquet.read_metadata(io.BytesIO(content))
        if facts.num_rows * facts.num_columns > MOST_CELLS:  # a small file may hold very many equal values
            return None
        table = parquet.read_table(io.BytesIO(content))
    except (pyarrow.ArrowException, OSError):
        return None
    values = [[_hashable_value(value) for value in column.to_pylist()] for column in table.columns]
    return Table(tuple(table.column_names), tuple(zip(*values, strict=True)))


def _hashable_value(value: Any) -> Any:
    return repr(value) if isinstance(value, dict | list) else value


TABLES: Mapping[str, Callable[[bytes], Table | None]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
"""How a file with this suffix is read."""


def table_difference(before: Table, after: Table) -> TableDifference | None:
    """How the second table differs from the first; None if values and their order are the same."""
    if before.columns != after.columns:
        return _other_columns(before, after)
    if before.rows == after.rows:
        return None
    if len(before.rows) != len(after.rows):
        return _other_rows(before, after)
    if Counter(map(repr, before.rows)) == Counter(map(repr, after.rows)):
        return TableDifference("the same rows in another order", (), ())
    return _other_values(before, after)


def _other_columns(before: Table, after: Table) -> TableDifference:
    gone = [name for name in before.columns if name not in after.columns]
    come = [name for name in after.columns if name not in before.columns]
    words = [f"without column {listing(gone)}"] if gone else []
    words += [f"with new column {listing(come)}"] if come else []
    summary = " and ".join(words) or "the columns have another order"
    lines = (f"- {', '.join(before.columns)}", f"+ {', '.join(after.columns)}")
    return TableDifference(summary, lines, tuple(gone + come))


def _other_rows(before: Table, after: Table) -> TableDifference:
    then, now = Counter(map(repr, before.rows)), Counter(map(repr, after.rows))
    gone, come = list((then - now).elements()), list((now - then).elements())
    lines = [f"- {_cut(row)}" for row in gone[:_SHOWN_ROWS]] + [f"+ {_cut(row)}" for row in come[:_SHOWN_ROWS]]
    hidden = max(len(gone) - _SHOWN_ROWS, 0) + max(len(come) - _SHOWN_ROWS, 0)
    lines += [f"… and {count(hidden, 'more row')}"] if hidden else []
    summary = (
        f"{count(len(before.rows), 'row')} before, {len(after.rows):,} now; {len(gone):,} are gone, {len(come):,} new"
    )
    return TableDifference(summary, tuple(lines), ())


def _other_values(before: Table, after: Table) -> TableDifference:
    """The tables have the same columns and as many rows."""
    lines: list[str] = []
    columns: dict[str, None] = {}
    differing = 0
    for number, (old, new) in enumerate(zip(before.rows, after.rows, strict=True), start=1):
        cells = [name for name, then, now in zip(before.columns, old, new, strict=True) if not _same(then, now)]
        columns.update(dict.fromkeys(cells))
        differing += bool(cells)
        if cells and differing <= _SHOWN_ROWS:
            lines += _cells(before.columns, number, old, new)
    if differing > _SHOWN_ROWS:
        lines.append(f"… and {count(differing - _SHOWN_ROWS, 'more row')}")
    verb = "differs" if differing == 1 else "differ"
    which = "column" if len(columns) == 1 else "columns"
    summary = f"{differing:,} of {count(len(before.rows), 'row')} {verb}, in {which} {listing(list(columns))}"
    return TableDifference(summary, tuple(lines), tuple(columns))


def _cells(columns: Sequence[str], number: int, old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    return [
        f"row {number:,}, {name}: {_cut(repr(then))} → {_cut(repr(now))}"
        for name, then, now in zip(columns, old, new, strict=True)
        if not _same(then, now)
    ]


def _same(then: Any, now: Any) -> bool:
    return type(then) is type(now) and (then == now or (then != then and now != now))  # NaN is the same as NaN


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
