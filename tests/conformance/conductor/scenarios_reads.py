"""Reading workflows and tasks: by id, by searches, and by the calls of user interfaces."""

from __future__ import annotations

import time
from typing import Any

from ..rest import Rest
from ..scenario import Declared, Request, rest, scenario, scenario_with, send, to
from .operators import system_task
from .workflows import (
    PATIENCE_SECONDS,
    StartedWorkflow,
    at,
    definition,
    on,
    one_step,
    registered,
    start_registered,
    start_steps,
    step,
    two_steps,
)


@scenario_with(start_steps)
def a_task_in_progress(on: StartedWorkflow) -> None:
    """A task in progress is read as it was polled."""
    polled = on.take()
    read = on.read_task(polled)
    on.rest.note("what differs from the poll", sorted(key for key in polled | read if polled.get(key) != read.get(key)))


@scenario
def whether_it_lives(rest: Rest) -> None:
    """The page for load balancers is outside of the API, too."""
    rest.get("/../health")


@scenario_with(start_steps)
def all_definitions(on: StartedWorkflow) -> None:
    """The lists of all definitions have what was registered."""
    on.rest.get("/metadata/taskdefs", own=True)
    on.rest.get("/metadata/workflow", own=True)


@scenario
def what_there_is_of_nothing(rest: Rest) -> None:
    """Lists of workflows and sizes of queues that nobody has used are empty, and no errors."""
    name = rest.name("nothing")
    rest.get("/workflow/running/{name}", name=name)
    rest.get("/workflow/{name}/correlated/{id}", name=name, id="c")
    rest.get("/tasks/queue/sizes", query={"taskType": name})
    rest.get("/tasks/queue/sizes", query={"taskType": f"{name},other-{name}"})


_TOLD = ("status", "input", "output", "workflowPriority", "reasonForIncompletion")


