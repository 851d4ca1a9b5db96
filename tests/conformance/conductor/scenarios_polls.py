"""Polling for tasks."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario, scenario_for_each, scenario_with
from .workflows import Json, StartedWorkflow, register_workflow, start_registered, start_steps, step, task_type


@scenario
def one_task(rest: Rest) -> None:
    """A poll hands out the task whole, with its definitions."""
    start_steps(rest, options={"correlationId": "c"}).poll(show=("workflowTask", "taskDefinition", "executionMetadata"))


@scenario_with(start_steps)
def what_a_poll_changes(on: StartedWorkflow) -> None:
    """A poll makes the task IN_PROGRESS, counts it and notes the worker; the workflow shows it."""
    on.read()
    on.poll("somebody")
    on.read()


@scenario
def an_unknown_type(rest: Rest) -> None:
    """A poll for a type that nobody knows is a 204."""
    rest.call("GET", "/tasks/poll/{type}", type=rest.name("task"))


@scenario_with(start_steps)
def without_a_worker_id(on: StartedWorkflow) -> None:
    """A worker need not name itself."""
    on.rest.call("GET", "/tasks/poll/{type}", type=on.task)


@scenario_with(start_steps)
def a_task_is_handed_out_once(on: StartedWorkflow) -> None:
    """What was polled is not handed out again."""
    on.poll("w1")
    on.poll("w2")
    on.batch(count=5)


BATCHES: dict[str, Json] = {
    "a_batch": {"count": 1},
    # A negative count is accepted. Counts and timeouts must be numbers.
    "a_batch_of_less_than_none": {"count": -1},
    "a_count_that_is_no_number": {"count": "many"},
    "a_timeout_that_is_no_number": {"timeout": "long"},
}


@scenario_for_each(BATCHES)
def batches(rest: Rest, case: Json) -> None:
    """A batch is a list."""
    start_steps(rest).batch(**case)


@scenario_with(start_steps)
def an_empty_batch(on: StartedWorkflow) -> None:
    """A batch that finds nothing is an empty list, not a 204."""
    on.take()
    on.batch(count=3)


@scenario
def a_batch_of_an_unknown_type(rest: Rest) -> None:
    """A batch of a type that nobody knows is an empty list."""
    rest.call("GET", "/tasks/poll/batch/{type}", query={"timeout": 100}, type=rest.name("task"))


@scenario_with(start_steps)
def a_batch_without_a_count(on: StartedWorkflow) -> None:
    """A batch is one task unless told otherwise."""
    start_registered(on.rest, on.task, on.workflow)
    on.rest.note("how many", len(on.batch().json))


@scenario_with(start_steps)
def a_batch_of_several(on: StartedWorkflow) -> None:
    """A batch takes what is there, up to its count."""
    for _ in range(3):
        start_registered(on.rest, on.task, on.workflow)
    on.rest.sleep(0.1)
    with on.rest.unnoted():
        found = [len(on.batch(count=3).json) for _ in range(3)]
    on.rest.note("how many of four are polled, three at a time", found)


@scenario
def batches_go_by_creation(rest: Rest) -> None:
    """A batch is in the order of creation, whatever the priorities."""
    task = task_type(rest)
    name = register_workflow(rest, step(task))
    for priority in (0, 5, 1, 5):
        on = start_registered(rest, task, name, priority=priority)
        rest.sleep(0.01)
    with rest.unnoted():
        rows = on.batch(count=4).json
    rest.note("the order", [row["workflowPriority"] for row in rows])


@scenario
def batches_go_by_the_last_result(rest: Rest) -> None:
    """A result for a task that still waits puts it behind the others."""
    task = task_type(rest)
    name = register_workflow(rest, step(task))
    ons = [start_registered(rest, task, name, given={"x": number}) for number in range(3)]
    rest.sleep(0.01)
    ons[0].act("POST", "/tasks/{workflow}/{reference}/IN_PROGRESS", reference="r0", json={})
    rest.sleep(0.01)
    with rest.unnoted():
        rows = ons[0].batch(count=3).json
    order = [row["workflowInstanceId"] for row in rows]
    rest.note("the order", [order.index(on.id) for on in ons])


@scenario_with(start_steps)
def a_batch_of_none(on: StartedWorkflow) -> None:
    """A batch of none is empty, and leaves what is there."""
    on.batch(count=0)
    on.poll()


@scenario_with(start_steps)
def a_batch_that_waits_too_long(on: StartedWorkflow) -> None:
    """A batch may wait five seconds at most."""
    on.batch(timeout=5001)
    on.poll()


@scenario_with(start_steps)
def a_batch_that_does_not_wait(on: StartedWorkflow) -> None:
    """A timeout of 0 takes what is there."""
    on.rest.sleep(0.1)
    on.rest.note("how many", len(on.batch(count=2, timeout=0).json))


@scenario
def by_priority(rest: Rest) -> None:
    """Single polls take the highest priority first, then the oldest."""
    task = task_type(rest)
    name = register_workflow(rest, step(task))
    for priority in (0, 5, 1, 5):
        on = start_registered(rest, task, name, {"x": priority}, priority=priority)
        rest.sleep(0.01)
    rest.note("the order", [on.take()["workflowPriority"] for _ in range(4)])


@scenario
def the_oldest_first(rest: Rest) -> None:
    """Without priorities single polls take the oldest first."""
    task = task_type(rest)
    name = register_workflow(rest, step(task))
    for number in range(4):
        on = start_registered(rest, task, name, {"x": number})
        rest.sleep(0.01)
    rest.note("the order", [on.take()["inputData"]["x"] for _ in range(4)])


@scenario
def two_types_have_two_queues(rest: Rest) -> None:
    """A poll gets tasks of its type only."""
    task, other = task_type(rest), task_type(rest, "other")
    on = start_registered(rest, task, register_workflow(rest, step(other, "first"), step(task, "second")))
    on.poll()
    on.run(task=other)
    on.poll()


@scenario_with(start_steps, {"concurrentExecLimit": 1})
def a_concurrency_limit(on: StartedWorkflow) -> None:
    """No more tasks of a type are in progress than its limit says; nothing tells why."""
    start_registered(on.rest, on.task, on.workflow)
    on.take()
    on.poll()
    on.batch(count=2)


@scenario_with(start_steps, {"concurrentExecLimit": 2})
def a_limit_of_two(on: StartedWorkflow) -> None:
    """A batch is filled up to the limit."""
    for _ in range(3):
        start_registered(on.rest, on.task, on.workflow)
        on.rest.sleep(0.01)
    on.rest.sleep(0.1)
    with on.rest.unnoted():
        found = len(on.batch(count=4).json)
    on.rest.note("how many of four", found)


@scenario_with(start_steps, {"rateLimitPerFrequency": 1, "rateLimitFrequencyInSeconds": 60})
def a_rate_limit_is_not_kept(on: StartedWorkflow) -> None:
    """A rate limit is shown and does not limit anything."""
    start_registered(on.rest, on.task, on.workflow)
    on.rest.note("the limit", on.take()["rateLimitPerFrequency"])
    on.rest.note("the second", on.take()["status"])


@scenario_with(start_steps)
def who_polled(on: StartedWorkflow) -> None:
    """The server remembers who polled for a type last."""
    on.poll("w7")
    on.rest.call("GET", "/tasks/queue/polldata", query={"taskType": on.task})


@scenario
def nobody_polled(rest: Rest) -> None:
    """A type that nobody polled for has no poll data."""
    rest.call("GET", "/tasks/queue/polldata", query={"taskType": rest.name("task")})


@scenario
def a_name_with_a_blank_is_polled(rest: Rest) -> None:
    """A type whose name needs quoting is polled like any other."""
    task = task_type(rest, "with a blank")
    start_registered(rest, task, register_workflow(rest, step(task))).poll()
