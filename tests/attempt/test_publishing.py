"""The publication: the merge, what is made of its answers, and the publish fence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.protocol import advance
from perago.attempt.publishing import MERGE_TRIES
from perago.ports import Commit, MergeRefusal, TaskStatus
from perago.settings import PublishFence

from .builders import DELIVERY, MERGED, OTHER, PLAN, REF, STAGED, commit, publication_of
from .script import (
    ENFORCED,
    ONE_ADDED,
    READ_ONLY_TO_CHANGES,
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

# ----------------------------------------------------------------------------- the merge


@pytest.mark.parametrize(
    "answer",
    [
        on.MergeUnclear("lost"),
        on.MergeRefused(MergeRefusal.NO_CHANGES, "no changes"),
        on.MergeRefused(MergeRefusal.HEAD_MOVED, "fence"),
        on.MergeRefused(MergeRefusal.CONFLICT, ""),
    ],
    ids=lambda answer: getattr(answer, "reason", "unclear"),
)
def test_an_answer_that_settles_nothing_is_resolved_by_looking(answer: on.Event) -> None:
    state, commands = run(*TO_MERGE, answer, on.DeliveryConfirmed())
    assert kinds(commands)[-2:] == ["CheckDelivery", "ReadBranch"]

    mine = publication_of(DELIVERY)
    state, command = advance(state, on.BranchRead((mine,), reaches_ref=True))
    assert command == do.ReadPublication("repo", MERGED)
    state, _ = advance(state, on.PublicationRead(mine))
    assert state.publication == MERGED


def test_a_merge_that_did_not_take_place_is_sent_again_a_bounded_number_of_times() -> None:
    again = (on.MergeUnclear("lost"), on.DeliveryConfirmed(), UNMOVED)
    state, commands = run(*TO_MERGE, *again * MERGE_TRIES)

    assert kinds(commands).count("Merge") == MERGE_TRIES
    assert kinds(commands)[-1] == "RemoveDirectory", "the staging branch tells a rerun that they may still arrive"
    assert state.report is not None
    assert state.report.status is TaskStatus.FAILED
    assert "lost" in str(state.report.reason)


def test_races_that_were_lost_before_a_merge_was_sent_allow_no_further_merges() -> None:
    state, _ = run(*TO_MERGE)
    state = state.evolve(rebuilt=50)
    merges = 1
    for event in (on.MergeUnclear("lost"), on.DeliveryConfirmed(), UNMOVED) * MERGE_TRIES:
        state, command = advance(state, event)
        merges += isinstance(command, do.Merge)
    assert merges == MERGE_TRIES


def test_ones_own_commit_below_a_foreign_one_still_counts_as_published() -> None:
    mine = publication_of(DELIVERY)
    state, _ = run(*TO_MERGE, on.MergeUnclear("lost"), on.DeliveryConfirmed())
    _, command = advance(state, on.BranchRead((commit(OTHER, MERGED), mine), reaches_ref=True))

    assert command == do.ReadPublication("repo", MERGED)


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


def test_a_merge_that_took_place_twice_over_somebody_elses_commit_is_still_told() -> None:
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
def test_what_an_operator_must_settle_is_retryable(reason: MergeRefusal, words: str) -> None:
    state, commands = run(*TO_MERGE, on.MergeRefused(reason, "their text"))

    assert kinds(commands)[-1] == "RemoveStagingBranches"
    assert state.report is not None
    assert state.report.status is TaskStatus.FAILED
    assert words in str(state.report.reason)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (commit(MERGED, OTHER, STAGED), "first parent is dddddddddddd"),
        (commit(MERGED, REF, STAGED, tree="tree-2"), "its tree differs"),
    ],
    ids=["parent", "tree"],
)
def test_a_publication_that_is_not_what_was_built_is_final_and_loud(found: Commit, words: str) -> None:
    state, _ = run(*TO_MERGE, on.Merged(MERGED), on.PublicationRead(found))

    assert state.publication is None
    assert state.report is not None
    assert state.report.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert words in str(state.report.reason)


# ------------------------------------------------------------------- the publish fence


def test_a_read_only_task_never_looks_at_the_branch() -> None:
    _, commands = run(*READ_ONLY_TO_CHANGES, on.ChangesDetected(), plan=replace(PLAN, read_only=True))
    assert kinds(commands)[:2] == ["ValidateInput", "ListObjects"]
    assert "ReadBranch" not in kinds(commands)


TO_BROUGHT = (
    *TO_LISTING[:-1],
    UNFENCED,
    *TO_CHANGES[len(TO_LISTING) :],
    ONE_ADDED,
    on.DeliveryConfirmed(),
    on.StagingBranchCreated(),
    on.ChangesStaged(),
    on.FenceStaged(),
    STAGING_COMMIT,
    on.StagingVerified(),
)


@pytest.mark.parametrize("policy", [PublishFence.AUTO, PublishFence.REQUIRED])
def test_the_first_publication_to_a_branch_brings_the_publish_fence_along(policy: PublishFence) -> None:
    state, commands = run(*TO_BROUGHT, ENFORCED, plan=replace(PLAN, publish_fence=policy, max_changed_objects=1))

    assert kinds(commands)[-6:-1] == [
        "StageChanges",
        "StageFence",
        "CommitStaging",
        "VerifyStaging",
        "TryPublishFence",
    ]
    staged, verify, tried = commands[-4:-1]
    assert isinstance(staged, do.CommitStaging)
    assert "1 added, 0 changed, 0 removed and the publish fence" in staged.message
    assert verify == do.VerifyStaging("repo", REF, STAGED, changes=True, fence=True)
    assert isinstance(tried, do.TryPublishFence)
    assert (tried.source, tried.branch) == (STAGED, state.staging_branch)
    assert tried.metadata["perago.expected_head"] == "0" * 64
    assert (state.fence, state.brings_fence) == (on.FenceState.ENFORCED, True)


def test_a_publish_fence_that_is_switched_off_is_neither_brought_nor_tried() -> None:
    events = [event for event in TO_BROUGHT if not isinstance(event, on.FenceStaged)]
    _, commands = run(*events, plan=replace(PLAN, publish_fence=PublishFence.OFF))

    assert {"StageFence", "TryPublishFence"}.isdisjoint(kinds(commands))
    assert kinds(commands)[-1] == "CheckDelivery"


@pytest.mark.parametrize("policy", PublishFence)
def test_a_file_with_the_name_of_the_publish_fence_is_refused_before_anything_is_downloaded(
    policy: PublishFence,
) -> None:
    altered = on.PublishFenceSeen(on.FenceState.ALTERED)
    state, commands = run(*TO_LISTING[:-1], altered, plan=replace(PLAN, publish_fence=policy))

    if policy is PublishFence.OFF:
        assert kinds(commands)[-1] == "ListObjects"
        return
    assert "ListObjects" not in kinds(commands)
    assert state.report is not None
    assert state.report.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert "_lakefs_actions/perago-publish-fence.yaml" in str(state.report.reason)


@pytest.mark.parametrize("policy", [PublishFence.AUTO, PublishFence.REQUIRED])
def test_a_server_that_runs_no_hooks_is_fatal_only_where_the_fence_is_required(policy: PublishFence) -> None:
    plan = replace(PLAN, publish_fence=policy)
    state, commands = run(*TO_COMMITTED[:-1], on.PublishFenceTried(enforced=False), plan=plan)

    assert state.fence is on.FenceState.NOT_ENFORCED
    if policy is PublishFence.AUTO:
        assert kinds(commands)[-1] == "CheckDelivery"
        return
    assert kinds(commands)[-1] == "RemoveStagingBranches"
    assert state.report is not None
    assert state.report.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert "actions.enabled" in str(state.report.reason)


@pytest.mark.parametrize("policy", [PublishFence.AUTO, PublishFence.REQUIRED])
def test_a_server_that_does_not_answer_the_challenge_costs_a_result_only_where_the_fence_is_required(
    policy: PublishFence,
) -> None:
    plan = replace(PLAN, publish_fence=policy)
    state, commands = run(*TO_COMMITTED[:-1], on.PublishFenceTried(None), plan=plan)

    if policy is PublishFence.AUTO:
        assert (kinds(commands)[-1], state.fence) == ("CheckDelivery", on.FenceState.INSTALLED)
        return
    assert state.report is not None
    assert state.report.status is TaskStatus.FAILED, "a retry may get an answer"
    assert "got no answer in time" in str(state.report.reason)


def test_an_earlier_copy_of_the_merge_that_took_place_unseen_is_told() -> None:
    """A proxy sent the request twice, and the answer to the second copy is the one that came."""
    refused = on.MergeRefused(MergeRefusal.NO_CHANGES, "no changes")
    state, _ = run(*TO_MERGE, refused, on.DeliveryLost())
    assert "may still appear on branch main" in str(state.problem)


def test_no_changes_with_a_predecessor_bring_the_fence_along_where_there_is_none() -> None:
    before = (TO_LISTING[0], on.LeftoversFound(("perago-old",)), UNMOVED, UNFENCED, *TO_CHANGES[len(TO_LISTING) :])
    events = (on.ChangesDetected(), on.DeliveryConfirmed(), on.StagingBranchCreated())
    made = on.FenceStaged(), STAGING_COMMIT, on.StagingVerified(), ENFORCED, on.DeliveryConfirmed(), UNMOVED
    _, commands = run(*before, *events, *made)

    assert "StageChanges" not in kinds(commands)
    assert do.VerifyStaging("repo", REF, STAGED, changes=False, fence=True) in commands
    merge = commands[-1]
    assert isinstance(merge, do.Merge)
    assert (merge.source, merge.allow_empty, merge.metadata["perago.phase"]) == (STAGED, False, "fence")
