"""Reading tasks and workflows."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .workflows import start_registered, start_steps


@scenario
def a_scheduled_task(rest: Rest) -> None:
    """A task that waits shows no worker and no start."""
    on = start_steps(rest, options={"correlationId": "c", "priority": 4})
    rest.call("GET", "/tasks/{task}", task=on.row("r0")["taskId"], show=("workflowTask", "taskDefinition"))


@scenario
def a_task_in_progress(rest: Rest) -> None:
    """A task in progress is read as it was polled."""
    on = start_steps(rest)
    polled = on.take()
    read = rest.call("GET", "/tasks/{task}", task=polled["taskId"]).json
    rest.note("what differs from the poll", sorted(key for key in polled | read if polled.get(key) != read.get(key)))


@scenario
def an_ended_task(rest: Rest) -> None:
    """An ended task keeps its output and its reason."""
    on = start_steps(rest, {"retryCount": 0})
    task = on.run("FAILED", outputData={"a": None}, reasonForIncompletion="boo")
    rest.call("GET", "/tasks/{task}", task=task["taskId"])


@scenario
def an_unknown_task(rest: Rest) -> None:
    """An unknown task is a 404 whose body says which."""
    rest.call("GET", "/tasks/{task}", task="no-such-task")


@scenario
def an_unknown_workflow(rest: Rest) -> None:
    """An unknown workflow is a 404 whose body says which."""
    rest.call("GET", "/workflow/{workflow}", workflow="no-such-workflow")


@scenario
def a_workflow_without_its_tasks(rest: Rest) -> None:
    """The tasks may be left out."""
    start_steps(rest).read(query={"includeTasks": "false"})


@scenario
def a_workflow_with_its_definition(rest: Rest) -> None:
    """A workflow shows the definition that it runs by."""
    on = start_steps(rest, description="d", outputParameters={"o": "${r0.output.o}"}, timeoutSeconds=60)
    on.read(show=("workflowDefinition",))


@scenario
def the_status_of_a_workflow(rest: Rest) -> None:
    """The status call is short; output and variables are asked for."""
    on = start_steps(rest, options={"correlationId": "c"}, variables={"v": 1})
    on.act("GET", "/workflow/{workflow}/status")
    on.run(outputData={"a": 1})
    on.act("GET", "/workflow/{workflow}/status", query={"includeOutput": "true", "includeVariables": "true"})


@scenario
def the_status_of_an_unknown_workflow(rest: Rest) -> None:
    """The status of an unknown workflow is a 404."""
    rest.call("GET", "/workflow/{workflow}/status", workflow="no-such-workflow")


@scenario
def the_tasks_of_a_workflow(rest: Rest) -> None:
    """The tasks of a workflow can be listed alone."""
    on = start_steps(rest, steps=2)
    on.run()
    on.act("GET", "/workflow/{workflow}/tasks")


@scenario
def a_page_of_tasks(rest: Rest) -> None:
    """The tasks come in pages, and by status."""
    on = start_steps(rest, steps=3)
    on.run()
    on.run()
    on.act("GET", "/workflow/{workflow}/tasks", query={"start": 1, "count": 1})
    on.act("GET", "/workflow/{workflow}/tasks", query={"status": "SCHEDULED"})


@scenario
def running_workflows(rest: Rest) -> None:
    """The running workflows of a name are a list of ids, without those that have ended."""
    on = start_steps(rest)
    on.run()
    start_registered(rest, on.task, on.workflow)
    rest.call("GET", "/workflow/running/{name}", name=on.workflow)


@scenario
def running_workflows_of_a_version(rest: Rest) -> None:
    """The version that is asked for does not matter."""
    on = start_steps(rest)
    rest.call("GET", "/workflow/running/{name}", name=on.workflow, query={"version": 1})
    rest.call("GET", "/workflow/running/{name}", name=on.workflow, query={"version": 2})


@scenario
def workflows_by_correlation_id(rest: Rest) -> None:
    """Workflows are found by name and correlation id; ended ones on request."""
    on = start_steps(rest, options={"correlationId": "c1"})
    query = {"includeClosed": "false", "includeTasks": "false"}
    rest.call("GET", "/workflow/{name}/correlated/{id}", name=on.workflow, id="c1", query=query)
    rest.call("GET", "/workflow/{name}/correlated/{id}", name=on.workflow, id="other", query=query)
    on.run()
    rest.call("GET", "/workflow/{name}/correlated/{id}", name=on.workflow, id="c1", query=query)
    query["includeClosed"] = "true"
    rest.call("GET", "/workflow/{name}/correlated/{id}", name=on.workflow, id="c1", query=query)


@scenario
def workflows_by_several_correlation_ids(rest: Rest) -> None:
    """Several correlation ids are answered as a map."""
    on = start_steps(rest, options={"correlationId": "c1"})
    rest.call("POST", "/workflow/{name}/correlated", name=on.workflow, json=["c1", "c2"])


@scenario
def what_there_is_of_nothing(rest: Rest) -> None:
    """Lists of workflows and sizes of queues that nobody has used are empty, and no errors."""
    name = rest.name("nothing")
    rest.call("GET", "/workflow/running/{name}", name=name)
    rest.call("GET", "/workflow/{name}/correlated/{id}", name=name, id="c")
    rest.call("GET", "/tasks/queue/sizes", query={"taskType": name})
    rest.call("GET", "/tasks/queue/sizes", query={"taskType": f"{name},other-{name}"})
