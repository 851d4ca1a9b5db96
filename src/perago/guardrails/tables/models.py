"""Tables against a model of pandera. The whole table is in memory then."""

from __future__ import annotations

import sys
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from perago.guardrails.content import GuardrailDefect
from perago.guardrails.tables.jsonl_table import BLOCK
from perago.guardrails.tables.rule import Format, TableRule
from perago.workspace.text import one_line, quoted

_MOST = 5
"""Failures that are named."""


def check_model(file: BinaryIO, rule: TableRule) -> list[str]:
    """What the model finds wrong with a table that can be read.

    Raises:
        GuardrailDefect: the model raised something else than its own errors.
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
    found: list[str] = []
    for row in rows[:_MOST]:
        column, check, index = row.get("column"), row.get("check"), row.get("index")
        if check == "column_in_dataframe":
            found.append(f"column {quoted(str(row.get('failure_case')))} is missing")
            continue
        where = f"column {quoted(str(column))}" if isinstance(column, str) else "the table"
        place = f" in row {int(index) + 1:,}" if isinstance(index, int | float) and index == index else ""
        value = f": {quoted(str(row.get('failure_case')))}" if rule.show_values else ""
        found.append(f"{where} breaks {one_line(str(check), 100)}{place}{value}")
    more = [f"and {len(rows) - _MOST:,} more failures of its schema"] if len(rows) > _MOST else []
    return [*found, *more]
