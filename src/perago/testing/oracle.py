"""The meaning of guardrails, a second time: slow, plain, and written from the documented rules alone.

The fuzz tests compare the verdicts of the runtime with these. So this module shares no code with production: a mistake
would only stay unnoticed if it were made in both.
"""

from __future__ import annotations

import datetime
import decimal
import fnmatch
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from perago.authoring.workspace import Guardrail
from perago.guardrails.forbid_glob import ForbidGlob
from perago.guardrails.require_dir import RequireDir
from perago.guardrails.require_file import RequireFile
from perago.guardrails.require_glob import RequireGlob
from perago.guardrails.require_table import RequireTable
from perago.guardrails.table_rule import ColumnType, Format, TableRule
from perago.trees import Tree, as_bytes, sizes_of


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict: whether a rule holds, and the number of files that it counts."""

    satisfied: bool
    matched: int


def judge(rule: Guardrail, files: Mapping[str, int]) -> Verdict:
    """Return the verdict on a tree with exactly these files: their paths relative to the workspace, and their sizes in
    bytes.

    Directories, symlinks and other entries do not affect any rule. The contents of files do not matter here;
    `judge_tree` reads them.
    """
    counted = {path: size for path, size in files.items() if concerns(rule, path)}
    return Verdict(holds(rule, counted), len(counted))


def judge_tree(rule: Guardrail, tree: Tree) -> Verdict:
    """Return the verdict on a tree with these files and contents."""
    verdict = judge(rule, sizes_of(tree))
    contents = {path: content for path, content in tree.items() if isinstance(content, str | bytes)}
    are_sound = all(is_sound(rule, as_bytes(content)) for path, content in contents.items() if concerns(rule, path))
    return Verdict(verdict.satisfied and are_sound, verdict.matched)


@singledispatch
def concerns(rule: Guardrail, path: str) -> bool:
    """Whether the file at `path` is one that the rule counts."""
    raise NotImplementedError(f"perago.testing.oracle does not know which files {type(rule).__name__} counts")


@singledispatch
def holds(rule: Guardrail, counted: Mapping[str, int]) -> bool:
    """Whether the rule holds, if these are the files that it counts, with their sizes in bytes."""
    raise NotImplementedError(f"perago.testing.oracle does not know when {type(rule).__name__} holds")


@singledispatch
def is_sound(rule: Guardrail, content: bytes) -> bool:  # noqa: ARG001 - for the rules that look into files
    """Whether a file that the rule counts may have this content."""
    return True


@is_sound.register
def _(rule: RequireTable, content: bytes) -> bool:
    return is_table(rule.rule, content)


@concerns.register
def _(rule: RequireFile, path: str) -> bool:
    return path.split("/") == rule.path.split("/")


@concerns.register
def _(rule: RequireDir, path: str) -> bool:
    segments, above = path.split("/"), rule.path.split("/")
    return len(segments) > len(above) and segments[: len(above)] == above


@concerns.register
def _(rule: RequireGlob | ForbidGlob | RequireTable, path: str) -> bool:
    return glob_matches(rule.pattern, path)


@holds.register
def _(_: RequireDir | RequireTable, counted: Mapping[str, int]) -> bool:
    return len(counted) >= 1


@holds.register
def _(rule: RequireFile, counted: Mapping[str, int]) -> bool:
    return len(counted) >= 1 and min(counted.values()) >= rule.min_bytes


@holds.register
def _(rule: RequireGlob, counted: Mapping[str, int]) -> bool:
    if min(counted.values(), default=rule.min_bytes) < rule.min_bytes:
        return False
    return len(counted) >= rule.min_count and (rule.max_count is None or len(counted) <= rule.max_count)


@holds.register
def _(_: ForbidGlob, counted: Mapping[str, int]) -> bool:
    return not counted


def glob_matches(pattern: str, path: str) -> bool:
    """Whether the pattern matches the complete path of a file."""
    return _matches(pattern.split("/"), path.split("/"))


def is_in_prefix(prefix: str, key: str) -> bool:
    """Whether the object `key` of the repository is a file of a workspace with this canonical prefix."""
    segments, above = key.split("/"), prefix.split("/") if prefix else []
    if segments[0] == "_lakefs_actions":
        return False
    return len(segments) > len(above) and segments[: len(above)] == above


def _matches(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Match segment by segment. `**` matches zero directories, or takes one directory and matches again."""
    if not pattern:
        return not path
    if not path:
        return False
    first, *rest = pattern
    if first == "**" and not rest:  # every file below
        return True
    if first == "**":
        return _matches(rest, path) or _matches(pattern, path[1:])
    return fnmatch.fnmatchcase(path[0], first) and _matches(rest, path[1:])


