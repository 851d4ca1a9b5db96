"""The messages of the troubleshooting page are those of the code."""

from __future__ import annotations

import re

import pytest

from .blocks import ROOT

PAGE = ROOT / "docs/troubleshooting.md"
SOURCES = ("src/perago", "src/pytest_perago")


def rows() -> list[str]:
    """The first column of all tables."""
    return re.findall(r"^\| `(.+?)` \|", PAGE.read_text("utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def said() -> str:
    """All literals of the code as one text: lines joined, values left out."""
    code = "\n".join(path.read_text("utf-8") for where in SOURCES for path in sorted((ROOT / where).rglob("*.py")))
    return re.sub(r"\{[^{}]*\}", "", re.sub(r'"\s+f?"', "", code))


@pytest.mark.parametrize("row", rows())
def test_a_message_on_the_page_is_one_of_the_code(row: str, said: str) -> None:
    parts = [part.strip(" :;.,") for part in re.split(r"\.\.\.|: matched 0 files", row)]
    assert any(parts)
    missing = [part for part in parts if part and part not in said]
    assert not missing, f"{row}: no message says {missing}"


def test_each_table_has_rows() -> None:
    assert len(rows()) > 20
