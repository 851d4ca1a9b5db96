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

from .builders import DELIVERY, MERGED, OTHER, PLAN, REF, STAGED, WORKSPACE, commit
from .script import (
    ACCEPTED,
    CLEANED_UP,
    NOTHING_LEFT,
    ONE_ADDED,
    PUBLICATION,
    READ_ONLY_TO_CHANGES,
    RESULT,
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
    state, commands = run(
        *TO_MERGE, on.Merged(MERGED), PUBLICATION, *CLEANED_UP, on.DeliveryConfirmed(), on.ReportSent()
    )

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
        "CheckDelivery",
        "SendReport",
        "NoneType",
    ]
    assert state.step is Step.REPORTED
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


def test_a_task_without_a_workspace_touches_neither_disk_nor_lakefs() -> None:
    state, commands = run(on.InputAccepted(None, "00"), on.FunctionReturned(), RESULT)

    assert kinds(commands) == ["ValidateInput", "RunFunction", "ValidateResult", "CheckDelivery"]
    assert state.step is Step.CLEANED
    assert state.report == Report(TaskStatus.COMPLETED, {"result": {"n": 1}})


@pytest.mark.parametrize("read_only", [False, True])
def test_no_change_completes_with_the_input_ref_and_publishes_nothing(read_only: bool) -> None:
    state, commands = run(
        *(READ_ONLY_TO_CHANGES if read_only else TO_CHANGES),
        on.ChangesDetected(),
        plan=replace(PLAN, read_only=read_only),
    )

    assert kinds(commands)[-1] == "RemoveDirectory"
    assert state.publication == REF


def test_a_read_only_task_that_changes_files_fails_retryably_and_lists_them() -> None:
    changed = on.ChangesDetected(added=("a",), changed=("b",), removed=("c",))
    state, commands = run(*READ_ONLY_TO_CHANGES, changed, plan=replace(PLAN, read_only=True))

    assert kinds(commands)[-1] == "RemoveDirectory"
    assert state.report is not None
    assert state.report.status is TaskStatus.FAILED
    assert state.report.reason is not None
    assert "added 'a'; changed 'b'; removed 'c'" in state.report.reason


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((0, None), "max_changed_objects (0)"),
        ((None, 2), "max_changed_bytes (2)"),
        ((1, 3), None),
    ],
)
def test_a_publish_budget_is_checked_before_anything_is_staged(
    limits: tuple[int | None, int | None], expected: str | None
) -> None:
    plan = replace(PLAN, max_changed_objects=limits[0], max_changed_bytes=limits[1])
    state, commands = run(*TO_CHANGES, ONE_ADDED, plan=plan)

    if expected is None:
        assert kinds(commands)[-1] == "CheckDelivery"
        return
    assert kinds(commands)[-1] == "RemoveDirectory"
    assert state.report is not None
    assert expected in str(state.report.reason)


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


# -------------------------------------------------------------------------- the branch


def test_a_foreign_commit_is_final_before_anything_is_downloaded() -> None:
    foreign = on.BranchRead((commit(OTHER, REF, message="fix typo"),), reaches_ref=True)
    state, commands = run(ACCEPTED, NOTHING_LEFT, foreign)

    assert "ListObjects" not in kinds(commands)
    assert state.report is not None
    assert state.report.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    reason = str(state.report.reason)
    assert all(part in reason for part in (REF[:12], OTHER[:12], "somebody", "fix typo"))


def test_a_ref_that_is_not_in_the_branch_is_final() -> None:
    state, _ = run(ACCEPTED, NOTHING_LEFT, on.BranchRead((commit(OTHER),), reaches_ref=False))

    assert state.report is not None
    assert state.report.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert "not in the first-parent history of branch main" in str(state.report.reason)


# ---------------------------------------------------------------------- the delivery check


@pytest.mark.parametrize("before", [(*TO_CHANGES, ONE_ADDED), TO_COMMITTED], ids=["staging", "the merge"])
def test_an_answer_of_the_delivery_check_that_came_late_is_asked_for_again(before: tuple[on.Event, ...]) -> None:
    """Twice at most: a slow service must not stop everything."""
    late = on.DeliveryConfirmed(late=True)
    _, commands = run(*before, late, late, late)

    assert kinds(commands)[-4:-1] == ["CheckDelivery"] * 3
    assert kinds(commands)[-1] in ("CreateStagingBranch", "ReadBranch")


def test_a_merge_is_not_sent_on_old_news_twice_in_a_row() -> None:
    late_read = on.BranchRead((), reaches_ref=True, late=True)
    _, commands = run(*TO_COMMITTED, on.DeliveryConfirmed(late=True), on.DeliveryConfirmed(), late_read)
    assert kinds(commands)[-1] == "CheckDelivery", "the process was stopped at both questions"


# --------------------------------------------------------------------------- every step


def test_an_event_that_cannot_happen_is_a_defect_of_the_driver() -> None:
    state, _ = begin(PLAN)
    with pytest.raises(ValueError, match="Merged cannot happen to an attempt that is received"):
        advance(state, on.Merged(MERGED))
