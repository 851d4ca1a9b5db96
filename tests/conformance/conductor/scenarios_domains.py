"""Domains: tasks for some workers only."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario, scenario_for_each, scenario_with
from .operators import sub_workflow
from .workflows import StartedWorkflow, register_workflow, start_registered, start_steps, step, task_type


def _within(rest: Rest, domain: str, **options: Any) -> StartedWorkflow:
    return start_steps(rest, options={"taskToDomain": {"*": domain}}, **options)


@scenario_with(_within, "d1")
def a_task_in_a_domain(on: StartedWorkflow) -> None:
    """A task in a domain is handed out to pollers of that domain only."""
    on.poll()
    on.poll(domain="d2")
    on.poll(domain="d1")


@scenario
def a_workflow_shows_its_domains(rest: Rest) -> None:
    """The workflow and its tasks show the domain."""
    _within(rest, "d1").read()


@scenario_with(start_steps)
def a_task_without_a_domain(on: StartedWorkflow) -> None:
    """A poller of a domain is not given tasks without one."""
    on.poll(domain="d1")
    on.poll()


@scenario_with(_within, "d1")
def a_batch_in_a_domain(on: StartedWorkflow) -> None:
    """Batches have domains, too."""
    on.batch(count=1)
    on.batch(count=1, domain="d1")


@scenario_with(start_steps)
def a_domain_of_one_type(on: StartedWorkflow) -> None:
    """A domain may be meant for one task type."""
    with on.rest.unnoted():
        body = {"name": on.workflow, "taskToDomain": {on.task: "d1"}}
        started = on.rest.call("POST", "/workflow", json=body)
    StartedWorkflow(on.rest, on.task, on.workflow, started.text).read()
    on.poll(domain="d1")


@scenario
def a_domain_of_another_type(rest: Rest) -> None:
    """A domain that is meant for another type does not matter."""
    start_steps(rest, options={"taskToDomain": {"other": "d1"}}).poll()


@scenario_with(_within, "d1,d2")
def the_last_domain_if_nobody_polls(on: StartedWorkflow) -> None:
    """Of several domains the last is taken when nobody polls any of them."""
    on.poll(domain="d1")
    on.poll(domain="d2")


@scenario
def no_domain_if_nobody_polls(rest: Rest) -> None:
    """NO_DOMAIN at the end stands for no domain."""
    _within(rest, "d1,NO_DOMAIN").poll()


@scenario_with(start_steps)
def a_domain_that_somebody_polls(first: StartedWorkflow) -> None:
    """Of several domains the first that was polled lately is taken."""
    with first.rest.unnoted():
        first.poll(domain="d1")
        body = {"name": first.workflow, "taskToDomain": {"*": "d1,NO_DOMAIN"}}
        started = first.rest.call("POST", "/workflow", json=body)
    StartedWorkflow(first.rest, first.task, first.workflow, started.text).read()


@scenario_with(_within, "d1")
def a_retry_stays_in_its_domain(on: StartedWorkflow) -> None:
    """A new attempt is in the domain of the old one."""
    on.finish(on.take(domain="d1"), "FAILED")
    on.poll()
    on.poll(domain="d1")


@scenario_with(_within, "d1")
def the_size_of_a_queue_in_a_domain(on: StartedWorkflow) -> None:
    """A domain has a queue of its own."""
    on.rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})
    on.rest.call("GET", "/tasks/queue/size", query={"taskType": on.task, "domain": "d1"})


@scenario_with(_within, "d1")
def who_polled_in_a_domain(on: StartedWorkflow) -> None:
    """Poll data tell the domain."""
    on.poll("w7", domain="d1")
    on.rest.call("GET", "/tasks/queue/polldata", query={"taskType": on.task})


@scenario
def a_retry_and_a_child_in_their_domains(rest: Rest) -> None:
    """A domain of one type goes before that of all; a retry keeps its domain, and a child has that of its parent."""
    a, b = task_type(rest, "a"), task_type(rest, "b")
    child = register_workflow(rest, step(b, "c1"), label="child")
    name = register_workflow(rest, step(a, "a1"), sub_workflow(child), step(b, "b1"))
    on = start_registered(rest, a, name, taskToDomain={a: "d1", "*": "d2"})
    on.batch(domain="d2")
    on.finish(on.take(domain="d1"), "FAILED")
    on.note_all()
    on.finish(on.take(domain="d1"))
    on.note_all()
    on.started_by("sub").note_all()
    on.finish(on.take(task=b, domain="d2"))
    on.note_all()
    rest.call("GET", "/tasks/queue/size", query={"taskType": b})
    rest.call("GET", "/tasks/queue/size", query={"taskType": f"d2:{b}"})


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
    with rest.unnoted():
        rest.call("GET", "/tasks/poll/{type}", query={"domain": "d1"}, type=task)
    domains = {task if name == "TYPE" else name: domain for name, domain in case.items()}
    start_registered(rest, task, register_workflow(rest, step(task)), taskToDomain=domains).note_all()
