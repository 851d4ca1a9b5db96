"""The types of files by their suffixes: the content types of published files, and tables that are read as rows."""

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
