"""CSV as RFC 4180 has it: a header, UTF-8, line ends inside of quotes. An empty field without quotes has no value."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv

from perago.guardrails.tables.checks import Checks, Unreadable
from perago.guardrails.tables.rule import TableRule
from perago.workspace.text import count, size

BLOCK = 4 * 1024 * 1024
"""Bytes that are read at once. No row is longer."""
_AHEAD = BLOCK - 1  # and a line end
_LONGEST_HEADER = 1024 * 1024
_DELIMITERS = ",;\t|"


def read_csv(file: BinaryIO, rule: TableRule, checks: Checks) -> None:
    """Read the table.

    Raises:
        Unreadable: see there.
        OSError: the disk refused.
    """
    names = _header(file, rule.delimiter)
    if hint := _delimiter_hint(names, rule):
        raise Unreadable(hint)
    present = checks.find_columns(names)
    source = _Utf8(file)
    odd = _OddRow()
    try:
        for batch in _open(source, rule, present or _any_column(names), odd):
            columns = {name: batch.column(name) for name in present}
            checks.texts(columns)
            checks.batch(columns, batch.num_rows)
    except pa.ArrowInvalid as error:
        raise Unreadable(source.problem or odd.words or _words(error, checks)) from None
    finally:
        source.stop()
    if source.problem:
        raise Unreadable(source.problem)


def _header(file: BinaryIO, delimiter: str) -> list[str]:
    """The names of the columns; leaves the file at its beginning."""
    text = file.read(_LONGEST_HEADER).decode("utf-8-sig", errors="replace")
    file.seek(0)
    try:
        names = next((row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row), None)
    except csv.Error:
        raise Unreadable("its header is no line of CSV") from None
    if names is None:
        raise Unreadable("it is empty, and must have a header")
    return names


def _delimiter_hint(names: Sequence[str], rule: TableRule) -> str | None:
    """Words for a header that another delimiter would cut into the needed columns."""
    for delimiter in _DELIMITERS:
        parts = names[0].split(delimiter) if len(names) == 1 else []
        if len(parts) > 1 and set(rule.needed) & set(parts) and names[0] not in rule.needed:
            return (
                f"its columns seem to be separated by {delimiter!r}, not by {rule.delimiter!r}; if they may be, "
                f"declare delimiter={delimiter!r}"
            )
    return None


def _any_column(names: Sequence[str]) -> list[str]:
    """One column, to count the rows by."""
    return list(names[:1])


def _open(source: _Utf8, rule: TableRule, columns: Sequence[str], odd: _OddRow) -> Any:
    return pyarrow.csv.open_csv(
        pa.PythonFile(source, mode="r"),
        read_options=pyarrow.csv.ReadOptions(block_size=BLOCK, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=rule.delimiter, newlines_in_values=True, invalid_row_handler=odd
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=list(columns),
            column_types=dict.fromkeys(columns, pa.string()),
            check_utf8=False,  # `_Utf8` has looked
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


class _OddRow:
    """Hears of the first row with too few or too many fields."""

    def __init__(self) -> None:
        self.words: str | None = None

    def __call__(self, row: Any) -> str:
        where = "a row" if row.number is None else f"row {row.number - 1:,}"  # the header is the first
        self.words = f"{where} has {count(row.actual_columns, 'field')}, not {row.expected_columns:,}"
        return "error"


def _words(error: pa.ArrowInvalid, checks: Checks) -> str:
    """Arrow's own words may quote a row."""
    if "straddl" in str(error):
        return f"a row after row {checks.rows:,} is longer than {size(BLOCK)}"
    return f"it is no CSV that can be read after row {checks.rows:,}"


class _Utf8(io.RawIOBase):
    """The file, which ends early at the first bytes that are not UTF-8, and always with a line end: Arrow wants one
    after the header."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._ahead = file.read(_AHEAD)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._lines = 1
        self.problem: str | None = None

    def readable(self) -> bool:
        return True

    def stop(self) -> None:
        """Give no more: Arrow reads ahead in a thread of its own."""
        self._file, self._ahead = io.BytesIO(), b""

    def read(self, size: int = -1, /) -> bytes:
        length = len(self._ahead) if size < 0 else size - 1
        data, self._ahead = self._ahead[:length], self._ahead[length:]
        if not self._ahead:
            self._ahead = self._file.read(_AHEAD)
        is_last = not self._ahead
        try:
            self._decoder.decode(data, final=is_last)
        except UnicodeDecodeError as error:
            line = self._lines + error.object[: error.start].count(b"\n")
            self.problem, self._ahead = f"line {line:,} is not UTF-8", b""
            return b""
        self._lines += data.count(b"\n")
        return data if not is_last or not data or data.endswith(b"\n") else data + b"\n"
