"""The types of files by their suffixes: the content types of published files, and tables that are read as rows."""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import json
import math
import sys
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


# --------------------------------------------------------------------------- the head of a Parquet file

_MEMORY = 2 * 1024**3
"""Bytes of address space. Loading pyarrow takes about half of them."""
_SECONDS = 15
HEAD_ROWS, _COLUMNS, _CELL = 50, 30, 200


def print_parquet_head() -> None:
    """Print the head of the Parquet file on standard input as JSON, in limited memory and time. This is for a separate
    process, because a file can crash its reader or fill the memory."""
    import resource  # not on Windows

    for limit, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CPU, _SECONDS), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit of the address space
            resource.setrlimit(limit, (most, most))
    json.dump(_parquet_head(sys.stdin.buffer.read()), sys.stdout)


def _parquet_head(data: bytes) -> dict[str, Any]:
    """Return the names of the columns, the first rows as texts (None: missing), and the numbers of rows and columns."""
    import pyarrow as pa
    import pyarrow.parquet

    pa.set_memory_pool(pa.system_memory_pool())
    file = pyarrow.parquet.ParquetFile(pa.BufferReader(data), pre_buffer=False)
    names = file.schema_arrow.names
    shown = names[:_COLUMNS]
    batches = file.iter_batches(batch_size=HEAD_ROWS, columns=shown, use_threads=False)
    columns: list[Any] = next((batch.columns[:_COLUMNS] for batch in batches), [])  # by place: two may have one name
    return {
        "columns": [name[:_CELL] for name in names[: _COLUMNS + 1]],
        "rows": [
            [None if value is None else str(value)[:_CELL] for value in row]
            for row in zip(*(column.to_pylist() for column in columns), strict=True)
        ],
        "total": file.metadata.num_rows,
        "width": len(names),
    }


# --------------------------------------------------------------------------- content types


UNKNOWN = "application/octet-stream"
"""The type of a file whose name says nothing. lakeFS also gives it to objects that were uploaded without a type."""
# The table is our own, because that of `mimetypes` depends on the machine and on the version of Python.
_TYPES = {
    "text/css": "css",
    "text/csv": "csv",
    "text/html": "htm html",
    "text/javascript": "js mjs",
    "text/markdown": "markdown md",
    "text/plain": "cfg conf ini log sql text txt",
    "text/tab-separated-values": "tab tsv",
    "text/x-python": "py",
    "text/x-r": "r",
    "text/xml": "xml",
    "application/geo+json": "geojson",
    "application/gzip": "gz tgz",
    "application/json": "json",
    "application/ld+json": "jsonld",
    "application/msword": "doc",
    "application/pdf": "pdf",
    "application/toml": "toml",
    "application/vnd.apache.arrow.file": "arrow feather",
    "application/vnd.apache.avro": "avro",
    "application/vnd.apache.orc": "orc",
    "application/vnd.apache.parquet": "parquet pq",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.sqlite3": "db3 sqlite sqlite3",
    "application/x-7z-compressed": "7z",
    "application/x-bzip2": "bz2",
    "application/x-hdf5": "h5 hdf5",
    "application/x-ipynb+json": "ipynb",
    "application/x-ndjson": "jsonl ndjson",
    "application/x-netcdf": "nc",
    "application/x-sh": "sh",
    "application/x-tar": "tar",
    "application/x-xz": "xz",
    "application/yaml": "yaml yml",
    "application/zip": "npz zip",
    "application/zstd": "zst",
    "audio/flac": "flac",
    "audio/mpeg": "mp3",
    "audio/ogg": "oga ogg opus",
    "audio/x-wav": "wav",
    "image/bmp": "bmp",
    "image/gif": "gif",
    "image/jpeg": "jpeg jpg",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/tiff": "tif tiff",
    "image/webp": "webp",
    "video/mp4": "mp4",
    "video/webm": "webm",
}
_BY_SUFFIX = {suffix: kind for kind, suffixes in _TYPES.items() for suffix in suffixes.split()}


def content_type_of(path: str) -> str:
    """Return the content type of a file by the last suffix of its name, in any case: a compressed CSV is a gzip."""
    stem, dot, suffix = path.rpartition("/")[2].rpartition(".")
    return _BY_SUFFIX.get(suffix.lower(), UNKNOWN) if stem and dot else UNKNOWN


if __name__ == "__main__":
    print_parquet_head()
