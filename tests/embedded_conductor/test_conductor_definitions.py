"""What the model refuses to pretend, and what expressions and definitions do on their own."""

from __future__ import annotations

from typing import Any

import pytest
from loguru import logger

from perago.embedded.conductor import InvalidRequest, Malformed
from perago.embedded.conductor.wire import MAX_DEPTH, through_json

from .one_workflow import OneWorkflow

STEP = {"name": "t", "taskReferenceName": "a"}


@pytest.mark.parametrize(
    "operator",
    ["EXCLUSIVE_JOIN", "EVENT", "KAFKA_PUBLISH"],
)
def test_an_operator_is_refused_by_name_when_it_is_defined(operator: str) -> None:
    with pytest.raises(NotImplementedError, match=rf"tasks\[1\]\.type {operator} is not modelled"):
        OneWorkflow().conductor.create_workflow_definition(
            {"name": "other", "tasks": [STEP, {**STEP, "taskReferenceName": "b", "type": operator}]}
        )


FORK = {"name": "f", "taskReferenceName": "f", "type": "FORK_JOIN_DYNAMIC"}
LISTED = {"dynamicForkTasksParam": "dt", "dynamicForkTasksInputParamName": "di"}


@pytest.mark.parametrize(
    "step",
    [
        {**STEP, "name": "EVENT"},
        {**STEP, "name": "SWITCH"},
        {**FORK, "inputParameters": {"forkTaskName": "JOIN", "forkTaskInputs": [1]}},
        {**FORK, "inputParameters": {"forkTaskType": "EVENT", "forkTaskInputs": [1]}},
        {**FORK, **LISTED, "inputParameters": {"dt": [STEP, {**STEP, "type": "KAFKA_PUBLISH"}]}},
    ],
)
def test_a_task_that_only_the_real_server_runs_is_refused_when_it_is_defined(step: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError, match=r"(EVENT|SWITCH|JOIN|KAFKA_PUBLISH) is not modelled"):
        OneWorkflow().conductor.create_workflow_definition({"name": "other", "tasks": [step]})


@pytest.mark.parametrize("name", ["SWITCH", "SUB_WORKFLOW", "EVENT"])
def test_a_dynamic_step_is_not_an_operator_with_steps_of_its_own(name: str) -> None:
    step = {**STEP, "type": "DYNAMIC", "dynamicTaskNameParam": "n", "inputParameters": {"n": "${workflow.input.n}"}}
    conductor = OneWorkflow().conductor
    conductor.create_workflow_definition({"name": "other", "tasks": [step]})
    with pytest.raises(NotImplementedError, match=f"a worker's task named {name} is not modelled"):
        conductor.start_workflow("other", {"n": name})


def test_a_forked_loop_that_would_never_end_is_refused() -> None:
    body = [{**STEP, "taskReferenceName": reference} for reference in "bc"]
    loop = {"name": "l", "taskReferenceName": "l", "type": "DO_WHILE", "loopCondition": "false", "loopOver": body}
    fork = {**FORK, **LISTED, "inputParameters": {"dt": "${workflow.input.l}", "di": {}}}
    conductor = OneWorkflow().conductor
    conductor.create_workflow_definition(
        {"name": "other", "tasks": [fork, {"name": "j", "taskReferenceName": "j", "type": "JOIN"}]}
    )
    with pytest.raises(NotImplementedError, match=r"a loop of several steps \(l\) is not modelled"):
        conductor.start_workflow("other", {"l": [loop]})
    assert conductor.running_workflow_ids("other") == []


@pytest.mark.parametrize(
    ("definition", "name"),
    [
        ({"failureWorkflow": "${workflow.input.f}"}, "failureWorkflow"),
        ({"rateLimitConfig": {"concurrentExecLimit": 1}}, "rateLimitConfig"),
        ({"tasks": [{**STEP, "inputParameters": {"q": "${a.output.l.sum()}"}}]}, "JSONPath from"),
        ({"tasks": [{**STEP, "sink": "x"}]}, "sink"),
        ({"tasks": [{**STEP, "cacheConfig": {"key": "x"}}]}, "cacheConfig"),
        ({"tasks": [{**STEP, "inputParameters": {"q": "${workflow.secrets.key}"}}]}, "secrets"),
        ({"outputParameters": {"q": "${a.output.l.max()}"}}, "JSONPath from"),
    ],
)
def test_unsupported_features_are_named(definition: dict[str, Any], name: str) -> None:
    with pytest.raises(NotImplementedError, match=name):
        OneWorkflow().conductor.create_workflow_definition({"name": "other", "tasks": [STEP], **definition})


