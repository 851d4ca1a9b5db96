"""What a table must be, a second time: slow, with Python's own means, and written from the documentation of
`require_table` alone. It shares no code with what decides in production; the fuzz tests compare the two.

Only Parquet is read with pyarrow, as nothing else reads it.
"""

from __future__ import annotations

import datetime
import decimal
import io
import json
from collections.abc import Iterator
from typing import Any

from perago.guardrails.tables import ColumnType, Format, TableRule


class _NoTable(Exception):
    """The file is none."""


_Column = list[Any]


def is_sound(rule: TableRule, content: bytes) -> bool:
    """Whether the rule accepts the table. A `schema` plays no part."""
    read = {Format.CSV: _read_csv, Format.JSONL: _read_jsonl, Format.PARQUET: _read_parquet}[rule.format]
    try:
        columns, rows = read(rule, content)
    except _NoTable:
        return False
    if any(name not in columns for name in rule.needed):
        return False
    if not (rule.min_rows or 0) <= rows <= (rows if rule.max_rows is None else rule.max_rows):
        return False
    if any(value is None for name in rule.not_null for value in columns[name]):
        return False
    keys = [key for key in zip(*(columns[name] for name in rule.unique), strict=True) if None not in key]
    if len({repr(key) for key in keys}) != len(keys):
        return False
    return rule.format is Format.PARQUET or all(
        value is None or _is(kind, value, rule.format) for name, kind in rule.columns for value in columns[name]
    )


# ----------------------------------------------------------------------------------------- CSV


def _read_csv(rule: TableRule, content: bytes) -> tuple[dict[str, _Column], int]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _NoTable from None
    lines = list(_csv_rows(text, rule.delimiter))
    if not lines:
        raise _NoTable
    names = [name or "" for name in lines[0]]
    if any(len(line) != len(names) for line in lines):
        raise _NoTable
    once = [name for name in names if names.count(name) == 1]
    return {name: [line[names.index(name)] for line in lines[1:]] for name in once}, len(lines) - 1


def _csv_rows(text: str, delimiter: str) -> Iterator[list[str | None]]:
    """One character after the other. A line without any is no row; a field without any, and without quotes, is None."""
    row: list[str | None] = []
    field, quoted, inside, position = "", False, False, 0
    while position < len(text):
        char = text[position]
        position += 1
        if inside:
            if char != '"':
                field += char
            elif text[position : position + 1] == '"':
                field, position = field + '"', position + 1
            else:
                inside = False
        elif char == '"' and not field and not quoted:
            inside = quoted = True
        elif char == delimiter:
            row.append(field if field or quoted else None)
            field, quoted = "", False
        elif char in "\r\n":
            if char == "\r" and text[position : position + 1] == "\n":
                position += 1
            if row or field or quoted:
                yield [*row, field if field or quoted else None]
            row, field, quoted = [], "", False
        else:
            field += char
    if inside:
        raise _NoTable
    if row or field or quoted:
        yield [*row, field if field or quoted else None]


# ---------------------------------------------------------------------------------- JSON Lines


def _read_jsonl(rule: TableRule, content: bytes) -> tuple[dict[str, _Column], int]:
    rows = []
    for line in content.split(b"\n"):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"), parse_constant=_no_number)
        except (ValueError, _NoTable):
            raise _NoTable from None
        if not isinstance(row, dict):
            raise _NoTable
        rows.append(row)
    columns = {name: [row.get(name) for row in rows] for name in rule.needed}
    return {name: values for name, values in columns.items() if not rows or any(v is not None for v in values)}, len(
        rows
    )


def _no_number(_: str) -> None:
    raise _NoTable


# ------------------------------------------------------------------------------------- Parquet

_WORDS: dict[ColumnType, tuple[str, ...]] = {
    ColumnType.INT: ("int", "uint"),
    ColumnType.FLOAT: ("float", "double", "halffloat"),
    ColumnType.STR: ("string", "large_string"),
    ColumnType.BOOL: ("bool",),
    ColumnType.BYTES: ("binary", "large_binary", "fixed_size_binary"),
    ColumnType.DATE: ("date",),
    ColumnType.DATETIME: ("timestamp",),
    ColumnType.DECIMAL: ("decimal",),
}


def _read_parquet(rule: TableRule, content: bytes) -> tuple[dict[str, _Column], int]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError):
        raise _NoTable from None
    for name, kind in rule.columns:
        if name in table.column_names and kind is not ColumnType.ANY:
            word = str(table.schema.field(name).type)
            if word != "null" and not word.startswith(_WORDS[kind]):
                raise _NoTable
    return {name: table[name].to_pylist() for name in table.column_names}, table.num_rows


# --------------------------------------------------------------------------------------- types


def _is(kind: ColumnType, value: Any, form: Format) -> bool:
    if kind is ColumnType.ANY or (form is Format.CSV and kind in (ColumnType.STR, ColumnType.BYTES)):
        return True
    if form is Format.CSV:
        return _is_spelled(kind, value)
    if kind in (ColumnType.STR, ColumnType.BYTES):
        return type(value) is str
    if kind is ColumnType.BOOL:
        return type(value) is bool
    if kind is ColumnType.INT:
        return type(value) is int
    if kind is ColumnType.FLOAT:
        return type(value) in (int, float)
    if kind is ColumnType.DECIMAL and type(value) in (int, float):
        return True
    return type(value) is str and _is_spelled(kind, value)


def _is_spelled(kind: ColumnType, text: str) -> bool:
    """Python's own constructors, without the liberties that they take."""
    if not text.isascii() or (any(char in text for char in "_ \t\n\r\v\f") and kind is not ColumnType.DATETIME):
        return False
    try:
        if kind is ColumnType.INT:
            int(text)
        elif kind is ColumnType.FLOAT:
            float(text)
        elif kind is ColumnType.DECIMAL:
            return decimal.Decimal(text).is_finite() and "e" not in text.lower()
        elif kind is ColumnType.BOOL:
            return text.lower() in ("true", "false")
        elif kind is ColumnType.DATE:
            return _is_date(text)
        else:
            return _is_datetime(text)
    except (ValueError, decimal.InvalidOperation):
        return False
    return True


def _is_date(text: str) -> bool:
    return len(text) == 10 and datetime.datetime.strptime(text, "%Y-%m-%d") is not None  # noqa: DTZ007 - a date has none


def _is_datetime(text: str) -> bool:
    if len(text) <= 10:
        return _is_date(text)
    head, middle, tail = text[:10], text[10], text[11:]
    if middle not in "T " or not _is_date(head):
        return False
    zone = next((tail[index:] for index, char in enumerate(tail) if char in "Z+-"), "")
    clock = tail[: len(tail) - len(zone)]
    if zone and zone != "Z" and not _digits(zone[1:3], zone[3:].removeprefix(":")):
        return False
    parts = clock.split(":")
    seconds, dot, fraction = parts[2].partition(".") if len(parts) == 3 else ("00", "", "")
    if len(parts) not in (2, 3) or not _digits(parts[0], parts[1], seconds) or (dot and not 1 <= len(fraction) <= 9):
        return False
    if fraction and not fraction.isdigit():
        return False
    datetime.time(int(parts[0]), int(parts[1]), int(seconds))
    return True


def _digits(*parts: str) -> bool:
    return all(len(part) == 2 and part.isdigit() for part in parts)
