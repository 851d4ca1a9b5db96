"""Recoveries of workflows, and the effect of each change of a registered workflow.

What perago allows ends, and what the model leaves open is refused. The same was tried by hand on a real Conductor
3.32.3, for each row of each shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from perago.embedded.conductor import InMemoryConductor
from perago.ports import VirtualClock
from perago.workflows.recovery import attempt_of, permissive_retries, rerun_refusal, retry_refusal, revived_by
from perago.workflows.registered import classify_workflows

from .shapes import ENDINGS, SHAPES, TASK, step


class Run:
    """A workflow whose tasks are all done by this test."""

    def __init__(self, shape: str, ending: str) -> None:
        steps, self._failing = SHAPES[shape]
        self._failures = ENDINGS[ending]
        self._clock = VirtualClock()
        self.conductor = InMemoryConductor(self._clock)
        self.conductor.register_task_definitions([{"name": TASK, "retryCount": 1, "retryDelaySeconds": 0}])
        for name, tasks in (("child", [step("inner")]), ("flow", steps)):
            self.conductor.create_workflow_definition(
                {"name": name, "version": 1, "schemaVersion": 2, "tasks": tasks, "ownerEmail": "a@example.com"}
            )
        self.id = self.conductor.start_workflow("flow", {})
        self.drive()

    @property
    def workflow(self) -> dict[str, Any]:
        return self.conductor.workflow(self.id)

    def drive(self) -> list[str]:
        """Do every task that comes within five minutes; return their steps."""
        done = []
        for _ in range(5):
            while polled := self.conductor.poll_tasks(TASK, "w", count=10, wait_seconds=0):
                for row in polled:
                    done.append(row["referenceTaskName"])
                    fails = row["referenceTaskName"] == self._failing and self._failures > 0
                    self._failures -= fails
                    result = {"taskId": row["taskId"], "workflowInstanceId": row["workflowInstanceId"]}
                    self.conductor.update_task({**result, "status": "FAILED" if fails else "COMPLETED"})
                    self.conductor.sweep()
            self._clock.advance(60)
            self.conductor.sweep()
        return done


def rows_of(shape: str, ending: str) -> list[str]:
    return list(dict.fromkeys(row["referenceTaskName"] for row in Run(shape, ending).workflow["tasks"]))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_allowed_rerun_ends_with_all_steps_and_a_stuck_one_is_refused(shape: str, ending: str) -> None:
    judged = {}
    for reference in rows_of(shape, ending):
        run = Run(shape, ending)
        before = run.workflow
        row = attempt_of(before, reference)
        assert row is not None
        refusal = rerun_refusal(before, row)
        run.conductor.rerun_workflow(run.id, row["taskId"])
        done = run.drive()
        judged[reference] = refusal
        if refusal is None:
            assert run.workflow["status"] == "COMPLETED", reference
            behind = SHAPES[shape][0][-1]["taskReferenceName"]
            assert behind in done, f"{behind} did not run after a rerun from {reference}"
        else:
            assert f"perago rerun {run.id}" in refusal.fix
    assert None in judged.values()


STUCK = [
    ("fork", "fork", "static fork"),
    ("fork", "fork.join", "a JOIN"),
    ("fork", "x", "not in the last branch"),
    ("two steps", "y2", "after the JOIN"),
    ("one step last", "y", "x2 of fork fork was scheduled after y"),
    ("dynamic", "x", "dynamic fork"),
    ("nested", "x", "fork inside"),
    ("loop", "l1__1", "in a loop"),
    ("loop", "l2__2", "in a loop"),
    ("switch", "switch", "a SWITCH"),
]


@pytest.mark.parametrize(("shape", "reference", "words"), STUCK)
def test_a_rerun_that_would_be_stuck_is_refused_with_the_recovery_that_works(
    shape: str, reference: str, words: str
) -> None:
    run = Run(shape, "completed")
    row = attempt_of(run.workflow, reference)
    assert row is not None
    refusal = rerun_refusal(run.workflow, row)
    assert refusal is not None
    assert words in refusal.problem
    run.conductor.rerun_workflow(run.id, row["taskId"])
    run.drive()
    assert run.workflow["status"] == "RUNNING", "the refused rerun works"

    ended = rerun_refusal(run.workflow, None)
    assert ended is not None
    assert ended.fix == f"end it first: perago terminate {run.id}"
    run.conductor.terminate_workflow(run.id)
    assert rerun_refusal(run.workflow, None) is None
    run.conductor.restart_workflow(run.id)
    run.drive()
    assert run.workflow["status"] == "COMPLETED"


def recoveries(run: Run, fix: str) -> Iterator[str | None]:
    """The steps that a fix begins at; None for all."""
    for command in fix.split("; or "):
        words = command.split(": ")[1].split()
        assert words[:3] == ["perago", "rerun", run.id] or words == ["perago", "retry", run.id]
        if words[1] == "rerun":
            yield words[4] if len(words) > 3 else None


@pytest.mark.parametrize(("shape", "reference"), [each[:2] for each in STUCK])
@pytest.mark.parametrize("ending", ["completed", "failed"])
def test_every_named_recovery_works(shape: str, reference: str, ending: str) -> None:
    first = Run(shape, ending)
    row = attempt_of(first.workflow, reference)
    if row is None:
        pytest.skip("the step was not reached")
    refusal = rerun_refusal(first.workflow, row)
    assert refusal is not None
    for begin in recoveries(first, refusal.fix):
        run = Run(shape, ending)
        begun = attempt_of(run.workflow, begin) if begin else None
        assert rerun_refusal(run.workflow, begun) is None
        run.conductor.rerun_workflow(run.id, begun["taskId"] if begun else None)
        run.drive()
        assert run.workflow["status"] == "COMPLETED", begin


@pytest.mark.parametrize("shape", SHAPES)
def test_an_allowed_retry_ends_with_all_steps(shape: str) -> None:
    run = Run(shape, "failed")
    assert run.workflow["status"] == "FAILED"
    assert retry_refusal(run.workflow) is None
    is_permissive = SHAPES[shape][1] in permissive_retries(run.workflow)
    assert is_permissive == (shape in ("fork", "two steps", "one step last", "dynamic", "dynamic first", "nested"))
    run.conductor.retry_workflow(run.id)
    run.drive()
    assert run.workflow["status"] == "COMPLETED"


def test_a_retry_of_a_workflow_that_has_not_failed_is_refused() -> None:
    run = Run("line", "completed")
    refusal = retry_refusal(run.workflow)
    assert refusal is not None
    assert refusal.fix == f"run every step again: perago rerun {run.id}"
    run.conductor.restart_workflow(run.id)
    refusal = retry_refusal(run.workflow)
    assert refusal is not None
    assert refusal.fix == f"end it first: perago terminate {run.id}"


def test_a_retry_of_a_fork_that_never_ran_is_refused() -> None:
    run = Run("fork", "completed")
    row = attempt_of(run.workflow, "fork")
    assert row is not None
    run.conductor.rerun_workflow(run.id, row["taskId"])
    run.conductor.terminate_workflow(run.id)
    refusal = retry_refusal(run.workflow)
    assert refusal is not None
    assert refusal.problem.startswith("fork is a fork, whose new row would stay SCHEDULED")
    assert list(recoveries(run, refusal.fix)) == [None]
    run.conductor.retry_workflow(run.id)
    assert run.drive() == []
    assert run.workflow["status"] == "RUNNING", "the refused retry works"


def test_a_retry_that_conductor_answers_with_500_is_refused() -> None:
    """The first step that the JOIN names has a row of another name, as in each round of a loop."""
    run = Run("fork", "failed")
    workflow = run.workflow
    for row in workflow["tasks"]:
        if row["referenceTaskName"] == "x":
            row["referenceTaskName"] = "x__1"
    refusal = retry_refusal(workflow)
    assert refusal is not None
    assert "JOIN fork.join has failed, and its step x has no attempt" in refusal.problem


def test_the_attempts_that_a_rerun_repeats_are_named() -> None:
    workflow = Run("line", "retried").workflow
    row = attempt_of(workflow, "c")
    assert row is not None
    assert revived_by(workflow, row) == ["b"]
    assert attempt_of(workflow, row["taskId"]) == row
    assert attempt_of(workflow, "nothing") is None


# ---------------------------------------------------------------------------- registered workflows


SERVER = {"optional": False, "startDelay": 0, "retryCount": None, "permissive": False, "asyncComplete": False}


@pytest.mark.parametrize(
    "option", [{"optional": True}, {"retryCount": 0}, {"startDelay": 60}, {"permissive": True}, {"description": "A"}]
)
def test_an_option_that_was_removed_is_a_change(option: dict[str, Any]) -> None:
    step = {"name": "work", "taskReferenceName": "one", "type": "SIMPLE", "inputParameters": {}}
    here = {"name": "nightly", "version": 1, "tasks": [step]}
    before = {**here, "tasks": [{**SERVER, **step, **option}]}
    assert classify_workflows({**here, "tasks": [{**SERVER, **step}]}, here) == ()
    (change,) = classify_workflows(before, here)
    assert change.pointer == f"/tasks/0/{next(iter(option))}"


def test_a_description_that_was_removed_is_a_change() -> None:
    here = {"name": "nightly", "version": 1, "tasks": []}
    assert classify_workflows({**here, "description": None}, here) == ()
    assert [change.word for change in classify_workflows({**here, "description": "A"}, here)] == ["cosmetic"]


def test_a_case_that_was_removed_is_a_change() -> None:
    here = {"version": 1, "tasks": [{"type": "SWITCH", "decisionCases": {"a": []}}]}
    before = {"tasks": [{"type": "SWITCH", "decisionCases": {"a": [], "optional": []}}]}
    assert [change.pointer for change in classify_workflows(before, here)] == ["/tasks/0/decisionCases/optional"]
