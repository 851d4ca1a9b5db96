"""Mutations of tables and documents: CSV, JSON, JSON Lines and Parquet. The import of this module adds them to the
catalog."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from pytest_perago.kinds.robust.mutations import BOM, CSV, LINES, Change, Tree, entry

# --------------------------------------------------------------------------------------------------- CSV

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def kind_of(values: Iterable[str]) -> str:
    """Return the kind of the values of a column: `integer`, `number`, `date`, `text`; empty if it has no values."""
    filled = [value for value in values if value]
    if not filled:
        return ""
    if all(_NUMBER.fullmatch(value) for value in filled):
        return "integer" if all(re.fullmatch(r"[+-]?\d+", value) for value in filled) else "number"
    return "date" if all(_DATE.match(value) for value in filled) else "text"


class Csv:
    """A CSV file with a header. Lines that no change touches keep their bytes."""

    def __init__(self, path: str, content: bytes) -> None:
        self.path = path
        text = content.removeprefix(BOM).decode()
        first = text.partition("\n")[0]
        self.delimiter: str = max(",;\t|", key=first.count) if any(mark in first for mark in ",;\t|") else ","
        self.ends = "\r\n" if first.endswith("\r") else "\n"
        self.lines: list[str] = _records(text)
        rows = [next(csv.reader([line], delimiter=self.delimiter), []) for line in self.lines]
        self.header: list[str] = rows[0] if rows else []
        self.rows: list[list[str]] = rows[1:]

    @classmethod
    def read(cls, tree: Tree, path: str) -> Csv | None:
        """Read a table. Return None if the file is not CSV with columns."""
        try:
            table = cls(path, tree[path])
        except (UnicodeDecodeError, csv.Error):
            return None
        return table if table.header else None

    def kind(self, column: int) -> str:
        """The kind of a column."""
        return kind_of(row[column] for row in self.rows if column < len(row))

    def line(self, cells: Sequence[str]) -> str:
        """Return a row as a line."""
        target = io.StringIO()
        csv.writer(target, delimiter=self.delimiter, lineterminator=self.ends).writerow(cells)
        return target.getvalue()

    def with_lines(self, defect: str, lines: Iterable[str], column: str = "") -> Change:
        """Return the change that leaves these lines."""
        return Change(defect, {self.path: "".join(lines).encode()}, column)

    def with_row(self, defect: str, index: int, cells: Sequence[str], column: str = "") -> Change:
        """Return the change of one row. Rows are counted from 0, without the header."""
        return self.with_lines(defect, [*self.lines[: index + 1], self.line(cells), *self.lines[index + 2 :]], column)

    def mapped(self, defect: str, edit: Callable[[list[str], int], Sequence[str]], column: str = "") -> Change:
        """Return the change of all rows. `edit` gets the cells and the number of the line, which is 0 for the
        header."""
        rows = [self.header, *self.rows]
        return self.with_lines(defect, [self.line(edit(list(row), number)) for number, row in enumerate(rows)], column)

    def with_column(self, defect: str, column: int, edit: Callable[[str, int], str]) -> Change:
        """Return the change of one column, whose name follows the defect. `edit` gets each cell and the number of its
        line."""
        name = self.header[column]

        def edited(row: list[str], line: int) -> list[str]:
            return [edit(cell, line) if number == column else cell for number, cell in enumerate(row)]

        return self.mapped(f"{defect} {name!r}", edited, name)


def _records(text: str) -> list[str]:
    """Split a CSV file into records with their line ends. A record may contain line ends within quotes."""
    records: list[str] = []
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if pending.count('"') % 2 == 0:
            records.append(pending)
            pending = ""
    if pending:
        records.append(pending)
    if records and not records[-1].endswith("\n"):
        records[-1] += "\n"
    return [record for record in records if record.strip("\r\n")]


def _on_csv(label: str, level: int) -> Callable[[Callable[[Csv], Iterable[Change]]], object]:
    def register(find: Callable[[Csv], Iterable[Change]]) -> object:
        def operator(tree: Tree, path: str) -> Iterable[Change]:
            table = Csv.read(tree, path)
            return find(table) if table is not None and table.rows else ()

        return entry(label, level, *CSV)(operator)

    return register


@_on_csv("header-only", 1)
def _header_only(table: Csv) -> Iterator[Change]:
    yield table.with_lines("has a header and no rows", table.lines[:1])


@_on_csv("one-row", 1)
def _one_row(table: Csv) -> Iterator[Change]:
    if len(table.rows) > 1:
        yield table.with_lines("has one row", table.lines[:2])


@_on_csv("semicolon", 1)
def _semicolon(table: Csv) -> Iterator[Change]:
    other = ";" if table.delimiter == "," else ","
    if len(table.header) > 1:
        target = io.StringIO()
        csv.writer(target, delimiter=other, lineterminator=table.ends).writerows([table.header, *table.rows])
        yield Change(f"is delimited by {other!r}", {table.path: target.getvalue().encode()})


@_on_csv("decimal-comma", 1)
def _decimal_comma(table: Csv) -> Iterator[Change]:
    for column in range(len(table.header)):
        if table.kind(column) == "number":
            defect = "has numbers with a comma in column"
            yield table.with_column(defect, column, lambda cell, _: cell.replace(".", ","))


@_on_csv("extra-column", 1)
def _extra_column(table: Csv) -> Iterator[Change]:
    yield table.mapped("has an extra column, 'note'", lambda row, line: [*row, "x" if line else "note"])


@_on_csv("reordered", 1)
def _reordered(table: Csv) -> Iterator[Change]:
    if len(table.header) > 1:
        yield table.mapped("has its columns in a different order", lambda row, _: row[::-1])


@_on_csv("missing-column", 1)
def _missing_column(table: Csv) -> Iterator[Change]:
    if len(table.header) > 1:
        for column, name in reversed(list(enumerate(table.header))):
            yield table.mapped(
                f"has no column {name!r}",
                lambda row, _, column=column: [*row[:column], *row[column + 1 :]],  # type: ignore[misc]
                name,
            )


def _headed(defect: str, edit: Callable[[list[str]], list[str]]) -> Callable[[Csv], Iterator[Change]]:
    def find(table: Csv) -> Iterator[Change]:
        yield table.with_lines(defect, [table.line(edit(table.header)), *table.lines[1:]])

    return find


_on_csv("header-case", 2)(_headed("has its header in upper case", lambda names: [name.swapcase() for name in names]))
_on_csv("header-space", 2)(_headed("has blanks in its header", lambda names: [f" {name}" for name in names]))
_on_csv("duplicate-header", 2)(_headed("has two columns with one name", lambda names: [*names[:-1], names[0]]))


@_on_csv("duplicate-row", 1)
def _duplicate_row(table: Csv) -> Iterator[Change]:
    yield table.with_lines("has a duplicate row", [*table.lines, table.lines[-1]])


@_on_csv("same-key", 1)
def _same_key(table: Csv) -> Iterator[Change]:
    if len(table.rows) > 1 and len(table.header) > 1 and table.rows[1]:
        cells = [table.rows[0][0] if table.rows[0] else "", *table.rows[1][1:]]
        yield table.with_row(f"has two rows with the same {table.header[0]!r}", 1, cells, table.header[0])


@_on_csv("unsorted", 1)
def _unsorted(table: Csv) -> Iterator[Change]:
    yield table.with_lines("has its rows in a different order", [table.lines[0], *table.lines[:0:-1]])


@_on_csv("ragged-long", 2)
def _ragged_long(table: Csv) -> Iterator[Change]:
    yield table.with_row("has a row with an extra cell", len(table.rows) - 1, [*table.rows[-1], "x"])


@_on_csv("ragged-short", 2)
def _ragged_short(table: Csv) -> Iterator[Change]:
    if len(table.rows[-1]) > 1:
        yield table.with_row("has a row with one cell fewer", len(table.rows) - 1, table.rows[-1][:-1])


@_on_csv("all-empty-column", 1)
def _all_empty(table: Csv) -> Iterator[Change]:
    for column in reversed(range(len(table.header))):
        yield table.with_column("has no value in column", column, lambda cell, line: "" if line else cell)


@_on_csv("one-distinct-value", 1)
def _one_value(table: Csv) -> Iterator[Change]:
    defect, first = "has the same value everywhere in column", table.rows[0]
    for column in range(len(table.header)):
        if len(table.rows) > 1 and all(column < len(row) for row in table.rows):
            yield table.with_column(defect, column, lambda cell, line, value=first[column]: value if line else cell)  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class Value:
    """A value that takes the place of another one: in a cell of a CSV file, or in a JSON document.

    `kinds` are the kinds of values that it replaces. `in_json` and `in_csv` make the new value from the old one; None:
    the format has no such value.
    """

    label: str
    level: int
    kinds: tuple[str, ...]
    defect: str
    in_csv: Callable[[str], str] | None
    in_json: Callable[[Any], Any] | None


_NUMERIC = ("integer", "number")
_ANY = (*_NUMERIC, "date", "text")


def _constant(text: str) -> Callable[[Any], str]:
    return lambda _: text


def _moved_to(day: str) -> Callable[[Any], str]:
    return lambda text: f"{day}{text[10:]}"


_TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(Z|[+-]\d\d:?\d\d)?")


def _zone_toggled(text: str) -> str:
    """Return a time without its zone, or with one if it has none."""
    time = _TIME.fullmatch(text)
    if time is None:
        return text
    return time[1] if time[2] else f"{time[1]}+00:00"


VALUES = (
    Value("empty-number", 1, _NUMERIC, "an empty cell", _constant(""), None),
    Value("empty-text", 1, ("text", "date"), "an empty text", _constant(""), _constant("")),
    Value("zero", 1, _NUMERIC, "0", _constant("0"), lambda _: 0),
    Value(
        "negative",
        1,
        _NUMERIC,
        "a negative number",
        lambda cell: "-" + (cell.lstrip("+-") if cell.strip("+-0.") else "1"),
        lambda value: -abs(value) or -1,
    ),
    Value("nan", 1, _NUMERIC, "nan", _constant("nan"), None),
    Value("other-text", 1, ("text",), "another text", lambda text: text[::-1], lambda text: text[::-1]),
    Value("na-text", 1, ("text",), "the text 'NA'", _constant("NA"), _constant("NA")),
    Value("unicode", 1, ("text",), "letters beyond ASCII", _constant("Größe 🙂"), _constant("Größe 🙂")),
    Value("quoted-delimiter", 1, ("text",), "a delimiter within quotes", lambda cell: f"{cell}, {cell};\t{cell}", None),
    Value("quoted-newline", 1, ("text",), "a line end within quotes", lambda cell: f"{cell}\n{cell}", None),
    Value("doubled-quote", 1, ("text",), "a quote", lambda cell: f'{cell} "{cell}"', lambda text: f'{text} "{text}"'),
    Value("null", 1, ("text", "date"), "null", None, lambda _: None),
    Value("null-number", 1, _NUMERIC, "null", None, lambda _: None),
    Value(
        "int-for-float", 1, ("number",), "an integer", None, lambda value: int(value) if math.isfinite(value) else value
    ),
    Value("inf", 2, _NUMERIC, "inf", _constant("inf"), None),
    Value("exponent", 2, _NUMERIC, "a number with an exponent", _constant("1e3"), None),
    Value("leading-zero", 2, _NUMERIC, "a leading zero", lambda cell: f"0{cell}", None),
    Value("wide-int", 2, ("integer",), "2**63", _constant(str(2**63)), lambda _: 2**63),
    Value("date-edge", 2, ("date",), "a leap day", _moved_to("2024-02-29"), _moved_to("2024-02-29")),
    Value("mixed-zones", 2, ("date",), "a time with another kind of zone", _zone_toggled, _zone_toggled),
    Value("slash-in-text", 2, ("text",), "'../../x'", _constant("../../x"), _constant("../../x")),
    Value("dots", 2, ("text",), "'..'", _constant(".."), _constant("..")),
    Value("long-text", 2, ("text",), "a text of 300 characters", _constant("x" * 300), _constant("x" * 300)),
    Value("string-for-number", 2, _NUMERIC, "a text, not a number", None, str),
    Value("bool-for-number", 2, _NUMERIC, "true, not a number", None, lambda _: True),
    Value("nested", 2, ("text",), "an object, not a text", None, lambda value: {"value": value}),
    Value("list-for-scalar", 2, _ANY, "a list", None, lambda value: [value]),
    Value("date-far", 3, ("date",), "the year 9999", _moved_to("9999-12-31"), _moved_to("9999-12-31")),
    Value("formula", 3, ("text",), "a formula", _constant("=1+1"), _constant("=1+1")),
    Value("lone-surrogate", 3, ("text",), "half of a surrogate pair", None, _constant("\ud800")),
)
"""Values that replace others, the routine ones first."""


def _on_cells(value: Value) -> Callable[[Csv], Iterator[Change]]:
    def find(table: Csv) -> Iterator[Change]:
        columns = [column for column in range(len(table.header)) if table.kind(column) in value.kinds]
        last = len(table.rows) - 1
        for column, index in dict.fromkeys(
            [*((column, 0) for column in columns), *((column, last) for column in columns)]
        ):
            row = table.rows[index]
            if column < len(row) and value.in_csv is not None:
                cells = [*row[:column], value.in_csv(row[column]), *row[column + 1 :]]
                name = table.header[column]
                yield table.with_row(f"has {value.defect} in column {name!r}, row {index + 1}", index, cells, name)

    return find


# -------------------------------------------------------------------------------------- JSON and JSON Lines

Keys: TypeAlias = "tuple[str | int, ...]"


def _nodes(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Yield the values of a document with their places, outer values first."""
    yield keys, value
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in inner:
        yield from _nodes(item, (*keys, key))


