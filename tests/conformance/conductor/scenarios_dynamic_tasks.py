"""FORK_JOIN_DYNAMIC and DYNAMIC: steps that the input names; START_WORKFLOW."""

from __future__ import annotations

import json
from typing import Any

from ..rest import Rest
from ..scenario import Declared, each, scenario, scenario_for_each, to
from .operators import TWICE, fork, join, loop, operator, switch, system_task
from .workflows import Json, StartedWorkflow, definition, on, register_workflow, start, start_types, step, task_type

LISTED = {"dynamicForkTasksParam": "dt", "dynamicForkTasksInputParamName": "di"}


@scenario
def a_workflow_that_a_step_starts(rest: Rest) -> None:
    """START_WORKFLOW starts another workflow, waits for nothing, and puts out its id."""
    task = task_type(rest)
    name = register_workflow(rest, step(task, "c"), label="started")
    made = system_task("START_WORKFLOW", "s", startWorkflow={"name": name, "input": {"x": 1}})
    on = start(rest, task, NOTHING, made)
    on.noted.settle("COMPLETED")
    started = rest.silent.get("/workflow/{id}", id=on.row("s")["outputData"]["workflowId"]).json
    rest.note("the input of what was started", started["input"])


@scenario_for_each({"a_workflow_is_started_without_an_input": {}, "a_workflow_is_started_with_null": {"input": None}})
def workflows_without_an_input(rest: Rest, case: Json) -> None:
    """An input of null is refused. conductor-python sends null for a request without an input."""
    task = task_type(rest)
    name = register_workflow(rest, step(task, "c"), label="started")
    on = start(rest, task, NOTHING, system_task("START_WORKFLOW", "s", startWorkflow={"name": name, **case}))
    on.noted.settle("FAILED" if case else "COMPLETED")


BY_NAME: dict[str, Json] = {
    "a_fork_of_the_name_of_an_operator": {"forkTaskName": "NOOP", "forkTaskInputs": [{"x": 1}, 2]},
    "a_fork_of_an_operator_by_its_type": {"forkTaskType": "NOOP", "forkTaskInputs": [{"x": 1}, {"x": 2}]},
    "a_fork_of_scripts": {
        "forkTaskType": "INLINE",
        "forkTaskName": "calc",
        "forkTaskInputs": [{"evaluatorType": "javascript", "expression": "$.n + 1", "n": n} for n in (1, 2)],
    },
    "a_fork_of_a_custom_type": {"forkTaskType": "nobodys", "forkTaskInputs": [1]},
    "a_fork_of_an_unknown_workflow": {"forkTaskWorkflow": "perago_nobody", "forkTaskInputs": [1]},
    "a_fork_of_sub_workflows_without_parameters": {"forkTaskType": "SUB_WORKFLOW", "forkTaskInputs": [1]},
    "a_fork_of_switches": {"forkTaskType": "SWITCH", "forkTaskInputs": [1]},
    "a_fork_of_decisions": {"forkTaskType": "DECISION", "forkTaskInputs": [1]},
    "a_fork_of_dynamic_steps": {"forkTaskType": "DYNAMIC", "forkTaskInputs": [{}]},
    "a_fork_of_dynamic_forks": {"forkTaskType": "FORK_JOIN_DYNAMIC", "forkTaskInputs": [{}]},
    "a_fork_without_inputs": {"forkTaskName": "NOOP", "forkTaskInputs": []},
    "a_fork_of_inputs_that_are_no_list": {"forkTaskName": "NOOP", "forkTaskInputs": {"a": 1}},
}


NOTHING = operator("NOOP", "nothing")
WORK: Json = {"name": "TASK", "type": "SIMPLE"}


def _in(*steps: Json, **given: Any) -> Json:
    """A fork of these listed steps."""
    return {"inputParameters": {"dt": list(steps), "di": given}, **LISTED}


def _all_in_one(*tasks: Any) -> Json:
    return {"inputParameters": {"dj": {"dynamicTasks": list(tasks)}}, "dynamicForkJoinTasksParam": "dj"}


