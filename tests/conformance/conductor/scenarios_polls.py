"""Polling for tasks, also in domains, and what is known of queues."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import Declared, each, rest, scenario, scenario_for_each, scenario_with, send, to
from .operators import sub_workflow
from .workflows import (
    Json,
    StartedWorkflow,
    on,
    one_step,
    register_workflow,
    start_registered,
    start_steps,
    start_types,
    step,
    task_type,
)

BATCHES: dict[str, Json] = {
    "a_batch": {"count": 1},
    # A negative count is accepted. Counts and timeouts must be numbers.
    "a_batch_of_less_than_none": {"count": -1},
    "a_count_that_is_no_number": {"count": "many"},
    "a_timeout_that_is_no_number": {"timeout": "long"},
}


def _queued(rest: Rest, *starts: Json) -> list[StartedWorkflow]:
    """Workflows of one step that were started by these requests, one after the other."""
    task = task_type(rest)
    name = register_workflow(rest, step(task))
    ons = []
    for members in starts:
        ons.append(start_registered(rest, task, name, **members))
        rest.sleep(0.01)
    return ons


PRIORITIES = [{"priority": priority} for priority in (0, 5, 1, 5)]
NUMBERS = [{"given": {"x": number}} for number in range(4)]


@scenario
def batches_go_by_creation(rest: Rest) -> None:
    """A batch is in the order of creation, whatever the priorities."""
    rows = _queued(rest, *PRIORITIES)[0].silent.batch(count=4).json
    rest.note("the order", [row["workflowPriority"] for row in rows])


@scenario
def batches_go_by_the_last_result(rest: Rest) -> None:
    """A result for a task that still waits puts it behind the others."""
    ons = _queued(rest, *NUMBERS[:3])
    ons[0].act("POST", "/tasks/{workflow}/{reference}/IN_PROGRESS", reference="r0", json={})
    rest.sleep(0.01)
    order = [row["workflowInstanceId"] for row in ons[0].silent.batch(count=3).json]
    rest.note("the order", [order.index(on.id) for on in ons])


@scenario
def by_priority(rest: Rest) -> None:
    """Single polls take the highest priority first, then the oldest."""
    on = _queued(rest, *({"given": {"x": each["priority"]}, **each} for each in PRIORITIES))[0]
    rest.note("the order", [on.take()["workflowPriority"] for _ in range(4)])


@scenario
def the_oldest_first(rest: Rest) -> None:
    """Without priorities single polls take the oldest first."""
    on = _queued(rest, *NUMBERS)[0]
    rest.note("the order", [on.take()["inputData"]["x"] for _ in range(4)])


@scenario_with(start_steps)
def a_batch_of_several(on: StartedWorkflow) -> None:
    """A batch takes what is there, up to its count."""
    for _ in range(3):
        on.start_another()
    on.rest.sleep(0.1)
    with on.rest.unnoted():
        found = [len(on.batch(count=3).json) for _ in range(3)]
    on.rest.note("how many of four are polled, three at a time", found)


def _within(rest: Rest, domain: str, **options: Any) -> StartedWorkflow:
    return start_steps(rest, options={"taskToDomain": {"*": domain}}, **options)


@scenario_with(start_steps)
def a_domain_of_one_type(on: StartedWorkflow) -> None:
    """A domain may be meant for one task type."""
    started = on.silent.rest.post("/workflow", {"name": on.workflow, "taskToDomain": {on.task: "d1"}})
    StartedWorkflow(on.rest, on.task, on.workflow, started.text).read()
    on.poll(domain="d1")


@scenario_with(start_steps)
def a_domain_that_somebody_polls(first: StartedWorkflow) -> None:
    """Of several domains the first that was polled lately is taken."""
    with first.rest.unnoted():
        first.poll(domain="d1")
        started = first.rest.post("/workflow", {"name": first.workflow, "taskToDomain": {"*": "d1,NO_DOMAIN"}})
    StartedWorkflow(first.rest, first.task, first.workflow, started.text).read()


@scenario
def a_retry_and_a_child_in_their_domains(rest: Rest) -> None:
    """A domain of one type goes before that of all; a retry keeps its domain, and a child has that of its parent."""
    a, b = task_type(rest, "a"), task_type(rest, "b")
    child = register_workflow(rest, step(b, "c1"), label="child")
    name = register_workflow(rest, step(a, "a1"), sub_workflow(child), step(b, "b1"))
    on = start_registered(rest, a, name, taskToDomain={a: "d1", "*": "d2"})
    on.batch(domain="d2")
    on.noted.finish(on.take(domain="d1"), "FAILED")
    on.noted.finish(on.take(domain="d1"))
    on.started_by("sub").note_all()
    on.noted.finish(on.take(task=b, domain="d2"))
    rest.get("/tasks/queue/size", query={"taskType": b})
    rest.get("/tasks/queue/size", query={"taskType": f"d2:{b}"})


DOMAINS: dict[str, dict[str, str]] = {
    "a_polled_domain_of_one_type": {"TYPE": "d1,NO_DOMAIN"},
    "an_unpolled_domain_of_one_type": {"TYPE": "d2,NO_DOMAIN"},
    "a_polled_domain_after_another": {"TYPE": "d2,d1"},
    "no_domain_in_lower_case": {"TYPE": "no_domain"},
    "a_polled_domain_of_all": {"*": "d1"},
    "no_domain_for_one_type": {"*": "d1", "TYPE": "NO_DOMAIN"},
    "blanks_around_domains": {"TYPE": " d3 , d4 "},
    "an_empty_domain": {"TYPE": ""},
    "an_empty_domain_of_all": {"*": ""},
}


@scenario_for_each(DOMAINS)
def chosen_domains(rest: Rest, case: dict[str, str]) -> None:
    """A domain counts when it was polled lately; the first of them is taken, or else the last that is named."""
    task = task_type(rest)
    rest.silent.get("/tasks/poll/{type}", query={"domain": "d1"}, type=task)
    domains = {task if name == "TYPE" else name: domain for name, domain in case.items()}
    start_registered(rest, task, register_workflow(rest, step(task)), taskToDomain=domains).note_all()


ALL = {
    "all_queues": "/tasks/queue/all",
    "all_queues_in_detail": "/tasks/queue/all/verbose",
    "all_polls": "/tasks/queue/polldata/all",
}


@scenario_for_each(ALL)
def all_types(rest: Rest, path: str) -> None:
    """The lists of all queues have each type that waits, and that of all polls each that was polled."""
    on = start_steps(rest)
    rest.silent.get("/tasks/poll/{name}", name=on.task, query={"workerid": "w7"})
    on.start_another()
    rest.get(path, own=True)


@scenario_with(start_steps)
def the_attempts_of_a_type_that_have_not_ended(on: StartedWorkflow) -> None:
    """One that waits and one that is with a worker, whatever the order; a page may be any part of them."""
    on.start_another()
    on.take()
    found = on.silent.rest.get("/admin/task/{name}", name=on.task).json
    page = on.silent.rest.get("/admin/task/{name}", name=on.task, query={"start": 1, "count": 1}).json
    beyond = on.silent.rest.get("/admin/task/{name}", name=on.task, query={"start": 5, "count": 5}).json
    on.rest.note("statuses", sorted(one["status"] for one in found))
    on.rest.note("a page", len(page))
    on.rest.note("beyond the end", beyond)
    on.rest.note("fields", sorted(set[str]().union(*found)))
    on.rest.get("/admin/task/{name}", name=on.rest.name("unknown"))


SCENARIOS: Declared = {
    # A batch is one task unless told otherwise.
    "a_batch_without_a_count": one_step(on.start_another(), on.note_number("how many", on.batch())),
    # A timeout of 0 takes what is there.
    "a_batch_that_does_not_wait": one_step(
        on.rest.sleep(0.1), on.note_number("how many", on.batch(count=2, timeout=0))
    ),
    # A batch is filled up to the limit.
    "a_limit_of_two": to(start_steps, {"concurrentExecLimit": 2})(
        *[on.start_another(), on.rest.sleep(0.01)] * 3,
        on.rest.sleep(0.1),
        on.note_number("how many of four", on.silent.batch(count=4)),
    ),
    # A batch is a list.
    **each(BATCHES, lambda case: one_step(on.batch(**case))),
    # A poll gets tasks of its type only.
    "two_types_have_two_queues": to(
        start_types, step("other", "first"), step("task", "second"), types={"task": {}, "other": {}}
    )(on.poll(), on.run(task="other"), on.poll()),
    # A type whose name needs quoting is polled like any other.
    "a_name_with_a_blank_is_polled": to(start_types, step("with a blank"), types={"with a blank": {}})(on.poll()),
    # A poll hands out the task whole, with its definitions.
    "one_task": to(start_steps, options={"correlationId": "c"})(
        on.poll(show=("workflowTask", "taskDefinition", "executionMetadata"))
    ),
    # A poll makes the task IN_PROGRESS, counts it and notes the worker; the workflow shows it.
    "what_a_poll_changes": one_step(on.read(), on.poll("somebody"), on.read()),
    # A poll for a type that nobody knows is a 204.
    "an_unknown_type": send(rest.get("/tasks/poll/{type}", type=rest.name("task"))),
    # A worker need not name itself.
    "without_a_worker_id": one_step(on.rest.get("/tasks/poll/{type}", type=on.task)),
    # What was polled is not handed out again.
    "a_task_is_handed_out_once": one_step(on.poll("w1"), on.poll("w2"), on.batch(count=5)),
    # A batch that finds nothing is an empty list, not a 204.
    "an_empty_batch": one_step(on.take(), on.batch(count=3)),
    # A batch of a type that nobody knows is an empty list.
    "a_batch_of_an_unknown_type": send(
        rest.get("/tasks/poll/batch/{type}", query={"timeout": 100}, type=rest.name("task"))
    ),
    # A batch of none is empty, and leaves what is there.
    "a_batch_of_none": one_step(on.batch(count=0), on.poll()),
    # A batch may wait five seconds at most.
    "a_batch_that_waits_too_long": one_step(on.batch(timeout=5001), on.poll()),
    # No more tasks of a type are in progress than its limit says; nothing tells why.
    "a_concurrency_limit": to(start_steps, {"concurrentExecLimit": 1})(
        on.start_another(), on.take(), on.poll(), on.batch(count=2)
    ),
    # The server remembers who polled for a type last.
    "who_polled": one_step(on.poll("w7"), on.rest.get("/tasks/queue/polldata", query={"taskType": on.task})),
    # A type that nobody polled for has no poll data.
    "nobody_polled": send(rest.get("/tasks/queue/polldata", query={"taskType": rest.name("task")})),
    # A task in a domain is handed out to pollers of that domain only.
    "a_task_in_a_domain": to(_within, "d1")(on.poll(), on.poll(domain="d2"), on.poll(domain="d1")),
    # The workflow and its tasks show the domain.
    "a_workflow_shows_its_domains": to(_within, "d1")(on.read()),
    # A poller of a domain is not given tasks without one.
    "a_task_without_a_domain": one_step(on.poll(domain="d1"), on.poll()),
    # Batches have domains, too.
    "a_batch_in_a_domain": to(_within, "d1")(on.batch(count=1), on.batch(count=1, domain="d1")),
    # A domain that is meant for another type does not matter.
    "a_domain_of_another_type": to(start_steps, options={"taskToDomain": {"other": "d1"}})(on.poll()),
    # Of several domains the last is taken when nobody polls any of them.
    "the_last_domain_if_nobody_polls": to(_within, "d1,d2")(on.poll(domain="d1"), on.poll(domain="d2")),
    # NO_DOMAIN at the end stands for no domain.
    "no_domain_if_nobody_polls": to(_within, "d1,NO_DOMAIN")(on.poll()),
    # A new attempt is in the domain of the old one.
    "a_retry_stays_in_its_domain": to(_within, "d1")(
        on.finish(on.take(domain="d1"), "FAILED"), on.poll(), on.poll(domain="d1")
    ),
    # A domain has a queue of its own.
    "the_size_of_a_queue_in_a_domain": to(_within, "d1")(
        on.queue_size(), on.rest.get("/tasks/queue/size", query={"taskType": on.task, "domain": "d1"})
    ),
    # Poll data tell the domain.
    "who_polled_in_a_domain": to(_within, "d1")(
        on.poll("w7", domain="d1"), on.rest.get("/tasks/queue/polldata", query={"taskType": on.task})
    ),
    # The size is a bare number, and follows starts and polls.
    "the_size_of_a_queue": one_step(on.start_another(), on.queue_size(), on.take(), on.queue_size()),
    # The size is asked for a type.
    "the_size_without_a_type": send(rest.get("/tasks/queue/size")),
    # Several sizes are a map.
    "the_sizes_of_several_queues": one_step(
        on.rest.get("/tasks/queue/sizes", query={"taskType": [on.task, on.rest.name("unknown")]})
    ),
    # A retry that waits for its delay counts as queued.
    "a_delayed_retry_counts": to(start_steps, {"retryDelaySeconds": 60})(on.run("FAILED"), on.queue_size(), on.poll()),
    # The task of a terminated workflow is not queued any more.
    "termination_empties_the_queue": one_step(on.silent.terminate(), on.queue_size(), on.poll()),
    # Requeueing answers with the number of tasks that wait as a text.
    "requeueing": one_step(on.rest.post("/tasks/queue/requeue/{type}", type=on.task), on.poll()),
    # A rate limit is shown and does not limit anything.
    "a_rate_limit_is_not_kept": to(start_steps, {"rateLimitPerFrequency": 1, "rateLimitFrequencyInSeconds": 60})(
        on.start_another(),
        on.rest.note("the limit", on.take()["rateLimitPerFrequency"]),
        on.rest.note("the second", on.take()["status"]),
    ),
    # A poll acknowledges; there is no call for it.
    "there_is_no_acknowledgement": one_step(on.rest.post("/tasks/{task}/ack", task=on.take()["taskId"])),
}
