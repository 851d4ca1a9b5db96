"""Read the tables of `require_table` in batches and check them; needs pyarrow.

Repeated keys are found in limited memory. Many keys are split by their hash into temporary files, which together are
about as large as the keys.

Arrow reads blocks that are as declared. If Arrow fails, Python reads the block again and finds the row.
"""

from __future__ import annotations

import codecs
import csv
import datetime
import io
import json
import re
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.ipc
import pyarrow.json
import pyarrow.parquet

from perago.guardrails.evaluation import GuardrailDefect
from perago.guardrails.table_rule import ColumnType, Format, TableRule
from perago.text import count, one_line, quoted, size, strict_json
from perago.workspace.file_types import delimited_rows

KEY_MEMORY = 48 * 1024 * 1024
"""Bytes of keys in memory."""
KEY_PARTS = 64


def check_table(file: BinaryIO, rule: TableRule) -> list[str]:
    """Return the problems of one table, in words that name columns and rows, and values only if the rule allows it.

    Args:
        file: the table, at its beginning.
        rule: the declaration.

    Raises:
        OSError: the disk failed.
        GuardrailDefect: a model of the author that is not a model.
    """
    readers = {Format.CSV: read_csv, Format.PARQUET: read_parquet, Format.JSONL: read_jsonl}
    with closing(Checks(rule)) as checks:
        try:
            readers[rule.format](file, rule, checks)
        except Unreadable as problem:
            return [*checks.problems, str(problem)]
        problems = checks.end()
    if not problems and rule.schema is not None:
        file.seek(0)
        problems = check_model(file, rule)
    return problems


class Keys:
    """The keys of a table, in the order of its rows. Close it: it may have files."""

    def __init__(self, *, memory_limit: int = KEY_MEMORY) -> None:
        """`memory_limit`: the number of bytes that stay in memory."""
        self._memory_limit = memory_limit
        self._tables: list[Any] = []
        self._size = 0
        self._rows = 0
        self._files = ExitStack()
        self._parts: list[tuple[Path, Any]] = []

    def close(self) -> None:
        """Remove the files."""
        self._files.close()

    def add(self, columns: list[Any]) -> None:
        """Add the keys of the next rows, one array for each column."""
        numbers = pa.array(range(self._rows, self._rows + len(columns[0])), pa.int64())
        self._rows += len(numbers)
        # as text, because NaN is not equal to itself; plain arrays have the same type in each batch
        plain = [column.cast(pa.string()) if pa.types.is_floating(column.type) else column for column in columns]
        table = pa.table([*plain, numbers], names=[*map(str, range(len(plain))), "row"])
        self._tables.append(table.drop_null() if any(column.null_count for column in columns) else table)
        self._size += table.nbytes
        if self._size > self._memory_limit:
            self._spill()

    def first_repetition(self) -> int | None:
        """Return the first row, from 0, whose key repeats that of an earlier row. A key with a missing value never
        repeats."""
        if not self._parts:
            return _first_repetition(pa.concat_tables(self._tables)) if self._tables else None
        self._spill()
        repetitions = []
        for path, writer in self._parts:
            writer.close()
            with pa.OSFile(str(path)) as file:
                repetitions.append(_first_repetition(pyarrow.ipc.open_stream(file).read_all()))
        return min((row for row in repetitions if row is not None), default=None)

    def _spill(self) -> None:
        if not self._tables:
            return
        table = pa.concat_tables(self._tables)
        self._tables, self._size = [], 0
        if not self._parts:
            directory = Path(self._files.enter_context(tempfile.TemporaryDirectory(prefix="perago-keys-")))
            for number in range(KEY_PARTS):
                path = directory / str(number)
                file = self._files.enter_context(pa.OSFile(str(path), "wb"))
                self._parts.append((path, self._files.enter_context(pyarrow.ipc.new_stream(file, table.schema))))
        lists = [table[name].to_pylist() for name in table.column_names[:-1]]
        parts = pa.array([hash(key) % KEY_PARTS for key in zip(*lists, strict=True)], pa.int8())
        del lists
        for number, (_, writer) in enumerate(self._parts):
            writer.write_table(table.filter(pc.equal(parts, number)))


