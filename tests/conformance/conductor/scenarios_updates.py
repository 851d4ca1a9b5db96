"""Results of tasks by `POST /tasks`, by `update-v2`, and by the reference name of a task.

The success of such a request does not mean that the result was accepted.
"""

from __future__ import annotations

from typing import Any

from ..scenario import Declared, each, rest, scenario_with, send, to
from .workflows import StartedWorkflow, on, one_step, start_steps, two_steps

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


WORKERS: dict[str, str | None] = {"a_result_of_another_worker": "w2", "a_result_without_a_worker": None}
ELSEWHERE = {"taskId": on.take()["taskId"], "workflowInstanceId": "unknown"}
"""An attempt that was taken, under an unknown workflow."""

OPTIONAL: dict[str, tuple[dict[str, Any], str]] = {
    # An optional task that failed for good is COMPLETED_WITH_ERRORS, and the workflow goes on.
    "an_optional_task_may_fail": ({"retryCount": 0}, "FAILED"),
    "a_terminal_failure_of_an_optional_task": ({}, "FAILED_WITH_TERMINAL_ERROR"),
}


@scenario_with(start_steps)
def a_result_under_another_workflow(on: StartedWorkflow) -> None:
    """The workflow id of a result is not checked: the task is completed, and its own workflow is left undecided."""
    other = on.start_another()
    task = on.take()
    (mine, wrong) = (on, other) if task["workflowInstanceId"] == on.id else (other, on)
    mine.update({**task, "workflowInstanceId": wrong.id}, "COMPLETED")
    mine.read()
    mine.decide()
    mine.read()


@scenario_with(start_steps)
def times_of_an_attempt(on: StartedWorkflow) -> None:
    """A poll sets start and update; the end is set by the result, which leaves the update alone."""
    on.rest.sleep(0.02)
    polled = on.silent.take()
    on.rest.sleep(0.02)
    on.silent.update(polled, "COMPLETED")
    ended = on.silent.read_task(polled)
    on.rest.note("started after it was scheduled", polled["startTime"] > polled["scheduledTime"])
    on.rest.note("ended after its start", ended["endTime"] > ended["startTime"])
    on.rest.note("the update stays", ended["updateTime"] == polled["updateTime"])


FAILURES = {
    # The next task may be the new attempt of the task that just failed.
    "a_failure_is_handed_out_again": "FAILED",
    # A terminal error ends the workflow; no task is left.
    "a_terminal_failure": "FAILED_WITH_TERMINAL_ERROR",
}


