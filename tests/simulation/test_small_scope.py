"""Small workflows: no order of calls breaks a promise of docs/dev/protocol.md."""

from __future__ import annotations

import pytest

from .guards import IN_SMALL_SCOPE, without
from .small_world import Case, explore

MOST = 50_000
"""A case with more worlds fails, because not all of its orders were played."""
FAILED_TWICE = ("fails", "fails")
LATE_FORKS = (
    (("", ""), ("a", "last", "fork")),
    (("dies", ""), ("a", "last", "fork")),
    (("fails", ""), ("last", "fork")),
)
"""Forks with late reports in which all orders take seconds. Restarts, retries and reruns of the JOIN or of `b` take
minutes."""
CASES = {
    **{
        Case("fork", troubles, name): 200
        for troubles in (("", ""), ("dies", ""), ("fails", ""), FAILED_TWICE)
        for name in ("restart", "retry")
    },
    **{
        Case("fork", troubles, "rerun", row): 200
        for troubles in (("", ""), ("dies", ""), ("fails", ""))
        for row in ("fork", "a", "b", "join", "last")
    },
    **{Case("fork", FAILED_TWICE, "rerun", row): 2_500 for row in ("a", "b", "last")},
    **{Case("fork", troubles, "rerun", row, True): 350 for troubles, rows in LATE_FORKS for row in rows},
    **{
        Case("sub", (trouble,), name, row, is_late): 50 if is_late else 11
        for trouble in ("", "fails", "dies")
        for is_late in (False, True)
        for name, row in (
            ("restart", ""),
            ("retry", ""),
            ("rerun", "sub"),
            ("rerun", "last"),
            ("child-restart", ""),
            ("child-retry", ""),
            ("child-rerun", "a"),
        )
    },
    **{Case("line", (), name, row, True): 50 for name, row in (("restart", ""), ("rerun", "a"), ("rerun", "last"))},
    Case("optional", ("fails-later",), "rerun", "a"): 20,
    Case("optional", ("fails-later",), "rerun", "a", True): 100,
    Case("line", ("dies",), "rerun-input", "a"): 30,
    Case("line", ("dies",), "rerun-input", "a", True): 300,
    **{Case("shared", (), name, row): 100 for name, row in (("restart", ""), ("rerun", "a"))},
    **{Case("shared", (), name, row, True): 2_000 for name, row in (("restart", ""), ("rerun", "a"))},
}
"""Cases, and the worlds that each of them has at least: a generator that breaks plays fewer."""


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_order_of_calls_breaks_a_promise(case: Case) -> None:
    exploration = explore(case, MOST)
    assert exploration.broken == ()
    assert CASES[case] <= exploration.worlds < MOST


MISSED = {
    "undone: of attempts that were started again": Case("optional", ("fails-later",), "rerun", "a"),
    "undone: only by the only open attempt": Case("sub", ("dies",), "child-rerun", "a", is_late=True),
    "evidence: the commit in the output": Case("optional", ("fails-later",), "rerun", "a", is_late=True),
    "the input is in effect": Case("line", (), "rerun", "a", is_late=True),
    "undoing of what is stale": Case("sub", (), "restart"),
    "undone: of attempts that Conductor has removed": Case("sub", (), "restart"),
    "undone: nothing that others have found as they wanted it": Case("shared", (), "restart"),
}
"""Guards, each with a case that breaks a promise without it."""


@pytest.mark.parametrize("name", MISSED, ids=lambda name: name.replace(" ", "-"))
def test_an_order_breaks_a_promise_only_without_the_guard(name: str) -> None:
    assert explore(MISSED[name], MOST).broken == ()
    with without(name):
        assert explore(MISSED[name], MOST).broken != ()


def test_the_guards_of_the_small_scope_have_a_case() -> None:
    assert MISSED.keys() >= IN_SMALL_SCOPE
