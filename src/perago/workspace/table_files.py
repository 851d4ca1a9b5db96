"""Tables in files, read as rows: CSV and TSV, JSON Lines, and Parquet if pyarrow is installed."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""The delimiters by the suffix of a file."""
_JSON_LINES = (".jsonl", ".ndjson")
PARQUET = ".parquet"


@dataclass(frozen=True, slots=True)
class TableFile:
    """The rows of a table."""

    columns: tuple[str, ...] | None
    """The names of the columns. None for JSON Lines, where each row has its own."""
    rows: Sequence[Any]
    """The values of each row in the order of the columns. For JSON Lines, the value of the line."""
    types: tuple[str, ...] = ()
    """The types of the columns of a Parquet file."""


def suffix_of(path: str) -> str:
    """Return the suffix of a table file, or an empty text if the name is not that of a table."""
    suffix = PurePosixPath(path).suffix.lower()
    return suffix if suffix in (*DELIMITERS, *_JSON_LINES, PARQUET) else ""


def read_table(
    path: str, content: bytes, *, most_rows: float = math.inf, most_cells: float = math.inf
) -> TableFile | None:
    """Return the table in a file, by the suffix of its path; None if it is not a table, cannot be read, or is too
    large.

    Args:
        path: the name of the file.
        content: its bytes.
        most_rows: the limit, with the header.
        most_cells: the maximum number of values of a Parquet file, because a small file can contain very many equal
            values.
    """
    suffix = suffix_of(path)
    try:
        if suffix in DELIMITERS:
            header, *rows = delimited_rows(content.decode("utf-8-sig"), DELIMITERS[suffix], strict=True)
            return TableFile(tuple(header), rows) if len(rows) < most_rows else None
        if suffix in _JSON_LINES:
            lines = [line for line in content.decode().splitlines() if line.strip()]
            return TableFile(None, list(map(json.loads, lines))) if len(lines) <= most_rows else None
    except (ValueError, csv.Error, RecursionError):  # it is not what its name says
        return None
    return _read_parquet(content, most_rows, most_cells) if suffix == PARQUET else None


def delimited_rows(text: str, delimiter: str, *, strict: bool = False) -> Iterator[list[str]]:
    """Yield the rows of a CSV text, including the header.

    Raises:
        csv.Error: it is not CSV; with `strict`, also if a quote is in the wrong place.
    """
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=strict)


def _read_parquet(content: bytes, most_rows: float, most_cells: float) -> TableFile | None:
    try:
        pyarrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:  # the extra `tables` is not installed
        return None
    try:
        file = parquet.ParquetFile(io.BytesIO(content))
        if file.metadata.num_rows > most_rows or file.metadata.num_rows * file.metadata.num_columns > most_cells:
            return None
        table = file.read()
    except (pyarrow.ArrowException, OSError):
        return None
    rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return TableFile(tuple(table.column_names), rows, tuple(str(field.type) for field in table.schema))