def test_an_operator_that_is_named_while_a_workflow_runs_is_refused_and_ends_the_workflow() -> None:
    fork = {"name": "f", "taskReferenceName": "f", "type": "FORK_JOIN_DYNAMIC", "inputParameters": {}}
    fork["inputParameters"] = {"forkTaskType": "${workflow.input.kind}", "forkTaskInputs": [1]}
    join = {"name": "j", "taskReferenceName": "j", "type": "JOIN"}
    conductor = OneWorkflow().conductor
    for name, steps in {"at once": [], "later": [{**STEP, "name": "u"}]}.items():
        conductor.create_workflow_definition({"name": name, "tasks": [*steps, fork, join]})
    with pytest.raises(NotImplementedError, match="KAFKA_PUBLISH is not modelled"):
        conductor.start_workflow("at once", {"kind": "KAFKA_PUBLISH"})
    assert conductor.running_workflow_ids("at once") == []
    workflow = conductor.start_workflow("later", {"kind": "KAFKA_PUBLISH"})
    (polled,) = conductor.poll_tasks("u", count=1)
    result = {"taskId": polled["taskId"], "workflowInstanceId": workflow, "status": "COMPLETED"}
    with pytest.raises(NotImplementedError, match="KAFKA_PUBLISH is not modelled"):
        conductor.update_task(result)
    assert "KAFKA_PUBLISH is not modelled" in conductor.workflow(workflow)["reasonForIncompletion"]


def test_a_workflow_that_cannot_be_decided_is_logged_once() -> None:
    one = OneWorkflow()
    wait = {"name": "w", "taskReferenceName": "w", "type": "WAIT", "inputParameters": {"duration": "${a.output.d}"}}
    one.conductor.create_workflow_definition({"name": "wait", "tasks": [{**STEP, "name": "u"}, wait]})
    workflow = one.conductor.start_workflow("wait")
    (polled,) = one.conductor.poll_tasks("u", count=1)
    result = {"taskId": polled["taskId"], "workflowInstanceId": workflow, "status": "COMPLETED"}
    with pytest.raises(InvalidRequest, match="Not valid duration: soon"):
        one.conductor.update_task({**result, "outputData": {"d": "soon"}})
    told: list[str] = []
    handler = logger.add(told.append, format="{message}")
    for _ in range(3):
        one.conductor.sweep()
    logger.remove(handler)
    assert len(told) == 1


def test_a_stored_definition_is_not_shared_with_the_model() -> None:
    conductor = OneWorkflow().conductor
    given: dict[str, Any] = {"name": "x", "inputKeys": ["a"]}
    conductor.register_task_definitions([given])
    shown = conductor.get_task_definition("x")
    assert shown is not None
    shown["inputKeys"].append("b")
    given["inputKeys"].append("c")
    assert (conductor.get_task_definition("x") or {})["inputKeys"] == ["a"]


CONTEXT = {"a": {"output": {"n": 5, "list": [1, {"b": [None, "x"]}], "dotted.key": True, "with space": 7, "empty": {}}}}


def _nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({"a": float("inf")}, id="infinity"),
        pytest.param({"a": [float("nan")]}, id="NaN"),
        pytest.param(_nested(MAX_DEPTH + 1), id="too deep"),
        pytest.param({"a": 10**1000}, id="too many digits"),
        pytest.param({"a": object()}, id="no JSON form"),
        pytest.param({("a", "b"): 1}, id="a key that is no text"),
        pytest.param("text", id="no object"),
    ],
)
def test_a_payload_that_the_wire_cannot_carry_is_refused(payload: Any) -> None:
    with pytest.raises(Malformed):
        through_json("update task", payload, what="outputData")
