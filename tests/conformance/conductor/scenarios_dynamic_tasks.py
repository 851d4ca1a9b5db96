"""FORK_JOIN_DYNAMIC and DYNAMIC: steps that the input names; START_WORKFLOW."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario, scenario_for_each
from .operators import join, operator, system_task
from .workflows import Json, register_workflow, start, step, task_type

LISTED = {"dynamicForkTasksParam": "dt", "dynamicForkTasksInputParamName": "di"}


def _listed(task: str) -> Json:
    work = {"name": task, "type": "SIMPLE"}
    named = [{**work, "taskReferenceName": "a"}, {**work, "taskReferenceName": "b"}]
    return {"inputParameters": {"dt": named, "di": {"a": {"x": 1}}}, **LISTED}


def _of_one_type(task: str) -> Json:
    return {"inputParameters": {"forkTaskName": task, "forkTaskInputs": [1]}}


def _in_one_parameter(task: str) -> Json:
    tasks = [{"taskName": task, "referenceName": "q", "input": {"z": 1}}]
    return {"inputParameters": {"dj": {"dynamicTasks": tasks}}, "dynamicForkJoinTasksParam": "dj"}


FORKS: dict[str, tuple[Any, int]] = {
    "a_fork_of_tasks_and_inputs": (_listed, 2),
    "a_fork_of_one_type": (_of_one_type, 1),
    "a_fork_of_one_parameter": (_in_one_parameter, 1),
}


@scenario_for_each(FORKS)
def dynamic_forks(rest: Rest, case: tuple[Any, int]) -> None:
    """A dynamic fork schedules what its input names; the join puts out all outputs."""
    fields, count = case
    task = task_type(rest)
    on = start(rest, task, operator("FORK_JOIN_DYNAMIC", "fork", **fields(task)), join())
    on.note_all()
    for _ in range(count):
        taken = on.take()
        on.finish(taken, outputData={"of": taken["referenceTaskName"].replace(task, "task")})
    on.settle("COMPLETED")
    on.decide()
    on.note_all()


@scenario
def a_fork_without_its_list(rest: Rest) -> None:
    """A dynamic fork whose list is missing fails the workflow."""
    made = operator("FORK_JOIN_DYNAMIC", "fork", inputParameters={"di": {}}, **LISTED)
    start(rest, "none", made, join()).note_all()


@scenario
def a_type_that_the_input_names(rest: Rest) -> None:
    """A dynamic step is of the type that its input names, but does not have the retries of that type."""
    task = task_type(rest)
    on = start(rest, task, operator("DYNAMIC", "d", dynamicTaskNameParam="tn", inputParameters={"tn": task, "b": 2}))
    on.run("FAILED", outputData={"n": 1}, reasonForIncompletion="boo")
    on.note_all()


@scenario
def a_workflow_that_a_step_starts(rest: Rest) -> None:
    """START_WORKFLOW starts another workflow, waits for nothing, and puts out its id."""
    task = task_type(rest)
    name = register_workflow(rest, step(task, "c"), label="started")
    made = system_task("START_WORKFLOW", "s", startWorkflow={"name": name, "input": {"x": 1}})
    on = start(rest, task, operator("NOOP", "nothing"), made)
    on.settle("COMPLETED")
    on.note_all()
    with rest.unnoted():
        started = rest.call("GET", "/workflow/{id}", id=on.row("s")["outputData"]["workflowId"]).json
    rest.note("the input of what was started", started["input"])
