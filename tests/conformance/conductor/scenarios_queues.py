"""How much waits in the queues."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario, scenario_for_each, scenario_with
from .workflows import StartedWorkflow, start_registered, start_steps


@scenario_with(start_steps)
def the_size_of_a_queue(on: StartedWorkflow) -> None:
    """The size is a bare number, and follows starts and polls."""
    start_registered(on.rest, on.task, on.workflow)
    on.rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})
    on.take()
    on.rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})


@scenario
def the_size_without_a_type(rest: Rest) -> None:
    """The size is asked for a type."""
    rest.call("GET", "/tasks/queue/size")


@scenario_with(start_steps)
def the_sizes_of_several_queues(one: StartedWorkflow) -> None:
    """Several sizes are a map."""
    one.rest.call("GET", "/tasks/queue/sizes", query={"taskType": [one.task, one.rest.name("unknown")]})


ALL = {"all_queues": ("", "the size"), "all_queues_in_detail": ("/verbose", "the queue")}


@scenario_for_each(ALL)
def all_that_wait(rest: Rest, case: tuple[str, str]) -> None:
    """The list of all queues has each type that waits, in detail with its shards."""
    path, about = case
    on = start_steps(rest)
    with rest.unnoted():
        found = rest.call("GET", f"/tasks/queue/all{path}").json
    rest.note(about, found.get(on.task))


@scenario_with(start_steps, {"retryDelaySeconds": 60})
def a_delayed_retry_counts(on: StartedWorkflow) -> None:
    """A retry that waits for its delay counts as queued."""
    on.run("FAILED")
    on.rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})
    on.poll()


@scenario_with(start_steps)
def termination_empties_the_queue(on: StartedWorkflow) -> None:
    """The task of a terminated workflow is not queued any more."""
    with on.rest.unnoted():
        on.act("DELETE", "/workflow/{workflow}")
    on.rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})
    on.poll()


@scenario_with(start_steps)
def requeueing(on: StartedWorkflow) -> None:
    """Requeueing answers with the number of tasks that wait as a text."""
    on.rest.call("POST", "/tasks/queue/requeue/{type}", type=on.task)
    on.poll()


@scenario_with(start_steps)
def there_is_no_acknowledgement(on: StartedWorkflow) -> None:
    """A poll acknowledges; there is no call for it."""
    on.rest.call("POST", "/tasks/{task}/ack", task=on.take()["taskId"])


@scenario_with(start_steps)
def the_attempts_of_a_type_that_have_not_ended(on: StartedWorkflow) -> None:
    """One that waits and one that is with a worker, whatever the order; a page may be any part of them."""
    start_registered(on.rest, on.task, on.workflow)
    on.take()
    with on.rest.unnoted():
        found = on.rest.call("GET", "/admin/task/{name}", name=on.task).json
        page = on.rest.call("GET", "/admin/task/{name}", name=on.task, query={"start": 1, "count": 1}).json
        beyond = on.rest.call("GET", "/admin/task/{name}", name=on.task, query={"start": 5, "count": 5}).json
    on.rest.note("statuses", sorted(one["status"] for one in found))
    on.rest.note("a page", len(page))
    on.rest.note("beyond the end", beyond)
    on.rest.note("fields", sorted(set[str]().union(*found)))
    on.rest.call("GET", "/admin/task/{name}", name=on.rest.name("unknown"))
