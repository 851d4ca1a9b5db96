"""Rules about tables, without pyarrow: what an author declares, and `check_table`, which loads the checks.

`check_table` needs pyarrow. `rule` does not: it is what an author declares.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, BinaryIO


def check_table(file: BinaryIO, rule: TableRule) -> list[str]:
    """Return the problems of one table, in words that name columns and rows, and values only where the rule allows it.

    Args:
        file: the table, at its beginning.
        rule: what it should be.

    Raises:
        OSError: the disk refused.
        GuardrailDefect: a model of the author's that is not a model.
    """
    from perago.guardrails.table_checks import Checks, Unreadable
    from perago.guardrails.table_readers import read_csv, read_jsonl, read_parquet

    readers = {Format.CSV: read_csv, Format.PARQUET: read_parquet, Format.JSONL: read_jsonl}
    with closing(Checks(rule)) as checks:
        try:
            readers[rule.format](file, rule, checks)
        except Unreadable as problem:
            return [*checks.problems, str(problem)]
        problems = checks.end()
    if not problems and rule.schema is not None:
        from perago.guardrails.table_readers import check_model

        file.seek(0)
        problems = check_model(file, rule)
    return problems


class Format(StrEnum):
    """The format of a table file."""

    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"


ENDINGS: Mapping[str, Format] = MappingProxyType(
    {".csv": Format.CSV, ".parquet": Format.PARQUET, ".jsonl": Format.JSONL, ".ndjson": Format.JSONL}
)
"""The formats by the end of the file's name."""


class ColumnType(StrEnum):
    """The type of a column's values. In a CSV file it decides how the values are spelled."""

    INT = "int"
    FLOAT = "float"
    STR = "str"
    BOOL = "bool"
    BYTES = "bytes"
    DATE = "date"
    DATETIME = "datetime"
    DECIMAL = "decimal"
    ANY = "object"


PYTHON_TYPES: Mapping[type, ColumnType] = MappingProxyType(
    {
        int: ColumnType.INT,
        float: ColumnType.FLOAT,
        str: ColumnType.STR,
        bool: ColumnType.BOOL,
        bytes: ColumnType.BYTES,
        datetime.date: ColumnType.DATE,
        datetime.datetime: ColumnType.DATETIME,
        decimal.Decimal: ColumnType.DECIMAL,
        object: ColumnType.ANY,
    }
)


@dataclass(frozen=True, slots=True)
class TableRule:
    """A rule for each of some tables; see `require_table`."""

    format: Format
    columns: tuple[tuple[str, ColumnType], ...] = ()
    min_rows: int | None = None
    max_rows: int | None = None
    unique: tuple[str, ...] = ()
    not_null: tuple[str, ...] = ()
    schema: Any = None
    delimiter: str = ","
    show_values: bool = False

    @property
    def types(self) -> Mapping[str, ColumnType]:
        """The declared columns."""
        return dict(self.columns)

    @property
    def schema_module(self) -> str:
        """The module of pandera that the schema comes from; empty if it is nothing of pandera's."""
        kinds = self.schema.__mro__ if isinstance(self.schema, type) else type(self.schema).__mro__
        return next((kind.__module__ for kind in kinds if kind.__module__.partition(".")[0] == "pandera"), "")

    @property
    def needed(self) -> tuple[str, ...]:
        """All columns that must be there."""
        return tuple(dict.fromkeys((*self.types, *self.unique, *self.not_null)))