def _first_repetition(table: Any) -> int | None:
    groups = table.group_by(table.column_names[:-1], use_threads=False).aggregate([("row", "min")])
    if len(groups) == len(table):
        return None
    is_first = pc.is_in(table["row"], value_set=groups["row_min"].combine_chunks())
    return int(table["row"][pc.index(is_first, False).as_py()].as_py())


_DATE = r"\d{4}-\d\d-\d\d"
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?"
SPELLINGS: Mapping[ColumnType, str] = {
    ColumnType.INT: r"[+-]?\d+",
    ColumnType.FLOAT: r"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|(?i:nan|inf|infinity))",
    ColumnType.DECIMAL: r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)",
    ColumnType.BOOL: r"(?i:true|false)",
    ColumnType.DATE: _DATE,
    ColumnType.DATETIME: rf"{_DATE}(?:[T ]{_TIME}(?:Z|[+-]\d\d:?\d\d)?)?",
}
"""The spelling of values in text, as regular expressions."""

_WITH_A_DATE = (ColumnType.DATE, ColumnType.DATETIME)


def _folded(name: str) -> str:
    """Return a name without differences that a reader overlooks."""
    return unicodedata.normalize("NFC", name).strip().casefold()


class Unreadable(Exception):
    """The file is not such a table, or only up to a certain row. Later rows are unknown."""


class Checks:
    """The state of one table. Close it: many keys go to files."""

    def __init__(self, rule: TableRule) -> None:
        self.rule = rule
        self.rows: int = 0
        """Number of rows in the batches before the current one."""
        self._problems: dict[tuple[str, str], str] = {}
        self._keys = Keys()

    def close(self) -> None:
        """Remove the files of many keys."""
        self._keys.close()

    @property
    def problems(self) -> list[str]:
        """The problems that were found so far, in words."""
        return list(self._problems.values())

    def find_columns(self, names: Sequence[str]) -> list[str]:
        """Return the needed columns that occur once. Record a problem for each of the others."""
        times = Counter(names)
        for name in self.rule.needed:
            if not times[name]:
                twin = next((other for other in names if _folded(other) == _folded(name)), None)
                hint = "" if twin is None else "; one column differs only in case or blanks"
                if twin is not None and unicodedata.normalize("NFC", twin) == unicodedata.normalize("NFC", name):
                    other_form = "has a different Unicode form (NFC or NFD), so write both in one form"
                    hint = f"; one column looks the same but {other_form}"
                self._say("missing", name, f"column {quoted(name)} is missing{hint}")
            elif times[name] > 1:
                self._say("missing", name, f"column {quoted(name)} occurs {times[name]} times")
        return [name for name in self.rule.needed if times[name] == 1]

    def missing(self, name: str) -> None:
        """Record that no row has a value for the column."""
        self._problems.pop(("null", name), None)
        self._say("missing", name, f"column {quoted(name)} is missing: no row has a value for it")

    def wrong_type(self, name: str, actual: str) -> None:
        """Record that the complete column has another type."""
        self._say("type", name, f"column {quoted(name)} is {actual}, not {self.rule.types[name]}")

    def wrong_value(self, name: str, index: int, value: object) -> None:
        """Record that a row of this batch, counted from 0, has a value of another type."""
        shown = f": {quoted(str(value))}" if self.rule.show_values else ""
        where = f"the value in row {self.rows + index + 1:,}"
        self._say("type", name, f"column {quoted(name)}: {where} is not of type {self.rule.types[name]}{shown}")

    def texts(self, columns: Mapping[str, pa.Array]) -> None:
        """Check the spelling of a batch of texts."""
        for name, texts in columns.items():
            kind = self.rule.types.get(name)
            if kind is not None and ("type", name) not in self._problems:
                index = wrong_text(kind, texts)
                if index is not None:
                    self.wrong_value(name, index, texts[index].as_py())

    def batch(self, columns: Mapping[str, pa.Array], rows: int) -> None:
        """Look for missing values in a batch, keep its keys, and count it."""
        for name in self.rule.not_null:
            if name in columns and ("null", name) not in self._problems and columns[name].null_count:
                self.null(name, pc.index(columns[name].is_null(), True).as_py())
        if self.rule.unique and all(name in columns for name in self.rule.unique):
            self._keys.add([columns[name] for name in self.rule.unique])
        self.rows += rows

    def null(self, name: str, index: int) -> None:
        """Record that a row of this batch, counted from 0, has no value."""
        self._say("null", name, f"column {quoted(name)} has no value in row {self.rows + index + 1:,}")

    def end(self) -> list[str]:
        """Return all problems, once the table has been read."""
        rule = self.rule
        if rule.min_rows is not None and self.rows < rule.min_rows:
            self._say("rows", "", f"it has {count(self.rows, 'row')}, but needs at least {rule.min_rows:,}")
        if rule.max_rows is not None and self.rows > rule.max_rows:
            self._say("rows", "", f"it has {count(self.rows, 'row')}, but at most {rule.max_rows:,} are allowed")
        if (row := self._keys.first_repetition()) is not None:
            named = ", ".join(quoted(name) for name in rule.unique)
            label = f"column {named}" if len(rule.unique) == 1 else f"columns {named} together"
            self._say("unique", "", f"{label}: row {row + 1:,} repeats an earlier one")
        return self.problems

    def _say(self, sort: str, name: str, problem: str) -> None:
        self._problems.setdefault((sort, name), problem)