def _replaced(value: Any, keys: Keys, edit: Callable[[Any], Any]) -> Any:
    if not keys:
        return edit(value)
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[keys[0]] = _replaced(value[keys[0]], keys[1:], edit)
    return copy


def _json_kind(value: Any) -> str:
    if isinstance(value, bool | None):
        return ""
    if isinstance(value, int | float):
        return "integer" if isinstance(value, int) else "number"
    return ("date" if _DATE.match(value) else "text") if isinstance(value, str) and value else ""


Documents: TypeAlias = "Iterator[tuple[Any, str, Callable[[Any], bytes]]]"
"""Yield the documents of a file, their places, and a function that replaces the document in the file."""


def _documents(tree: Tree, path: str) -> Documents:
    try:
        if PurePosixPath(path).suffix.lower() not in LINES:
            indent = 2 if b"\n" in tree[path].strip() else None

            def rewritten(value: Any) -> bytes:
                return (json.dumps(value, indent=indent) + "\n").encode("utf-8", "surrogatepass")

            yield json.loads(tree[path]), "", rewritten
            return
        lines = tree[path].splitlines(keepends=True)
        for index in dict.fromkeys((0, len(lines) - 1)):
            before, after = b"".join(lines[:index]), b"".join(lines[index + 1 :])
            yield (
                json.loads(lines[index]),
                f", line {index + 1}",
                lambda value, before=before, after=after: before + json.dumps(value).encode() + b"\n" + after,  # type: ignore[misc]
            )
    except (ValueError, IndexError):  # not JSON
        return


