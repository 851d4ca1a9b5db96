"""Retrying a workflow that has ended."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario, scenario_with
from .workflows import StartedWorkflow, start_steps

RETRY = "/workflow/{workflow}/retry"


@scenario_with(start_steps, {"retryCount": 0})
def a_failed_workflow(on: StartedWorkflow) -> None:
    """A retry makes a new attempt with a new id, one retry more, and no reason."""
    on.run("FAILED", reasonForIncompletion="boo", outputData={"a": 1})
    on.act("POST", RETRY)
    on.read()


@scenario_with(start_steps, {"retryCount": 2})
def a_retry_eats_the_automatic_retries(on: StartedWorkflow) -> None:
    """A retry by hand counts as one."""
    on.run("FAILED_WITH_TERMINAL_ERROR")
    on.act("POST", RETRY)
    on.run("FAILED")
    on.run("FAILED")
    on.read()


@scenario
def a_running_workflow(rest: Rest) -> None:
    """A running workflow has nothing to retry."""
    start_steps(rest).act("POST", RETRY)


@scenario_with(start_steps)
def a_completed_workflow(on: StartedWorkflow) -> None:
    """A completed workflow cannot be retried."""
    on.run()
    on.act("POST", RETRY)


@scenario_with(start_steps)
def a_terminated_workflow(on: StartedWorkflow) -> None:
    """A retry after a termination makes a new attempt of what was cancelled."""
    on.take()
    with on.rest.unnoted():
        on.act("DELETE", "/workflow/{workflow}", query={"reason": "over"})
    on.act("POST", RETRY)
    on.read()


@scenario_with(start_steps)
def a_workflow_that_was_terminated_before_anybody_polled(on: StartedWorkflow) -> None:
    """A retry revives an attempt that nobody had."""
    with on.rest.unnoted():
        on.act("DELETE", "/workflow/{workflow}")
    on.act("POST", RETRY)
    on.read()
    on.poll()


@scenario
def an_unknown_workflow(rest: Rest) -> None:
    """An unknown workflow is a 404."""
    rest.call("POST", RETRY, workflow="unknown")


@scenario_with(start_steps)
def a_cancelled_task(on: StartedWorkflow) -> None:
    """A task that its worker cancelled can be retried."""
    on.run("CANCELED", reasonForIncompletion="boo")
    on.act("POST", RETRY)
    on.read()


@scenario_with(start_steps, {"retryCount": 0}, steps=3, step_fields={"inputParameters": {"a": "${r0.output.a}"}})
def the_second_step(on: StartedWorkflow) -> None:
    """A retry goes on where it failed, with the outputs there were."""
    on.run(outputData={"a": 1})
    on.run("FAILED")
    on.act("POST", RETRY)
    on.run()
    on.read()


@scenario_with(start_steps, {"retryCount": 0})
def a_retry_is_completed(on: StartedWorkflow) -> None:
    """A retried workflow can complete; the names of what failed stay."""
    on.run("FAILED", reasonForIncompletion="boo")
    with on.rest.unnoted():
        on.act("POST", RETRY)
    on.run(outputData={"a": 1})
    on.read()


@scenario_with(start_steps, {"retryCount": 1}, steps=2)
def a_retry_after_an_automatic_one(on: StartedWorkflow) -> None:
    """A retry leaves alone what failed and was done in the end."""
    for status in ("FAILED", "COMPLETED", "FAILED", "FAILED"):
        on.run(status)
    on.act("POST", "/workflow/{workflow}/retry")
    on.read()


@scenario_with(start_steps, {"retryCount": 0})
def the_old_attempt_after_a_retry(on: StartedWorkflow) -> None:
    """The result of an attempt that was retried by hand is ignored."""
    old = on.run("FAILED")
    with on.rest.unnoted():
        on.act("POST", RETRY)
    on.update(old, "COMPLETED")
    on.read()


@scenario_with(start_steps, {"retryCount": 0, "retryDelaySeconds": 60})
def a_retry_does_not_wait(on: StartedWorkflow) -> None:
    """A retry by hand does not wait for the retry's delay."""
    on.run("FAILED")
    with on.rest.unnoted():
        on.act("POST", RETRY)
    on.poll()
