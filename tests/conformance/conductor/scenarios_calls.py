"""Calls of user interfaces and clients: run and wait, sorted searches, short lists; and some that are not embedded."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario, scenario_with
from .workflows import StartedWorkflow, definition, register_workflow, start_steps, step, task_type

EXECUTE = "/workflow/execute/{name}/{version}"


@scenario
def running_and_waiting_in_vain(rest: Rest) -> None:
    """Run and wait answers after its time, whether the workflow has ended or not."""
    name = register_workflow(rest, step(task_type(rest)))
    rest.call(
        "POST", EXECUTE, name=name, version="1", query={"waitForSeconds": 1}, json={"name": name, "input": {"x": 1}}
    )


@scenario
def running_and_waiting_for_the_end(rest: Rest) -> None:
    """Run and wait answers with the output of a workflow that needs no worker."""
    task = {"name": "set", "taskReferenceName": "set", "type": "SET_VARIABLE", "inputParameters": {"v": 1}}
    name = register_workflow(rest, task, outputParameters={"o": "${workflow.input.x}"})
    rest.call(
        "POST", EXECUTE, name=name, version="1", query={"waitForSeconds": 2}, json={"name": name, "input": {"x": 1}}
    )


@scenario
def running_and_waiting_for_an_unknown_workflow(rest: Rest) -> None:
    """Running what is not registered is a 404."""
    rest.call("POST", EXECUTE, name=rest.name("workflow"), version="1", json={"name": "any", "input": {}})


@scenario
def short_lists(rest: Rest) -> None:
    """A fresh server has no secrets, variables, handlers of events or queues of them."""
    for path in ("/secrets", "/environment", "/event", "/queue/"):
        rest.call("GET", path)


@scenario
def many_workflows_whole(rest: Rest) -> None:
    """Several workflows are read by one call."""
    rest.call("POST", "/workflow/bulk/search", json=[start_steps(rest).id])


@scenario
def a_dry_run(rest: Rest) -> None:
    """A definition can be tried with made-up results."""
    task = rest.name("task")
    name = rest.name("workflow")
    results = {"r0": [{"status": "COMPLETED", "output": {"a": 1}}]}
    body = {"name": name, "version": 1, "workflowDef": definition(name, step(task)), "taskRefToMockOutput": results}
    rest.call("POST", "/workflow/test", json=body)


@scenario
def where_payloads_go(rest: Rest) -> None:
    """The server tells where a large payload is to be stored."""
    query = {"path": "", "operation": "WRITE", "payloadType": "TASK_INPUT"}
    with rest.unnoted():
        answer = rest.call("GET", "/tasks/externalstoragelocation", query=query)
    rest.note("the answer", [answer.status, sorted(answer.json)])


@scenario_with(start_steps)
def the_queued_tasks_of_a_type(on: StartedWorkflow) -> None:
    """The administrator's call shows the tasks of a type that wait."""
    on.rest.call("GET", "/admin/task/{type}", type=on.task)
