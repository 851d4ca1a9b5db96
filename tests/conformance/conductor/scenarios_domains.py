"""Domains: tasks for some workers only."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario
from .workflows import StartedWorkflow, start_steps


def _within(rest: Rest, domain: str, **options: Any) -> StartedWorkflow:
    return start_steps(rest, options={"taskToDomain": {"*": domain}}, **options)


@scenario
def a_task_in_a_domain(rest: Rest) -> None:
    """A task in a domain is handed out to pollers of that domain only."""
    on = _within(rest, "d1")
    on.poll()
    on.poll(domain="d2")
    on.poll(domain="d1")


@scenario
def a_workflow_shows_its_domains(rest: Rest) -> None:
    """The workflow and its tasks show the domain."""
    _within(rest, "d1").read()


@scenario
def a_task_without_a_domain(rest: Rest) -> None:
    """A poller of a domain is not given tasks without one."""
    on = start_steps(rest)
    on.poll(domain="d1")
    on.poll()


@scenario
def a_batch_in_a_domain(rest: Rest) -> None:
    """Batches have domains, too."""
    on = _within(rest, "d1")
    on.batch(count=1)
    on.batch(count=1, domain="d1")


@scenario
def a_domain_of_one_type(rest: Rest) -> None:
    """A domain may be meant for one task type."""
    on = start_steps(rest)
    with rest.unnoted():
        body = {"name": on.workflow, "taskToDomain": {on.task: "d1"}}
        started = rest.call("POST", "/workflow", json=body)
    StartedWorkflow(rest, on.task, on.workflow, started.text).read()
    on.poll(domain="d1")


@scenario
def a_domain_of_another_type(rest: Rest) -> None:
    """A domain that is meant for another type does not matter."""
    start_steps(rest, options={"taskToDomain": {"other": "d1"}}).poll()


@scenario
def the_last_domain_if_nobody_polls(rest: Rest) -> None:
    """Of several domains the last is taken when nobody polls any of them."""
    on = _within(rest, "d1,d2")
    on.poll(domain="d1")
    on.poll(domain="d2")


@scenario
def no_domain_if_nobody_polls(rest: Rest) -> None:
    """NO_DOMAIN at the end stands for no domain."""
    _within(rest, "d1,NO_DOMAIN").poll()


@scenario
def a_domain_that_somebody_polls(rest: Rest) -> None:
    """Of several domains the first that was polled lately is taken."""
    first = start_steps(rest)
    with rest.unnoted():
        first.poll(domain="d1")
        body = {"name": first.workflow, "taskToDomain": {"*": "d1,NO_DOMAIN"}}
        started = rest.call("POST", "/workflow", json=body)
    StartedWorkflow(rest, first.task, first.workflow, started.text).read()


@scenario
def a_retry_stays_in_its_domain(rest: Rest) -> None:
    """A new attempt is in the domain of the old one."""
    on = _within(rest, "d1")
    on.finish(on.take(domain="d1"), "FAILED")
    on.poll()
    on.poll(domain="d1")


@scenario
def the_size_of_a_queue_in_a_domain(rest: Rest) -> None:
    """A domain has a queue of its own."""
    on = _within(rest, "d1")
    rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})
    rest.call("GET", "/tasks/queue/size", query={"taskType": on.task, "domain": "d1"})


@scenario
def who_polled_in_a_domain(rest: Rest) -> None:
    """Poll data tell the domain."""
    on = _within(rest, "d1")
    on.poll("w7", domain="d1")
    rest.call("GET", "/tasks/queue/polldata", query={"taskType": on.task})
