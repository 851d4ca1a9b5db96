"""Small tables that a rule accepts, and tables that it refuses for one reason each. Generated trees hold them."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perago.guardrails.tables import ColumnType, Format, TableRule

_FILLER = "filled"
"""A column that is not declared: a CSV row without any text would be no row."""
_MOST_ROWS = 10_000
_DAY = datetime.date(2024, 1, 1)


@dataclass(frozen=True, slots=True)
class _Table:
    names: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def without(self, name: str) -> _Table:
        kept = [index for index, each in enumerate(self.names) if each != name]
        return _Table(
            tuple(self.names[index] for index in kept),
            tuple(tuple(row[index] for index in kept) for row in self.rows),
        )

    def with_value(self, name: str, row: int, value: object) -> _Table:
        column = self.names.index(name)
        changed = (*self.rows[row][:column], value, *self.rows[row][column + 1 :])
        return replace(self, rows=(*self.rows[:row], changed, *self.rows[row + 1 :]))

    def cut(self, rows: int) -> _Table:
        return replace(self, rows=self.rows[:rows])


def can_be_made(rule: TableRule) -> bool:
    """Whether what the rule accepts is known, and small enough for a test."""
    return rule.schema is None and (rule.min_rows or 0) <= _MOST_ROWS


def good_table(rule: TableRule) -> str | bytes:
    """A smallest table that the rule accepts, with a row where that may be."""
    return _written(_table(rule, _fewest(rule)), rule)


def spoiled_tables(rule: TableRule) -> Mapping[str, str | bytes]:
    """Tables that the rule refuses, by what is wrong with them."""
    return {name: _written(table, rule) for name, table in _spoiled(rule)} | {"broken": _BROKEN[rule.format]}


_BROKEN: Mapping[Format, str | bytes] = {
    Format.CSV: "",
    Format.PARQUET: b"PAR1 and no footer",
    Format.JSONL: '{"broken": \n',
}


def _spoiled(rule: TableRule) -> Iterator[tuple[str, _Table]]:
    fewest, most = _fewest(rule), rule.max_rows
    table = _table(rule, fewest)
    if rule.needed and (fewest or rule.format is not Format.JSONL):
        yield "no-column", table.without(rule.needed[0])
    typed = [name for name, kind in rule.columns if _wrong(kind, rule.format) is not None]
    if typed and (fewest or rule.format is Format.PARQUET):
        yield "wrong-type", _with_wrong_type(table, typed[0], rule)
    if rule.min_rows:
        yield "too-few-rows", table.cut(rule.min_rows - 1)
    if most is not None and most < _MOST_ROWS:
        yield "too-many-rows", _table(rule, most + 1)
    if rule.unique and (most is None or most > 1):
        double = _table(rule, max(2, fewest))
        for name in rule.unique:
            double = double.with_value(name, 1, double.rows[0][double.names.index(name)])
        yield "duplicate", double
    if rule.not_null and fewest:
        # The last row, so that in JSON Lines another has a value where there are several.
        yield "null", table.with_value(rule.not_null[0], len(table.rows) - 1, None)


def _fewest(rule: TableRule) -> int:
    """Rows of the smallest table that shows the types of its columns."""
    least = rule.min_rows if rule.min_rows is not None else 1
    return max(least, 1) if rule.max_rows != 0 else 0


def _table(rule: TableRule, rows: int) -> _Table:
    names = (*rule.needed, next(_fresh(rule)))
    types = rule.types
    kinds = [types.get(name, ColumnType.INT) for name in names]
    return _Table(names, tuple(tuple(_value(kind, row) for kind in kinds) for row in range(rows)))


def _fresh(rule: TableRule) -> Iterator[str]:
    name = _FILLER
    while True:
        if name not in rule.needed:
            yield name
        name += "_"


def _value(kind: ColumnType, row: int) -> Any:
    """A value of the type; another for each row where the type has so many."""
    match kind:
        case ColumnType.FLOAT:
            return row + 0.5
        case ColumnType.STR:
            return f"text {row}"
        case ColumnType.BOOL:
            return row % 2 == 0
        case ColumnType.BYTES:
            return b"%d" % row
        case ColumnType.DATE:
            return _DAY + datetime.timedelta(days=row)
        case ColumnType.DATETIME:
            return datetime.datetime(2024, 1, 1) + datetime.timedelta(seconds=row)  # noqa: DTZ001 - as a file has it
        case ColumnType.DECIMAL:
            return decimal.Decimal(row) + decimal.Decimal("0.25")
    return row + 1


def _wrong(kind: ColumnType, form: Format) -> Any:
    """A value of another type; None if the type takes them all."""
    if kind is ColumnType.ANY or (form is Format.CSV and kind in (ColumnType.STR, ColumnType.BYTES)):
        return None
    if form is Format.CSV:
        return "n/a"
    return (
        1
        if kind in (ColumnType.STR, ColumnType.BYTES, ColumnType.DATE, ColumnType.DATETIME, ColumnType.BOOL)
        else "n/a"
    )


def _with_wrong_type(table: _Table, name: str, rule: TableRule) -> _Table:
    """In Parquet the whole column is of another type; elsewhere the last value is."""
    wrong = _wrong(rule.types[name], rule.format)
    if rule.format is not Format.PARQUET:
        return table.with_value(name, len(table.rows) - 1, wrong)
    for row in range(len(table.rows)):
        table = table.with_value(name, row, wrong)
    return table


def _written(table: _Table, rule: TableRule) -> str | bytes:
    match rule.format:
        case Format.CSV:
            return _csv(table, rule.delimiter)
        case Format.JSONL:
            return "".join(f"{json.dumps(_json_row(table.names, row))}\n" for row in table.rows)
    return _parquet(table, rule)


def _csv(table: _Table, delimiter: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(table.names)
    writer.writerows([[_text(value) for value in row] for row in table.rows])
    return text.getvalue()


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return "" if value is None else value.isoformat() if isinstance(value, datetime.date) else str(value)


def _json_row(names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, str | int | float | None) else _text(value)
        for name, value in zip(names, row, strict=True)
    }


def _parquet(table: _Table, rule: TableRule) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet

    types = {
        ColumnType.FLOAT: pa.float64(),
        ColumnType.STR: pa.string(),
        ColumnType.BOOL: pa.bool_(),
        ColumnType.BYTES: pa.binary(),
        ColumnType.DATE: pa.date32(),
        ColumnType.DATETIME: pa.timestamp("us"),
        ColumnType.DECIMAL: pa.decimal128(20, 2),
    }
    arrays = []
    for index, name in enumerate(table.names):
        values = [row[index] for row in table.rows]
        kind = types.get(rule.types.get(name, ColumnType.INT), pa.int64())
        try:
            arrays.append(pa.array(values, kind))
        except (pa.ArrowException, TypeError):  # it is a column of the wrong type
            arrays.append(pa.array(values))
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(arrays, names=list(table.names)), sink)
    return sink.getvalue()