A, B = ({**WORK, "taskReferenceName": reference} for reference in "ab")
LISTS: dict[str, Json] = {
    "a_fork_of_a_switch_and_a_task": _in(switch({"1": [A]}, inputParameters={"case": "1"}), B),
    "a_fork_of_a_switch_of_two_steps": _in(switch({"1": [A, B]}, inputParameters={"case": "1"})),
    "a_fork_of_a_decision": _in(
        operator("DECISION", "d", caseValueParam="x", inputParameters={"x": 1}, decisionCases={"1": [A]})
    ),
    "a_fork_of_a_loop": _in(loop(TWICE, A)),
    "a_fork_of_a_loop_in_a_switch": _in(switch({"1": [loop(TWICE, A)]}, inputParameters={"case": "1"})),
    "a_fork_of_a_fork": _in(fork([A]), join("a")),
    "a_fork_of_a_dynamic_step": _in(operator("DYNAMIC", "d", dynamicTaskNameParam="n"), d={"n": "TASK"}),
    "a_fork_of_a_step_without_a_reference": _in(WORK),
    "a_fork_of_a_custom_type_in_the_list": _in({"name": "nobodys", "taskReferenceName": "a", "type": "nobodys"}),
    "a_fork_of_a_step_with_a_bad_flag": _in(
        {"name": "TASK", "optional": "maybe", "taskReferenceName": "a", "type": "SIMPLE"}
    ),
    "a_fork_of_a_step_with_a_list_as_input": _in(A, a=[1]),
    "a_fork_of_a_step_with_a_text_as_input": _in(A, a="text"),
    "a_fork_of_no_inputs": {"inputParameters": {"dt": [A]}, **LISTED},
    "a_fork_of_a_null_input": {"inputParameters": {"forkTaskName": "TASK", "forkTaskInputs": [1, None]}},
    "a_fork_of_a_named_workflow": _all_in_one({"taskName": "TASK", "workflowName": "nobody", "referenceName": "q"}),
    "a_fork_of_a_sub_workflow_in_one_parameter": _all_in_one(
        {"taskName": "s", "workflowName": "nobody", "referenceName": "q", "type": "SUB_WORKFLOW"}
    ),
    "a_fork_of_a_null_task": _all_in_one(None),
    "a_fork_of_no_list_in_one_parameter": {
        "inputParameters": {"dj": {"dynamicTasks": 5}},
        "dynamicForkJoinTasksParam": "dj",
    },
}


FORKS: dict[str, tuple[Json, int]] = {
    "a_fork_of_tasks_and_inputs": (_in(A, B, a={"x": 1}), 2),
    "a_fork_of_one_type": ({"inputParameters": {"forkTaskName": "TASK", "forkTaskInputs": [1]}}, 1),
    "a_fork_of_one_parameter": (_all_in_one({"taskName": "TASK", "referenceName": "q", "input": {"z": 1}}), 1),
}


def _fork(fields: Json, task: str) -> Json:
    """A dynamic fork with these fields, in which `TASK` stands for a task type."""
    made: Json = json.loads(json.dumps(operator("FORK_JOIN_DYNAMIC", "fork", **fields)).replace("TASK", task))
    return made


@scenario_for_each(FORKS)
def dynamic_forks(rest: Rest, case: tuple[Json, int]) -> None:
    """A dynamic fork schedules what its input names; the join puts out all outputs."""
    task = task_type(rest)
    on = start(rest, task, _fork(case[0], task), join())
    on.note_all()
    for _ in range(case[1]):
        taken = on.take()
        on.finish(taken, outputData={"of": taken["referenceTaskName"].replace(task, "task")})
    on.settle("COMPLETED")
    _note_rows(on)


@scenario_for_each(LISTS)
def forks_of_lists(rest: Rest, case: Json) -> None:
    """A listed step may have inner steps, of which only the first one runs; a bad list fails the workflow."""
    task = task_type(rest)
    name = register_workflow(rest, _fork(case, task), join())
    started = rest.post("/workflow", {"name": name, "input": {}})
    if started.status == 200:
        on = StartedWorkflow(rest, task, name, started.text)
        while rows := [row for row in on.at_rest()["tasks"] if row["status"] == "SCHEDULED"]:
            for _ in rows:
                on.run(outputData={"n": 1})
        _note_rows(on)
        on.note_all(without=[row["referenceTaskName"] for row in on.rows()])


NAMELESS: dict[str, Json] = {
    "a_fork_of_a_step_without_a_name": _in({"taskReferenceName": "a", "type": "SIMPLE"}),
    "a_fork_of_a_workflow_without_a_task": _all_in_one({"workflowName": "nobody", "referenceName": "q"}),
}


