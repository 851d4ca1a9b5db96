"""Attempts of a task: retries, delays, timeouts."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import Declared, each, scenario, scenario_for_each, scenario_with, to
from .workflows import StartedWorkflow, on, one_step, start_steps

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
    "a_cap_for_an_exponential_delay": {
        "retryLogic": "EXPONENTIAL_BACKOFF",
        "retryDelaySeconds": 5,
        "maxRetryDelaySeconds": 12,
    },
    # The cap is for fixed delays, too.
    "a_cap_for_a_fixed_delay": {"retryLogic": "FIXED", "retryDelaySeconds": 30, "maxRetryDelaySeconds": 12},
    # A fixed delay below zero is none.
    "a_fixed_delay_below_zero": {"retryLogic": "FIXED", "retryDelaySeconds": -1},
    # A linear or exponential delay below zero is the longest that there is.
    "a_linear_delay_below_zero": {"retryLogic": "LINEAR_BACKOFF", "retryDelaySeconds": -1},
    "an_exponential_delay_below_zero": {"retryLogic": "EXPONENTIAL_BACKOFF", "retryDelaySeconds": -1},
}


@scenario_for_each(DELAYS)
def delays(rest: Rest, case: dict[str, Any]) -> None:
    """Fail four attempts; note how long each next one waits."""
    on = start_steps(rest, {"retryCount": 5, **case})
    found = []
    for _ in range(4):
        on.silent.reset_callbacks()
        on.run("FAILED")
        row = on.row("r0")
        found.append([row["startDelayInSeconds"], row["callbackAfterSeconds"]])
    rest.note("start delay and callback of each retry", found)


def _failing(rest: Rest, times: int, **definition: Any) -> StartedWorkflow:
    on = start_steps(rest, definition)
    for number in range(times):
        on.run("FAILED", reasonForIncompletion=f"failure {number}")
    return on


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


POLICIES = ("RETRY", "TIME_OUT_WF", "ALERT_ONLY")

SECONDS = 1.2
"""A little more than the shortest timeout there is."""


NO_RESPONSE = {"responseTimeoutSeconds": 1}
TOO_LONG = {"timeoutSeconds": 1, "responseTimeoutSeconds": 1}

OVERDUE: dict[str, dict[str, Any]] = {
    # A response timeout makes a new attempt under each policy.
    "no_response_with_the_policy_retry": NO_RESPONSE | {"timeoutPolicy": "RETRY"},
    "no_response_with_the_policy_time_out_wf": NO_RESPONSE | {"timeoutPolicy": "TIME_OUT_WF"},
    "no_response_with_the_policy_alert_only": NO_RESPONSE | {"timeoutPolicy": "ALERT_ONLY"},
    # Without retries a response timeout times the workflow out.
    "no_response_and_no_retries": NO_RESPONSE | {"retryCount": 0},
    # The new attempt waits for the retry's delay.
    "no_response_after_a_delay": NO_RESPONSE | {"retryDelaySeconds": 60},
    # `timeoutSeconds` makes a new attempt under RETRY.
    "too_long_with_the_policy_retry": TOO_LONG | {"timeoutPolicy": "RETRY"},
    # `timeoutSeconds` ends the workflow under TIME_OUT_WF, although retries are left.
    "too_long_with_the_policy_time_out_wf": TOO_LONG | {"timeoutPolicy": "TIME_OUT_WF"},
    # `timeoutSeconds` does nothing under ALERT_ONLY; the response is missed then.
    "too_long_with_the_policy_alert_only": TOO_LONG | {"timeoutPolicy": "ALERT_ONLY"},
    # Without retries the policy RETRY times the workflow out.
    "too_long_and_no_retries": TOO_LONG | {"timeoutPolicy": "RETRY", "retryCount": 0},
    # The time of all attempts ends the workflow under RETRY, too.
    "the_total_with_the_policy_retry": {"totalTimeoutSeconds": 1, "timeoutPolicy": "RETRY"},
    # The time of all attempts ends the workflow under TIME_OUT_WF.
    "the_total_with_the_policy_time_out_wf": {"totalTimeoutSeconds": 1, "timeoutPolicy": "TIME_OUT_WF"},
    # The time of all attempts does nothing under ALERT_ONLY.
    "the_total_with_the_policy_alert_only": {"totalTimeoutSeconds": 1, "timeoutPolicy": "ALERT_ONLY"},
}

UNPOLLED: dict[str, dict[str, Any]] = {
    # There is no response timeout for a task that nobody has.
    "a_task_that_waits_does_not_respond": NO_RESPONSE,
    # A poll timeout makes a new attempt under RETRY.
    "nobody_polls_with_the_policy_retry": {"pollTimeoutSeconds": 1, "timeoutPolicy": "RETRY"},
    # A poll timeout ends the workflow under TIME_OUT_WF.
    "nobody_polls_with_the_policy_time_out_wf": {"pollTimeoutSeconds": 1, "timeoutPolicy": "TIME_OUT_WF"},
    # A poll timeout does nothing under ALERT_ONLY.
    "nobody_polls_with_the_policy_alert_only": {"pollTimeoutSeconds": 1, "timeoutPolicy": "ALERT_ONLY"},
}

PARKED: dict[str, dict[str, Any]] = {
    # There is no response timeout for a task that is parked.
    "a_parked_task_need_not_respond": NO_RESPONSE,
    # `timeoutSeconds` counts while a task is parked.
    "a_parked_task_takes_too_long": TOO_LONG | {"timeoutPolicy": "RETRY"},
}

park = on.finish(on.take(), "IN_PROGRESS", callbackAfterSeconds=60)


@scenario_with(start_steps, {"totalTimeoutSeconds": 1, "retryCount": 5, "timeoutPolicy": "ALERT_ONLY"})
def the_total_of_two_attempts(on: StartedWorkflow) -> None:
    """A failure is not retried once the time of all attempts together is up."""
    for reason in ("first", "second"):
        task = on.take()
        on.rest.sleep(SECONDS / 2)
        on.finish(task, "FAILED", reasonForIncompletion=reason)
    on.read()


@scenario
def a_start_delay_does_not_count(rest: Rest) -> None:
    """`timeoutSeconds` begins after the start delay, even if the task was polled before."""
    on = start_steps(rest, TOO_LONG | {"timeoutPolicy": "RETRY"}, step_fields={"startDelay": 30})
    on.silent.reset_callbacks()
    task = on.take()
    rest.sleep(SECONDS / 2)
    on.finish(task, None, extendLease=True)
    on.wait(SECONDS / 2)
    on.read()


SCENARIOS: Declared = {
    # A task of this definition is polled, and its time passes.
    **each(OVERDUE, lambda case: to(start_steps, case)(on.take(), on.wait(SECONDS), on.read())),
    # Nobody polls for a task of this definition, and its time passes.
    **each(UNPOLLED, lambda case: to(start_steps, case)(on.wait(SECONDS), on.read())),
    # A task of this definition is parked for longer than its time.
    **each(PARKED, lambda case: to(start_steps, case)(park, on.wait(SECONDS), on.read())),
    # The attempt that follows a response timeout may miss its own; then no retries are left.
    **each(
        {f"no_second_response_with_the_policy_{policy.lower()}": policy for policy in POLICIES},
        lambda case: to(start_steps, NO_RESPONSE | {"timeoutPolicy": case})(
            on.take(), on.wait(SECONDS), on.take(), on.wait(SECONDS), on.note_all()
        ),
    ),
    # A retry is in the workflow at once, and handed out after its delay.
    "a_delay_is_waited_for": to(start_steps, {"retryDelaySeconds": 1})(
        on.fail(), on.read(), on.poll(), on.rest.sleep(1.2), on.poll()
    ),
    # Each attempt names the one before; the last failure fails the workflow.
    "a_chain_of_retries": to(_failing, 3, retryCount=2)(on.read()),
    # A retry takes its input from the workflow again.
    "a_retry_of_the_second_step": to(start_steps, steps=2, step_fields={"inputParameters": {"a": "${r0.output.a}"}})(
        on.run(outputData={"a": 1}), on.run("FAILED"), on.poll()
    ),
    # With no retries the first failure is the last.
    "no_retries": to(_failing, 1, retryCount=0)(on.read()),
    # A task type that is registered again does not change attempts that are scheduled.
    "retries_are_those_of_the_start": to(start_steps, {"retryCount": 0})(
        on.silent.rest.post("/metadata/taskdefs", [{"name": on.task, "retryCount": 9}]), on.run("FAILED"), on.read()
    ),
    # A start delay holds back the first attempt.
    "a_step_may_start_later": to(start_steps, step_fields={"startDelay": 1})(
        on.read(), on.poll(), on.rest.sleep(1.2), on.poll()
    ),
    # An optional task without retries that does not respond does not end the workflow.
    "an_optional_task_that_times_out": to(
        start_steps, {"responseTimeoutSeconds": 1, "retryCount": 0}, steps=2, step_fields={"optional": True}
    )(on.take(), on.wait(SECONDS), on.read()),
    # A workflow's own timeout cancels its tasks.
    "a_workflow_that_takes_too_long": to(start_steps, timeoutSeconds=1, timeoutPolicy="TIME_OUT_WF")(
        on.take(), on.wait(SECONDS), on.read()
    ),
    # Under ALERT_ONLY a workflow goes on.
    "a_workflow_that_only_alerts": to(start_steps, timeoutSeconds=1, timeoutPolicy="ALERT_ONLY")(
        on.wait(SECONDS), on.read()
    ),
    # A retry revives what a timeout has cancelled.
    "a_workflow_that_timed_out_is_retried": to(start_steps, {"responseTimeoutSeconds": 1, "retryCount": 0})(
        on.take(), on.wait(SECONDS), on.retry(), on.read()
    ),
    # The time in which a task is parked does not count for the poll timeout.
    "nobody_polls_a_parked_task": to(start_steps, {"pollTimeoutSeconds": 1, "timeoutPolicy": "RETRY"})(
        park, on.wait(SECONDS), on.read()
    ),
    # A workflow's own timeout begins again with a retry.
    "a_retried_workflow_has_its_time_again": to(
        start_steps, {"retryCount": 0}, timeoutSeconds=1, timeoutPolicy="TIME_OUT_WF"
    )(on.run("FAILED"), on.rest.sleep(SECONDS), on.silent.retry(), on.decide(), on.read()),
    # Attempts that were retried stay readable.
    "an_old_attempt_can_be_read": one_step(
        on.run("FAILED", reasonForIncompletion="boo", outputData={"a": 1}), on.read_task(on.taken(1))
    ),
    # An overdue attempt that nobody has looked at is still in progress, and its late result counts.
    "a_late_result_before_anybody_looks": to(start_steps, {"timeoutSeconds": 3600, "responseTimeoutSeconds": 3600})(
        on.take(), on.rest.sleep(0.2), on.update(on.taken(1), "COMPLETED", outputData={"late": True}), on.read()
    ),
    # The result of an attempt that was timed out is ignored.
    "a_late_result_after_somebody_looked": to(start_steps, {"responseTimeoutSeconds": 1})(
        on.take(), on.wait(SECONDS), on.update(on.taken(1), "COMPLETED", outputData={"late": True}), on.read()
    ),
    # A late result of such a workflow is ignored; a retry makes a new attempt.
    "a_workflow_that_took_too_long_is_retried": to(start_steps, timeoutSeconds=1, timeoutPolicy="TIME_OUT_WF")(
        on.take(), on.wait(SECONDS), on.noted.update(on.taken(1), "COMPLETED"), on.noted.retry()
    ),
}
