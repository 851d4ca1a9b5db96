"""Small workflows: no order of calls breaks a promise of docs/dev/protocol.md."""

from __future__ import annotations

import pytest

from .guards import IN_SMALL_SCOPE, without
from .small_world import Case, explore

MOST = 150_000
"""A case with more worlds fails, because not all of its orders were simulated."""
FAILED_TWICE = ("fails", "fails")
LATE_FORKS = (
    (("", ""), ("a", "last", "fork")),
    (("dies", ""), ("a", "last", "fork")),
    (("fails", ""), ("last", "fork")),
)
"""Forks with late reports in which all orders take seconds. Restarts and retries take minutes. So do reruns of the JOIN
and of `b`, unless the operation is atomic."""
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
    **{Case("fork", FAILED_TWICE, "rerun", row): 10_000 for row in ("a", "b")},
    # Too many orders, unless the operation is atomic. Other cases interrupt the same writes.
    Case("fork", FAILED_TWICE, "rerun", "last", is_atomic=True): 2_500,
    **{Case("fork", (), "rerun", row, True, is_atomic=True): 60_000 for row in ("b", "join")},
    **{Case("sub", (trouble,), "child-rerun", "a", True, is_atomic=True): 1_000 for trouble in ("", "fails", "dies")},
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
        if not (is_late and name == "child-rerun")
    },
    **{Case("line", (), name, row, True): 50 for name, row in (("restart", ""), ("rerun", "a"), ("rerun", "last"))},
    Case("variable", ("", "dies"), "none"): 150,
    Case("line", ("dies",), "claim"): 15,
    **{Case("fork at the end", troubles, "rerun", "a"): 200 for troubles in (("dies", ""), FAILED_TWICE)},
    Case("fork at the end", (",fails", ""), "restart"): 2_000,
    Case("step and sub", ("", "empty,empty"), "rerun", "b"): 15,
    Case("sub with a retry", ("fails,empty", "", "empty,empty"), "rerun", "last"): 20,
    Case("siblings", ("fails", ""), "child-retry"): 400,
    Case("two", (), "rerun", "a", True): 100_000,
    Case("shared", (), "restart", times=2): 100,
    Case("optional", (",fails",), "rerun", "a"): 20,
    Case("optional", (",fails",), "rerun", "a", True): 100,
    Case("line", ("dies",), "rerun-input", "a"): 30,
    Case("line", ("dies",), "rerun-input", "a", True): 300,
    **{Case("shared", (), name, row): 100 for name, row in (("restart", ""), ("rerun", "a"))},
    **{Case("shared", (), name, row, True): 2_500 for name, row in (("restart", ""), ("rerun", "a"))},
}
"""Cases, and the worlds that each of them has at least: a generator that breaks plays fewer."""


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_order_of_calls_breaks_a_promise(case: Case) -> None:
    exploration = explore(case, MOST)
    assert exploration.broken == ()
    assert CASES[case] <= exploration.worlds < MOST


MISSED = {
    "undone: of attempts that were started again": Case("optional", (",fails",), "rerun", "a"),
    "undone: only by the only open attempt": Case("sub", ("dies",), "child-rerun", "a", is_late=True, is_atomic=True),
    "evidence: the commit in the output": Case("optional", (",fails",), "rerun", "a", is_late=True),
    "evidence: equality of start times": Case("optional", (",fails",), "rerun", "a"),
    "evidence: rows read after the commit": Case("fork at the end", (",fails", ""), "restart"),
    "the input is in effect": Case("line", (), "rerun", "a", is_late=True),
    "undoing of what is stale": Case("sub", (), "restart"),
    "undone: of attempts that Conductor has removed": Case("sub", (), "restart"),
    "undone: of this family": Case("two", (), "rerun", "a", is_late=True, is_atomic=True),
    "undone: nothing that others have found as they wanted it": Case("shared", (), "restart"),
    "adopted: from the same input ref": Case("variable", ("", "dies"), "none"),
    "a replaced sub-workflow publishes nothing": Case(
        "sub with a retry", ("fails,empty", "", "empty,empty"), "rerun", "last"
    ),
    "only a staging commit proves what was undone": Case("line", ("dies",), "claim"),
}
"""Guards, each with a case that breaks a promise without it."""
RECOVERIES = {
    "a rerun also resets the first attempt of the branch next to it": (
        Case("fork at the end", FAILED_TWICE, "rerun", "a"),
        "retried attempts undo nothing of their retries",
    ),
    "after a rerun, a sub-workflow judges first": (
        Case("step and sub", ("", "empty,empty"), "rerun", "b"),
        "undone: of attempts that Conductor has removed",
    ),
    "a second restart does not write what others share": (
        Case("shared", (), "restart", times=2),
        "undone: nothing that others have found as they wanted it",
    ),
    "a late report completes a row that was started again": (
        Case("fork at the end", ("", ""), "rerun", "b", is_late=True, is_atomic=True),
        "evidence: the commit in the output",
    ),
    "a replaced sub-workflow runs again": (
        Case("sub with a retry", ("fails,empty", "", "empty,empty"), "rerun", "last"),
        "a replaced sub-workflow publishes nothing",
    ),
    "the clock of a later node is behind": (
        Case("optional", (",fails",), "rerun", "a"),
        "evidence: equality of start times",
    ),
    "the retry of a sub-workflow starts its canceled siblings again": (
        Case("siblings", ("dies", ""), "child-retry", is_late=True, is_atomic=True),
        "undone: only by the only open attempt",
    ),
    "a step that adopted the commit of a dead worker is run again": (
        Case("fork at the end", ("dies", ""), "rerun", "a"),
        "adopted: of the run that Conductor knows",
    ),
}
"""Recoveries that once lost a publication or left two in effect, each with the guard against it.
`tests/diagnosis/test_undo.py` has the rerun that takes another way of a switch."""
QUICK = 3_000
"""The worlds of a case that `make test` plays."""


@pytest.mark.parametrize("name", MISSED, ids=lambda name: name.replace(" ", "-"))
def test_an_order_breaks_a_promise_only_without_the_guard(name: str) -> None:
    _assert_missed(MISSED[name], name)


@pytest.mark.parametrize("name", RECOVERIES, ids=lambda name: name.replace(" ", "-"))
def test_a_recovery_breaks_a_promise_only_without_its_guard(name: str) -> None:
    _assert_missed(*RECOVERIES[name])


def _assert_missed(case: Case, guard: str) -> None:
    assert explore(case, QUICK).broken == ()
    with without(guard):
        assert explore(case, MOST).broken != ()


def test_the_guards_of_the_small_scope_have_a_case() -> None:
    assert MISSED.keys() >= IN_SMALL_SCOPE