def wrong_text(kind: ColumnType, texts: pa.Array) -> int | None:
    """Return the first text that does not have the spelling of the type, from 0, or None. Nulls are ignored."""
    spelling = SPELLINGS.get(kind)
    if spelling is None:
        return None
    index: int = pc.index(pc.match_substring_regex(texts, rf"\A(?:{spelling})\z"), False).as_py()
    if kind in _WITH_A_DATE:
        dates = pc.utf8_slice_codeunits(texts.slice(0, len(texts) if index < 0 else index), 0, 10)
        no_date = _first_no_date(dates)
        if no_date is not None:
            return no_date
    return None if index < 0 else index


def _first_no_date(texts: pa.Array) -> int | None:
    """Find the first impossible date, such as 2024-02-30, by bisection."""
    if _are_dates(texts):
        return None
    low, high = 0, len(texts)  # the prefix of `low` texts is good, that of `high` is not
    while high - low > 1:
        middle = (low + high) // 2
        if _are_dates(texts.slice(low, middle - low)):
            low = middle
        else:
            high = middle
    return low


def _are_dates(texts: pa.Array) -> bool:
    try:
        pc.cast(texts, pa.date32())
    except pa.ArrowInvalid:
        return False
    return True


BLOCK = 4 * 1024 * 1024
"""Bytes that are read in one step. No row is longer."""
_READ_AHEAD = BLOCK - 1  # and a line end
_LONGEST_HEADER = 1024 * 1024
_DELIMITERS = ",;\t|"


def read_csv(file: BinaryIO, rule: TableRule, checks: Checks) -> None:
    """Read the table.

    Raises:
        Unreadable: the file is not such a table.
        OSError: the disk refused.
    """
    names = _header(file, rule.delimiter)
    if hint := _delimiter_hint(names, rule):
        raise Unreadable(hint)
    present = checks.find_columns(names)
    source = _Utf8(file)
    odd = _OddRow()
    try:
        for batch in _open(source, rule, present or names[:1], odd):  # one column, to count the rows by
            columns = {name: batch.column(name) for name in present}
            checks.texts(columns)
            checks.batch(columns, batch.num_rows)
    except pa.ArrowInvalid as error:
        is_long = "straddl" in str(error)  # Arrow's own words may quote a row
        problem = f"a row after row {checks.rows:,} is longer than {size(BLOCK)}"
        problem = problem if is_long else f"it is not valid CSV after row {checks.rows:,}"
        raise Unreadable(source.problem or odd.words or problem) from None
    finally:
        source.stop()
    if source.problem:
        raise Unreadable(source.problem)


def _header(file: BinaryIO, delimiter: str) -> list[str]:
    """Return the names of the columns. The file is at its beginning again afterwards."""
    text = file.read(_LONGEST_HEADER).decode("utf-8-sig", errors="replace")
    file.seek(0)
    try:
        names = next(filter(None, delimited_rows(text, delimiter)), None)
    except csv.Error:
        raise Unreadable("its header is not a line of CSV") from None
    if names is None:
        raise Unreadable("it is empty, and must have a header")
    return names


