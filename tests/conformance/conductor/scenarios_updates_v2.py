"""Results by `POST /tasks/update-v2`: each one also polls."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .workflows import start_registered, start_steps


@scenario
def nothing_more_to_do(rest: Rest) -> None:
    """Without a further task the answer is a 204."""
    on = start_steps(rest)
    on.update_v2(on.take(), "COMPLETED", outputData={"a": 1})
    on.read()


@scenario
def a_further_task_is_handed_out(rest: Rest) -> None:
    """The answer is the next task of the same type, already in progress for this worker."""
    on = start_steps(rest, steps=2)
    on.update_v2(on.take(), "COMPLETED", workerId="w7")
    on.read()


@scenario
def a_task_of_another_workflow_is_handed_out(rest: Rest) -> None:
    """The next task may belong to another workflow."""
    on = start_steps(rest)
    start_registered(rest, on.task, on.workflow)
    rest.sleep(0.05)
    on.update_v2(on.take(), "COMPLETED")


@scenario
def an_ignored_result_hands_out_a_task(rest: Rest) -> None:
    """A result that changes nothing still takes a further task."""
    on = start_steps(rest, steps=2)
    task = on.run()
    rest.sleep(0.05)
    on.update_v2(task, "FAILED")
    on.read()


@scenario
def a_result_after_termination(rest: Rest) -> None:
    """A result for a terminated workflow is a 204 that changes nothing."""
    on = start_steps(rest)
    task = on.take()
    with rest.unnoted():
        on.act("DELETE", "/workflow/{workflow}")
    on.update_v2(task, "COMPLETED")
    on.read()


@scenario
def a_failure_is_handed_out_again(rest: Rest) -> None:
    """The next task may be the new attempt of the task that just failed."""
    on = start_steps(rest)
    on.update_v2(on.take(), "FAILED", reasonForIncompletion="boo")
    on.read()


@scenario
def a_terminal_failure(rest: Rest) -> None:
    """A terminal error ends the workflow; no task is left."""
    on = start_steps(rest)
    on.update_v2(on.take(), "FAILED_WITH_TERMINAL_ERROR", reasonForIncompletion="boo")
    on.read()


@scenario
def in_progress_hands_out_nothing(rest: Rest) -> None:
    """A result that does not end the task takes no further one."""
    on = start_steps(rest)
    on.update_v2(on.take(), "IN_PROGRESS")
    on.read()


@scenario
def a_lease_hands_out_nothing(rest: Rest) -> None:
    """Extending a lease is a 204, even with a task waiting."""
    on = start_steps(rest)
    start_registered(rest, on.task, on.workflow)
    on.update_v2(on.take(), "COMPLETED", extendLease=True)
    rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})


@scenario
def a_missing_id_v2(rest: Rest) -> None:
    """A missing id is a server error here."""
    rest.call("POST", "/tasks/update-v2", json={"workflowInstanceId": "any", "status": "COMPLETED"})


@scenario
def an_unknown_task_v2(rest: Rest) -> None:
    """A result for an unknown task is a 404."""
    on = start_steps(rest)
    on.update_v2({"taskId": "unknown", "workflowInstanceId": on.id}, "COMPLETED")


@scenario
def an_unknown_workflow_v2(rest: Rest) -> None:
    """A result for an unknown workflow is a 404, and takes no further task."""
    on = start_steps(rest)
    start_registered(rest, on.task, on.workflow)
    on.update_v2({**on.take(), "workflowInstanceId": "unknown"}, "COMPLETED")
    rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})


@scenario
def a_missing_status_v2(rest: Rest) -> None:
    """A result without a status is a 500."""
    on = start_steps(rest)
    on.update_v2(on.take(), None)


@scenario
def a_further_task_in_a_domain(rest: Rest) -> None:
    """The next task is of the domain of the one before."""
    on = start_steps(rest, steps=2, options={"taskToDomain": {"*": "d1"}})
    on.update_v2(on.take(domain="d1"), "COMPLETED")
    on.poll(domain="d1")
