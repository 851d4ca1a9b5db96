"""Automatic retries and their delays."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario, scenario_for_each, scenario_with
from .workflows import StartedWorkflow, start_steps

DELAYS: dict[str, dict[str, Any]] = {
    # FIXED waits the same each time.
    "the_same_delay_each_time": {"retryLogic": "FIXED", "retryDelaySeconds": 5},
    # The scale factor is for linear back-off only.
    "a_scale_does_not_matter_for_a_fixed_delay": {
        "retryLogic": "FIXED",
        "retryDelaySeconds": 5,
        "backoffScaleFactor": 3,
    },
    # LINEAR_BACKOFF waits delay times scale times the number of the retry.
    "a_linear_delay": {"retryLogic": "LINEAR_BACKOFF", "retryDelaySeconds": 5, "backoffScaleFactor": 3},
    # EXPONENTIAL_BACKOFF doubles the delay each time, whatever the scale.
    "an_exponential_delay": {"retryLogic": "EXPONENTIAL_BACKOFF", "retryDelaySeconds": 5, "backoffScaleFactor": 3},
    # No delay is longer than `maxRetryDelaySeconds`.
    "a_cap_for_a_linear_delay": {"retryLogic": "LINEAR_BACKOFF", "retryDelaySeconds": 5, "maxRetryDelaySeconds": 12},
    # No delay is longer than `maxRetryDelaySeconds`.
    "a_cap_for_an_exponential_delay": {
        "retryLogic": "EXPONENTIAL_BACKOFF",
        "retryDelaySeconds": 5,
        "maxRetryDelaySeconds": 12,
    },
    # The cap is for fixed delays, too.
    "a_cap_for_a_fixed_delay": {"retryLogic": "FIXED", "retryDelaySeconds": 30, "maxRetryDelaySeconds": 12},
    # A fixed delay below zero is none.
    "a_fixed_delay_below_zero": {"retryLogic": "FIXED", "retryDelaySeconds": -1},
    # A linear delay below zero is the longest that there is.
    "a_linear_delay_below_zero": {"retryLogic": "LINEAR_BACKOFF", "retryDelaySeconds": -1},
    # An exponential delay below zero is the longest that there is.
    "an_exponential_delay_below_zero": {"retryLogic": "EXPONENTIAL_BACKOFF", "retryDelaySeconds": -1},
}


@scenario_for_each(DELAYS)
def delays(rest: Rest, case: dict[str, Any]) -> None:
    """Fail four attempts; note how long each next one waits."""
    on = start_steps(rest, {"retryCount": 5, **case})
    found = []
    for _ in range(4):
        with rest.unnoted():
            on.act("POST", "/workflow/{workflow}/resetcallbacks")
        on.run("FAILED")
        row = on.row("r0")
        found.append([row["startDelayInSeconds"], row["callbackAfterSeconds"]])
    rest.note("start delay and callback of each retry", found)


@scenario_with(start_steps, {"retryDelaySeconds": 1})
def a_delay_is_waited_for(on: StartedWorkflow) -> None:
    """A retry is in the workflow at once, and handed out after its delay."""
    on.run("FAILED", reasonForIncompletion="boo")
    on.read()
    on.poll()
    on.rest.sleep(1.2)
    on.poll()


def _failing(rest: Rest, times: int, **definition: Any) -> StartedWorkflow:
    on = start_steps(rest, definition)
    for number in range(times):
        on.run("FAILED", reasonForIncompletion=f"failure {number}")
    return on


@scenario
def a_chain_of_retries(rest: Rest) -> None:
    """Each attempt names the one before; the last failure fails the workflow."""
    _failing(rest, 3, retryCount=2).read()


@scenario_with(start_steps)
def an_old_attempt_can_be_read(on: StartedWorkflow) -> None:
    """Attempts that were retried stay readable."""
    task = on.run("FAILED", reasonForIncompletion="boo", outputData={"a": 1})
    on.rest.call("GET", "/tasks/{task}", task=task["taskId"])


@scenario_with(start_steps, steps=2, step_fields={"inputParameters": {"a": "${r0.output.a}"}})
def a_retry_of_the_second_step(on: StartedWorkflow) -> None:
    """A retry takes its input from the workflow again."""
    on.run(outputData={"a": 1})
    on.run("FAILED")
    on.poll()


@scenario
def no_retries(rest: Rest) -> None:
    """With no retries the first failure is the last."""
    _failing(rest, 1, retryCount=0).read()


@scenario_with(start_steps, {"retryCount": 0})
def retries_are_those_of_the_start(on: StartedWorkflow) -> None:
    """A task type that is registered again does not change attempts that are scheduled."""
    with on.rest.unnoted():
        on.rest.call("POST", "/metadata/taskdefs", json=[{"name": on.task, "retryCount": 9}])
    on.run("FAILED")
    on.read()


@scenario_with(start_steps, step_fields={"startDelay": 1})
def a_step_may_start_later(on: StartedWorkflow) -> None:
    """A start delay holds back the first attempt."""
    on.read()
    on.poll()
    on.rest.sleep(1.2)
    on.poll()


@scenario
def the_delay_of_a_retry(rest: Rest) -> None:
    """The delay of a retry is shown until the retry is polled."""
    on = start_steps(rest, {"retryDelaySeconds": 1})
    on.run("FAILED")
    shown = ("status", "callbackAfterSeconds", "startDelayInSeconds", "retryCount")
    rest.note("waiting", {key: on.row("r0").get(key) for key in shown})
    taken = on.take()
    rest.note("polled", {key: taken.get(key) for key in shown})
    rest.note("running", {key: on.row("r0").get(key) for key in shown})
    on.finish(taken)
    rest.note("completed", {key: on.row("r0").get(key) for key in shown})
