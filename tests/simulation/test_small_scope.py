"""Small workflows: no order of calls breaks a promise of docs/dev/protocol.md."""

from __future__ import annotations

import pytest

from .guards import IN_SMALL_SCOPE, without
from .small_world import Case, explore

MOST = 4_000
"""The worlds of a case that are played. Most cases have fewer, so all their orders are played."""
LEAST = 11
"""The worlds that each case has at least: a generator that breaks plays fewer."""
CASES = [
    *(Case("fork", troubles, name) for troubles in (("", ""), ("fails", "fails")) for name in ("restart", "retry")),
    *(Case("fork", ("fails", "fails"), "rerun", row) for row in ("a", "b", "last")),
    *(Case("fork", ("", ""), "rerun", row) for row in ("fork", "a", "join", "last")),
    *(
        Case("sub", (trouble,), name, row, is_late)
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
    ),
    *(Case("line", (), name, row, True) for name, row in (("restart", ""), ("rerun", "a"), ("rerun", "last"))),
    *(Case("shared", (), name, row, late) for name, row in (("restart", ""), ("rerun", "a")) for late in (False, True)),
]


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_order_of_calls_breaks_a_promise(case: Case) -> None:
    exploration = explore(case, MOST)
    assert exploration.broken == ()
    assert exploration.worlds >= LEAST


MISSED = {
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
