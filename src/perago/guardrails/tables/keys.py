"""Whether a key comes twice, in bounded memory: many keys are parted by their hash into files, to look at part by part.

The files are in the temporary directory of the system and have about the size of the keys.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

KEPT = 48 * 1024 * 1024
"""Bytes of keys in memory."""
PARTS = 64


class Keys:
    """The keys of a table, in the order of its rows. Use it as a context manager: it may have files."""

    def __init__(self, *, kept: int = KEPT) -> None:
        """`kept`: how many bytes stay in memory."""
        self._kept = kept
        self._tables: list[Any] = []
        self._size = 0
        self._rows = 0
        self._files = ExitStack()
        self._parts: list[tuple[Path, Any]] = []

    def __enter__(self) -> Keys:
        return self

    def __exit__(self, *_: object) -> None:
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
