"""How the commits between input ref and head are judged, on arrival and before the
merge."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt import history
from perago.attempt.history import Build, Refuse, judge, lineage_ids
from perago.attempt.protocol import advance, begin
from perago.attempt.state import Base, Plan
from perago.ports import Commit, TaskStatus

from . import script
from .builders import DELIVERY, MERGED, NEWER, OTHER, PLAN, REF, STAGED, commit, publication_of, workflow_row
from .judging import (
    CASES,
    CHAIN,
    FAMILY,
    FIRST,
    MINE_BEFORE_A_RERUN,
    PREDECESSOR,
    REBASE,
    RETRY,
    ROWS,
    SECOND,
    STATE,
    Case,
    read,
)
from .script import ACCEPTED, CLEANED_UP, ENFORCED, FENCED, ONE_ADDED, RESULT, SATISFIED, kinds


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_range_is_judged_as_the_contract_says(case: Case) -> None:
    assert case.holds(), case.judged()


def test_only_attempts_of_this_workflow_are_asked_about() -> None:
    others = publication_of(replace(FIRST, workflow_id="wf-2"), OTHER)
    assert lineage_ids(STATE, read(commit(NEWER), PREDECESSOR, others, PREDECESSOR)) == ("task-1",)
    assert lineage_ids(STATE, on.BranchRead((PREDECESSOR,), reaches_ref=False)) == (), "it is refused whatever they say"


def test_a_commit_without_an_attempt_causes_no_request() -> None:
    nameless = replace(PREDECESSOR, metadata={**PREDECESSOR.metadata, "perago.task_id": ""})
    assert lineage_ids(STATE, read(nameless)) == ()


# ------------------------------------------------------------------------- what follows

RETRY_PLAN = replace(PLAN, delivery=RETRY)
LINEAGE = on.LineageRead(CHAIN, ROWS)


run = partial(script.run, plan=RETRY_PLAN)
NONE_LEFT = on.LeftoversFound(())
TO_ADOPTION = (
    ACCEPTED,
    NONE_LEFT,
    read(PREDECESSOR),
    LINEAGE,
    on.AdoptedRead(PREDECESSOR, commit(STAGED, REF, by=PREDECESSOR.metadata)),
    RESULT,
    FENCED,
    on.DeliveryConfirmed(),
    on.StagingBranchCreated(),
    on.StagingCommitted(commit(STAGED, MERGED, by=publication_of(RETRY).metadata)),
    on.StagingVerified(),
    ENFORCED,
    on.DeliveryConfirmed(),
    read(PREDECESSOR),
)


def test_an_adoption_runs_no_function_moves_no_object_and_publishes_an_empty_fence_commit() -> None:
    state, commands = run(*TO_ADOPTION)

    assert kinds(commands) == [
        "ValidateInput",
        "FindLeftovers",
        "ReadBranch",
        "ReadLineage",
        "ReadAdopted",
        "ValidateRecordedResult",
        "CheckPublishFence",
        "CheckDelivery",
        "CreateStagingBranch",
        "CommitStaging",
        "VerifyStaging",
        "TryPublishFence",
        "CheckDelivery",
        "ReadBranch",
        "Merge",
    ]
    merge = commands[-1]
    assert isinstance(merge, do.Merge)
    assert (merge.source, merge.branch, merge.allow_empty) == (STAGED, "main", True)
    found = {key.removeprefix("perago."): value for key, value in merge.metadata.items()}
    assert (found["phase"], found["adopts"], found["expected_head"]) == ("fence", MERGED, MERGED)
    assert (found["task_id"], found["result"]) == ("task-3", '{"n":1}')

    fence = commit(NEWER, MERGED, STAGED)
    state, command = advance(state, on.Merged(NEWER))
    state, command = advance(state, on.PublicationRead(fence))
    assert isinstance(command, do.RemoveStagingBranches)
    state, command = advance(state, on.StagingBranchesRemoved())
    assert command is None, "there is no directory to remove"
    assert state.report is not None
    assert state.report.output["workspace"]["ref"] == NEWER
    assert state.report.output["result"] == {"n": 1}


def test_a_question_is_not_repeated_if_the_answer_lacks_the_requested_row() -> None:
    state, commands = run(*TO_ADOPTION[:3], on.LineageRead(CHAIN, {}))
    assert kinds(commands)[-2:] == ["ReadLineage", "NoneType"]
    assert state.report is not None
    assert state.report.status is TaskStatus.FAILED
    assert "what became of task task-1" in str(state.report.reason)


RERUN = read(replace(MINE_BEFORE_A_RERUN, id=OTHER))


TO_NO_CHANGES = (
    ACCEPTED,
    NONE_LEFT,
    read(),
    FENCED,
    on.ObjectsListed(),
    SATISFIED,
    on.Fetched(),
    on.FunctionReturned(),
    RESULT,
    SATISFIED,
)


@pytest.mark.parametrize(
    ("plan", "left"),
    [
        pytest.param(RETRY_PLAN, NONE_LEFT, id="a retry"),
        pytest.param(replace(PLAN, delivery=replace(DELIVERY, poll_count=2)), NONE_LEFT, id="a second poll"),
        pytest.param(PLAN, on.LeftoversFound(("perago-old",)), id="a staging branch"),
        pytest.param(PLAN, on.LeftoversFound((), complete=False), id="staging branches that are not listed"),
    ],
)
def test_no_changes_after_a_possible_predecessor_make_a_fence_commit(plan: Plan, left: on.LeftoversFound) -> None:
    """A rerun and a restart look like a first delivery, and what went before them may be about to merge."""
    state, command = begin(plan)
    to_staging = (TO_NO_CHANGES[0], left, *TO_NO_CHANGES[2:], on.ChangesDetected(), on.DeliveryConfirmed())
    for event in (*to_staging, on.StagingBranchCreated()):
        state, command = advance(state, event)
    assert isinstance(command, do.CommitStaging)
    assert (command.source, command.allow_empty) == (REF, True)


TO_COMMITTED = (
    *TO_NO_CHANGES,
    ONE_ADDED,
    on.DeliveryConfirmed(),
    on.StagingBranchCreated(),
    on.ChangesStaged(),
    on.StagingCommitted(commit(STAGED, REF, by=publication_of(RETRY).metadata)),
    on.StagingVerified(),
    ENFORCED,
    on.DeliveryConfirmed(),
)


def built(publication: Commit) -> on.AdoptedRead:
    """The publication and its staging commit."""
    return on.AdoptedRead(publication, commit(STAGED, REF, by=publication.metadata))


def adopted(head: Commit) -> tuple[on.Event, ...]:
    """An adoption that comes up right before the merge: what was staged goes, and a fence commit is made."""
    staging_commit = commit(STAGED, head.id, by=publication_of(RETRY).metadata)
    staged = on.StagingBranchCreated(), on.StagingCommitted(staging_commit), on.StagingVerified(), ENFORCED
    return (
        LINEAGE,
        built(head),
        RESULT,
        FENCED,
        on.StagingBranchesRemoved(),
        on.DeliveryConfirmed(),
        *staged,
        on.DeliveryConfirmed(),
    )


def test_changes_are_not_published_with_the_result_of_another_attempt() -> None:
    """An adoption takes the result over; if it comes to nothing, the own one is gone."""
    state, commands = run(*TO_COMMITTED, read(PREDECESSOR), *adopted(PREDECESSOR), RERUN, *CLEANED_UP)
    assert commands[-1] is None
    assert state.report is not None
    assert state.report.status is TaskStatus.FAILED
    assert "was to be adopted" in str(state.report.reason)


TO_PUBLISHED: tuple[on.Event, ...] = (
    read(),
    on.Merged(MERGED),
    on.PublicationRead(commit(MERGED, REF, STAGED)),
)


@pytest.mark.parametrize(
    ("ending", "removed"),
    [
        (TO_PUBLISHED, ["own", "theirs"]),
        ((on.CommandFailed("no luck", terminal=False),), ["own"]),
        ((on.DeliveryLost(),), ["own"]),
        ((read(), on.MergeUnclear("silence"), on.DeliveryLost()), []),
    ],
    ids=["published", "failed", "lost", "lost with a merge on its way"],
)
def test_leftovers_of_earlier_deliveries_are_removed_by_the_publisher(
    ending: tuple[on.Event, ...], removed: list[str]
) -> None:
    """Until then their merges may arrive, and the branches tell a rerun or a restart of that."""
    left = on.LeftoversFound(("perago-old-1", "perago-old-2"))
    state, command = begin(RETRY_PLAN)
    for event in (ACCEPTED, left, *TO_COMMITTED[2:], *ending):
        state, command = advance(state, event)
    branches = command.branches if isinstance(command, do.RemoveStagingBranches) else ()
    assert sorted({"theirs" if branch in left.branches else "own" for branch in branches}) == removed
    assert branches or isinstance(command, do.RemoveDirectory)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(commit(STAGED, REF), id="no metadata"),
        pytest.param(commit(STAGED, REF, by=PREDECESSOR.metadata, tree="tree-2"), id="another tree"),
        *[
            pytest.param(commit(STAGED, REF, by={**PREDECESSOR.metadata, key: "x"}), id=key)
            for key in ("perago.task_id", "perago.poll_count", "perago.result", "perago.params_sha256")
        ],
    ],
)
def test_a_merge_whose_second_parent_is_not_its_staging_commit_is_refused_and_never_published_again(
    source: Commit,
) -> None:
    state, commands = run(*TO_ADOPTION[:4], on.AdoptedRead(PREDECESSOR, source))
    assert commands[-1] is None
    assert state.report is not None
    assert state.report.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    for named in (MERGED[:12], STAGED[:12], "An earlier version of perago may have published it, without changes."):
        assert named in str(state.report.reason)
    assert state.adopts is None, "no record says that it was taken over"


def test_a_fence_commit_of_an_earlier_version_is_adopted_with_its_publication() -> None:
    below = publication_of(FIRST)
    by = {**publication_of(SECOND).metadata, "perago.phase": "fence", "perago.adopts": MERGED}
    fence = commit(NEWER, MERGED, MERGED, by={**by, "perago.expected_head": MERGED})
    state, commands = run(*TO_ADOPTION[:2], read(fence, below), LINEAGE, on.AdoptedRead(fence, below))
    assert state.report is None
    assert isinstance(commands[-1], do.ValidateRecordedResult)


def test_workflows_are_read_up_to_a_limit_and_a_longer_chain_is_refused() -> None:
    count = history.WORKFLOWS_READ
    others = [publication_of(replace(DELIVERY, workflow_id=f"wf-of-others-{number}")) for number in range(count)]
    state = REBASE.evolve(read=read(*others))
    asked = history.workflow_ids(state, read(*others))
    assert asked[0] == "wf-1", "this attempt's own first"
    assert len(asked) == count
    state = state.evolve(workflows={workflow: workflow_row(workflow, 100) for workflow in asked})
    assert history.ask_first(state) is None
    judgement = judge(state)
    assert isinstance(judgement, Refuse)
    assert f"wf-of-others-{count - 1} published it" in judgement.reason


def test_a_workflow_is_asked_for_although_its_parent_names_it() -> None:
    named = [publication_of(replace(DELIVERY, workflow_id=f"wf-{number}")) for number in range(2, 200)]
    rows = {
        "wf-1": workflow_row("wf-1", 100, "root"),
        "root": workflow_row("root", 100, children=(f"wf-{number}" for number in range(1, 200))),
    }
    asked = history.workflow_ids(REBASE.evolve(workflows=rows), read(*named))
    assert asked == tuple(f"wf-{number}" for number in range(2, 200)), "only its own start time tells of its restart"


def test_the_workflows_of_undone_publications_are_not_requested() -> None:
    before = publication_of(replace(DELIVERY, workflow_id="wf-old"))
    living = publication_of(replace(DELIVERY, workflow_id="wf-beside"), NEWER, MERGED)
    living = replace(living, metadata={**living.metadata, "perago.supersedes": MERGED})
    state = REBASE.evolve(
        workflows={key: FAMILY[key] for key in ("wf-1", "wf-beside", "root")}, read=read(living, before)
    )
    assert history.workflow_ids(state, read(living, before)) == ()
    assert judge(state) == Build(Base(NEWER, (), "tree-1"))
    assert history.workflow_ids(state, read(before)) == ("wf-old",)


def test_the_parents_of_the_own_workflow_are_read_again_for_the_next_range() -> None:
    others = read(publication_of(replace(DELIVERY, workflow_id="wf-beside")))
    state = history.judged(REBASE.evolve(read=others, workflows=FAMILY))
    assert history.workflow_ids(state, others) == ("root",)


def test_a_recorded_result_that_is_not_valid_today_is_not_adopted() -> None:
    state, _ = run(*TO_ADOPTION[:5], on.CommandFailed("the model has changed", terminal=True))
    assert state.report is not None
    assert state.report.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
