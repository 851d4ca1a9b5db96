"""The page for operators has each line that a worker prints, and the files and metrics that it names are there."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from perago.worker import logs

from .blocks import ROOT

PAGE = (ROOT / "docs/operations.md").read_text("utf-8")
SHORTEST = 6
"""Characters of a piece of a line that is looked for."""


def printed() -> list[str]:
    """What stands in the lines between their values, for each place that makes one."""
    found = []
    for node in ast.walk(ast.parse(inspect.getsource(logs))):
        if isinstance(node, ast.FunctionDef) and node.name in ("_words", "_ended", "_handed_back"):
            ends = (each.value for each in ast.walk(node) if isinstance(each, ast.Return))
            found += ["\n".join(constants(value)) for value in ends if value is not None]
    return [text for text in found if text]


def constants(value: ast.expr) -> list[str]:
    texts = (node.value for node in ast.walk(value) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [text.strip(" :;,()") for text in texts if len(text.strip(" :;,()")) >= SHORTEST]


@pytest.mark.parametrize("pieces", printed())
def test_each_line_has_a_row(pieces: str) -> None:
    rows = [line.partition(" | ")[0] for line in PAGE.splitlines() if line.startswith("| `")]
    assert any(piece.partition(" (")[0] in row for piece in pieces.split("\n") for row in rows), pieces


def test_the_lines_are_found() -> None:
    assert len(printed()) > 20


def test_the_files_are_there() -> None:
    table = PAGE[PAGE.index("| File |") : PAGE.index("## Sizing")]
    names = re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
    assert {name.rstrip("/") for name in names} == {
        path.name for path in (ROOT / "deploy").iterdir() if not path.name.endswith(".dockerignore")
    }
