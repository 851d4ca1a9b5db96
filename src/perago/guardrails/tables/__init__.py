"""Reading tables for `require_table`: CSV, Parquet and JSON Lines, in batches, so that memory stays bounded.

`check_table` needs pyarrow. `rule` does not: it is what an author declares.
"""

from __future__ import annotations

from typing import BinaryIO

from perago.guardrails.tables.rule import Format, TableRule


def check_table(file: BinaryIO, rule: TableRule) -> list[str]:
    """What is wrong with one table, in words that name columns and rows, and values only where the rule allows it.

    Args:
        file: the table, at its beginning.
        rule: what it should be.

    Raises:
        OSError: the disk refused.
        GuardrailDefect: a model of the author's that is no model.
    """
    from perago.guardrails.tables.checks import Checks, Unreadable
    from perago.guardrails.tables.csv_table import read_csv
    from perago.guardrails.tables.jsonl_table import read_jsonl
    from perago.guardrails.tables.parquet_table import read_parquet

    readers = {Format.CSV: read_csv, Format.PARQUET: read_parquet, Format.JSONL: read_jsonl}
    with Checks(rule) as checks:
        try:
            readers[rule.format](file, rule, checks)
        except Unreadable as problem:
            return [*checks.problems, str(problem)]
        problems = checks.end()
    if not problems and rule.schema is not None:
        from perago.guardrails.tables.models import check_model

        file.seek(0)
        problems = check_model(file, rule)
    return problems
