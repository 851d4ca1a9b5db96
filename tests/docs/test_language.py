"""Docs, docstrings, names and messages follow the rules of CONTRIBUTING that a program can check."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ..generated import WRITES
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
AVOIDED = re.compile(
    r"\b(besides?|alike|under way|at hand|now and then|on the side|at once|struck out|(?:of|by) others|cannot tell"
    r"|by itself)\b",
    re.IGNORECASE,
)
"""Words to replace that hardly ever mean the plain English word. The docs for users may still have a few."""
REPLACED = (NEVER, AVOIDED)
VAGUE = frozenset(re.findall(r"`(\w+)`", re.findall(r"^12\..*?(`.+?) fit any value", GUIDE, re.MULTILINE)[0]))
"""Identifiers that fit any value."""
LONGEST_TEST_NAME = 70
ALLOWANCE = Path(__file__).with_name("language_allowance.json")
"""Violations of older files. Each number may only shrink; a file that is not listed has none."""
SOURCES = sorted((ROOT / "src").rglob("*.py"))
USER_PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "dev" not in page.relative_to(ROOT / "docs").parts),
]


@pytest.mark.parametrize("folder", ["src", "docs"])
def test_no_phrase_is_used_that_the_guide_marks_never(folder: str) -> None:
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")]
    assert [
        f"{path.relative_to(ROOT)}:{number}: {phrase.group()}"
        for path in files
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for phrase in NEVER.finditer(line)
    ] == []


def test_the_phrases_are_those_of_the_guide() -> None:
    marked = re.findall(r"^\| (.+?) \| .+? \| never \|$", GUIDE, re.MULTILINE)
    assert len(marked) > 5
    for row in marked:
        assert any(NEVER.search(f"it {phrase} it") for phrase in row.split(", ")), row
    plain_rows = re.findall(r"^\| (.+?) \| .+? \| +\|$", GUIDE, re.MULTILINE)
    listed = {match.group() for row in plain_rows for match in AVOIDED.finditer(row)}
    assert {"besides", "alike", "at once", "by itself"} <= listed


def test_names_and_prose_of_all_code_follow_the_guide() -> None:
    """Compare the violations of each file with the checked-in allowance.

    `WRITE_DOCS=1` lowers the numbers of the allowance. It raises none, unless the file is missing.
    """
    current = violations()
    if WRITES:
        allowance = lowered(json.loads(ALLOWANCE.read_text("utf-8")), current) if ALLOWANCE.exists() else current
        lines = ",\n".join(f"  {json.dumps(path)}: {json.dumps(allowance[path])}" for path in sorted(allowance))
        ALLOWANCE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    allowance = json.loads(ALLOWANCE.read_text("utf-8"))
    assert [
        f"{path} has {number} {kind}, allowed are {allowed}"
        for path, numbers in current.items()
        for kind, number in numbers.items()
        if number > (allowed := allowance.get(path, {}).get(kind, 0))
    ] == []


Numbers = Mapping[str, Mapping[str, int]]


def lowered(allowance: Numbers, current: Numbers) -> Numbers:
    """Return the smaller number of each kind and file, without zeros."""
    smaller = {
        path: {kind: min(limit, current.get(path, {}).get(kind, 0)) for kind, limit in numbers.items()}
        for path, numbers in allowance.items()
    }
    positive = {path: {kind: limit for kind, limit in numbers.items() if limit} for path, numbers in smaller.items()}
    return {path: numbers for path, numbers in positive.items() if numbers}


def test_an_allowance_is_lowered_and_never_raised() -> None:
    allowance = {"a.py": {"vague identifiers": 3}, "b.py": {"long test names": 1}, "gone.py": {"words to replace": 1}}
    current = {"a.py": {"vague identifiers": 2}, "b.py": {"long test names": 4}, "new.py": {"words to replace": 1}}
    assert lowered(allowance, current) == {"a.py": {"vague identifiers": 2}, "b.py": {"long test names": 1}}


def violations() -> Numbers:
    """Count the violations of each Python file. Prose is checked in tests and benchmarks; `src` has stricter tests."""
    numbers = {
        str(path.relative_to(ROOT)): violations_of(path.read_text("utf-8"), prose=folder != "src")
        for folder in ("src", "tests", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    return {path: counter for path, counter in numbers.items() if counter}


def violations_of(code: str, *, prose: bool = True) -> Counter[str]:
    """Count the violations in the text of a module by kind."""
    counter: Counter[str] = Counter()
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if (isinstance(node, ast.Name) and node.id in VAGUE) or (isinstance(node, ast.arg) and node.arg in VAGUE):
            counter["vague identifiers"] += 1
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and len(node.name) > LONGEST_TEST_NAME:
            counter["long test names"] += 1
    if prose and any(pattern.search(code.replace("_", " ")) for pattern in REPLACED):  # tokens take time
        phrases = [phrase for text in prose_of(code, tree) for pattern in REPLACED for phrase in pattern.findall(text)]
        if phrases:
            counter["words to replace"] = len(phrases)
    return counter


def prose_of(code: str, tree: ast.AST) -> Iterator[str]:
    """The docstrings, the comments, and the names of the tests of a module."""
    yield from (text for _, text in docstrings(tree))
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.NAME and token.string.startswith("test_")):
            yield token.string.replace("_", " ")


def test_violations_in_code_are_counted() -> None:
    code = f'''
def test_{"x" * 70}(found, each):  # as anew
    """Now and then {"{found}"} is left."""
    rows = [one for one in found]
'''
    assert violations_of(code) == {"vague identifiers": 5, "long test names": 1, "words to replace": 2}
    assert violations_of(code, prose=False) == {"vague identifiers": 5, "long test names": 1}


def test_a_docstring_opens_with_a_verb_or_a_noun() -> None:
    assert [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        for line, text in docstrings(ast.parse(path.read_text("utf-8")))
        if re.match(r"\s*(What|How|Where|Who|Which)\b", text)
    ] == []


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Docstrings of modules, classes, functions and attributes, with their lines."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            text = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield text.lineno, text.value


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
    assert [
        f"{page.relative_to(ROOT)}:{number}: {' '.join(cell.split())}"
        for page in USER_PAGES
        for number, line in enumerate(page.read_text("utf-8").splitlines(), 1)
        if line.startswith("|")
        for cell in re.split(r"(?<!\\)\|", re.sub(r"\]\([^)]*\)", "]", line))
        if len(cell.split()) > LONGEST_CELL
    ] == []


def test_a_how_to_starts_with_the_command() -> None:
    pages = sorted((ROOT / "docs/how-to").glob("*.md"))
    assert [page.name for page in pages if not STARTS.match(page.read_text("utf-8"))] == []


def test_the_pages_for_users_stay_short() -> None:
    assert sum(len(GENERATED.sub("", page.read_text("utf-8")).split()) for page in USER_PAGES) <= MOST_WORDS
