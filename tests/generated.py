"""Tables of the documentation that are made from the code.

    WRITE_DOCS=1 python -m pytest tests/settings tests/worker/test_metrics.py tests/attempt/test_refusals.py

writes them again after a change of the code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
WRITES = "WRITE_DOCS" in os.environ


def assert_table(page: str, heading: str, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Fail if the first table below a heading of a page has other rows, or write it.

    Args:
        page: a file below `docs`.
        heading: the text of a heading of any level.
        titles: the cells of the first row.
        rows: the cells of the others.
    """
    lines = [f"| {' | '.join(cells)} |\n" for cells in (titles, *rows)]
    table = "".join([lines[0], "|" + "---|" * len(titles) + "\n", *lines[1:]])
    text = (DOCS / page).read_text(encoding="utf-8")
    section = re.search(rf"^#+ {re.escape(heading)}\n(?:(?!^[#|]).*\n)*", text, re.MULTILINE)
    assert section, f"docs/{page} has no heading {heading!r}"
    after = re.sub(r"^(?:\|.*\n)*", "", text[section.end() :])
    assert_file(DOCS / page, text[: section.end()] + table + after)


def assert_file(path: Path, text: str) -> None:
    """Fail if a file has another text, or write it."""
    if WRITES:
        path.write_text(text, encoding="utf-8")
    if path.read_text(encoding="utf-8") != text:
        tests = os.environ["PYTEST_CURRENT_TEST"].partition("::")[0]
        where = path.relative_to(DOCS.parent)
        pytest.fail(f"{where} is not as the code says\nfix: WRITE_DOCS=1 python -m pytest {tests}", pytrace=False)
