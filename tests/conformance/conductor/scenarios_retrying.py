"""Retrying a workflow that has ended."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .workflows import start_steps

RETRY = "/workflow/{workflow}/retry"


@scenario
def a_failed_workflow(rest: Rest) -> None:
    """A retry makes a new attempt with a new id, one retry more, and no reason."""
    on = start_steps(rest, {"retryCount": 0})
    on.run("FAILED", reasonForIncompletion="boo", outputData={"a": 1})
    on.act("POST", RETRY)
    on.read()


@scenario
def a_retry_eats_the_automatic_retries(rest: Rest) -> None:
    """A retry by hand counts as one."""
    on = start_steps(rest, {"retryCount": 2})
    on.run("FAILED_WITH_TERMINAL_ERROR")
    on.act("POST", RETRY)
    on.run("FAILED")
    on.run("FAILED")
    on.read()


@scenario
def a_running_workflow(rest: Rest) -> None:
    """A running workflow has nothing to retry."""
    start_steps(rest).act("POST", RETRY)


@scenario
def a_completed_workflow(rest: Rest) -> None:
    """A completed workflow cannot be retried."""
    on = start_steps(rest)
    on.run()
    on.act("POST", RETRY)


@scenario
def a_terminated_workflow(rest: Rest) -> None:
    """A retry after a termination makes a new attempt of what was cancelled."""
    on = start_steps(rest)
    on.take()
    with rest.unnoted():
        on.act("DELETE", "/workflow/{workflow}", query={"reason": "over"})
    on.act("POST", RETRY)
    on.read()


@scenario
def a_workflow_that_was_terminated_before_anybody_polled(rest: Rest) -> None:
    """A retry revives an attempt that nobody had."""
    on = start_steps(rest)
    with rest.unnoted():
        on.act("DELETE", "/workflow/{workflow}")
    on.act("POST", RETRY)
    on.read()
    on.poll()


@scenario
def an_unknown_workflow(rest: Rest) -> None:
    """An unknown workflow is a 404."""
    rest.call("POST", RETRY, workflow="unknown")


@scenario
def a_cancelled_task(rest: Rest) -> None:
    """A task that its worker cancelled can be retried."""
    on = start_steps(rest)
    on.run("CANCELED", reasonForIncompletion="boo")
    on.act("POST", RETRY)
    on.read()


@scenario
def the_second_step(rest: Rest) -> None:
    """A retry goes on where it failed, with the outputs there were."""
    on = start_steps(rest, {"retryCount": 0}, steps=3, step_fields={"inputParameters": {"a": "${r0.output.a}"}})
    on.run(outputData={"a": 1})
    on.run("FAILED")
    on.act("POST", RETRY)
    on.run()
    on.read()


@scenario
def a_retry_is_completed(rest: Rest) -> None:
    """A retried workflow can complete; the names of what failed stay."""
    on = start_steps(rest, {"retryCount": 0})
    on.run("FAILED", reasonForIncompletion="boo")
    with rest.unnoted():
        on.act("POST", RETRY)
    on.run(outputData={"a": 1})
    on.read()


@scenario
def a_retry_after_an_automatic_one(rest: Rest) -> None:
    """A retry leaves alone what failed and was done in the end."""
    on = start_steps(rest, {"retryCount": 1}, steps=2)
    for status in ("FAILED", "COMPLETED", "FAILED", "FAILED"):
        on.run(status)
    on.act("POST", "/workflow/{workflow}/retry")
    on.read()


@scenario
def the_old_attempt_after_a_retry(rest: Rest) -> None:
    """The result of an attempt that was retried by hand is ignored."""
    on = start_steps(rest, {"retryCount": 0})
    old = on.run("FAILED")
    with rest.unnoted():
        on.act("POST", RETRY)
    on.update(old, "COMPLETED")
    on.read()


@scenario
def a_retry_does_not_wait(rest: Rest) -> None:
    """A retry by hand does not wait for the retry's delay."""
    on = start_steps(rest, {"retryCount": 0, "retryDelaySeconds": 60})
    on.run("FAILED")
    with rest.unnoted():
        on.act("POST", RETRY)
    on.poll()
