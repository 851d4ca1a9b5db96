"""The state machine: which command follows which event, and what is never sent."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.outcome import advance_report, begin_report, fitted
from perago.attempt.protocol import MERGE_TRIES, advance, begin
from perago.attempt.state import State, Step
from perago.ports import Commit, MergeRefusal, Report, TaskStatus

from .builders import DELIVERY, MERGED, OTHER, PLAN, REF, STAGED, commit, publication_of
from .script import (
    ACCEPTED,
    ENFORCED,
    ONE_ADDED,
    STAGING_COMMIT,
    TO_CHANGES,
    TO_COMMITTED,
    TO_LISTING,
    TO_MERGE,
    UNFENCED,
    UNMOVED,
    kinds,
    run,
)


@pytest.mark.parametrize("name", ["workflow_id", "task_id"])
@pytest.mark.parametrize("text", ["", "a b", "a#1", "ü", "a/b", "..", "x" * 256, "a\ud800"])
def test_an_id_by_which_a_publication_could_not_be_found_again_is_refused_up_front(name: str, text: str) -> None:
    changed: dict[str, Any] = {name: text}
    plan = replace(PLAN, delivery=replace(DELIVERY, **changed))
    state, _ = run(ACCEPTED, plan=plan)
    assert state.report is not None
    assert state.report.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert f"The {name.removesuffix('_id')} id " in str(state.report.reason)
    _, commands = run(on.InputAccepted(None, "00"), plan=plan)
    assert isinstance(commands[-1], do.RunFunction), "without a workspace it publishes nothing"


def test_the_newest_commit_of_a_branch_is_reported() -> None:
    """The launcher of a schedule asks for it. No function runs, and nothing is published."""
    asked = on.InputAccepted(on.WorkspaceRef("repo", "main", ""), "")
    state, commands = run(asked, on.BranchRead((commit(OTHER, REF),), reaches_ref=False))
    assert kinds(commands[:-1]) == ["ValidateInput", "ReadBranch"]
    block = {"repository": "repo", "branch": "main", "ref_type": "commit", "ref": OTHER}
    assert state.report == Report(TaskStatus.COMPLETED, {"workspace": block})


# ---------------------------------------------------------------------- the delivery check


@pytest.mark.parametrize(
    "before", [(*TO_CHANGES, ONE_ADDED, on.StagingBranchCreated()), TO_COMMITTED], ids=["staging", "the merge"]
)
def test_an_answer_of_the_delivery_check_that_came_late_is_asked_for_again(before: tuple[on.Event, ...]) -> None:
    """Twice at most: a slow service must not stop everything."""
    late = on.DeliveryConfirmed(late=True)
    _, commands = run(*before, late, late, late)

    assert kinds(commands)[-4:-1] == ["CheckDelivery"] * 3
    assert kinds(commands)[-1] in ("StageChanges", "ReadBranch")


# --------------------------------------------------------------------------- every step


def test_an_event_that_cannot_happen_is_a_defect_of_the_driver() -> None:
    state, _ = begin(PLAN)
    with pytest.raises(ValueError, match="Merged cannot happen to an attempt that is received"):
        advance(state, on.Merged(MERGED))


# ----------------------------------------------------------------------------- the merge


FENCE_COMMIT = (
    TO_LISTING[0],
    on.LeftoversFound(("perago-old",)),
    *TO_CHANGES[2:],
    on.ChangesDetected(),
    on.StagingBranchCreated(),
    on.DeliveryConfirmed(),
    on.StagingCommitted(commit(STAGED, REF, by=publication_of(DELIVERY).metadata)),
    on.StagingVerified(),
    on.PublishFenceTried(enforced=False),
    on.DeliveryConfirmed(),
    UNMOVED,
)
FIRST_COPY = replace(publication_of(DELIVERY), parents=(REF, STAGED))
SECOND_COPY = replace(publication_of(DELIVERY, OTHER), parents=(MERGED, STAGED))


@pytest.mark.parametrize("answered", [True, False])
def test_a_merge_that_may_be_empty_and_took_place_twice_is_ones_own(answered: bool) -> None:
    """Where no publish fence is enforced. The branch holds the second copy, so the next step must begin with it."""
    again = on.MergeUnclear("lost"), on.DeliveryConfirmed(), UNMOVED
    looked = on.DeliveryConfirmed(), on.BranchRead((SECOND_COPY, FIRST_COPY), reaches_ref=True)
    told: tuple[on.Event, ...] = (on.Merged(OTHER), on.PublicationRead(SECOND_COPY))
    state, _ = run(*FENCE_COMMIT, *again, *(told if answered else (on.MergeUnclear("lost"),)), *looked)
    state, _ = advance(state, on.PublicationRead(SECOND_COPY))

    assert state.publication == OTHER


def test_a_duplicate_merge_over_a_foreign_commit_is_still_reported() -> None:
    again = on.MergeUnclear("lost"), on.DeliveryConfirmed(), UNMOVED
    first = replace(FIRST_COPY, parents=("9" * 64, STAGED))
    foreign = commit("9" * 64, REF)
    looked = on.DeliveryConfirmed(), on.BranchRead((SECOND_COPY, first, foreign), reaches_ref=True)
    state, _ = run(*FENCE_COMMIT, *again, on.MergeUnclear("lost"), *looked, on.PublicationRead(SECOND_COPY))

    assert state.publication is None
    assert state.report is not None
    assert "is not what this attempt built" in str(state.report.reason)


def test_an_unseen_earlier_copy_of_the_merge_is_reported() -> None:
    """A proxy sent the request twice, and the answer to the second copy is the one that came."""
    refused = on.MergeRefused(MergeRefusal.NO_CHANGES, "no changes")
    state, _ = run(*TO_MERGE, refused, on.DeliveryLost())
    assert "may still appear on branch main" in str(state.problem)


def test_a_merge_into_a_dirty_branch_is_not_repeated_and_the_reason_says_what_to_do() -> None:
    state, commands = run(*TO_MERGE, on.MergeRefused(MergeRefusal.DIRTY, "uncommitted changes"))
    assert kinds(commands)[-2:] == ["Merge", "RemoveStagingBranches"]
    assert "Commit or reset them; a retry then succeeds." in reason_of(state)


REBASE = replace(PLAN, rebase=True)
MOVED = on.BranchRead((commit(OTHER, REF),), reaches_ref=True)
BUILT_AGAIN = (
    *(*TO_COMMITTED, on.TurnCame(), on.DeliveryConfirmed(), MOVED),
    *(on.StagingBranchesRemoved(), on.StagingBranchCreated(), on.DeliveryConfirmed()),
)
"""A race is lost before the first merge."""


def test_changes_are_staged_again_instead_of_merged_onto_a_head_that_has_lost_the_fence() -> None:
    _, commands = run(*BUILT_AGAIN, on.OthersCompared(), plan=REBASE)
    assert kinds(commands)[-1] == "CarryChanges"
    _, commands = run(*BUILT_AGAIN, on.OthersCompared(fence_changed=True), UNFENCED, plan=REBASE)
    assert kinds(commands)[-1] == "StageChanges"


def test_a_race_that_is_lost_before_the_first_merge_does_not_raise_the_number_of_merges() -> None:
    carried = on.StagingCommitted(commit(STAGED, OTHER, STAGED, by=publication_of(DELIVERY).metadata))
    built = on.OthersCompared(), carried, on.StagingVerified(), ENFORCED, on.DeliveryConfirmed(), MOVED
    unclear = on.MergeUnclear("lost"), on.DeliveryConfirmed(), MOVED
    state, commands = run(*BUILT_AGAIN, *built, *unclear * MERGE_TRIES, plan=REBASE)
    assert kinds(commands).count("Merge") == MERGE_TRIES
    assert "could not be confirmed with 3 calls" in reason_of(state)


def test_no_changes_with_a_predecessor_install_a_missing_fence() -> None:
    before = (TO_LISTING[0], on.LeftoversFound(("perago-old",)), UNMOVED, UNFENCED, *TO_CHANGES[len(TO_LISTING) :])
    events = (on.ChangesDetected(), on.StagingBranchCreated(), on.DeliveryConfirmed())
    made = on.FenceStaged(), STAGING_COMMIT, on.StagingVerified(), ENFORCED, on.DeliveryConfirmed(), UNMOVED
    _, commands = run(*before, *events, *made)

    assert "StageChanges" not in kinds(commands)
    assert do.VerifyStaging("repo", REF, STAGED, changes=False, fence=True) in commands
    merge = commands[-1]
    assert isinstance(merge, do.Merge)
    assert (merge.source, merge.allow_empty, merge.metadata["perago.phase"]) == (STAGED, False, "fence")


# -------------------- The words of an outcome: what a reason may hold, and what it must not keep quiet


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


# ---------------------------------------------------------------------------- old answers


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