def _on_json(
    label: str, level: int, defect: str, fits: Callable[[Any], bool], edits: Callable[[Any], Iterable[tuple[str, Any]]]
) -> None:
    """Add a mutation of each value that `fits`. `edits` yields the touched key and the new value."""

    def operator(tree: Tree, path: str) -> Iterator[Change]:
        for document, where, made in _documents(tree, path):
            for keys, value in _nodes(document):
                for key, new in edits(value) if fits(value) else ():
                    changed = (*keys, key) if key else keys
                    place = "/".join(map(str, changed)) or "document"
                    content = made(_replaced(document, keys, lambda _, new=new: new))  # type: ignore[misc]
                    name = key or next((str(step) for step in reversed(keys) if isinstance(step, str)), "")
                    yield Change(f"has {defect.format(place=place)}{where}", {path: content}, name, changed)

    entry(label, level, ".json", *LINES)(operator)


def _filled(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind) and bool(value)


_on_json(
    "missing-key",
    1,
    "no key {place}",
    _filled(dict),
    lambda value: [(key, {name: item for name, item in value.items() if name != key}) for key in reversed(value)],
)
_on_json(
    "extra-key", 1, "an extra key, 'note', in {place}", _filled(dict), lambda value: [("", {**value, "note": "x"})]
)
_on_json(
    "key-order",
    1,
    "its keys in a different order in {place}",
    lambda value: isinstance(value, dict) and len(value) > 1,
    lambda value: [("", dict(reversed(value.items())))],
)
_on_json("empty-list", 1, "an empty list at {place}", _filled(list), lambda _: [("", [])])
_on_json("empty-object", 1, "an empty object at {place}", _filled(dict), lambda _: [("", {})])
_on_json("NaN-literal", 2, "NaN at {place}", lambda value: _json_kind(value) in _NUMERIC, lambda _: [("", math.nan)])


