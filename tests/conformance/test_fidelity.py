"""`docs/fidelity.md` says what the suite says."""

from __future__ import annotations

from .differences import DIFFERENCES
from .fidelity import PAGE, page
from .scenario import scenarios


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.conformance.fidelity"


def test_every_difference_has_a_scenario() -> None:
    known = {(server, str(found)) for server in ("lakefs", "conductor") for found in scenarios(server)}
    assert set(DIFFERENCES) <= known