SCENARIOS: Declared = {
    # A task of this definition is polled, and gets a result of this status with these fields.
    **each(RESULTS, lambda case: to(start_steps, case[0])(on.update(on.take(), case[1], **case[2]), on.read())),
    # A failure of an optional task does not end the workflow.
    **each(
        OPTIONAL,
        lambda case: to(start_steps, case[0], steps=2, step_fields={"optional": True})(
            on.update(on.take(), case[1], reasonForIncompletion="boo"), on.read()
        ),
    ),
    # Nobody checks whose result it is; the worker's name is overwritten, or taken away.
    **each(WORKERS, lambda case: one_step(on.update(on.take("w1"), "COMPLETED", workerId=case), on.read())),
    # A failure asks for the next task, too.
    **each(FAILURES, lambda case: one_step(on.update_v2(on.take(), case, reasonForIncompletion="boo"), on.read())),
    # A failure is retried like any other, and a task may be given back this way.
    **each(
        {"a_task_fails": "FAILED", "in_progress": "IN_PROGRESS"},
        lambda case: one_step(on.take(), on.report("r0", case, {"a": 1}), on.read()),
    ),
    # An unknown reference is answered by nothing, and a status that is none by a server error.
    "an_unknown_reference": one_step(on.report("nobody", "COMPLETED", {})),
    "an_unknown_status": one_step(on.report("r0", "DONE", {})),
    # A result for an unknown workflow is a 404.
    "an_unknown_workflow": one_step(on.update(ELSEWHERE, "COMPLETED"), on.read()),
    # A result for an unknown workflow is a 404, and takes no further task.
    "an_unknown_workflow_v2": one_step(on.start_another(), on.update_v2(ELSEWHERE, "COMPLETED"), on.queue_size()),
    # A result for a task that has ended is answered like any other, and changes nothing.
    "a_second_result_is_ignored": two_steps(
        on.run(outputData={"a": 1}),
        on.update(on.taken(1), "FAILED", outputData={"a": 2}, reasonForIncompletion="boo", workerId="other"),
        on.read(),
    ),
    # A result schedules what comes next at once.
    "the_next_task_is_scheduled": two_steps(on.update(on.take(), "COMPLETED"), on.read()),
    # An optional task has its retries like any other; after them it stays FAILED and the workflow goes on.
    "an_optional_task_is_retried_first": to(start_steps, {"retryCount": 1}, step_fields={"optional": True})(
        on.run("FAILED"), on.read(), on.run("FAILED"), on.read()
    ),
    # A result needs a task id.
    "a_missing_task_id": one_step(on.rest.post("/tasks", {"workflowInstanceId": on.id, "status": "COMPLETED"})),
    # A result for an unknown task is a 404.
    "an_unknown_task": one_step(on.update({"taskId": "unknown", "workflowInstanceId": on.id}, "COMPLETED")),
    # For a task that has ended not even the status is missed.
    "a_result_without_status_for_an_ended_task": two_steps(on.update(on.run(), None)),
    # After a retry the result of the old attempt changes nothing.
    "a_result_of_an_old_attempt_is_ignored": one_step(
        on.update(on.fail(), "COMPLETED", outputData={"late": True}), on.read()
    ),
    # A result for a task that nobody polled is accepted; the task is not handed out any more.
    "a_task_that_was_never_polled": two_steps(on.update(on.row("r0"), "COMPLETED"), on.read(), on.queue_size()),
    # A member that the server does not know is dropped.
    "unknown_members_of_a_result": one_step(on.update(on.take(), "COMPLETED", perago=1, task_id="other")),
    # The number of retries in the workflow goes before that of the task type.
    "the_step_overrides_the_retries": to(start_steps, {"retryCount": 5}, step_fields={"retryCount": 0})(
        on.run("FAILED"), on.read()
    ),
    # Without a further task the answer is a 204.
    "nothing_more_to_do": one_step(on.update_v2(on.take(), "COMPLETED", outputData={"a": 1}), on.read()),
    # The answer is the next task of the same type, already in progress for this worker.
    "a_further_task_is_handed_out": two_steps(on.update_v2(on.take(), "COMPLETED", workerId="w7"), on.read()),
    # The next task may belong to another workflow.
    "a_task_of_another_workflow_is_handed_out": one_step(
        on.start_another(), on.rest.sleep(0.05), on.update_v2(on.take(), "COMPLETED")
    ),
    # A result that does not end the task takes no further one.
    "in_progress_hands_out_nothing": one_step(on.update_v2(on.take(), "IN_PROGRESS"), on.read()),
    # Extending a lease is a 204, even with a task waiting.
    "a_lease_hands_out_nothing": one_step(
        on.start_another(), on.update_v2(on.take(), "COMPLETED", extendLease=True), on.queue_size()
    ),
    # A missing id is a server error here.
    "a_missing_id_v2": send(rest.post("/tasks/update-v2", {"workflowInstanceId": "any", "status": "COMPLETED"})),
    # A result for an unknown task is a 404.
    "an_unknown_task_v2": one_step(on.update_v2({"taskId": "unknown", "workflowInstanceId": on.id}, "COMPLETED")),
    # A result without a status is a 500.
    "a_missing_status_v2": one_step(on.update_v2(on.take(), None)),
    # The next task is of the domain of the one before.
    "a_further_task_in_a_domain": to(start_steps, steps=2, options={"taskToDomain": {"*": "d1"}})(
        on.update_v2(on.take(domain="d1"), "COMPLETED"), on.poll(domain="d1")
    ),
    # The body is the output, the answer the task id; nobody need have polled.
    "a_task_is_completed": two_steps(on.report("r0", "COMPLETED", {"a": 1}, workerid="w5"), on.read()),
    # A reference without a pending task is answered by nothing.
    "nothing_is_pending": two_steps(
        on.report("r1", "COMPLETED", {}), on.run(), on.report("r0", "COMPLETED", {}), on.read()
    ),
    # An unknown workflow is answered by nothing.
    "a_reference_in_an_unknown_workflow": send(
        rest.post("/tasks/{workflow}/{reference}/COMPLETED", workflow="unknown", reference="r0", json={})
    ),
    # The output must be sent.
    "without_an_output": one_step(
        on.act("POST", "/tasks/{workflow}/r0/COMPLETED", body=b"", headers={"Content-Type": "application/json"})
    ),
    # The synchronous form answers with the workflow.
    "and_the_workflow_is_answered": one_step(on.report("r0", "COMPLETED", {"a": 1}, path="/sync")),
    # The body is added to the output that the task has, and the worker's name stays.
    "an_output_is_added_to": one_step(
        on.finish(on.take(), "IN_PROGRESS", outputData={"a": 1, "b": 1}),
        on.report("r0", "COMPLETED", {"b": 2}),
        on.read(),
    ),
    # TIMED_OUT, SCHEDULED and SKIPPED are no statuses of a result.
    "a_status_of_the_server": one_step(
        on.take(), *(on.update(on.taken(1), status) for status in ("TIMED_OUT", "SCHEDULED", "SKIPPED")), on.read()
    ),
    # A result needs a workflow id.
    "a_missing_workflow_id": one_step(on.rest.post("/tasks", {"taskId": on.take()["taskId"], "status": "COMPLETED"})),
    # A result for a workflow that was removed is a 404.
    "a_removed_workflow": one_step(
        on.take(), on.silent.terminate(), on.silent.remove(), on.update(on.taken(1), "COMPLETED")
    ),
    # After termination the result changes nothing.
    "a_result_after_termination_is_ignored": one_step(
        on.take(), on.silent.terminate(), on.update(on.taken(1), "COMPLETED", outputData={"late": True}), on.read()
    ),
    # A result that changes nothing still takes a further task.
    "an_ignored_result_hands_out_a_task": two_steps(
        on.run(), on.rest.sleep(0.05), on.update_v2(on.taken(1), "FAILED"), on.read()
    ),
    # A result for a terminated workflow is a 204 that changes nothing.
    "a_result_after_termination": one_step(
        on.take(), on.silent.terminate(), on.update_v2(on.taken(1), "COMPLETED"), on.read()
    ),
}
