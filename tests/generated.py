"""Tables of the documentation that are made from the code.

    WRITE_DOCS=1 python -m pytest tests/settings tests/worker/test_metrics.py tests/attempt/test_refusals.py

writes them again after a change of the code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

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
    found = re.search(rf"^#+ {re.escape(heading)}\n(?:(?!^[#|]).*\n)*", text, re.MULTILINE)
    assert found, f"docs/{page} has no heading {heading!r}"
    written = re.match(r"(?:\|.*\n)*", text[found.end() :])
    assert written
    if WRITES:
        (DOCS / page).write_text(text[: found.end()] + table + text[found.end() + written.end() :], encoding="utf-8")
    else:
        assert written.group() == table, "run this test with WRITE_DOCS=1"
