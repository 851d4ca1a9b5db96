"""Results of tasks, by `POST /tasks`: success does not mean that the result was accepted."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario_for_each, scenario_with
from .workflows import StartedWorkflow, start_registered, start_steps

RESULTS: dict[str, tuple[dict[str, Any], str | None, dict[str, Any]]] = {
    # A result is answered with the task id as text; the last one completes the workflow.
    "a_completed_task": ({}, "COMPLETED", {"outputData": {"a": 1}}),
    # A failure makes a new attempt that carries the old reason, and no output.
    "a_failed_task_is_retried": ({}, "FAILED", {"outputData": {"a": 1}, "reasonForIncompletion": "boo"}),
    # When no retries are left the workflow fails, and says which task did it.
    "the_last_failure_fails_the_workflow": (
        {"retryCount": 0},
        "FAILED",
        {"outputData": {"a": 1}, "reasonForIncompletion": "boo"},
    ),
    # A missing reason is told as the word null.
    "a_failure_without_a_reason": ({"retryCount": 0}, "FAILED", {}),
    # A terminal error ends the workflow although retries are left.
    "a_terminal_failure_is_not_retried": (
        {"retryCount": 5},
        "FAILED_WITH_TERMINAL_ERROR",
        {"outputData": {"a": 1}, "reasonForIncompletion": "boo"},
    ),
    # A worker that cancels its task terminates the workflow.
    "a_cancelled_task_terminates_the_workflow": ({"retryCount": 5}, "CANCELED", {"reasonForIncompletion": "boo"}),
    # COMPLETED_WITH_ERRORS is no status of a result.
    "a_task_that_is_completed_with_errors": ({}, "COMPLETED_WITH_ERRORS", {}),
    # Statuses are in upper case.
    "a_status_in_lower_case": ({}, "completed", {}),
    # A result without a status is a 500.
    "a_missing_status": ({}, None, {}),
    # A success may have a reason.
    "a_reason_with_a_success": ({}, "COMPLETED", {"reasonForIncompletion": "none"}),
}


@scenario_for_each(RESULTS)
def results(rest: Rest, case: tuple[dict[str, Any], str | None, dict[str, Any]]) -> None:
    """A task of this definition is polled, and gets a result of this status with these fields."""
    definition, status, fields = case
    on = start_steps(rest, definition)
    on.update(on.take(), status, **fields)
    on.read()


@scenario_with(start_steps, steps=2)
def the_next_task_is_scheduled(on: StartedWorkflow) -> None:
    """A result schedules what comes next at once."""
    on.update(on.take(), "COMPLETED")
    on.read()


OPTIONAL: dict[str, tuple[dict[str, Any], str]] = {
    # An optional task that failed for good is COMPLETED_WITH_ERRORS, and the workflow goes on.
    "an_optional_task_may_fail": ({"retryCount": 0}, "FAILED"),
    "a_terminal_failure_of_an_optional_task": ({}, "FAILED_WITH_TERMINAL_ERROR"),
}


@scenario_for_each(OPTIONAL)
def optional_tasks(rest: Rest, case: tuple[dict[str, Any], str]) -> None:
    """A failure of an optional task does not end the workflow."""
    task, status = case
    on = start_steps(rest, task, steps=2, step_fields={"optional": True})
    on.update(on.take(), status, reasonForIncompletion="boo")
    on.read()


@scenario_with(start_steps, {"retryCount": 1}, step_fields={"optional": True})
def an_optional_task_is_retried_first(on: StartedWorkflow) -> None:
    """An optional task has its retries like any other; after them it stays FAILED and the workflow goes on."""
    on.run("FAILED")
    on.read()
    on.run("FAILED")
    on.read()


@scenario_with(start_steps)
def a_status_of_the_server(on: StartedWorkflow) -> None:
    """TIMED_OUT, SCHEDULED and SKIPPED are no statuses of a result."""
    task = on.take()
    for status in ("TIMED_OUT", "SCHEDULED", "SKIPPED"):
        on.update(task, status)
    on.read()


@scenario_with(start_steps)
def a_missing_task_id(on: StartedWorkflow) -> None:
    """A result needs a task id."""
    on.rest.call("POST", "/tasks", json={"workflowInstanceId": on.id, "status": "COMPLETED"})


@scenario_with(start_steps)
def a_missing_workflow_id(on: StartedWorkflow) -> None:
    """A result needs a workflow id."""
    on.rest.call("POST", "/tasks", json={"taskId": on.take()["taskId"], "status": "COMPLETED"})


@scenario_with(start_steps)
def an_unknown_task(on: StartedWorkflow) -> None:
    """A result for an unknown task is a 404."""
    on.update({"taskId": "unknown", "workflowInstanceId": on.id}, "COMPLETED")


@scenario_with(start_steps)
def an_unknown_workflow(on: StartedWorkflow) -> None:
    """A result for an unknown workflow is a 404."""
    on.update({**on.take(), "workflowInstanceId": "unknown"}, "COMPLETED")
    on.read()


@scenario_with(start_steps)
def a_removed_workflow(on: StartedWorkflow) -> None:
    """A result for a workflow that was removed is a 404."""
    task = on.take()
    with on.rest.unnoted():
        on.act("DELETE", "/workflow/{workflow}")
        on.act("DELETE", "/workflow/{workflow}/remove")
    on.update(task, "COMPLETED")


@scenario_with(start_steps)
def a_result_under_another_workflow(on: StartedWorkflow) -> None:
    """The workflow id of a result is not checked: the task is completed, and its own workflow is left undecided."""
    other = start_registered(on.rest, on.task, on.workflow)
    task = on.take()
    (mine, wrong) = (on, other) if task["workflowInstanceId"] == on.id else (other, on)
    mine.update({**task, "workflowInstanceId": wrong.id}, "COMPLETED")
    mine.read()
    mine.decide()
    mine.read()


@scenario_with(start_steps, steps=2)
def a_second_result_is_ignored(on: StartedWorkflow) -> None:
    """A result for a task that has ended is answered like any other, and changes nothing."""
    task = on.run(outputData={"a": 1})
    on.update(task, "FAILED", outputData={"a": 2}, reasonForIncompletion="boo", workerId="other")
    on.read()


@scenario_with(start_steps, steps=2)
def a_result_without_status_for_an_ended_task(on: StartedWorkflow) -> None:
    """For a task that has ended not even the status is missed."""
    on.update(on.run(), None)


@scenario_with(start_steps)
def a_result_of_an_old_attempt_is_ignored(on: StartedWorkflow) -> None:
    """After a retry the result of the old attempt changes nothing."""
    old = on.run("FAILED", reasonForIncompletion="boo")
    on.update(old, "COMPLETED", outputData={"late": True})
    on.read()


@scenario_with(start_steps)
def a_result_after_termination_is_ignored(on: StartedWorkflow) -> None:
    """After termination the result changes nothing."""
    task = on.take()
    with on.rest.unnoted():
        on.act("DELETE", "/workflow/{workflow}")
    on.update(task, "COMPLETED", outputData={"late": True})
    on.read()


@scenario_with(start_steps, steps=2)
def a_task_that_was_never_polled(on: StartedWorkflow) -> None:
    """A result for a task that nobody polled is accepted; the task is not handed out any more."""
    on.update(on.row("r0"), "COMPLETED")
    on.read()
    on.rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})


@scenario_for_each({"a_result_of_another_worker": "w2", "a_result_without_a_worker": None})
def names_of_workers(rest: Rest, case: str | None) -> None:
    """Nobody checks whose result it is; the worker's name is overwritten, or taken away."""
    on = start_steps(rest)
    on.update(on.take("w1"), "COMPLETED", workerId=case)
    on.read()


@scenario_with(start_steps)
def unknown_members_of_a_result(on: StartedWorkflow) -> None:
    """A member that the server does not know is dropped."""
    on.update(on.take(), "COMPLETED", perago=1, task_id="other")


@scenario_with(start_steps, {"retryCount": 5}, step_fields={"retryCount": 0})
def the_step_overrides_the_retries(on: StartedWorkflow) -> None:
    """The number of retries in the workflow goes before that of the task type."""
    on.run("FAILED")
    on.read()


@scenario_with(start_steps)
def times_of_an_attempt(on: StartedWorkflow) -> None:
    """A poll sets start and update; the end is set by the result, which leaves the update alone."""
    with on.rest.unnoted():
        on.rest.sleep(0.02)
        polled = on.take()
        on.rest.sleep(0.02)
        on.update(polled, "COMPLETED")
        ended = on.rest.call("GET", "/tasks/{task}", task=polled["taskId"]).json
    on.rest.note("started after it was scheduled", polled["startTime"] > polled["scheduledTime"])
    on.rest.note("ended after its start", ended["endTime"] > ended["startTime"])
    on.rest.note("the update stays", ended["updateTime"] == polled["updateTime"])
