"""What code and tests cite is in this repository, and is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .blocks import ROOT

OUTSIDE = re.compile(r"(?<![\w/])reference/\w+\.md|(?<![\w/])shared/\w+\.md|\b[Cc]ontract \d")
DOCUMENT = re.compile(r"\bdocs/[\w/-]+\.md")
SECTION = re.compile(r"\b(docs/dev/(?:servers/)?\w+\.md)`?, \"([^\"]+)\"(?: and \"([^\"]+)\")?(?:, point (\d+))?")
NUMBER = re.compile(r"\bdocs/dev/(?:servers/)?\w+\.md`?,? \d")


def citing() -> Iterator[tuple[str, str]]:
    """The files that may cite: path, and text without the way it is broken into lines."""
    files = [ROOT / "Makefile", ROOT / ".ci/run", ROOT / "pyproject.toml", *ROOT.glob("*.md")]
    for folder, patterns in (("src", ("*.py", "*.html")), ("tests", ("*.py", "*.md")), ("benchmarks", ("*.py",))):
        files += [path for pattern in patterns for path in (ROOT / folder).rglob(pattern)]
    for path in sorted(files):
        if path != Path(__file__):
            yield str(path.relative_to(ROOT)), re.sub(r"\s*\n[ #]*", " ", path.read_text(encoding="utf-8"))


def test_no_citation_points_outside_of_the_repository() -> None:
    assert [(path, citation) for path, text in citing() for citation in OUTSIDE.findall(text)] == []


def test_cited_documents_are_there() -> None:
    missing = [(path, name) for path, text in citing() for name in DOCUMENT.findall(text) if not (ROOT / name).exists()]
    assert missing == []


def test_cited_sections_are_there() -> None:
    cited = [(path, *citation) for path, text in citing() for citation in SECTION.findall(text)]
    assert cited
    for path, document, name, other, point in cited:
        assert has_section(document, name, "" if other else point), f"{path} cites {name} of {document}"
        assert not other or has_section(document, other, point), f"{path} cites {other} of {document}"


def test_sections_are_cited_by_name_because_numbers_change() -> None:
    assert [(path, citation) for path, text in citing() for citation in NUMBER.findall(text)] == []


def has_section(document: str, name: str, point: str) -> bool:
    """Whether a heading or a paragraph begins with the name, and has the point."""
    text = (ROOT / document).read_text(encoding="utf-8")
    section = re.search(rf"^(?:#+ (?:[\d.]+ )?)?{re.escape(name)}(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return section is not None and (not point or re.search(rf"^{point}\. ", section[1], re.MULTILINE) is not None)