def _search(rest: Rest, query: str, where: str = "/tasks/search", **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = rest.silent.get(where, query={"query": query, **options}).json
    return found


def _indexed(rest: Rest, query: str, number: int, where: str = "/tasks/search") -> dict[str, Any]:
    """The index is written beside the task, a moment later."""
    limit = time.monotonic() + PATIENCE_SECONDS
    while (found := _search(rest, query, where))["totalHits"] < number and time.monotonic() < limit:
        time.sleep(0.05)
    return found


def _name(on: StartedWorkflow) -> str:
    return str(on.row("r0")["taskDefName"])


@scenario_with(start_steps)
def only_tasks_that_have_ended_are_found(on: StartedWorkflow) -> None:
    """A waiting task is not in the index, a completed one is, with its input and output as Java's text of a map."""
    name = _name(on)
    on.rest.note("while it waits", _search(on.rest, f"taskType='{name}'")["totalHits"])
    on.run(outputData={"a": {"b": [1, None, True]}})
    found = _indexed(on.rest, f"taskType='{name}' AND status='COMPLETED'", 1)
    on.rest.note("fields", sorted(found["results"][0]))
    on.rest.note("told", {key: found["results"][0].get(key) for key in _TOLD})


@scenario_with(start_steps)
def terms_of_a_search_are_joined(on: StartedWorkflow) -> None:
    """Type, status, workflow and time, each with or without quotes."""
    name, workflow = _name(on), on.read()["workflowName"]
    on.run()
    _indexed(on.rest, f"taskType={name}", 1)
    for text in (
        f"taskType={name} AND workflowType='{workflow}'",
        f"taskType='{name}' AND status='FAILED'",
        f"taskType='{name}' AND updateTime>1000",
        f"taskType='{name}' AND updateTime>99999999999999",
        f"taskDefName={name}x",
    ):
        shown = text.replace(name, "TYPE").replace(workflow, "WORKFLOW")
        on.rest.note(shown, _search(on.rest, text, sort="updateTime:DESC", freeText="*")["totalHits"])


@scenario_with(start_steps)
def a_page_of_a_search(on: StartedWorkflow) -> None:
    """A page has at most so many results, from the given one on; the total counts all."""
    query = f"taskType='{_name(on)}'"
    on.run()
    _indexed(on.rest, query, 1)
    for start, size in ((0, 0), (0, 1), (1, 1)):
        on.rest.get("/tasks/search", query={"query": query, "start": start, "size": size})


_WORKFLOWS = "/workflow/search"
_SAID = ("status", "input", "output", "inputSize", "failedReferenceTaskNames", "failedTaskNames", "priority", "version")


def _recorded(found: dict[str, Any]) -> dict[str, Any]:
    return {key: found["results"][0].get(key) for key in _SAID}


@scenario_with(start_steps, task={"retryCount": 0})
def workflows_are_found_while_they_run_and_afterwards(on: StartedWorkflow) -> None:
    """A summary has what failed, and input and output as Java's text of a map."""
    name = on.read()["workflowName"]
    running = _indexed(on.rest, f"workflowType='{name}' AND status='RUNNING'", 1, _WORKFLOWS)
    on.rest.note("fields while it runs", sorted(running["results"][0]))
    on.rest.note("while it runs", _recorded(running))
    on.run(status="FAILED", reasonForIncompletion="bad 'row'")
    failed = _indexed(on.rest, f"workflowType='{name}' AND status='FAILED'", 1, _WORKFLOWS)
    on.rest.note("fields of one that failed", sorted(failed["results"][0]))
    on.rest.note("one that failed", _recorded(failed))
    on.rest.note(
        "still running", _search(on.rest, f"workflowType='{name}' AND status='RUNNING'", _WORKFLOWS)["totalHits"]
    )


@scenario_with(start_steps)
def workflows_are_found_by_their_names_and_times(on: StartedWorkflow) -> None:
    """By name, its beginning, correlation id and start; a term that none of them has finds nothing."""
    found = on.read()
    name, started = found["workflowName"], found["startTime"]
    _indexed(on.rest, f"workflowType='{name}'", 1, _WORKFLOWS)
    on.rest.get(_WORKFLOWS, query={"query": f"workflowType='{name}'"})
    body = {"name": name, "version": 1, "correlationId": f"of {name}"}
    on.silent.rest.post("/workflow", body)
    _indexed(on.rest, f"workflowType='{name}'", 2, _WORKFLOWS)
    for text in (
        f"workflowType='{name[:-2]}*'",
        f"workflowType='*{name[2:]}'",
        f"correlationId='of {name}'",
        f"correlationId='of {name}' AND status='RUNNING'",
        f"correlationId='{name}'",
        f"workflowType='{name}' AND startTime>{started - 1}",
        f"workflowType='{name}' AND startTime<{started}",
        f"workflowType='{name}' AND startTime>{started - 1} AND startTime<{started + 600_000}",
    ):
        shown = text.replace(name, "NAME").replace(name[:-2], "NAM").replace(name[2:], "AME")
        for number, word in ((started - 1, "BEFORE"), (started + 600_000, "LATER"), (started, "START")):
            shown = shown.replace(str(number), word)
        on.rest.note(shown, _search(on.rest, text, _WORKFLOWS)["totalHits"])


@scenario
def the_newest_workflows_come_first(rest: Rest) -> None:
    """By their start; a page has at most so many results, from the given one on; the total counts all."""
    ons = [start_steps(rest)]
    name = ons[0].read()["workflowName"]
    for _ in range(2):
        time.sleep(0.002)  # the order of one millisecond is not defined
        ons.append(start_registered(rest, ons[0].task, ons[0].workflow))
    query = f"workflowType='{name}'"
    _indexed(rest, query, 3, _WORKFLOWS)
    ids = [on.id for on in ons]
    for start, size in ((0, 2), (2, 2), (0, 0)):
        found = _search(rest, query, _WORKFLOWS, start=start, size=size, sort="startTime:DESC", freeText="*")
        places = [ids.index(one["workflowId"]) for one in found["results"]]
        rest.note(f"start {start}, size {size}", [found["totalHits"], places])


@scenario_with(start_steps)
def the_versions_of_a_workflow(on: StartedWorkflow) -> None:
    """The lowest first; none of an unknown name."""
    definition = on.silent.rest.get("/metadata/workflow/{name}", name=on.workflow).json
    on.rest.post("/metadata/workflow", {**definition, "version": 3, "createTime": 0, "updateTime": 0})
    on.rest.get("/metadata/workflow/{name}/versions", name=on.workflow)
    on.rest.get("/metadata/workflow/{name}/versions", name=on.rest.name("unknown"))


EXECUTE = "/workflow/execute/{name}/{version}"


def _execute(seconds: int) -> Request:
    body = {"name": at.name, "input": {"x": 1}}
    return at.rest.post(EXECUTE, body, name=at.name, version="1", query={"waitForSeconds": seconds})


def _correlated(identity: str, closed: str = "false") -> Request:
    query = {"includeClosed": closed, "includeTasks": "false"}
    return on.rest.get("/workflow/{name}/correlated/{id}", name=on.workflow, id=identity, query=query)


@scenario
def where_payloads_go(rest: Rest) -> None:
    """The server tells where a large payload is to be stored."""
    query = {"path": "", "operation": "WRITE", "payloadType": "TASK_INPUT"}
    answer = rest.silent.get("/tasks/externalstoragelocation", query=query)
    rest.note("the answer", [answer.status, sorted(answer.json)])


SCENARIOS: Declared = {
    # What is unknown is a 404 whose body says which.
    "an_unknown_task": send(rest.get("/tasks/{task}", task="no-such-task")),
    "an_unknown_workflow": send(rest.get("/workflow/{workflow}", workflow="no-such-workflow")),
    "the_status_of_an_unknown_workflow": send(rest.get("/workflow/{workflow}/status", workflow="no-such-workflow")),
    # Workflows are found by name and correlation id; ended ones on request.
    "workflows_by_correlation_id": to(start_steps, options={"correlationId": "c1"})(
        _correlated("c1"), _correlated("other"), on.run(), _correlated("c1"), _correlated("c1", closed="true")
    ),
    # Run and wait answers after its time, whether the workflow has ended or not.
    "running_and_waiting_in_vain": to(registered, step("task"))(_execute(seconds=1)),
    # Run and wait answers with the output of a workflow that needs no worker.
    "running_and_waiting_for_the_end": to(
        registered, system_task("SET_VARIABLE", "set", v=1), types={}, outputParameters={"o": "${workflow.input.x}"}
    )(_execute(seconds=2)),
    # Several workflows are read by one call.
    "many_workflows_whole": one_step(on.rest.post("/workflow/bulk/search", [on.id])),
    # A definition can be tried with made-up results.
    "a_dry_run": send(
        rest.post(
            "/workflow/test",
            {
                "name": rest.unique("workflow"),
                "version": 1,
                "workflowDef": definition(rest.unique("workflow"), step(rest.unique("task"))),
                "taskRefToMockOutput": {"r0": [{"status": "COMPLETED", "output": {"a": 1}}]},
            },
        )
    ),
    # The tasks may be left out.
    "a_workflow_without_its_tasks": one_step(on.read(query={"includeTasks": "false"})),
    # A workflow shows the definition that it runs by.
    "a_workflow_with_its_definition": to(
        start_steps, description="d", outputParameters={"o": "${r0.output.o}"}, timeoutSeconds=60
    )(on.read(show=("workflowDefinition",))),
    # The status call is short; output and variables are asked for.
    "the_status_of_a_workflow": to(start_steps, options={"correlationId": "c"}, variables={"v": 1})(
        on.act("GET", "/workflow/{workflow}/status"),
        on.run(outputData={"a": 1}),
        on.act("GET", "/workflow/{workflow}/status", query={"includeOutput": "true", "includeVariables": "true"}),
    ),
    # The tasks of a workflow can be listed alone.
    "the_tasks_of_a_workflow": two_steps(on.run(), on.act("GET", "/workflow/{workflow}/tasks")),
    # The tasks come in pages, and by status.
    "a_page_of_tasks": to(start_steps, steps=3)(
        on.run(),
        on.run(),
        on.act("GET", "/workflow/{workflow}/tasks", query={"start": 1, "count": 1}),
        on.act("GET", "/workflow/{workflow}/tasks", query={"status": "SCHEDULED"}),
    ),
    # The running workflows of a name are a list of ids, without those that have ended.
    "running_workflows": one_step(
        on.run(), on.start_another(), on.rest.get("/workflow/running/{name}", name=on.workflow)
    ),
    # The version that is asked for does not matter.
    "running_workflows_of_a_version": one_step(
        on.rest.get("/workflow/running/{name}", name=on.workflow, query={"version": 1}),
        on.rest.get("/workflow/running/{name}", name=on.workflow, query={"version": 2}),
    ),
    # Several correlation ids are answered as a map.
    "workflows_by_several_correlation_ids": to(start_steps, options={"correlationId": "c1"})(
        on.rest.post("/workflow/{name}/correlated", name=on.workflow, json=["c1", "c2"])
    ),
    # Running what is not registered is a 404.
    "running_and_waiting_for_an_unknown_workflow": send(
        rest.post(EXECUTE, name=rest.name("workflow"), version="1", json={"name": "any", "input": {}})
    ),
    # A fresh server has no secrets, variables, handlers of events or queues of them.
    "short_lists": send(*(rest.get(path) for path in ("/secrets", "/environment", "/event", "/queue/"))),
    # The administrator's call shows the tasks of a type that wait.
    "the_queued_tasks_of_a_type": one_step(on.rest.get("/admin/task/{type}", type=on.task)),
    # A task that waits shows no worker and no start.
    "a_scheduled_task": to(start_steps, options={"correlationId": "c", "priority": 4})(
        on.read_task(on.row("r0"), show=("workflowTask", "taskDefinition"))
    ),
    # An ended task keeps its output and its reason.
    "an_ended_task": to(start_steps, {"retryCount": 0})(
        on.run("FAILED", outputData={"a": None}, reasonForIncompletion="boo"), on.read_task(on.taken(1))
    ),
}
