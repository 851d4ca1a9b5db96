"""Hypothesis strategies for tables near a `require_table`: some that it accepts, and some with something wrong. Needs
hypothesis, and pyarrow for Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from perago.guardrails.tables.rule import ColumnType, Format, TableRule

_MOST_ROWS = 6

_SPELLINGS: Mapping[ColumnType, Sequence[str]] = {
    ColumnType.INT: ("0", "1", "-7", "+8", "007", "9" * 30, "1.0", "0x10", "1_000", " 1", "1e3", "٣", "--1", "-"),
    ColumnType.FLOAT: ("1.5", "-0.25", ".5", "5.", "1e9", "1E-3", "nan", "-inf", "Infinity", "1", "1,5", "e5", "1_0.0"),
    ColumnType.DECIMAL: ("1.50", "-3", ".5", "5.", "1e3", "nan", "1_0"),
    ColumnType.BOOL: ("true", "false", "True", "FALSE", "1", "yes", "t"),
    ColumnType.DATE: (
        "2024-02-29",
        "2023-02-29",
        "2024-13-01",
        "2024-1-1",
        "20240101",
        "2024-01-01T00:00",
        "2024-W01-1",
    ),
    ColumnType.DATETIME: (
        "2024-02-29T23:59:59",
        "2024-02-29 23:59",
        "2024-02-29T23:59:59.123456789Z",
        "2024-02-29T23:59:59+05:30",
        "2024-02-29T23:59:59-0530",
        "2024-02-29",
        "2023-02-29T00:00:00",
        "2024-02-29T24:00:00",
        "2024-02-29T23",
        "2024-02-29T23:59:59.",
        "2024-02-29t23:59:59",
    ),
    ColumnType.STR: (
        "a",
        "",
        "Größe",
        "漢字",
        "a b",
        'say "x"',
        "a,b",
        "a;b",
        "two\nlines",
        "1",
        "NA",
        "null",
        "🙂",
        "'",
    ),
    ColumnType.BYTES: ("a", "b"),
    ColumnType.ANY: ("a", "1", ""),
}
_TYPICAL: Mapping[ColumnType, Sequence[Any]] = {
    ColumnType.INT: (0, 1, 2, -7, 2**31, 2**53 + 1),
    ColumnType.FLOAT: (1.5, -0.25, 1e9, 2, 0),
    ColumnType.DECIMAL: (1, 1.5, "1.50", "-3"),
    ColumnType.BOOL: (True, False),
    ColumnType.DATE: ("2024-02-29", "2024-03-01"),
    ColumnType.DATETIME: ("2024-02-29T23:59:59", "2024-02-29"),
    ColumnType.STR: ("a", "b", "", "Größe", "🙂", 'say "x"', "two\nlines", "2024-02-29", "1"),
    ColumnType.BYTES: ("a", "b"),
    ColumnType.ANY: (1, "a", [1], {"b": None}, True),
}
_ODD: Sequence[Any] = (1, 1.5, "x", True, [], {}, [1], {"a": 1}, 2**70, "2023-02-29", "")


def table_contents(rule: TableRule) -> st.SearchStrategy[bytes]:
    """Files for the rule. Half of them are near what it accepts."""
    return {Format.CSV: _csv, Format.JSONL: _jsonl, Format.PARQUET: _parquet}[rule.format](rule)


@st.composite
def _names(draw: st.DrawFn, rule: TableRule) -> list[str]:
    names = [
        *rule.needed,
        *draw(st.lists(st.sampled_from(("extra", "two\nlines", "a,b", "größe")), unique=True, max_size=2)),
    ]
    if draw(st.integers(0, 3)) or not names:
        return list(dict.fromkeys(names)) or ["extra"]
    change = draw(st.sampled_from(("drop", "double", "case", "blank", "order")))
    name = names[0]
    return {
        "drop": names[1:] or ["other"],
        "double": [*names, name],
        "case": [name.swapcase(), *names[1:]],
        "blank": [f" {name}", *names[1:]],
        "order": names[::-1],
    }[change]


def _value(rule: TableRule, name: str, pool: Mapping[ColumnType, Sequence[Any]]) -> st.SearchStrategy[Any]:
    kind = rule.types.get(name, ColumnType.STR)
    few = pool[kind][:4]
    return st.one_of(st.sampled_from(few), st.sampled_from(few), st.sampled_from([*pool[kind], None]))


@st.composite
def _csv(draw: st.DrawFn, rule: TableRule) -> bytes:
    names = draw(_names(rule))
    number = draw(st.integers(0, _MOST_ROWS))
    body = [[draw(_value(rule, name, _SPELLINGS)) for name in names] for _ in range(number)]
    rows: list[list[Any]] = [list(names), *body]
    oddity = draw(
        st.sampled_from(("", "", "", "", "", "long", "short", "blank", "latin", "bom", "delimiter", "nothing"))
    )
    if oddity == "long":
        rows[-1].append("1")
    elif oddity == "short" and len(rows[-1]) > 1:
        rows[-1].pop()
    elif oddity == "blank":
        rows.insert(draw(st.integers(0, len(rows))), [])
    delimiter = ";" if oddity == "delimiter" and rule.delimiter != ";" else rule.delimiter
    quotes = draw(st.sampled_from(("needed", "all")))
    line_end = draw(st.sampled_from(("\n", "\r\n")))
    text = line_end.join(delimiter.join(_field(value, delimiter, quotes) for value in row) for row in rows)
    text += draw(st.sampled_from((line_end, "")))
    data = b"" if oddity == "nothing" else text.encode()
    return {"latin": data + b"\xff\n", "bom": b"\xef\xbb\xbf" + data}.get(oddity, data)


def _field(value: str | None, delimiter: str, quotes: str) -> str:
    if value is None:
        return ""
    if quotes == "all" or value == "" or any(char in value for char in f'"\r\n{delimiter}'):
        doubled = value.replace('"', '""')
        return f'"{doubled}"'
    return value


@st.composite
def _jsonl(draw: st.DrawFn, rule: TableRule) -> bytes:
    lines = []
    for _ in range(draw(st.integers(0, _MOST_ROWS))):
        row = {name: draw(_value(rule, name, _TYPICAL)) for name in rule.needed}
        change = draw(st.sampled_from(("", "", "", "", "odd", "drop", "extra")))
        if change == "odd" and row:
            row[next(iter(row))] = draw(st.sampled_from(_ODD))
        elif change == "drop" and row:
            del row[draw(st.sampled_from(sorted(row)))]
        elif change == "extra":
            row["extra"] = draw(st.sampled_from(_ODD))
        lines.append(json.dumps(row, ensure_ascii=draw(st.booleans())).encode())
    if not draw(st.integers(0, 4)):
        odd = (b"", b"  ", b"[1]", b"1", b"{", b'{"a": NaN}', b'{"a": "\xff"}', b"{} {}", b'{"a":1,"a":2}')
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(odd)))
    return b"\n".join(lines) + draw(st.sampled_from((b"\n", b"")))


@st.composite
def _parquet(draw: st.DrawFn, rule: TableRule) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet

    kinds = {
        ColumnType.INT: (pa.int64(), pa.int8(), pa.uint32()),
        ColumnType.FLOAT: (pa.float64(), pa.float32()),
        ColumnType.STR: (pa.string(), pa.large_string()),
        ColumnType.BOOL: (pa.bool_(),),
        ColumnType.BYTES: (pa.binary(),),
        ColumnType.DATE: (pa.date32(),),
        ColumnType.DATETIME: (pa.timestamp("us"), pa.timestamp("ms", "UTC")),
        ColumnType.DECIMAL: (pa.decimal128(10, 2),),
        ColumnType.ANY: (pa.int64(),),
    }
    every = [each for group in kinds.values() for each in group]
    rows = draw(st.integers(0, _MOST_ROWS))
    names = list(dict.fromkeys(draw(_names(rule))))
    arrays = []
    for name in names:
        mostly = st.sampled_from(kinds[rule.types.get(name, ColumnType.ANY)])
        kind = draw(mostly) if draw(st.integers(0, 7)) else draw(st.sampled_from(every))
        numbers = draw(st.lists(st.sampled_from((*range(rows + 2), None)), min_size=rows, max_size=rows))
        arrays.append(_array(numbers if draw(st.booleans()) else list(range(rows)), kind))
    sink = io.BytesIO()
    pyarrow.parquet.write_table(
        pa.table(arrays, names=names),
        sink,
        row_group_size=draw(st.sampled_from((1, 2, 100))),
        write_statistics=draw(st.booleans()),
    )
    data = sink.getvalue()
    return data[: draw(st.integers(0, len(data) - 1))] if not draw(st.integers(0, 9)) else data


def _array(numbers: Sequence[int | None], kind: Any) -> Any:
    import pyarrow as pa

    texts = [None if number is None else str(number) for number in numbers]
    if pa.types.is_binary(kind):
        return pa.array([None if text is None else text.encode() for text in texts], kind)
    if pa.types.is_boolean(kind):
        return pa.array([None if number is None else number % 2 == 0 for number in numbers], kind)
    if pa.types.is_date(kind):
        return pa.array(numbers, pa.int32()).cast(kind)
    if pa.types.is_timestamp(kind):
        return pa.array(numbers, pa.int64()).cast(kind)
    if pa.types.is_decimal(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.array(texts, pa.string()).cast(kind)
    return pa.array(numbers, kind)
