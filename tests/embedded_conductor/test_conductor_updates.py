"""Updates beyond v1, and what they leave in the queues."""

from __future__ import annotations

import pytest

from perago.embedded.conductor import HistoryEvent
from perago.ports import Report, TaskStatus

from .one_workflow import DONE, FAILED, OneWorkflow


def test_update_v2_hands_out_the_next_attempt_for_an_ignored_update_too() -> None:
    run = OneWorkflow(steps=3)
    first = run.poll()
    result = {"taskId": first.task_id, "workflowInstanceId": first.workflow_id, "workerId": "w7"}
    second = run.conductor.update_task_v2({**result, "status": "COMPLETED"})
    assert second is not None
    assert (second["referenceTaskName"], second["status"], second["workerId"]) == ("r1", "IN_PROGRESS", "w7")
    run.conductor.update_task({**result, "taskId": second["taskId"], "status": "COMPLETED"})
    third = run.conductor.update_task_v2({**result, "status": "FAILED"})
    assert third is not None
    assert (third["referenceTaskName"], third["status"]) == ("r2", "IN_PROGRESS")
    assert run.statuses == ["COMPLETED", "COMPLETED", "IN_PROGRESS"]


@pytest.mark.parametrize(
    "fields", [{"status": "IN_PROGRESS"}, {"extendLease": True}], ids=["an attempt given back", "a lease extension"]
)
def test_update_v2_hands_out_nothing_for_an_attempt_that_goes_on(fields: dict[str, object]) -> None:
    run = OneWorkflow()
    run.conductor.start_workflow("w")
    first = run.poll()
    result = {"taskId": first.task_id, "workflowInstanceId": first.workflow_id, **fields}
    assert run.conductor.update_task_v2(result) is None


def test_update_v2_hands_out_nothing_for_the_lease_of_a_finished_attempt() -> None:
    run = OneWorkflow()
    run.conductor.start_workflow("w")
    first = run.poll()
    run.report(first)
    result = {"taskId": first.task_id, "workflowInstanceId": first.workflow_id, "extendLease": True}
    assert run.conductor.update_task_v2(result) is None


def test_update_v2_hands_out_attempts_of_the_same_domain() -> None:
    run = OneWorkflow(steps=2)
    workflow_id = run.conductor.start_workflow("w", task_to_domain={"t": "east"})
    (first,) = run.conductor.poll_tasks("t", domain="east")
    result = {"taskId": first["taskId"], "workflowInstanceId": workflow_id, "status": "COMPLETED"}
    further = run.conductor.update_task_v2(result)
    assert further is not None
    assert (further["referenceTaskName"], further["workflowInstanceId"]) == ("r1", workflow_id)


def test_a_step_can_be_updated_by_its_name_which_adds_to_its_output() -> None:
    run = OneWorkflow()
    delivery = run.poll("w1")
    conductor = run.conductor
    ids = {"taskId": delivery.task_id, "workflowInstanceId": delivery.workflow_id}
    conductor.update_task({**ids, "status": "IN_PROGRESS", "outputData": {"a": 1, "b": 1}, "workerId": "w1"})
    assert conductor.update_task_by_reference(run.workflow_id, "r0", "COMPLETED", {"b": 2}) == delivery.task_id
    assert (run.tasks[0]["outputData"], run.tasks[0]["workerId"]) == ({"a": 1, "b": 2}, "w1")
    assert run.status == "COMPLETED"


@pytest.mark.parametrize("reference", ["r0", "unknown"])
def test_an_update_by_name_without_an_open_attempt_changes_nothing(reference: str) -> None:
    run = OneWorkflow()
    run.report(run.poll())
    assert run.conductor.update_task_by_reference(run.workflow_id, reference, "FAILED", {}) is None
    assert run.conductor.update_task_by_reference("unknown", reference, "FAILED", {}) is None
    assert run.status == "COMPLETED"


def test_the_last_poll_of_a_type_is_remembered_however_empty() -> None:
    run = OneWorkflow()
    run.poll("w1")
    run.conductor.poll_tasks("t", "w2")
    polls = run.conductor.last_polls("t")
    assert [(poll.task_name, poll.worker_id) for poll in polls] == [("t", "w2")]
    assert polls[0].time == round(run.clock.now() * 1000)
    assert run.conductor.last_polls("unknown") == ()


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "FAILED_WITH_TERMINAL_ERROR"])
def test_a_terminal_task_ignores_further_updates_and_still_answers_success(status: str) -> None:
    run = OneWorkflow()
    delivery = run.poll()
    run.report(delivery, DONE)
    before = run.workflow
    run.report(delivery, Report(TaskStatus(status), {"other": 1}, "late"))
    assert run.workflow == before
    assert run.conductor.history()[-1].what is HistoryEvent.IGNORED


def test_a_parked_task_keeps_its_concurrency_slot() -> None:
    run = OneWorkflow(concurrentExecLimit=1)
    run.clock.advance(1)
    run.conductor.start_workflow("w")
    parked = run.poll()
    result = {"taskId": parked.task_id, "workflowInstanceId": parked.workflow_id, "status": "IN_PROGRESS"}
    run.conductor.update_task({**result, "callbackAfterSeconds": 30})
    assert run.conductor.poll("t", "w0002", count=1, wait_seconds=0) == ()
    run.clock.advance(30)
    assert run.poll().task_id == parked.task_id


def test_a_result_under_another_workflow_leaves_its_own_undecided_until_the_sweep() -> None:
    run = OneWorkflow(steps=2)
    delivery = run.poll()
    other = run.conductor.start_workflow("w")
    ids = {"taskId": delivery.task_id, "workflowInstanceId": other}
    run.conductor.update_task({**ids, "status": "COMPLETED"})
    assert (run.statuses, run.status) == (["COMPLETED"], "RUNNING")
    run.conductor.sweep()
    assert run.statuses == ["COMPLETED", "SCHEDULED"]


def test_priority_goes_before_due_time_and_due_time_before_creation() -> None:
    run = OneWorkflow(retryDelaySeconds=10)
    run.report(run.poll(), FAILED)
    run.clock.advance(1)
    soon = run.conductor.start_workflow("w")
    run.clock.advance(20)
    urgent = run.conductor.start_workflow("w", priority=1)
    order = [run.poll().workflow_id for _ in range(3)]
    assert order == [urgent, soon, run.workflow_id]
