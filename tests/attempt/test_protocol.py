"""The state machine: which command follows which event, and what is never sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.protocol import advance, begin
from perago.attempt.state import Step
from perago.ports import Report, TaskStatus

from .builders import DELIVERY, MERGED, PLAN, REF, STAGED, WORKSPACE
from .script import (
    ACCEPTED,
    CLEANED_UP,
    ONE_ADDED,
    PUBLICATION,
    TO_CHANGES,
    TO_COMMITTED,
    TO_LISTING,
    TO_MERGE,
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


def test_a_successful_attempt_takes_every_step_in_order() -> None:
    state, commands = run(*TO_MERGE, on.Merged(MERGED), PUBLICATION, *CLEANED_UP)

    assert kinds(commands) == [
        "ValidateInput",
        "FindLeftovers",
        "ReadBranch",
        "CheckPublishFence",
        "ListObjects",
        "CheckGuardrails",
        "Fetch",
        "RunFunction",
        "ValidateResult",
        "CheckGuardrails",
        "DetectChanges",
        "CheckDelivery",
        "CreateStagingBranch",
        "StageChanges",
        "CommitStaging",
        "VerifyStaging",
        "TryPublishFence",
        "CheckDelivery",
        "ReadBranch",
        "Merge",
        "ReadPublication",
        "RemoveStagingBranches",
        "RemoveDirectory",
        "NoneType",
    ]
    assert state.step is Step.CLEANED
    assert state.report == Report(
        TaskStatus.COMPLETED,
        {
            "workspace": {"repository": "repo", "branch": "main", "ref_type": "commit", "ref": MERGED},
            "result": {"n": 1},
        },
    )


def test_the_merge_names_the_staging_commit_and_carries_where_it_comes_from() -> None:
    _, commands = run(*TO_MERGE)

    merge = commands[-1]
    assert isinstance(merge, do.Merge)
    assert (merge.source, merge.branch) == (STAGED, "main")
    assert merge.metadata["perago.expected_head"] == REF
    assert merge.metadata["perago.phase"] == "merge"
    assert merge.metadata["perago.step_key"] == "wf-1:build:features.build"
    assert merge.metadata["perago.result"] == '{"n":1}'
    assert merge.metadata["perago.staging_branch"].startswith("perago-")
    assert all(isinstance(value, str) for value in merge.metadata.values())


def test_the_output_spells_the_ref_type_as_the_input_did() -> None:
    accepted = on.InputAccepted(replace(WORKSPACE, ref_key="refType"), "00")
    state, _ = run(accepted, *TO_CHANGES[1:], on.ChangesDetected())

    assert state.report is not None
    assert state.report.output["workspace"] == {"repository": "repo", "branch": "main", "refType": "commit", "ref": REF}


@pytest.mark.parametrize(
    ("phase", "events", "status"),
    [
        ("pre", (*TO_LISTING, on.ObjectsListed()), TaskStatus.FAILED_WITH_TERMINAL_ERROR),
        ("post", TO_CHANGES[:-1], TaskStatus.FAILED),
    ],
)
def test_guardrail_violations_are_all_reported(phase: str, events: tuple[on.Event, ...], status: TaskStatus) -> None:
    state, _ = run(*events, on.GuardrailsChecked(("first", "second")))

    assert state.report == Report(status, reason="first; second")


# ---------------------------------------------------------------------- the delivery check


@pytest.mark.parametrize("before", [(*TO_CHANGES, ONE_ADDED), TO_COMMITTED], ids=["staging", "the merge"])
def test_an_answer_of_the_delivery_check_that_came_late_is_asked_for_again(before: tuple[on.Event, ...]) -> None:
    """Twice at most: a slow service must not stop everything."""
    late = on.DeliveryConfirmed(late=True)
    _, commands = run(*before, late, late, late)

    assert kinds(commands)[-4:-1] == ["CheckDelivery"] * 3
    assert kinds(commands)[-1] in ("CreateStagingBranch", "ReadBranch")


# --------------------------------------------------------------------------- every step


def test_an_event_that_cannot_happen_is_a_defect_of_the_driver() -> None:
    state, _ = begin(PLAN)
    with pytest.raises(ValueError, match="Merged cannot happen to an attempt that is received"):
        advance(state, on.Merged(MERGED))
