"""How the commits between input ref and head are judged, on arrival and before the
merge."""

from __future__ import annotations

import pytest

from .judging import (
    CASES,
    Case,
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_range_is_judged_as_the_contract_says(case: Case) -> None:
    assert case.holds(), case.judged()
