"""JSON Lines: one object a line, UTF-8. A key that is not there has no value, as one with null.

Arrow reads a block if it is as declared. Where it stumbles, Python reads the block again and finds the row.
"""

from __future__ import annotations

import codecs
import datetime
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.json

from perago.guardrails.tables.checks import SPELLINGS, Checks, Unreadable
from perago.guardrails.tables.rule import ColumnType, TableRule
from perago.workspace.text import size

BLOCK = 4 * 1024 * 1024
"""Bytes that are read at once. No row is longer."""

_ARROW: Mapping[ColumnType, Any] = {
    ColumnType.INT: pa.int64(),
    ColumnType.FLOAT: pa.float64(),
    ColumnType.STR: pa.string(),
    ColumnType.BOOL: pa.bool_(),
    ColumnType.DATE: pa.string(),
    ColumnType.DATETIME: pa.string(),
}
_KEYS = (ColumnType.INT, ColumnType.STR, ColumnType.BOOL, ColumnType.DATE, ColumnType.DATETIME)
"""Types whose values Arrow and Python write as the same text."""


def read_jsonl(file: BinaryIO, rule: TableRule, checks: Checks) -> None:
    """Read the table.

    Raises:
        Unreadable: see there.
        OSError: the disk refused.
    """
    schema = _arrow_schema(rule)
    empty = set(rule.needed)
    for block in _blocks(file, checks):
        lines = [line for line in block.split(b"\n") if line.strip()]
        columns = _by_arrow(block, len(lines), schema, rule, checks) if schema else None
        if columns is None:
            columns = _by_python(lines, rule, checks)
        empty -= {name for name, values in columns.items() if values.null_count < len(values)}
        checks.batch(columns, len(lines))
    if checks.rows:
        for name in rule.needed:
            if name in empty:
                checks.missing(name)


def _arrow_schema(rule: TableRule) -> Any:
    """The needed columns for Arrow, or None if only Python can tell about them."""
    kinds = [rule.types.get(name, ColumnType.ANY) for name in rule.needed]
    keys = [rule.types.get(name) for name in rule.unique]
    if not kinds or any(kind not in _ARROW for kind in kinds) or any(key not in _KEYS for key in keys):
        return None
    return pa.schema([(name, _ARROW[kind]) for name, kind in zip(rule.needed, kinds, strict=True)])


def _blocks(file: BinaryIO, checks: Checks) -> Iterator[bytes]:
    """The file in blocks of whole lines."""
    kept = b""
    if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        file.seek(0)
    while data := file.read(BLOCK):
        whole, line_end, rest = data.rpartition(b"\n")
        if line_end:
            yield kept + whole + line_end
            kept = rest
        else:
            kept += data
        if len(kept) > BLOCK:
            raise Unreadable(f"a row after row {checks.rows:,} is longer than {size(BLOCK)}")
    if kept:
        yield kept


def _by_arrow(block: bytes, rows: int, schema: Any, rule: TableRule, checks: Checks) -> dict[str, Any] | None:
    """The needed columns of a block; None if it is not as declared, or Arrow cannot tell."""
    if b"NaN" in block or b"Infinity" in block:  # Arrow takes them for JSON
        return None
    options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        block.decode()
        table = pyarrow.json.read_json(
            pa.BufferReader(block), parse_options=options, read_options=pyarrow.json.ReadOptions(block_size=len(block))
        ).combine_chunks()
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    if table.num_rows != rows:
        return None
    columns = {name: table[name].combine_chunks() for name in rule.needed}
    checks.texts({name: columns[name] for name in columns if pa.types.is_string(columns[name].type)})
    return {name: column.cast(pa.string()) if name in rule.unique else column for name, column in columns.items()}


def _by_python(lines: list[bytes], rule: TableRule, checks: Checks) -> dict[str, Any]:
    """The same, row by row: what is wrong is found here."""
    columns: dict[str, list[str | None]] = {name: [] for name in rule.needed}
    for index, line in enumerate(lines):
        row = _object(line, checks.rows + index + 1)
        for name, texts in columns.items():
            value = row.get(name)
            kind = rule.types.get(name)
            if value is not None and kind is not None and not _is(kind, value):
                checks.wrong_value(name, index, value)
            texts.append(None if value is None else _key(value, kind))
    return {name: pa.array(texts, pa.string()) for name, texts in columns.items()}


def _object(line: bytes, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line.decode(), parse_constant=_refuse)
    except UnicodeDecodeError:
        raise Unreadable(f"row {number:,} is not UTF-8") from None
    except (ValueError, RecursionError):
        raise Unreadable(f"row {number:,} is not JSON") from None
    if not isinstance(row, dict):
        raise Unreadable(f"row {number:,} is no JSON object")
    return row


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _key(value: object, kind: ColumnType | None) -> str:
    if kind is not None and isinstance(value, str):
        return value.encode(errors="replace").decode()
    return json.dumps(value, sort_keys=True)


def _is(kind: ColumnType, value: object) -> bool:
    match kind:
        case ColumnType.ANY:
            return True
        case ColumnType.BOOL:
            return isinstance(value, bool)
        case ColumnType.INT:
            return isinstance(value, int) and not isinstance(value, bool)
        case ColumnType.FLOAT:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case ColumnType.DECIMAL:
            return (isinstance(value, int | float) and not isinstance(value, bool)) or _is_spelled(kind, value)
        case ColumnType.STR | ColumnType.BYTES:
            return isinstance(value, str)
        case _:
            return _is_spelled(kind, value) and _has_date(str(value))


def _is_spelled(kind: ColumnType, value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(SPELLINGS[kind], value, re.ASCII) is not None


def _has_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True
