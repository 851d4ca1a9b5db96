"""What code and tests cite is in this repository, and is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .blocks import ROOT

OUTSIDE = re.compile(r"(?<![\w/])reference/\w+\.md|(?<![\w/])shared/\w+\.md|\b[Cc]ontract \d")
DOCUMENT = re.compile(r"\bdocs/[\w/-]+\.md")
SECTION = re.compile(r"\b(docs/dev/(?:servers/)?\w+\.md)`? (\d+(?:\.\d+)?)")


def citing() -> Iterator[tuple[str, str]]:
    """The files that may cite: path, and text without the way it is broken into lines."""
    found = [ROOT / "Makefile", ROOT / ".ci/run", ROOT / "pyproject.toml", *ROOT.glob("*.md")]
    for folder, patterns in (("src", ("*.py", "*.html")), ("tests", ("*.py", "*.md")), ("benchmarks", ("*.py",))):
        found += [path for pattern in patterns for path in (ROOT / folder).rglob(pattern)]
    for path in sorted(found):
        if path != Path(__file__):
            yield str(path.relative_to(ROOT)), re.sub(r"\s*\n[ #]*", " ", path.read_text(encoding="utf-8"))


def test_no_citation_points_outside_of_the_repository() -> None:
    assert [(path, found) for path, text in citing() for found in OUTSIDE.findall(text)] == []


def test_cited_documents_are_there() -> None:
    missing = [(path, name) for path, text in citing() for name in DOCUMENT.findall(text) if not (ROOT / name).exists()]
    assert missing == []


def test_cited_sections_are_there() -> None:
    cited = [(path, *found) for path, text in citing() for found in SECTION.findall(text)]
    assert cited
    for path, document, number in cited:
        assert has_section(document, number), f"{path} cites {document} {number}"


def has_section(document: str, number: str) -> bool:
    """Whether there is such a heading; or, in a section that is a list, such a point."""
    text = (ROOT / document).read_text(encoding="utf-8")
    if re.search(rf"^#+ {re.escape(number)}\.? ", text, re.MULTILINE):
        return True
    chapter, _, point = number.partition(".")
    body = re.split(r"^## ", text, flags=re.MULTILINE)
    return any(re.match(rf"{chapter}\. ", part) and re.search(rf"^{point}\. ", part, re.MULTILINE) for part in body)
