"""The words of an outcome: what a reason may hold, and what it must not keep quiet."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.outcome import advance_report, begin_report, fitted
from perago.attempt.protocol import advance
from perago.attempt.state import State, Step
from perago.ports import Commit, Report, TaskStatus

from .builders import DELIVERY, MERGED, OTHER, PLAN, REF, STAGED, commit, publication_of
from .script import TO_COMMITTED, TO_MERGE, UNMOVED, run

FOREIGN = on.BranchRead((commit(OTHER, REF, message="fix typo"),), reaches_ref=True)
UNCLEAR = (on.MergeUnclear("time-out"), on.DeliveryConfirmed())
MAY_APPEAR = f"A merge of staging commit {STAGED[:12]} was sent without a clear answer, so it may still appear"
TOOK_PLACE = f"The merge took place as commit {MERGED[:12]} on branch main, but was not verified."


def reason_of(state: State) -> str:
    assert state.report is not None
    return str(state.report.reason)


# --------------------------------------------------------------------- what a server can store


def test_a_reason_that_utf_8_cannot_carry_is_written_with_escapes() -> None:
    found = fitted("no file 'a\udcff\0b'")
    assert found == "no file 'a\\udcff\\0b'"
    assert json.loads(json.dumps(found, ensure_ascii=False).encode()) == found


@pytest.mark.parametrize("text", ["x" * 499 + "😀", "😀" * 251, "é" * 501, "x" * 10_000])
def test_a_reason_is_cut_in_the_units_that_the_server_counts_and_never_inside_a_character(text: str) -> None:
    found = fitted(text)
    assert len(found.encode("utf-16-le")) // 2 <= 500
    assert found.endswith("…")
    assert text.startswith(found[:-1])


def test_required_words_are_in_the_message_for_any_length_of_the_reason() -> None:
    found = fitted("x" * 600, " The end.")
    assert len(found) == 500
    assert found.endswith("x… The end.")


@pytest.mark.parametrize(
    "found",
    [
        commit(STAGED, OTHER, by=publication_of(DELIVERY).metadata),
        commit(STAGED, REF, OTHER, by=publication_of(DELIVERY).metadata),
        commit(STAGED, REF, by=publication_of(replace(DELIVERY, task_id="task-2")).metadata),
    ],
    ids=["another parent", "a merge", "another attempt"],
)
def test_only_this_attempts_own_commit_on_the_input_ref_is_merged(found: Commit) -> None:
    state, commands = run(*TO_COMMITTED[:-1], on.StagingCommitted(found))

    assert isinstance(commands[-1], do.RemoveStagingBranches)
    assert "another client used the branch" in reason_of(state)


# -------------------------------------------------------------------- possible publications


def test_a_publication_that_cannot_be_read_back_is_named_in_the_failure() -> None:
    state, _ = run(*TO_MERGE, on.Merged(MERGED), on.CommandFailed("lakeFS: no answer", terminal=False))

    assert state.report == Report(TaskStatus.FAILED, reason=f"lakeFS: no answer {TOOK_PLACE}")


def test_a_delivery_lost_after_a_merge_without_an_answer_mentions_the_merge() -> None:
    state, _ = run(*TO_MERGE, on.MergeUnclear("time-out"), on.DeliveryLost())

    assert state.step is Step.LOST
    assert MAY_APPEAR in str(state.problem)


def test_a_failure_before_any_merge_says_nothing_of_one() -> None:
    state, _ = run(*TO_COMMITTED, on.DeliveryConfirmed(), FOREIGN)
    assert "Nothing of this attempt was published." in reason_of(state)


def test_a_wrong_publication_is_not_also_called_unverified() -> None:
    mine = on.PublicationRead(replace(publication_of(DELIVERY), parents=(OTHER, STAGED)))
    looked = on.DeliveryConfirmed(), on.BranchRead((mine.commit, commit(OTHER, REF)), reaches_ref=True)
    state, _ = run(*TO_MERGE, *UNCLEAR, UNMOVED, on.Merged(MERGED), mine, *looked, mine)
    assert "is not what this attempt built" in reason_of(state)
    assert "may still appear" not in reason_of(state)


# ---------------------------------------------------------------------------- old answers


def test_a_branch_that_took_long_to_read_outdates_the_delivery_check_twice() -> None:
    late = replace(UNMOVED, late=True)
    state, commands = run(*TO_COMMITTED, on.DeliveryConfirmed(), late)
    assert commands[-1] == do.CheckDelivery()

    _, lost = advance(state, on.DeliveryLost())
    assert isinstance(lost, do.RemoveStagingBranches)
    for event in (on.DeliveryConfirmed(), late, on.DeliveryConfirmed()):
        state, again = advance(state, event)
    assert isinstance(again, do.ReadBranch)
    _, merge = advance(state, late)
    assert isinstance(merge, do.Merge), "a server that is always slow can be published to"


@pytest.mark.parametrize(("sent", "step"), [(True, Step.REPORTED), (False, Step.LOST)])
def test_only_a_report_that_may_have_arrived_counts_as_the_end_of_the_delivery(sent: bool, step: Step) -> None:
    state, _ = begin_report(Report(TaskStatus.COMPLETED))
    for event in (on.DeliveryConfirmed(), on.ReportUnclear("no answer", sent=sent), on.DeliveryLost()):
        state, _ = advance_report(state, event)

    assert state.step is step
    with pytest.raises(ValueError, match="Merged cannot happen to a report"):
        advance_report(state, on.Merged(MERGED))


@pytest.mark.parametrize("step", [Step.PUBLISHED, Step.FAILED, Step.LOST])
def test_clean_up_cannot_change_an_outcome(step: Step) -> None:
    with pytest.raises(ValueError, match=f"CommandFailed cannot happen to an attempt that is {step}"):
        advance(State(PLAN, step), on.CommandFailed("no", terminal=False))
