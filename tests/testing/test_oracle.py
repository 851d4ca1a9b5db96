"""The slow matcher says what the documentation of guardrails says, and has no code of the fast one.

Its patterns are compared in `tests/workspace/test_keys_and_layout.py`.
"""

from __future__ import annotations

import ast
import datetime
from pathlib import Path

import pytest

from perago import require_table
from perago.authoring.workspace import Guardrail, Rule
from perago.guardrails import GUARDRAILS
from perago.guardrails.require_table import RequireTable
from perago.testing import oracle
from perago.testing.oracle import is_in_prefix, is_table


@pytest.mark.parametrize(
    ("prefix", "key", "expected"),
    [
        ("", "a", True),
        ("", "_lakefs_actions/a", False),
        ("", "_lakefs_actionsx", True),
        ("data/x", "data/x/a", True),
        ("data/x", "data/x", False),
        ("data/x", "data/xy/a", False),
        ("data/x", "data/x/_lakefs_actions/a", True),
        ("data/x", "DATA/X/a", False),
    ],
)
def test_a_key_belongs_to_a_prefix_by_complete_names(prefix: str, key: str, expected: bool) -> None:
    assert is_in_prefix(prefix, key) is expected


@pytest.mark.parametrize(("zone", "expected"), [("Z", True), ("+05:30", True), ("-0530", True), ("Z05:30", False)])
def test_a_time_ends_with_one_zone(zone: str, expected: bool) -> None:
    rule = require_table("a.csv", columns={"at": datetime.datetime})
    assert isinstance(rule, RequireTable)
    assert is_table(rule.rule, f"at\n2024-02-29T23:59:59{zone}\n".encode()) is expected


STANDARD = {"__future__", "collections.abc", "dataclasses", "functools", "typing"}
DECLARED = {"Guardrail", "ColumnType", "Format", "TableRule"}


def test_the_oracle_shares_no_code_with_production() -> None:
    tree = ast.parse(Path(oracle.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    shared = {alias.name for node in imports if str(node.module).startswith("perago.") for alias in node.names}
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {node.module for node in imports if not str(node.module).startswith("perago.")} == STANDARD
    kinds = {type(declare("a.csv")).__name__ for declare in GUARDRAILS.values()}
    assert shared == {*DECLARED, *kinds, "Tree", "as_bytes", "sizes_of"}
    assert names == {"datetime", "decimal", "fnmatch", "io", "json", "pyarrow", "pyarrow.parquet"}
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not called & {*vars(Guardrail), *vars(Rule)} - {"register"}
