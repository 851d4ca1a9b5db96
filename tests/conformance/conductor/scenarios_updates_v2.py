"""Results by `POST /tasks/update-v2`: each one also polls."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario, scenario_for_each, scenario_with
from .workflows import StartedWorkflow, start_registered, start_steps


@scenario_with(start_steps)
def nothing_more_to_do(on: StartedWorkflow) -> None:
    """Without a further task the answer is a 204."""
    on.update_v2(on.take(), "COMPLETED", outputData={"a": 1})
    on.read()


@scenario_with(start_steps, steps=2)
def a_further_task_is_handed_out(on: StartedWorkflow) -> None:
    """The answer is the next task of the same type, already in progress for this worker."""
    on.update_v2(on.take(), "COMPLETED", workerId="w7")
    on.read()


@scenario_with(start_steps)
def a_task_of_another_workflow_is_handed_out(on: StartedWorkflow) -> None:
    """The next task may belong to another workflow."""
    start_registered(on.rest, on.task, on.workflow)
    on.rest.sleep(0.05)
    on.update_v2(on.take(), "COMPLETED")


@scenario_with(start_steps, steps=2)
def an_ignored_result_hands_out_a_task(on: StartedWorkflow) -> None:
    """A result that changes nothing still takes a further task."""
    task = on.run()
    on.rest.sleep(0.05)
    on.update_v2(task, "FAILED")
    on.read()


@scenario_with(start_steps)
def a_result_after_termination(on: StartedWorkflow) -> None:
    """A result for a terminated workflow is a 204 that changes nothing."""
    task = on.take()
    with on.rest.unnoted():
        on.act("DELETE", "/workflow/{workflow}")
    on.update_v2(task, "COMPLETED")
    on.read()


FAILURES = {
    # The next task may be the new attempt of the task that just failed.
    "a_failure_is_handed_out_again": "FAILED",
    # A terminal error ends the workflow; no task is left.
    "a_terminal_failure": "FAILED_WITH_TERMINAL_ERROR",
}


@scenario_for_each(FAILURES)
def failures(rest: Rest, case: str) -> None:
    """A failure asks for the next task, too."""
    on = start_steps(rest)
    on.update_v2(on.take(), case, reasonForIncompletion="boo")
    on.read()


@scenario_with(start_steps)
def in_progress_hands_out_nothing(on: StartedWorkflow) -> None:
    """A result that does not end the task takes no further one."""
    on.update_v2(on.take(), "IN_PROGRESS")
    on.read()


@scenario_with(start_steps)
def a_lease_hands_out_nothing(on: StartedWorkflow) -> None:
    """Extending a lease is a 204, even with a task waiting."""
    start_registered(on.rest, on.task, on.workflow)
    on.update_v2(on.take(), "COMPLETED", extendLease=True)
    on.rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})


@scenario
def a_missing_id_v2(rest: Rest) -> None:
    """A missing id is a server error here."""
    rest.call("POST", "/tasks/update-v2", json={"workflowInstanceId": "any", "status": "COMPLETED"})


@scenario_with(start_steps)
def an_unknown_task_v2(on: StartedWorkflow) -> None:
    """A result for an unknown task is a 404."""
    on.update_v2({"taskId": "unknown", "workflowInstanceId": on.id}, "COMPLETED")


@scenario_with(start_steps)
def an_unknown_workflow_v2(on: StartedWorkflow) -> None:
    """A result for an unknown workflow is a 404, and takes no further task."""
    start_registered(on.rest, on.task, on.workflow)
    on.update_v2({**on.take(), "workflowInstanceId": "unknown"}, "COMPLETED")
    on.rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})


@scenario_with(start_steps)
def a_missing_status_v2(on: StartedWorkflow) -> None:
    """A result without a status is a 500."""
    on.update_v2(on.take(), None)


@scenario_with(start_steps, steps=2, options={"taskToDomain": {"*": "d1"}})
def a_further_task_in_a_domain(on: StartedWorkflow) -> None:
    """The next task is of the domain of the one before."""
    on.update_v2(on.take(domain="d1"), "COMPLETED")
    on.poll(domain="d1")
