"""The declaration of a table, without the library that reads tables."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any


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
        """The module of pandera that defines the schema; empty if the schema is not from pandera."""
        kinds = self.schema.__mro__ if isinstance(self.schema, type) else type(self.schema).__mro__
        return next((kind.__module__ for kind in kinds if kind.__module__.partition(".")[0] == "pandera"), "")

    @property
    def needed(self) -> tuple[str, ...]:
        """All columns that must be there."""
        return tuple(dict.fromkeys((*self.types, *self.unique, *self.not_null)))
