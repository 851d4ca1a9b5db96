"""Operators as Conductor 3.32.3 showed them: dynamic steps, scripts in real engines, waits; and what stays alive."""

from __future__ import annotations

from typing import Any

import pytest

from perago.embedded.clock import VirtualClock
from perago.embedded.conductor import InMemoryConductor, ServerError
from perago.embedded.conductor import scripts as engines


def step(kind: str, reference: str, **fields: Any) -> dict[str, Any]:
    return {"name": f"n_{reference}", "taskReferenceName": reference, "type": kind, **fields}


def inline(reference: str, expression: str, **values: Any) -> dict[str, Any]:
    given = {"evaluatorType": "javascript", "expression": expression, **values}
    return step("INLINE", reference, inputParameters=given)


def run(conductor: InMemoryConductor, *steps: dict[str, Any], payload: dict[str, Any] | None = None) -> dict[str, Any]:
    conductor.create_workflow_definition({"name": "w", "tasks": steps}, overwrite=True)
    return conductor.workflow(conductor.start_workflow("w", payload or {}))


@pytest.fixture
def conductor() -> InMemoryConductor:
    return InMemoryConductor(VirtualClock(), seed=1)


JOIN = step("JOIN", "j")
WORK = {"name": "t", "type": "SIMPLE"}


@pytest.mark.parametrize(
    ("fields", "given", "inputs"),
    [
        (
            {"dynamicForkTasksParam": "dt", "dynamicForkTasksInputParamName": "di"},
            {"dt": [{**WORK, "taskReferenceName": "a"}, {**WORK, "taskReferenceName": "b"}], "di": {"a": {"x": 1}}},
            {"a": {"x": 1}, "b": {}},
        ),
        ({}, {"forkTaskName": "t", "forkTaskInputs": [1]}, {"_t_0": {"input": 1, "__index": 0}}),
        (
            {"dynamicForkJoinTasksParam": "dj"},
            {"dj": {"dynamicTasks": [{"taskName": "t", "referenceName": "q", "input": {"z": 1}}]}},
            {"q": {"z": 1}},
        ),
    ],
)
def test_a_dynamic_fork_schedules_what_its_input_names(
    conductor: InMemoryConductor, fields: dict[str, str], given: dict[str, Any], inputs: dict[str, Any]
) -> None:
    fork = step("FORK_JOIN_DYNAMIC", "fd", inputParameters=given, **fields)
    workflow_id = run(conductor, fork, JOIN)["workflowId"]
    polled = conductor.poll_tasks("t", "w1", count=len(inputs), wait_seconds=0)
    assert {task["referenceTaskName"]: task["inputData"] for task in polled} == inputs
    for task in polled:
        ids = {"taskId": task["taskId"], "workflowInstanceId": workflow_id}
        conductor.update_task({**ids, "status": "COMPLETED", "outputData": {"of": task["referenceTaskName"]}})
    found = conductor.workflow(workflow_id)
    assert (found["status"], found["output"]) == ("COMPLETED", {name: {"of": name} for name in inputs})


def test_a_dynamic_fork_without_its_list_fails_the_workflow(conductor: InMemoryConductor) -> None:
    named = {"dynamicForkTasksParam": "dt", "dynamicForkTasksInputParamName": "di"}
    found = run(conductor, step("FORK_JOIN_DYNAMIC", "fd", inputParameters={"di": {}}, **named), JOIN)
    assert found["status"] == "FAILED"
    assert "Cannot deserialize a list of Workflow Tasks" in found["reasonForIncompletion"]


def test_a_dynamic_step_is_of_the_type_that_its_input_names(conductor: InMemoryConductor) -> None:
    run(conductor, step("DYNAMIC", "d", dynamicTaskNameParam="tn", inputParameters={"tn": "t", "b": 2}))
    (task,) = conductor.poll_tasks("t", "w1", wait_seconds=0)
    assert (task["referenceTaskName"], task["taskDefName"]) == ("d", "t")


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("function f(){var a=[]; for(var i=0;i<3;i++) a.push(i*2); return a}; f()", [0, 2, 4]),
        ("({a: 1, b: undefined, c: NaN, d: new Date(0)})", {"a": 1, "b": None, "c": "NaN", "d": {}}),
        ("Math.max(1, 2.5)", 2.5),
        ("JSON.parse('[{}]')", [{}]),
        ("var x = 1", None),
        ("[3] < 2", False),
    ],
)
def test_javascript_is_real(conductor: InMemoryConductor, script: str, result: object) -> None:
    assert run(conductor, inline("i", script))["output"] == {"result": result}


