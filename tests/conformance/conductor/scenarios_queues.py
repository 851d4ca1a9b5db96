"""How much waits in the queues."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .workflows import start_registered, start_steps


@scenario
def the_size_of_a_queue(rest: Rest) -> None:
    """The size is a bare number, and follows starts and polls."""
    on = start_steps(rest)
    start_registered(rest, on.task, on.workflow)
    rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})
    on.take()
    rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})


@scenario
def the_size_of_an_unknown_queue(rest: Rest) -> None:
    """The queue of an unknown type is empty."""
    rest.call("GET", "/tasks/queue/size", query={"taskType": rest.name("task")})


@scenario
def the_size_without_a_type(rest: Rest) -> None:
    """The size is asked for a type."""
    rest.call("GET", "/tasks/queue/size")


@scenario
def the_sizes_of_several_queues(rest: Rest) -> None:
    """Several sizes are a map."""
    one = start_steps(rest)
    rest.call("GET", "/tasks/queue/sizes", query={"taskType": [one.task, rest.name("unknown")]})


@scenario
def all_queues(rest: Rest) -> None:
    """The list of all queues has each type that waits."""
    on = start_steps(rest)
    with rest.unnoted():
        found = rest.call("GET", "/tasks/queue/all").json
    rest.note("the size", found.get(on.task))


@scenario
def all_queues_in_detail(rest: Rest) -> None:
    """The detailed list has shards with sizes and what is handed out."""
    on = start_steps(rest)
    with rest.unnoted():
        found = rest.call("GET", "/tasks/queue/all/verbose").json
    rest.note("the queue", found.get(on.task))


@scenario
def a_delayed_retry_counts(rest: Rest) -> None:
    """A retry that waits for its delay counts as queued."""
    on = start_steps(rest, {"retryDelaySeconds": 60})
    on.run("FAILED")
    rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})
    on.poll()


@scenario
def termination_empties_the_queue(rest: Rest) -> None:
    """The task of a terminated workflow is not queued any more."""
    on = start_steps(rest)
    with rest.unnoted():
        on.act("DELETE", "/workflow/{workflow}")
    rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})
    on.poll()


@scenario
def requeueing(rest: Rest) -> None:
    """Requeueing answers with the number of tasks that wait as a text."""
    on = start_steps(rest)
    rest.call("POST", "/tasks/queue/requeue/{type}", type=on.task)
    on.poll()


@scenario
def there_is_no_acknowledgement(rest: Rest) -> None:
    """A poll acknowledges; there is no call for it."""
    on = start_steps(rest)
    rest.call("POST", "/tasks/{task}/ack", task=on.take()["taskId"])


@scenario
def the_attempts_of_a_type_that_have_not_ended(rest: Rest) -> None:
    """One that waits and one that is with a worker, whatever the order; a page may be any part of them."""
    on = start_steps(rest)
    start_registered(rest, on.task, on.workflow)
    on.take()
    with rest.unnoted():
        found = rest.call("GET", "/admin/task/{name}", name=on.task).json
        page = rest.call("GET", "/admin/task/{name}", name=on.task, query={"start": 1, "count": 1}).json
        beyond = rest.call("GET", "/admin/task/{name}", name=on.task, query={"start": 5, "count": 5}).json
    rest.note("statuses", sorted(one["status"] for one in found))
    rest.note("a page", len(page))
    rest.note("beyond the end", beyond)
    rest.note("fields", sorted(set[str]().union(*found)))
    rest.call("GET", "/admin/task/{name}", name=rest.name("unknown"))
