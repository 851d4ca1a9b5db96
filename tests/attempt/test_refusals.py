"""Every refusal has a row in the table that operators read (docs/dev/protocol.md), and its message fits the row."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import outcome, refusals
from perago.attempt.refusals import REFUSALS, Refusal
from perago.attempt.state import Base, Merge, Staging, State

from ..generated import assert_table
from .builders import MERGED, OTHER, PLAN, REF, STAGED, WORKSPACE, commit
from .diagram import PAGE
from .script import TO_COMMITTED, TO_LISTING, UNMOVED, kinds, run

STATE = State(
    PLAN,
    workspace=WORKSPACE,
    base=Base(REF),
    staging=Staging(branch="perago-0123-4567", commit=commit(STAGED, REF)),
    adopts=MERGED,
)
NAMES = {id(value): name for name, value in vars(refusals).items() if isinstance(value, Refusal)}
each_refusal = pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: NAMES[id(refusal)])


def rows() -> list[str]:
    """The first columns of the operators' tables."""
    table = PAGE.read_text("utf-8").partition("## What an operator sees")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)


def fits(row: str, message: str) -> bool:
    """Whether a message is as a row says. Dots stand for anything; inner back-quotes are left out on the page."""
    return re.match(".*".join(map(re.escape, row.split("..."))), message.replace("`", "")) is not None


def test_the_table_on_the_page_is_that_of_the_refusals() -> None:
    found = [(f"`{each.shown}`", each.meaning, each.advice) for each in REFUSALS]
    assert_table(
        "dev/protocol.md", "What an operator sees when it goes wrong", ("Message", "Meaning", "What to do"), found
    )


def test_every_refusal_of_the_module_is_registered() -> None:
    assert list(NAMES) == [id(refusal) for refusal in REFUSALS]


@each_refusal
def test_a_message_fits_its_row_and_no_other(refusal: Refusal) -> None:
    message = refusal.text(STATE, **refusal.example)
    others = set(rows()) - {refusal.shown}
    assert fits(refusal.shown, message), "`shown` does not match the message; write dots for the parts that vary"
    assert [row for row in others if fits(row, message)] == [], "`shown` of another refusal matches this message, too"
    assert len(message) < outcome.REASON_LIMIT


@each_refusal
def test_a_message_does_not_deny_a_merge_that_may_be_open(refusal: Refusal) -> None:
    message = refusal.text(replace(STATE, merge=Merge(open="A merge was sent.")), **refusal.example)
    assert refusals.NOTHING not in message


def test_other_messages_are_on_the_page_as_they_are_in_the_code() -> None:
    code = PAGE.parents[2] / "src/perago"
    files = [
        *(code / "driver").glob("*.py"),
        *(code / each for each in ("retry.py", "worker/attempts.py", "workspace/scan.py")),
    ]
    said = re.sub(r'"\s*f?"|\{[^}]*\}', "", " ".join(path.read_text("utf-8") for path in files))
    others = set(rows()) - {refusal.shown for refusal in REFUSALS}
    assert len(others) == 8
    for row in others:
        assert all(part.strip() in said for part in row.split("...")), row


@pytest.mark.parametrize("open_merge", [None, "A merge was sent. " * 5])
def test_a_long_conflict_still_names_the_commits_and_the_fix(open_merge: str | None) -> None:
    by = replace(commit(OTHER, REF, message="features.build: 1 added " * 9), committer="someone@example.com")
    paths = [f"{'deep/' * 40}{name}.csv" for name in "abcd"]
    state = replace(
        STATE,
        read=on.BranchRead((by,), reaches_ref=True),
        conflicts=dict.fromkeys(paths, "was changed on both sides"),
        merge=Merge(open=open_merge),
    )
    reason = outcome.failed(state, outcome.conflict(state, dict.fromkeys(paths, OTHER)), terminal=True).reason or ""
    assert "…" not in reason[-30:]
    for part in ("deep/a.csv'", f"head {REF[:12]}", "start the workflow from the new head", "and 3 more"):
        assert part in reason
    assert open_merge or OTHER[:12] in reason


@pytest.mark.parametrize("open_merge", [None, "A merge was sent. " * 5])
def test_many_violations_leave_room_for_the_word_that_it_is_the_combination(open_merge: str | None) -> None:
    state = replace(STATE, merge=Merge(open=open_merge))
    violations = ["post guardrail require_glob('features/**/*.csv', max_count=4): matched 5 files"] * 9
    reason = outcome.failed(state, outcome.violated_together(state, violations), terminal=False).reason or ""
    assert "This concerns the combination with commits of others on branch main" in reason
    assert reason.endswith(open_merge or refusals.NOTHING.strip())
    assert len(reason) == outcome.REASON_LIMIT


# ------------------------------------------------------------------------ a refusal of one's own


def declare(patch: pytest.MonkeyPatch, **options: object) -> None:
    """Add a refusal for a branch whose newest commit has the metadata key `frozen`."""
    condition: Callable[[State], dict[str, str] | None] = lambda state: (  # noqa: E731
        {} if state.head is not None and "frozen" in state.head.metadata else None
    )
    frozen = Refusal(
        "Branch {branch} is frozen.",
        shown="Branch ... is frozen",
        meaning="its newest commit says so",
        advice="ask its owner",
        check="branch",
        condition=condition,
        needs_head=True,
    )
    patch.setattr(refusals, "REFUSALS", (frozen,))


FROZEN_INPUT = replace(UNMOVED, input_commit=commit(REF, by={"frozen": ""}))


def test_a_refusal_that_needs_the_head_makes_the_attempt_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "REFUSALS", ())
    _, commands = run(*TO_LISTING[:2])
    assert commands[-1] == do.ReadBranch(WORKSPACE)
    declare(monkeypatch)
    _, commands = run(*TO_LISTING[:2])
    assert commands[-1] == do.ReadBranch(WORKSPACE, with_head=True)
    state, _ = run(*TO_LISTING[:2], FROZEN_INPUT)
    assert state.report is not None
    assert state.report.reason == "Branch main is frozen."


def test_a_refusal_about_the_branch_holds_until_the_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch)
    _, commands = run(*TO_COMMITTED, on.DeliveryConfirmed())
    assert commands[-1] == do.ReadBranch(WORKSPACE, with_head=True)
    state, commands = run(*TO_COMMITTED, on.DeliveryConfirmed(), FROZEN_INPUT)
    assert kinds(commands)[-1] == "RemoveStagingBranches"
    assert state.report is not None
    assert state.report.reason == "Branch main is frozen."


@pytest.mark.parametrize("refusal", [refusals.INTERRUPTED, refusals.UNPROVEN, refusals.INPUT_UNDONE])
def test_the_server_cuts_no_command_off(refusal: Refusal) -> None:
    """It cuts reasons at 500 characters."""
    name, workflow_id = "aggregate_customer_features_daily", "4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11"
    state = STATE.evolve(workspace=replace(WORKSPACE, repository=name, branch=name))
    facts = {"step": name, "other": name, "workflow": workflow_id, "publisher": workflow_id, "root": workflow_id}
    message = refusal.text(state, **{**refusal.example, **facts})
    assert message.endswith(f" {workflow_id}.")
    assert len(message) <= 500
