"""Reading tasks and workflows."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario, scenario_for_each, scenario_with
from .workflows import Json, StartedWorkflow, start_registered, start_steps


@scenario_with(start_steps, options={"correlationId": "c", "priority": 4})
def a_scheduled_task(on: StartedWorkflow) -> None:
    """A task that waits shows no worker and no start."""
    on.rest.call("GET", "/tasks/{task}", task=on.row("r0")["taskId"], show=("workflowTask", "taskDefinition"))


@scenario_with(start_steps)
def a_task_in_progress(on: StartedWorkflow) -> None:
    """A task in progress is read as it was polled."""
    polled = on.take()
    read = on.rest.call("GET", "/tasks/{task}", task=polled["taskId"]).json
    on.rest.note("what differs from the poll", sorted(key for key in polled | read if polled.get(key) != read.get(key)))


@scenario_with(start_steps, {"retryCount": 0})
def an_ended_task(on: StartedWorkflow) -> None:
    """An ended task keeps its output and its reason."""
    task = on.run("FAILED", outputData={"a": None}, reasonForIncompletion="boo")
    on.rest.call("GET", "/tasks/{task}", task=task["taskId"])


UNKNOWN: dict[str, tuple[str, Json]] = {
    "an_unknown_task": ("/tasks/{task}", {"task": "no-such-task"}),
    "an_unknown_workflow": ("/workflow/{workflow}", {"workflow": "no-such-workflow"}),
    "the_status_of_an_unknown_workflow": ("/workflow/{workflow}/status", {"workflow": "no-such-workflow"}),
}


@scenario_for_each(UNKNOWN)
def unknown(rest: Rest, case: tuple[str, Json]) -> None:
    """What is unknown is a 404 whose body says which."""
    template, parts = case
    rest.call("GET", template, **parts)


@scenario
def a_workflow_without_its_tasks(rest: Rest) -> None:
    """The tasks may be left out."""
    start_steps(rest).read(query={"includeTasks": "false"})


@scenario_with(start_steps, description="d", outputParameters={"o": "${r0.output.o}"}, timeoutSeconds=60)
def a_workflow_with_its_definition(on: StartedWorkflow) -> None:
    """A workflow shows the definition that it runs by."""
    on.read(show=("workflowDefinition",))


@scenario_with(start_steps, options={"correlationId": "c"}, variables={"v": 1})
def the_status_of_a_workflow(on: StartedWorkflow) -> None:
    """The status call is short; output and variables are asked for."""
    on.act("GET", "/workflow/{workflow}/status")
    on.run(outputData={"a": 1})
    on.act("GET", "/workflow/{workflow}/status", query={"includeOutput": "true", "includeVariables": "true"})


@scenario_with(start_steps, steps=2)
def the_tasks_of_a_workflow(on: StartedWorkflow) -> None:
    """The tasks of a workflow can be listed alone."""
    on.run()
    on.act("GET", "/workflow/{workflow}/tasks")


@scenario_with(start_steps, steps=3)
def a_page_of_tasks(on: StartedWorkflow) -> None:
    """The tasks come in pages, and by status."""
    on.run()
    on.run()
    on.act("GET", "/workflow/{workflow}/tasks", query={"start": 1, "count": 1})
    on.act("GET", "/workflow/{workflow}/tasks", query={"status": "SCHEDULED"})


@scenario_with(start_steps)
def running_workflows(on: StartedWorkflow) -> None:
    """The running workflows of a name are a list of ids, without those that have ended."""
    on.run()
    start_registered(on.rest, on.task, on.workflow)
    on.rest.call("GET", "/workflow/running/{name}", name=on.workflow)


@scenario_with(start_steps)
def running_workflows_of_a_version(on: StartedWorkflow) -> None:
    """The version that is asked for does not matter."""
    on.rest.call("GET", "/workflow/running/{name}", name=on.workflow, query={"version": 1})
    on.rest.call("GET", "/workflow/running/{name}", name=on.workflow, query={"version": 2})


@scenario_with(start_steps, options={"correlationId": "c1"})
def workflows_by_correlation_id(on: StartedWorkflow) -> None:
    """Workflows are found by name and correlation id; ended ones on request."""
    query = {"includeClosed": "false", "includeTasks": "false"}
    on.rest.call("GET", "/workflow/{name}/correlated/{id}", name=on.workflow, id="c1", query=query)
    on.rest.call("GET", "/workflow/{name}/correlated/{id}", name=on.workflow, id="other", query=query)
    on.run()
    on.rest.call("GET", "/workflow/{name}/correlated/{id}", name=on.workflow, id="c1", query=query)
    query["includeClosed"] = "true"
    on.rest.call("GET", "/workflow/{name}/correlated/{id}", name=on.workflow, id="c1", query=query)


@scenario_with(start_steps, options={"correlationId": "c1"})
def workflows_by_several_correlation_ids(on: StartedWorkflow) -> None:
    """Several correlation ids are answered as a map."""
    on.rest.call("POST", "/workflow/{name}/correlated", name=on.workflow, json=["c1", "c2"])


@scenario
def what_there_is_of_nothing(rest: Rest) -> None:
    """Lists of workflows and sizes of queues that nobody has used are empty, and no errors."""
    name = rest.name("nothing")
    rest.call("GET", "/workflow/running/{name}", name=name)
    rest.call("GET", "/workflow/{name}/correlated/{id}", name=name, id="c")
    rest.call("GET", "/tasks/queue/sizes", query={"taskType": name})
    rest.call("GET", "/tasks/queue/sizes", query={"taskType": f"{name},other-{name}"})