def _delimiter_hint(names: Sequence[str], rule: TableRule) -> str | None:
    """Describe a header that another delimiter would split into the needed columns."""
    for delimiter in _DELIMITERS:
        parts = names[0].split(delimiter) if len(names) == 1 else []
        if len(parts) > 1 and set(rule.needed) & set(parts) and names[0] not in rule.needed:
            advice = f"if that is intended, declare delimiter={delimiter!r}"
            return f"its columns seem to be separated by {delimiter!r}, not by {rule.delimiter!r}; {advice}"
    return None


def _open(source: _Utf8, rule: TableRule, columns: Sequence[str], odd: _OddRow) -> Any:
    file, form = pa.PythonFile(source, mode="r"), pyarrow.csv
    reading = form.ReadOptions(block_size=BLOCK, use_threads=False)
    parsing = form.ParseOptions(delimiter=rule.delimiter, newlines_in_values=True, invalid_row_handler=odd)
    converting = form.ConvertOptions(
        include_columns=list(columns),
        column_types=dict.fromkeys(columns, pa.string()),
        check_utf8=False,  # `_Utf8` has looked
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return form.open_csv(file, read_options=reading, parse_options=parsing, convert_options=converting)


class _OddRow:
    """Records the first row with too few or too many fields."""

    def __init__(self) -> None:
        self.words: str | None = None

    def __call__(self, row: Any) -> str:
        where = "a row" if row.number is None else f"row {row.number - 1:,}"  # the header is the first
        self.words = f"{where} has {count(row.actual_columns, 'field')}, not {row.expected_columns:,}"
        return "error"


class _Utf8(io.RawIOBase):
    """The file, cut before the first bytes that are not UTF-8. It always ends with a line end, which Arrow needs after
    the header."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._read_ahead = file.read(_READ_AHEAD)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._lines = 1
        self.problem: str | None = None

    def readable(self) -> bool:
        return True

    def stop(self) -> None:
        """Stop, because Arrow reads ahead in its own thread."""
        self._file, self._read_ahead = io.BytesIO(), b""

    def read(self, size: int = -1, /) -> bytes:
        length = len(self._read_ahead) if size < 0 else size - 1
        data, self._read_ahead = self._read_ahead[:length], self._read_ahead[length:]
        if not self._read_ahead:
            self._read_ahead = self._file.read(_READ_AHEAD)
        is_last = not self._read_ahead
        try:
            self._decoder.decode(data, final=is_last)
        except UnicodeDecodeError as error:
            line = self._lines + error.object[: error.start].count(b"\n")
            self.problem, self._read_ahead = f"line {line:,} is not UTF-8", b""
            return b""
        self._lines += data.count(b"\n")
        return data if not is_last or not data or data.endswith(b"\n") else data + b"\n"


_ARROW: Mapping[ColumnType, Any] = {
    ColumnType.INT: pa.int64(),
    ColumnType.FLOAT: pa.float64(),
    ColumnType.BOOL: pa.bool_(),
    **dict.fromkeys((ColumnType.STR, ColumnType.DATE, ColumnType.DATETIME), pa.string()),
}
_KEYS = (ColumnType.INT, ColumnType.STR, ColumnType.BOOL, ColumnType.DATE, ColumnType.DATETIME)
"""Types whose values Arrow and Python write as the same text."""


def read_jsonl(file: BinaryIO, rule: TableRule, checks: Checks) -> None:
    """Read the table.

    Raises:
        Unreadable: the file is not such a table.
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
    for name in rule.needed if checks.rows else ():
        if name in empty:
            checks.missing(name)


def _arrow_schema(rule: TableRule) -> Any:
    """Return the needed columns for Arrow, or None if only Python can judge them."""
    kinds = [rule.types.get(name, ColumnType.ANY) for name in rule.needed]
    keys = [rule.types.get(name) for name in rule.unique]
    if not kinds or any(kind not in _ARROW for kind in kinds) or any(key not in _KEYS for key in keys):
        return None
    return pa.schema([(name, _ARROW[kind]) for name, kind in zip(rule.needed, kinds, strict=True)])


def _blocks(file: BinaryIO, checks: Checks) -> Iterator[bytes]:
    """Yield the file in blocks of complete lines."""
    partial_line = b""
    if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        file.seek(0)
    while data := file.read(BLOCK):
        whole, line_end, rest = data.rpartition(b"\n")
        if line_end:
            yield partial_line + whole + line_end
            partial_line = rest
        else:
            partial_line += data
        if len(partial_line) > BLOCK:
            raise Unreadable(f"a row after row {checks.rows:,} is longer than {size(BLOCK)}")
    if partial_line:
        yield partial_line


def _by_arrow(block: bytes, rows: int, schema: Any, rule: TableRule, checks: Checks) -> dict[str, Any] | None:
    """Return the needed columns of a block, or None if it is not as declared, or Arrow cannot judge it."""
    if b"NaN" in block or b"Infinity" in block:  # Arrow takes them for JSON
        return None
    parsing = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    reading = pyarrow.json.ReadOptions(block_size=len(block))
    try:
        block.decode()
        table = pyarrow.json.read_json(pa.BufferReader(block), parse_options=parsing, read_options=reading)
        table = table.combine_chunks()
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    if table.num_rows != rows:
        return None
    columns = {name: table[name].combine_chunks() for name in rule.needed}
    checks.texts({name: columns[name] for name in columns if pa.types.is_string(columns[name].type)})
    return {name: column.cast(pa.string()) if name in rule.unique else column for name, column in columns.items()}


def _by_python(lines: list[bytes], rule: TableRule, checks: Checks) -> dict[str, Any]:
    """Judge the block row by row, and find the problem."""
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
        row = strict_json(line.decode())
    except UnicodeDecodeError:
        raise Unreadable(f"row {number:,} is not UTF-8") from None
    except (ValueError, RecursionError):
        raise Unreadable(f"row {number:,} is not JSON") from None
    if not isinstance(row, dict):
        raise Unreadable(f"row {number:,} is not a JSON object")
    return row


def _key(value: object, kind: ColumnType | None) -> str:
    is_text = kind is not None and isinstance(value, str)
    return str(value).encode(errors="replace").decode() if is_text else json.dumps(value, sort_keys=True)


_JSON_TYPES: Mapping[ColumnType, tuple[type, ...]] = {
    ColumnType.BOOL: (bool,),
    ColumnType.INT: (int,),
    ColumnType.FLOAT: (int, float),
    ColumnType.STR: (str,),
    ColumnType.BYTES: (str,),
}


def _is(kind: ColumnType, value: object) -> bool:
    if kind in _JSON_TYPES:
        return type(value) in _JSON_TYPES[kind]
    if kind is ColumnType.ANY or (kind is ColumnType.DECIMAL and type(value) in (int, float)):
        return True
    if not isinstance(value, str) or re.fullmatch(SPELLINGS[kind], value, re.ASCII) is None:
        return False
    try:
        return kind is ColumnType.DECIMAL or bool(datetime.date.fromisoformat(value[:10]))
    except ValueError:  # such as 2024-02-30
        return False


_ROWS = 65_536
"""Rows that are read in one step."""

_types = pa.types
_MEANS: Mapping[ColumnType, tuple[Callable[[Any], bool], ...]] = {
    ColumnType.INT: (_types.is_integer,),
    ColumnType.FLOAT: (_types.is_floating,),
    ColumnType.STR: (_types.is_string, _types.is_large_string, _types.is_string_view),
    ColumnType.BOOL: (_types.is_boolean,),
    ColumnType.BYTES: (_types.is_binary, _types.is_large_binary, _types.is_fixed_size_binary),
    ColumnType.DATE: (_types.is_date,),
    ColumnType.DATETIME: (_types.is_timestamp,),
    ColumnType.DECIMAL: (_types.is_decimal,),
    ColumnType.ANY: (lambda _: True,),
}


def read_parquet(file: BinaryIO, rule: TableRule, checks: Checks) -> None:
    """Read the footer, and the columns that need it.

    Raises:
        Unreadable: the file is not such a table.
        OSError: the disk refused.
    """
    try:
        # Read by this thread alone: one of Arrow's must not come back to the file when the process ends.
        table = pyarrow.parquet.ParquetFile(file, pre_buffer=False)
        schema, rows = table.schema_arrow, table.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(error, "it is not a Parquet file, or its footer is broken") from None
    present = checks.find_columns(schema.names)
    for name in present:
        kind = schema.field(name).type
        value = kind.value_type if _types.is_dictionary(kind) else kind
        means = (*_MEANS[rule.types[name]], _types.is_null) if name in rule.types else ()
        if means and not any(is_type(value) for is_type in means):
            checks.wrong_type(name, str(kind).partition("[")[0] if not _types.is_nested(kind) else "nested")
    with_nulls = [name for name in rule.not_null if name in present and _may_have_nulls(table, name)]
    keys = rule.unique if all(name in present for name in rule.unique) else ()
    columns = list(dict.fromkeys((*with_nulls, *keys)))
    if not columns:
        checks.rows = rows
        return
    try:
        for batch in table.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False):
            checks.batch({name: batch.column(name) for name in columns}, batch.num_rows)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(error, f"its data are broken after row {checks.rows:,}") from None


