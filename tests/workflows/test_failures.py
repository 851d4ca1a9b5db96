"""Time limits of steps and workflows, and the workflow that runs after a failure, on the embedded Conductor."""

from __future__ import annotations

from typing import Any

import pytest

from perago import TaskDefinitionError
from perago.taskdef import build_task_definition
from perago.testing import TaskRunner
from perago.testing.tasks import task_of
from perago.workflows import FailedWorkflow, Flow, Workflow, WorkflowDefinitionError, workflow
from perago.workflows.registered import classify_workflows

from .tasks import OWNER, Named, Split, Words, alone, fail, split, write

START = {"start": ""}


class FailedNamed(FailedWorkflow):
    name: str


@workflow(name="cleanup", version=2, owner_email=OWNER)
def cleanup(flow: Flow, failed: FailedNamed) -> None:
    flow.step("words", split, Words, text=failed.reason)
    flow.step("id", split, Words, text=failed.workflow_id)
    flow.step("clean", write, Named, name=failed.name)


@workflow(name="fragile", version=1, owner_email=OWNER, on_failure=cleanup)
def fragile(flow: Flow, params: Named) -> None:
    flow.fork("parts", ["a", "b"], lambda name: flow.step("part", write, Named, name=name))
    flow.step("last", fail, Named, name=params.name, theWeights=params.weights)


def test_a_failure_runs_another_workflow_on_the_last_workspace(perago_run: TaskRunner) -> None:
    ran = perago_run.workflow(fragile, Named(name="broken"), tree=START)

    assert ran.status == "FAILED"
    assert "no" in ran.outcome("words").result["words"]
    assert ran.outcome("id").result == {"words": [ran.workflow_id]}
    assert ran.outcome("clean").result["files"] == ["a", "b", "start"]
    assert "broken" in ran.tree


def test_a_failure_on_purpose_runs_another_workflow_too(perago_run: TaskRunner) -> None:
    @workflow(name="purpose", version=1, owner_email=OWNER, on_failure=cleanup)
    def purpose(flow: Flow, params: Named) -> None:
        flow.step("first", write, Named, name="first", theWeights=params.weights)
        flow.fail("end", "{name} is wrong", name=params.name)

    ran = perago_run.workflow(purpose, Named(name="x"), tree=START)

    assert ran.outcome("words").result == {"words": ["x", "is", "wrong"]}
    assert ran.outcome("clean").result["files"] == ["first", "start"]


def test_a_step_of_a_workflow_has_a_time_limit_of_its_own(perago_run: TaskRunner) -> None:
    @workflow(name="limited", version=1, owner_email=OWNER)
    def limited(flow: Flow, params: Named) -> None:
        flow.step("before", write, Named, name="before", theWeights=params.weights)
        with flow.options(timeout_seconds=30, retries=0):
            flow.step("limited", alone, Named, name=params.name)
            flow.map("each", [params.name], lambda name: flow.step("item", write, Named, name=name))

    before, step, items, *_ = limited.definition()["tasks"]
    assert "taskDefinition" not in before
    assert step["taskDefinition"] == {**build_task_definition(task_of(alone)), "timeoutSeconds": 30}
    assert items["inputParameters"]["task"]["taskDefinition"]["timeoutSeconds"] == 30
    assert perago_run.workflow(limited, Named(name="a"), tree=START).status == "COMPLETED"

    ran = perago_run.workflow(limited, Named(name="a"), tree=START, lost=["limited"])
    assert (ran.status, "Task timed out after" in str(ran.reason)) == ("TIMED_OUT", True)


def test_a_workflow_that_times_out_runs_another_one(perago_run: TaskRunner) -> None:
    @workflow(name="slow", version=1, owner_email=OWNER, timeout_seconds=60, on_failure=cleanup)
    def slow(flow: Flow, params: Named) -> None:
        flow.step("one", write, Named, name=params.name, theWeights=params.weights)

    ran = perago_run.workflow(slow, Named(name="a"), tree=START, lost=["one"])

    assert ran.status == "TIMED_OUT"
    assert "Workflow timed out after" in str(ran.reason)
    assert ran.outcome("clean").status == "COMPLETED"


def _with(handler: Any, model: Any = Named, name: str = "other") -> Workflow[Any, Any]:
    def other(flow: Flow, params: Any) -> None:
        flow.step("words", split, Words, text=flow.unchecked(params))

    other.__annotations__ = {"flow": Flow, "params": model, "return": None}
    made: Workflow[Any, Any] = workflow(name=name, version=1, owner_email=OWNER, on_failure=handler)(other)
    return made


def test_a_handler_that_publishes_on_the_old_head_is_a_mistake() -> None:
    @workflow(name="rigid", version=1, owner_email=OWNER)
    def rigid(flow: Flow, failed: FailedWorkflow) -> None:
        flow.step("clean", alone, Named, name=failed.reason)

    @workflow(name="failing", version=1, owner_email=OWNER, on_failure=rigid)
    def failing(flow: Flow, params: Named) -> None:
        flow.step("one", alone, Named, name=params.name, theWeights=params.weights)

    with pytest.raises(WorkflowDefinitionError, match="step 'clean' fails if the failed workflow still publishes"):
        failing.definition()


def test_a_handler_that_does_not_fit_is_a_mistake() -> None:
    with pytest.raises(WorkflowDefinitionError) as raised:
        _with(cleanup, Words).definition()
    assert [problem.message for problem in raised.value.problems] == [
        "on_failure=cleanup has steps with a workspace, but the workflow has none",
        "on_failure=cleanup takes 'name' as str, but Words has no such field",
    ]


@pytest.mark.parametrize("handler", ["cleanup", split, fragile], ids=["name", "task", "parameters"])
def test_a_handler_is_a_workflow_that_takes_a_failed_workflow(handler: Any) -> None:
    with pytest.raises(TaskDefinitionError, match="is not a workflow that takes a FailedWorkflow"):
        _with(handler)


def test_a_handler_that_can_start_itself_is_a_mistake() -> None:
    inner = _with(None, FailedWorkflow, "same")
    outer = _with(inner, FailedWorkflow, "outer")
    with pytest.raises(WorkflowDefinitionError, match="version 1 of workflow 'same' would run itself"):
        _with(outer, FailedWorkflow, "same").definition()


def test_options_that_do_not_limit_a_step_are_mistakes() -> None:
    @workflow(name="wrong", version=1, owner_email=OWNER)
    def wrong(flow: Flow, params: Words) -> Split:
        with flow.options(timeout_seconds=60):
            flow.raw({"name": "wait", "taskReferenceName": "wait", "type": "WAIT", "inputParameters": {}})
            flow.sub("inner", _with(None, Words, "inner"), Words, text=params.text)
        with flow.options(timeout_seconds=0):
            return flow.step("one", split, Words, text="a").result

    with pytest.raises(WorkflowDefinitionError) as raised:
        wrong.definition()
    assert [problem.message for problem in raised.value.problems] == [
        "step 'wait' is not a task of perago, so timeout_seconds does not limit it",
        "step 'inner' is not a task of perago, so timeout_seconds does not limit it",
        "timeout_seconds=0 is not a whole number from 1",
    ]


def test_a_handler_that_is_removed_is_a_change() -> None:
    definition = fragile.definition()
    without = {key: value for key, value in definition.items() if not key.startswith("failureWorkflow")}

    assert classify_workflows(definition, definition) == ()
    changes = classify_workflows(definition, without)
    assert [change.pointer for change in changes] == ["/failureWorkflow", "/failureWorkflowVersion"]
    assert classify_workflows({**without, "failureWorkflow": ""}, without) == ()
