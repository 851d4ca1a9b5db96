"""Steps and workflows for the SDK of Conductor that `perago.clients` makes, on embedded servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conductor.client.workflow.conductor_workflow import ConductorWorkflow
from conductor.client.workflow.executor.workflow_executor import WorkflowExecutor
from pydantic import BaseModel

from perago import TaskDefinitionError, WorkspaceSpec, task
from perago.clients import conductor_workflow, simple_task
from perago.embedded.services import EmbeddedServices
from perago.workflows import Flow, workflow

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of conductor-python, about its own models


class Params(BaseModel):
    name: str
    rows: int = 1


class Result(BaseModel):
    files: int
    is_last: bool = True


@task(name="features.build", owner_email="a@example.com", workspace=WorkspaceSpec(on_moved_head="rebase"))
def build(workspace: Path, params: Params) -> Result:
    return Result(files=1)


@task(name="features.mail", owner_email="a@example.com")
def mail(params: Params) -> Result:
    return Result(files=1)


@workflow(name="features.nightly", version=3, owner_email="a@example.com", description="Daily", timeout_seconds=90)
def nightly(flow: Flow, parameters: Params) -> Result:
    def branch(name: str) -> None:
        flow.step("part", build, Params, name=name)

    flow.fork("parts", ["a", "b"], branch)
    with flow.loop("rounds", at_most=2) as loop:
        loop.until(flow.step("round", build, Params, name="x").result.is_last)
    return flow.step("last", build, Params, rows=parameters.rows, name=parameters.name).result


@pytest.fixture(scope="module")
def executor() -> Iterator[WorkflowExecutor]:
    with EmbeddedServices() as services:
        yield WorkflowExecutor(services.conductor_configuration)


def test_a_step_continues_the_commits_of_the_steps_before_it(executor: WorkflowExecutor) -> None:
    first = simple_task(build, "first", Params, name="x", rows="${workflow.input.rows}")
    second = simple_task(build, "second", Params, name="x", after=first)
    third = simple_task(build, "third", Params, name="x", after=[first, second])
    assert first.input_parameters["params"] == {"name": "x", "rows": "${workflow.input.rows}"}
    assert [step.input_parameters["workspace"]["ref"] for step in (first, second, third)] == [
        "${workflow.input.workspace.ref}",
        "${first.output.workspace.ref}",
        ["${first.output.workspace.ref}", "${second.output.workspace.ref}"],
    ]
    converted = ConductorWorkflow(executor, "features.sdk", 1).owner_email("a@example.com")
    (converted >> first >> second >> simple_task(mail, "mail", Params, name="x")).register(overwrite=True)
    tasks = executor.metadata_client.get("features.sdk", version=1).tasks
    assert [(step.name, step.task_reference_name) for step in tasks] == [
        ("features.build", "first"),
        ("features.build", "second"),
        ("features.mail", "mail"),
    ]
    assert tasks[1].input_parameters == second.input_parameters


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"row": 1}, "Params has no field 'row'"),
        ({"rows": "many"}, "Params.rows: Input should be a valid integer"),
        ({"name": 1}, "Params.name: Input should be a valid string"),
    ],
)
def test_a_wrong_field_is_reported_with_the_line_of_the_call(changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(TaskDefinitionError, match=rule) as caught:
        simple_task(build, "first", Params, **{"name": "x", **changed})
    assert caught.value.file == __file__


def branch() -> None:
    """No task."""


def test_a_step_without_a_commit_and_a_wrong_model_are_reported() -> None:
    mailed = simple_task(mail, "mail", Params, name="x")
    with pytest.raises(TaskDefinitionError, match="step 'mail' has no workspace"):
        simple_task(build, "first", Params, name="x", after=mailed)
    with pytest.raises(TaskDefinitionError, match="takes Params, not Result"):
        simple_task(build, "first", Result, name="x")
    with pytest.raises(TaskDefinitionError, match="'branch' is not a task"):
        simple_task(branch, "first", Params)


def test_a_converted_workflow_has_the_same_definition(executor: WorkflowExecutor) -> None:
    converted = conductor_workflow(nightly, executor)
    sent = executor.metadata_client.api_client.sanitize_for_serialization(converted.to_workflow_def())
    defaults = {"failureWorkflow": "", "variables": {}, "workflowStatusListenerEnabled": False, "enforceSchema": True}
    assert sent == {**defaults, **nightly.definition()}
