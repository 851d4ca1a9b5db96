"""Checks of one table: missing columns, wrong types, missing values and repeated keys, found batch by batch.

Whether a key is repeated is found in bounded memory: many keys are split by their hash into files in the temporary
directory of the system, which have about the size of the keys.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from perago.guardrails.require_table import ColumnType, TableRule
from perago.text import count, quoted

KEPT = 48 * 1024 * 1024
"""Bytes of keys in memory."""
PARTS = 64


class Keys:
    """The keys of a table, in the order of its rows. Close it: it may have files."""

    def __init__(self, *, kept: int = KEPT) -> None:
        """`kept`: how many bytes stay in memory."""
        self._kept = kept
        self._tables: list[Any] = []
        self._size = 0
        self._rows = 0
        self._files = ExitStack()
        self._parts: list[tuple[Path, Any]] = []

    def close(self) -> None:
        """Remove the files."""
        self._files.close()

    def add(self, columns: list[Any]) -> None:
        """The keys of the next rows, one array for each column."""
        numbers = pa.array(range(self._rows, self._rows + len(columns[0])), pa.int64())
        self._rows += len(numbers)
        # as text, what is not a number has no equal of its own; plain arrays have the same type in each batch
        plain = [column.cast(pa.string()) if pa.types.is_floating(column.type) else column for column in columns]
        table = pa.table([*plain, numbers], names=[*map(str, range(len(plain))), "row"])
        self._tables.append(table.drop_null() if any(column.null_count for column in columns) else table)
        self._size += table.nbytes
        if self._size > self._kept:
            self._spill()

    def first_repetition(self) -> int | None:
        """The first row, from 0, whose key an earlier row has; a key with a missing value is like no other."""
        if not self._parts:
            return _first_repetition(pa.concat_tables(self._tables)) if self._tables else None
        self._spill()
        found = []
        for path, writer in self._parts:
            writer.close()
            with pa.OSFile(str(path)) as file:
                found.append(_first_repetition(pyarrow.ipc.open_stream(file).read_all()))
        return min((row for row in found if row is not None), default=None)

    def _spill(self) -> None:
        if not self._tables:
            return
        table = pa.concat_tables(self._tables)
        self._tables, self._size = [], 0
        if not self._parts:
            directory = Path(self._files.enter_context(tempfile.TemporaryDirectory(prefix="perago-keys-")))
            for number in range(PARTS):
                path = directory / str(number)
                file = self._files.enter_context(pa.OSFile(str(path), "wb"))
                self._parts.append((path, self._files.enter_context(pyarrow.ipc.new_stream(file, table.schema))))
        lists = [table[name].to_pylist() for name in table.column_names[:-1]]
        parts = pa.array([hash(key) % PARTS for key in zip(*lists, strict=True)], pa.int8())
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


class Unreadable(Exception):
    """The file is no such table, or is one only up to some row. Nothing after that can be told."""


class Checks:
    """The state of one table. Close it: many keys go to files."""

    def __init__(self, rule: TableRule) -> None:
        self.rule = rule
        self.rows = 0
        """Rows that were seen, in batches before the present one."""
        self._problems: dict[tuple[str, str], str] = {}
        self._keys = Keys()

    def close(self) -> None:
        """Remove the files of many keys."""
        self._keys.close()

    @property
    def problems(self) -> list[str]:
        """Those that were found so far, in words."""
        return list(self._problems.values())

    def find_columns(self, names: Sequence[str]) -> list[str]:
        """The needed columns that are there once; for the others there is a problem."""
        times = Counter(names)
        for name in self.rule.needed:
            if not times[name]:
                twin = next((other for other in names if other.strip().casefold() == name.strip().casefold()), None)
                hint = "; one differs from it in case or blanks" if twin is not None else ""
                self._say("missing", name, f"column {quoted(name)} is missing{hint}")
            elif times[name] > 1:
                self._say("missing", name, f"column {quoted(name)} is there {times[name]} times")
        return [name for name in self.rule.needed if times[name] == 1]

    def missing(self, name: str) -> None:
        """No row has a value for the column."""
        self._problems.pop(("null", name), None)
        self._say("missing", name, f"column {quoted(name)} is missing: no row has a value for it")

    def wrong_type(self, name: str, words: str) -> None:
        """The whole column is of another type."""
        self._say("type", name, f"column {quoted(name)} is {words}, not {self.rule.types[name]}")

    def wrong_value(self, name: str, index: int, value: object) -> None:
        """A row of this batch, from 0, has a value of another type."""
        shown = f": {quoted(str(value))}" if self.rule.show_values else ""
        row = self.rows + index + 1
        self._say("type", name, f"column {quoted(name)} holds no {self.rule.types[name]} in row {row:,}{shown}")

    def texts(self, columns: Mapping[str, pa.Array]) -> None:
        """Look at the spelling of a batch of texts."""
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
        """A row of this batch, from 0, has no value."""
        self._say("null", name, f"column {quoted(name)} has no value in row {self.rows + index + 1:,}")

    def end(self) -> list[str]:
        """All problems, once the table is read."""
        rule = self.rule
        if rule.min_rows is not None and self.rows < rule.min_rows:
            self._say("rows", "", f"it has {count(self.rows, 'row')}, and must have at least {rule.min_rows:,}")
        if rule.max_rows is not None and self.rows > rule.max_rows:
            self._say("rows", "", f"it has {count(self.rows, 'row')}, and may have at most {rule.max_rows:,}")
        if (row := self._keys.first_repetition()) is not None:
            named = ", ".join(quoted(name) for name in rule.unique)
            words = f"column {named}" if len(rule.unique) == 1 else f"columns {named} together"
            self._say("unique", "", f"{words}: row {row + 1:,} repeats an earlier one")
        return self.problems

    def _say(self, sort: str, name: str, words: str) -> None:
        self._problems.setdefault((sort, name), words)


def wrong_text(kind: ColumnType, texts: pa.Array) -> int | None:
    """The first text that is not spelled as the type is, from 0; None without one. Nulls are not looked at."""
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
    """The first text such as 2024-02-30, by halving."""
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
