"""The publication: the merge, what is made of its answers, and the publish fence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.protocol import MERGE_TRIES, advance
from perago.ports import MergeRefusal, TaskStatus

from .builders import DELIVERY, MERGED, OTHER, REF, STAGED, commit, publication_of
from .script import (
    ENFORCED,
    STAGING_COMMIT,
    TO_CHANGES,
    TO_LISTING,
    TO_MERGE,
    UNFENCED,
    UNMOVED,
    kinds,
    run,
)

# ----------------------------------------------------------------------------- the merge


def test_races_that_were_lost_before_a_merge_was_sent_allow_no_further_merges() -> None:
    state, _ = run(*TO_MERGE)
    state = state.evolve(rebuilt=50)
    merges = 1
    for event in (on.MergeUnclear("lost"), on.DeliveryConfirmed(), UNMOVED) * MERGE_TRIES:
        state, command = advance(state, event)
        merges += isinstance(command, do.Merge)
    assert merges == MERGE_TRIES


FENCE_COMMIT = (
    TO_LISTING[0],
    on.LeftoversFound(("perago-old",)),
    *TO_CHANGES[2:],
    on.ChangesDetected(),
    on.DeliveryConfirmed(),
    on.StagingBranchCreated(),
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


@pytest.mark.parametrize(
    ("reason", "words"),
    [(MergeRefusal.HOOK, "their text"), (MergeRefusal.DIRTY, "uncommitted changes")],
)
def test_problems_for_an_operator_are_retryable(reason: MergeRefusal, words: str) -> None:
    state, commands = run(*TO_MERGE, on.MergeRefused(reason, "their text"))

    assert kinds(commands)[-1] == "RemoveStagingBranches"
    assert state.report is not None
    assert state.report.status is TaskStatus.FAILED
    assert words in str(state.report.reason)


# ------------------------------------------------------------------- the publish fence


def test_an_unseen_earlier_copy_of_the_merge_is_reported() -> None:
    """A proxy sent the request twice, and the answer to the second copy is the one that came."""
    refused = on.MergeRefused(MergeRefusal.NO_CHANGES, "no changes")
    state, _ = run(*TO_MERGE, refused, on.DeliveryLost())
    assert "may still appear on branch main" in str(state.problem)


def test_no_changes_with_a_predecessor_install_a_missing_fence() -> None:
    before = (TO_LISTING[0], on.LeftoversFound(("perago-old",)), UNMOVED, UNFENCED, *TO_CHANGES[len(TO_LISTING) :])
    events = (on.ChangesDetected(), on.DeliveryConfirmed(), on.StagingBranchCreated())
    made = on.FenceStaged(), STAGING_COMMIT, on.StagingVerified(), ENFORCED, on.DeliveryConfirmed(), UNMOVED
    _, commands = run(*before, *events, *made)

    assert "StageChanges" not in kinds(commands)
    assert do.VerifyStaging("repo", REF, STAGED, changes=False, fence=True) in commands
    merge = commands[-1]
    assert isinstance(merge, do.Merge)
    assert (merge.source, merge.allow_empty, merge.metadata["perago.phase"]) == (STAGED, False, "fence")
