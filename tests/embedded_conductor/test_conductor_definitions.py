"""What the model refuses to pretend, and what expressions and definitions do on their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from loguru import logger

from perago.embedded.conductor import InvalidRequest, Malformed
from perago.embedded.conductor.wire import MAX_DEPTH, through_json

from ..conformance.conductor.operators import TWICE, loop, operator, sub_workflow
from .one_workflow import OneWorkflow

STEP = {"name": "t", "taskReferenceName": "a"}


FORK = {"name": "f", "taskReferenceName": "f", "type": "FORK_JOIN_DYNAMIC"}
LISTED = {"dynamicForkTasksParam": "dt", "dynamicForkTasksInputParamName": "di"}


def _in_a_case(inner: Mapping[str, Any]) -> dict[str, Any]:
    return operator("SWITCH", "s", evaluatorType="value-param", expression="q", decisionCases={"1": [inner]})


def _sub_workflow(**parameters: Any) -> dict[str, Any]:
    return sub_workflow("x", "s", subWorkflowParam={"name": "x", **parameters})


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (operator("EXCLUSIVE_JOIN", "x"), r"tasks\[1\]\.type EXCLUSIVE_JOIN is not modelled"),
        (operator("EVENT", "x"), r"tasks\[1\]\.type EVENT is not modelled"),
        (_in_a_case(operator("EVENT", "h")), r"tasks\[1\]\[0\]\.type EVENT"),
        ({**STEP, "name": "EVENT"}, "EVENT is not modelled"),
        ({**STEP, "name": "SWITCH"}, "SWITCH is not modelled"),
        ({**FORK, "inputParameters": {"forkTaskName": "JOIN", "forkTaskInputs": [1]}}, "JOIN is not modelled"),
        ({**FORK, "inputParameters": {"forkTaskType": "EVENT", "forkTaskInputs": [1]}}, "EVENT is not modelled"),
        (
            {**FORK, **LISTED, "inputParameters": {"dt": [STEP, {**STEP, "type": "KAFKA_PUBLISH"}]}},
            "KAFKA_PUBLISH is not modelled",
        ),
        (loop(TWICE, _in_a_case(operator("DO_WHILE", "k", loopOver=[STEP], loopCondition="true"))), "a loop inside"),
        (loop(TWICE, STEP, inputParameters={"keepLastN": 2}), "keepLastN"),
        (loop(TWICE, STEP, items="${workflow.input.l}"), "items"),
        (loop(TWICE, {"name": "a", "type": "SIMPLE"}), "a step without a name"),
        (operator("SWITCH", "s", evaluatorType="python", expression="1", decisionCases={"1": []}), "python"),
        (_sub_workflow(workflowDefinition="${r.output}"), "as an expression"),
        (_sub_workflow(priority=3), r"subWorkflowParam\.priority"),
        (operator("INLINE", "i", inputParameters={"expression": "1", "evaluatorType": "python"}), "python"),
        ({**STEP, "joinOn": ["b"]}, "a SIMPLE task: joinOn"),
        ({**STEP, "inputParameters": {"q": "${r.output.l.sum()}"}}, "JSONPath from"),
        ({**STEP, "sink": "x"}, "sink"),
        ({**STEP, "cacheConfig": {"key": "x"}}, "cacheConfig"),
        ({**STEP, "inputParameters": {"q": "${workflow.secrets.key}"}}, "secrets"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_step_that_only_the_real_server_runs_is_refused_by_name(step: Mapping[str, Any], name: str) -> None:
    first = {**STEP, "taskReferenceName": "r"}
    with pytest.raises(NotImplementedError, match=name):
        OneWorkflow().conductor.create_workflow_definition({"name": "other", "tasks": [first, step]})


@pytest.mark.parametrize(
    ("definition", "name"),
    [
        ({"failureWorkflow": "${workflow.input.f}"}, "failureWorkflow"),
        ({"rateLimitConfig": {"concurrentExecLimit": 1}}, "rateLimitConfig"),
        ({"outputParameters": {"q": "${a.output.l.max()}"}}, "JSONPath from"),
    ],
)
def test_a_definition_that_only_the_real_server_understands_is_refused_by_name(
    definition: dict[str, Any], name: str
) -> None:
    with pytest.raises(NotImplementedError, match=name):
        OneWorkflow().conductor.create_workflow_definition({"name": "other", "tasks": [STEP], **definition})


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
