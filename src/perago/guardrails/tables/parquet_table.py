"""Parquet: the footer tells columns, types and rows, mostly also where values are missing. Only what it does not tell
is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet

from perago.guardrails.tables.checks import Checks, Unreadable
from perago.guardrails.tables.rule import ColumnType, TableRule

_ROWS = 65_536
"""Rows that are read at once."""

_types = pa.types


def _is_text(kind: Any) -> bool:
    return bool(_types.is_string(kind) or _types.is_large_string(kind) or _types.is_string_view(kind))


def _is_bytes(kind: Any) -> bool:
    return bool(_types.is_binary(kind) or _types.is_large_binary(kind) or _types.is_fixed_size_binary(kind))


_MEANS: Mapping[ColumnType, Callable[[Any], bool]] = {
    ColumnType.INT: _types.is_integer,
    ColumnType.FLOAT: _types.is_floating,
    ColumnType.STR: _is_text,
    ColumnType.BOOL: _types.is_boolean,
    ColumnType.BYTES: _is_bytes,
    ColumnType.DATE: _types.is_date,
    ColumnType.DATETIME: _types.is_timestamp,
    ColumnType.DECIMAL: _types.is_decimal,
    ColumnType.ANY: lambda _: True,
}


def read_parquet(file: BinaryIO, rule: TableRule, checks: Checks) -> None:
    """Read the footer, and the columns that need it.

    Raises:
        Unreadable: see there.
        OSError: the disk refused.
    """
    try:
        # Read by this thread alone: one of Arrow's must not come back to the file when the process ends.
        table = pyarrow.parquet.ParquetFile(file, pre_buffer=False)
        schema, rows = table.schema_arrow, table.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(error, "it is no Parquet file, or its footer is broken") from None
    present = checks.find_columns(schema.names)
    for name in present:
        kind = schema.field(name).type
        value = kind.value_type if _types.is_dictionary(kind) else kind
        if name in rule.types and not _types.is_null(value) and not _MEANS[rule.types[name]](value):
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


def _unreadable(error: Exception, words: str) -> Exception:
    """An OSError with a number is the disk's; pyarrow raises others for what it finds in a file."""
    return error if isinstance(error, OSError) and error.errno is not None else Unreadable(words)


def _may_have_nulls(table: Any, name: str) -> bool:
    """False if the footer says for all rows that none has a missing value."""
    for group in range(table.metadata.num_row_groups):
        metadata = table.metadata.row_group(group)
        parts = [metadata.column(number) for number in range(metadata.num_columns)]
        found = next((part for part in parts if part.path_in_schema == name), None)
        statistics = found.statistics if found is not None and found.is_stats_set else None
        if statistics is None or not statistics.has_null_count or statistics.null_count:
            return True
    return False
