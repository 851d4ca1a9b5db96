"""`docs/dev/fidelity.md` says what the suite says."""

from __future__ import annotations

import re

from .differences import DIFFERENCES
from .fidelity import INTRODUCTION, PAGE, page
from .scenario import scenarios


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.conformance.fidelity"


def test_the_files_that_the_page_names_are_there() -> None:
    root = PAGE.parents[2]
    named = set(re.findall(r"`((?:tests|fixtures|docs|src)/[\w/*.]+)`", INTRODUCTION))
    assert len(named) > 1
    assert [path for path in named if not list(root.glob(path.rstrip("/")))] == []


def test_every_difference_has_a_scenario() -> None:
    known = {(server, str(found)) for server in ("lakefs", "conductor") for found in scenarios(server)}
    assert set(DIFFERENCES) <= known