# -------------------------------------------------------------------------------------- tables


def is_table(rule: TableRule, content: bytes) -> bool:
    """Whether the rule accepts the table. A `schema` is ignored.

    Python's standard library reads the table, slowly and as documented for `require_table`. Only Parquet is read with
    pyarrow.
    """
    read = {Format.CSV: _read_csv, Format.JSONL: _read_jsonl, Format.PARQUET: _read_parquet}[rule.format]
    try:
        columns, rows = read(rule, content)
    except ValueError:
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


def _read_csv(rule: TableRule, content: bytes) -> tuple[dict[str, list[Any]], int]:
    lines = list(_csv_rows(content.decode("utf-8-sig"), rule.delimiter))
    names = [name or "" for name in lines[0]] if lines else []
    if not lines or any(len(line) != len(names) for line in lines):
        raise ValueError
    once = [name for name in names if names.count(name) == 1]
    return {name: [line[names.index(name)] for line in lines[1:]] for name in once}, len(lines) - 1


def _csv_rows(text: str, delimiter: str) -> Iterator[list[str | None]]:
    """Parse one character after the other. A line without characters is not a row. A field without characters and
    quotes is None."""
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
        raise ValueError
    if row or field or quoted:
        yield [*row, field if field or quoted else None]


# ---------------------------------------------------------------------------------- JSON Lines


def _read_jsonl(rule: TableRule, content: bytes) -> tuple[dict[str, list[Any]], int]:
    rows = [json.loads(line.decode(), parse_constant=_no_number) for line in content.split(b"\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError
    columns = {name: [row.get(name) for row in rows] for name in rule.needed}
    present = {name: values for name, values in columns.items() if not rows or any(v is not None for v in values)}
    return present, len(rows)


def _no_number(_: str) -> None:
    raise ValueError


# ------------------------------------------------------------------------------------- Parquet

_ARROW_TYPES: dict[ColumnType, tuple[str, ...]] = {
    ColumnType.INT: ("int", "uint"),
    ColumnType.FLOAT: ("float", "double", "halffloat"),
    ColumnType.STR: ("string", "large_string"),
    ColumnType.BOOL: ("bool",),
    ColumnType.BYTES: ("binary", "large_binary", "fixed_size_binary"),
    ColumnType.DATE: ("date",),
    ColumnType.DATETIME: ("timestamp",),
    ColumnType.DECIMAL: ("decimal",),
}


def _read_parquet(rule: TableRule, content: bytes) -> tuple[dict[str, list[Any]], int]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError):
        raise ValueError from None
    for name, kind in rule.columns:
        if name in table.column_names and kind is not ColumnType.ANY:
            word = str(table.schema.field(name).type)
            if word != "null" and not word.startswith(_ARROW_TYPES[kind]):
                raise ValueError
    return {name: table[name].to_pylist() for name in table.column_names}, table.num_rows


# --------------------------------------------------------------------------------------- types


_JSON_TYPES: Mapping[ColumnType, tuple[type, ...]] = {
    ColumnType.STR: (str,),
    ColumnType.BYTES: (str,),
    ColumnType.BOOL: (bool,),
    ColumnType.INT: (int,),
    ColumnType.FLOAT: (int, float),
}


def _is(kind: ColumnType, value: Any, form: Format) -> bool:
    if kind is ColumnType.ANY or (form is Format.CSV and kind in (ColumnType.STR, ColumnType.BYTES)):
        return True
    if form is Format.CSV:
        return _is_spelled(kind, value)
    if kind in _JSON_TYPES:
        return type(value) in _JSON_TYPES[kind]
    if kind is ColumnType.DECIMAL and type(value) in (int, float):
        return True
    return type(value) is str and _is_spelled(kind, value)


def _is_spelled(kind: ColumnType, text: str) -> bool:
    """Parse values with Python's constructors, but without their lenient forms."""
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
    if zone not in ("", "Z") and (zone[0] == "Z" or not _digits(zone[1:3], zone[3:].removeprefix(":"))):
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