def _add_values() -> None:
    for value in VALUES:
        if value.in_csv is not None:
            _on_csv(value.label, value.level)(_on_cells(value))
        if value.in_json is not None:
            edit, kinds = value.in_json, value.kinds
            _on_json(
                value.label,
                value.level,
                f"{value.defect} at {{place}}",
                lambda value, kinds=kinds: _json_kind(value) in kinds,  # type: ignore[misc]
                lambda value, edit=edit: [("", edit(value))],  # type: ignore[misc]
            )


_add_values()


def _on_lines(label: str, defect: str, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    """Add a mutation of the lines of a JSON Lines file."""

    def operator(tree: Tree, path: str) -> Iterator[Change]:
        lines = [line.rstrip(b"\r\n") + b"\n" for line in tree[path].splitlines() if line.strip()]
        if lines:
            yield Change(defect, {path: b"".join(edit(lines))})

    entry(label, 1, *LINES)(operator)


_on_lines("one-row", "has one line", lambda lines: lines[:1])
_on_lines("duplicate-row", "has a duplicate line", lambda lines: [*lines, lines[-1]])
_on_lines("unsorted", "has its lines in a different order", lambda lines: lines[::-1])


# ------------------------------------------------------------------------------------------------- Parquet


def _arrow() -> Any:
    import pyarrow
    import pyarrow.parquet

    return pyarrow


Tables: TypeAlias = "Iterable[tuple[str, Any, str]]"
"""The description, the new table, and the changed column."""


def _on_parquet(label: str, find: Callable[[Any], Tables]) -> None:
    """Add a mutation of a Parquet file. Without pyarrow, Parquet files are not changed."""

    def operator(tree: Tree, path: str) -> Iterator[Change]:
        try:
            arrow = _arrow()
        except ImportError:
            return
        try:
            table = arrow.parquet.read_table(arrow.BufferReader(tree[path]))
            for defect, changed, column in find(table):
                target = arrow.BufferOutputStream()
                rows = max(1, changed.num_rows // 2) if label == "row-groups" else None
                arrow.parquet.write_table(changed, target, row_group_size=rows)
                yield Change(defect, {path: target.getvalue().to_pybytes()}, column)
        except (arrow.ArrowException, IndexError, ValueError, TypeError, OSError):  # no Parquet, or no such form
            return

    entry(label, 1, ".parquet")(operator)


def _on_table(label: str, defect: str, made: Callable[[Any], Any]) -> None:
    """Add a mutation of the complete table, from which `made` makes another one."""
    _on_parquet(label, lambda table: [(defect, made(table), "")])


def _on_column(label: str, defect: str, fits: Callable[[Any], bool], made: Callable[[Any], Any]) -> None:
    """Add a mutation of one column. `fits` gets its type; `made` gets its values as an array, and returns a new
    array."""

    def find(table: Any) -> Tables:
        for number, field in enumerate(table.schema):
            if fits(field.type):
                values = made(table.column(number).combine_chunks())
                changed = table.set_column(number, _arrow().field(field.name, values.type), values)
                yield defect.format(name=repr(field.name)), changed, field.name

    _on_parquet(label, find)


def _first_is(value: Any) -> Callable[[Any], Any]:
    return lambda array: _arrow().array([value, *array.to_pylist()[1:]][: len(array)], array.type)


def _is_integer(kind: Any) -> bool:
    return bool(_arrow().types.is_integer(kind))


def _is_floating(kind: Any) -> bool:
    return bool(_arrow().types.is_floating(kind))


def _is_text(kind: Any) -> bool:
    return bool(_arrow().types.is_string(kind))


def _is_time(kind: Any) -> bool:
    return bool(_arrow().types.is_timestamp(kind))


def _with_zone_toggled(array: Any) -> Any:
    return array.cast(_arrow().timestamp(array.type.unit, tz=None if array.type.tz else "UTC"))


def _narrow(array: Any) -> Any:
    return array.cast("int32" if _is_integer(array.type) else "float32", safe=False)


def _with_note(table: Any) -> Any:
    return table.append_column("note", _arrow().array(["x"] * table.num_rows))


def _with_duplicate_row(table: Any) -> Any:
    return _arrow().concat_tables([table, table.slice(table.num_rows - 1)])


def _without_columns(table: Any) -> Tables:
    for name in table.column_names[::-1] if table.num_columns > 1 else ():
        yield f"has no column {name!r}", table.drop_columns([name]), name


_NULL = "has a null in column {name}, row 1"

_on_table("zero-rows", "has no rows", lambda table: table.slice(0, 0))
_on_table("one-row", "has one row", lambda table: table.slice(0, 1))
_on_column("nulls", _NULL, lambda kind: not _is_integer(kind), _first_is(None))
_on_column("int-nulls", _NULL, _is_integer, _first_is(None))
_on_column(
    "null-type", "has only nulls, of the type null, in column {name}", bool, lambda array: _arrow().nulls(len(array))
)
_on_column("narrow", "has 32 bits in column {name}", lambda kind: str(kind) in ("int64", "double"), _narrow)
_on_column(
    "mixed-zones", "has times of another kind, with or without a zone, in column {name}", _is_time, _with_zone_toggled
)
_on_column("dictionary", "has categories in column {name}", _is_text, lambda array: array.dictionary_encode())
_on_column(
    "large-string", "has the type large_string in column {name}", _is_text, lambda array: array.cast("large_string")
)
_on_column("empty-text", "has an empty text in column {name}, row 1", _is_text, _first_is(""))
_on_table("reordered", "has its columns in a different order", lambda table: table.select(table.column_names[::-1]))
_on_table("extra-column", "has an extra column, 'note'", _with_note)
_on_parquet("missing-column", _without_columns)
_on_table("row-groups", "has several row groups", lambda table: table)
_on_table("unsorted", "has its rows in a different order", lambda table: table.take(list(range(table.num_rows))[::-1]))
_on_table("duplicate-row", "has a duplicate row", _with_duplicate_row)
_on_column("nan", "has nan in column {name}, row 1", _is_floating, _first_is(math.nan))
_on_column("zero", "has 0 in column {name}, row 1", lambda kind: _is_integer(kind) or _is_floating(kind), _first_is(0))