def _unreadable(error: Exception, problem: str) -> Exception:
    """Re-raise an OSError with a number, because it comes from the disk. pyarrow raises others for the contents of a
    file."""
    return error if isinstance(error, OSError) and error.errno is not None else Unreadable(problem)


def _may_have_nulls(table: Any, name: str) -> bool:
    """Whether a column can have missing values. False if the footer says that it has none."""
    for group in range(table.metadata.num_row_groups):
        metadata = table.metadata.row_group(group)
        parts = [metadata.column(number) for number in range(metadata.num_columns)]
        chunk = next((part for part in parts if part.path_in_schema == name), None)
        statistics = chunk.statistics if chunk is not None and chunk.is_stats_set else None
        if statistics is None or not statistics.has_null_count or statistics.null_count:
            return True
    return False


_MOST_FAILURES = 5
"""Maximum number of failures that are listed."""


def check_model(file: BinaryIO, rule: TableRule) -> list[str]:
    """Return the failures of a readable table under the model.

    Raises:
        GuardrailDefect: the model raised an unexpected exception.
    """
    try:
        frame = _frame(file, rule)
    except pa.ArrowException:  # pyarrow's own words may quote a value
        return ["it cannot be read as one table: a column changes its type"]
    try:
        rule.schema.validate(frame, lazy=True)
    except Exception as error:  # noqa: BLE001 - checks of the author's may raise anything
        cases = getattr(error, "failure_cases", None)
        if cases is None:
            raise GuardrailDefect(f"its schema raised {type(error).__name__}: {one_line(str(error), 200)}") from None
        return _failures(cases, rule)
    return []


