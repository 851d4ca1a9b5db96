"""Docs, docstrings and messages follow the rules of CONTRIBUTING that a program can check."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .blocks import ROOT

LONGEST = 35
"""Words of a sentence in the docs for users. The guide asks for 25."""
LONGEST_CELL = 25
MOST_WORDS = 35_000
"""Of README and the pages of `perago help`, without generated tables."""
GENERATED = re.compile(
    r"^\| (?:Variable \| Meaning|Metric \| Kind|Page \| About|Flag \| Meaning|Value \| Default).*\n(?:\|.*\n)+",
    re.MULTILINE,
)
STARTS = re.compile(r"# .+\n\n```(console|text)[^\n]*\n\$ ")
"""The title of a page, and a command."""
GUIDE = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("## How we write")[1]
NEVER = re.compile(
    r"\b(anew|for want of|(?:is|are|was|were) (?:told|said) of|tells? of|(?:is|are) (?-i:none)\b|no matter of"
    r"|time-outs?|waits between|until nothing|raise again)\b",
    re.IGNORECASE,
)
SOURCES = sorted((ROOT / "src").rglob("*.py"))
USER_PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "dev" not in page.relative_to(ROOT / "docs").parts),
]


@pytest.mark.parametrize("folder", ["src", "docs"])
def test_no_phrase_is_used_that_the_guide_marks_never(folder: str) -> None:
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {hit.group()}"
        for path in files
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for hit in NEVER.finditer(line)
    ]
    assert found == []


def test_the_phrases_are_those_of_the_guide() -> None:
    marked = re.findall(r"^\| (.+?) \| .+? \| never \|$", GUIDE, re.MULTILINE)
    assert len(marked) > 5
    for row in marked:
        assert any(NEVER.search(f"it {phrase} it") for phrase in row.split(", ")), row


def test_a_docstring_opens_with_a_verb_or_a_noun() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        for line, text in docstrings(ast.parse(path.read_text("utf-8")))
        if re.match(r"\s*(What|How|Where|Who|Which)\b", text)
    ]
    assert found == []


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Docstrings of modules, classes, functions and attributes, with their lines."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for one in body if isinstance(body, list) else ():
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) and isinstance(one.value.value, str):
                yield one.lineno, one.value.value


@pytest.mark.parametrize("page", USER_PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sentences_for_users_are_short(page: Path) -> None:
    assert [text for text in sentences(page.read_text("utf-8")) if len(text.split()) > LONGEST] == []


def sentences(markdown: str) -> Iterator[str]:
    """The sentences of a page, without code blocks, headings and the addresses of links. A table cell counts as one."""
    text = re.sub(r"^ *```.*?^ *```", "\n", markdown, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"!?\[(.*?)\]\([^)]*\)", r"\1", text)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*|#]|\d+\. ))|(?<=\|)", text):
        for sentence in re.split(r"(?<=[.!?:;])\s+", " ".join(block.split())):
            if not sentence.startswith("#"):
                yield sentence


def test_a_long_sentence_is_found() -> None:
    assert max(len(text.split()) for text in sentences("One.\n\n" + "word " * 40 + "end. Two.")) == 41


def test_the_cells_of_tables_for_users_are_short() -> None:
    found = [
        f"{page.relative_to(ROOT)}:{number}: {' '.join(cell.split())}"
        for page in USER_PAGES
        for number, line in enumerate(page.read_text("utf-8").splitlines(), 1)
        if line.startswith("|")
        for cell in re.split(r"(?<!\\)\|", re.sub(r"\]\([^)]*\)", "]", line))
        if len(cell.split()) > LONGEST_CELL
    ]
    assert found == []


def test_a_how_to_starts_with_the_command() -> None:
    found = [path.name for path in sorted((ROOT / "docs/how-to").glob("*.md")) if not STARTS.match(path.read_text())]
    assert found == []


def test_the_pages_for_users_stay_short() -> None:
    assert sum(len(GENERATED.sub("", page.read_text("utf-8")).split()) for page in USER_PAGES) <= MOST_WORDS