@pytest.mark.parametrize("script", ["return 1", "throw new Error('bad')", "'x'.repeat(1 << 29)", "f()"])
def test_a_script_that_fails_ends_its_step(conductor: InMemoryConductor, script: str) -> None:
    found = run(conductor, inline("i", script))
    assert (found["status"], found["tasks"][0]["status"]) == ("FAILED", "FAILED_WITH_TERMINAL_ERROR")


@pytest.mark.parametrize("script", ["while (true) {}", "new Array(1e8).sort()"])
def test_a_hostile_script_is_ended_and_the_next_one_runs(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(engines, "SECONDS", 0.2)
    with pytest.raises(engines.ScriptError):
        engines.javascript(script, {})
    assert engines.javascript("$.a + 1", {"a": 1}) == 2


@pytest.mark.parametrize("value", ["'false'", "'x'", "-1", "[]", "({})", "0", "null", "NaN"])
def test_a_loop_continues_only_for_true_and_numbers_above_zero(conductor: InMemoryConductor, value: str) -> None:
    loop = step("DO_WHILE", "l", loopCondition=value, loopOver=[inline("i", "1")])
    found = run(conductor, loop)
    assert (found["status"], found["tasks"][0]["iteration"]) == ("COMPLETED", 1)


def test_jq_shows_the_first_result_and_all(conductor: InMemoryConductor) -> None:
    query = {"queryExpression": ".b[] | . + 1", "b": [1, 2]}
    found = run(conductor, step("JSON_JQ_TRANSFORM", "q", inputParameters=query))
    assert found["output"] == {"result": 2, "resultList": [2, 3]}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("b.length()", 2),
        ("b[?(@.k>1)].n", ["y"]),
        ("b[?(@.n =~ /x.*/)].k", [1]),
        ("b[0:1].k", [1]),
        ("b[0,1].n", ["x", "y"]),
        ("keys()", ["b"]),
        ("nope.length()", None),
        ("b[?(@.z)]", []),
    ],
)
def test_jsonpath_agrees_with_the_server(conductor: InMemoryConductor, path: str, value: object) -> None:
    variable = step("SET_VARIABLE", "v", inputParameters={"r": f"${{workflow.input.{path}}}"})
    payload = {"b": [{"k": 1, "n": "x"}, {"k": 2, "n": "y"}]}
    assert run(conductor, variable, payload=payload)["variables"] == {"r": value}


def test_steps_that_wait(conductor: InMemoryConductor) -> None:
    human = run(conductor, step("HUMAN", "h"))
    assert human["tasks"][0]["status"] == "IN_PROGRESS"
    past = step("WAIT", "p", inputParameters={"until": "1970-01-01"})
    assert run(conductor, past)["status"] == "COMPLETED"
    duration = step("WAIT", "d", inputParameters={"duration": "${workflow.input.d}"})
    assert run(conductor, duration, payload={"d": "5 s"})["tasks"][0]["callbackAfterSeconds"] == 5


def test_noop_and_start_workflow(conductor: InMemoryConductor) -> None:
    conductor.create_workflow_definition({"name": "child", "tasks": [{**WORK, "taskReferenceName": "c"}]})
    start = step("START_WORKFLOW", "s", inputParameters={"startWorkflow": {"name": "child", "input": {"p": 1}}})
    found = run(conductor, step("NOOP", "n"), start)
    assert found["status"] == "COMPLETED"
    assert conductor.workflow(found["output"]["workflowId"])["input"] == {"p": 1}


def test_http_is_answered_by_the_handler_or_fails() -> None:
    request = step("HTTP", "h", inputParameters={"http_request": {"uri": "http://x/y", "method": "GET"}})
    answered = run(InMemoryConductor(VirtualClock(), http=lambda sent: (200, {"at": sent["uri"]})), request)
    assert answered["output"]["response"]["body"] == {"at": "http://x/y"}
    assert "http=..." in run(InMemoryConductor(VirtualClock()), request)["reasonForIncompletion"]


def test_a_workflow_that_cannot_be_decided_stops_no_other(conductor: InMemoryConductor) -> None:
    fork = step("FORK_JOIN", "f", forkTasks=[[], [inline("i", "1")]])
    with pytest.raises(ServerError):
        run(conductor, fork, step("JOIN", "j", joinOn=["i"]))
    conductor.sweep()
    assert run(conductor, inline("i", "1"))["status"] == "COMPLETED"