@scenario_for_each(NAMELESS)
def forks_of_nameless_steps(rest: Rest, case: Json) -> None:
    """A start that forks a step without a name is a server error, and leaves no workflow behind."""
    name = register_workflow(rest, operator("FORK_JOIN_DYNAMIC", "fork", **case), join())
    started = rest.silent.post("/workflow", {"name": name, "input": {}})
    rest.note("the status", started.status)
    rest.get("/workflow/running/{name}", name=name)


@scenario
def a_fork_without_its_parameters(rest: Rest) -> None:
    """A fork needs one of the three forms, two of which a definition shows."""
    name = rest.name("workflow")
    for inputs in ({}, {"forkTaskName": "NOOP"}, {"forkTaskType": "NOOP"}, {"forkTaskInputs": [1]}):
        made = operator("FORK_JOIN_DYNAMIC", "fork", inputParameters=inputs)
        rest.post("/metadata/workflow", definition(name, made, join()))


def _note_rows(on: StartedWorkflow) -> None:
    """What the attempts did, without the moment at which the server looked at them last."""
    shown = ("referenceTaskName", "taskType", "taskDefName", "status", "inputData", "outputData")
    for row in on.at_rest()["tasks"]:
        on.rest.note("the attempt", {key: row[key] for key in shown})


@scenario
def a_type_that_the_input_names(rest: Rest) -> None:
    """A dynamic step is of the type that its input names, but does not have the retries of that type."""
    task = task_type(rest)
    on = start(rest, task, operator("DYNAMIC", "d", dynamicTaskNameParam="tn", inputParameters={"tn": task, "b": 2}))
    on.noted.run("FAILED", outputData={"n": 1}, reasonForIncompletion="boo")


@scenario_for_each({"a_fork_of_workflows": {}, "a_fork_of_workflows_by_version": {"forkTaskWorkflowVersion": "1"}})
def forks_of_workflows(rest: Rest, case: Json) -> None:
    """A fork of a workflow starts it once for each input."""
    inner = register_workflow(rest, NOTHING, label="inner", outputParameters={"o": "${workflow.input.x}"})
    inputs = {"forkTaskWorkflow": inner, "forkTaskInputs": [{"x": 1}, {"x": 2}], **case}
    on = start(rest, "none", operator("FORK_JOIN_DYNAMIC", "fork", inputParameters=inputs), join())
    on.settle("COMPLETED", "FAILED")
    _note_rows(on)


SCENARIOS: Declared = {
    # A listed step may be a sub-workflow that names another workflow in its input.
    "a_fork_of_workflows_in_the_list": to(
        start_types,
        operator(
            "FORK_JOIN_DYNAMIC",
            "fork",
            **_in(operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": "inner"}), sub={"x": 5}),
        ),
        join(),
        types={},
        children={"inner": {"tasks": [NOTHING]}},
    )(on.settle("COMPLETED", "FAILED"), _note_rows),
    # A dynamic fork whose list is missing fails the workflow.
    "a_fork_without_its_list": to(
        start_types, operator("FORK_JOIN_DYNAMIC", "fork", inputParameters={"di": {}}, **LISTED), join(), types={}
    )(on.note_all()),
    # A dynamic step runs an operator as a worker's task of that name: WAIT has no duration.
    **each(
        {f"a_{name.lower()}_that_the_input_names": name for name in ("NOOP", "WAIT", "JSON_JQ_TRANSFORM")},
        lambda case: to(
            start_types,
            operator(
                "DYNAMIC",
                "d",
                dynamicTaskNameParam="tn",
                inputParameters={"tn": case, "queryExpression": ".tn", "duration": "1 s"},
            ),
            types={},
        )(on.await_row("d", "COMPLETED", "IN_PROGRESS"), on.rest.sleep(1.5), on.note_all()),
    ),
    # A fork of one type runs an operator as such, and fails without a list of inputs.
    **each(
        BY_NAME,
        lambda case: to(start_types, operator("FORK_JOIN_DYNAMIC", "fork", inputParameters=case), join(), types={})(
            on.noted.settle("COMPLETED", "FAILED")
        ),
    ),
    # A rerun from the row of the fork forks again.
    "a_rerun_of_a_fork_of_one_type": to(
        start_types,
        operator("FORK_JOIN_DYNAMIC", "fork", inputParameters={"forkTaskName": "NOOP", "forkTaskInputs": [1]}),
        join(),
        types={},
    )(on.settle("COMPLETED"), on.rerun(on.row("fork")), on.noted.settle("COMPLETED")),
}