def _frame(file: BinaryIO, rule: TableRule) -> Any:
    if rule.format is Format.CSV:
        options = pyarrow.csv.ParseOptions(delimiter=rule.delimiter, newlines_in_values=True)
        table = pyarrow.csv.read_csv(pa.PythonFile(file, mode="r"), parse_options=options)
    elif rule.format is Format.JSONL:
        options = pyarrow.json.ReadOptions(block_size=2 * BLOCK)
        empty = not file.read(1)
        file.seek(0)
        table = pa.table({}) if empty else pyarrow.json.read_json(pa.PythonFile(file, mode="r"), read_options=options)
    else:
        table = pyarrow.parquet.read_table(file)
    if rule.schema_module.startswith("pandera.polars"):
        return sys.modules["polars"].from_arrow(table)  # the model has loaded it
    return table.to_pandas()


def _failures(cases: Any, rule: TableRule) -> list[str]:
    rows = cases.to_dicts() if hasattr(cases, "to_dicts") else cases.to_dict("records")
    failures: list[str] = []
    for row in rows[:_MOST_FAILURES]:
        column, check, index = row.get("column"), row.get("check"), row.get("index")
        if check == "column_in_dataframe":
            failures.append(f"column {quoted(str(row.get('failure_case')))} is missing")
            continue
        where = f"column {quoted(str(column))}" if isinstance(column, str) else "the table"
        place = f" in row {int(index) + 1:,}" if isinstance(index, int | float) and index == index else ""
        value = f": {quoted(str(row.get('failure_case')))}" if rule.show_values else ""
        failures.append(f"{where} breaks {one_line(str(check), 100)}{place}{value}")
    more = [f"and {len(rows) - _MOST_FAILURES:,} more failures of its schema"] if len(rows) > _MOST_FAILURES else []
    return [*failures, *more]
