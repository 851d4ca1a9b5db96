"""Updates beyond v1, and what they leave in the queues."""

from __future__ import annotations

from perago.embedded.conductor import HistoryEvent
from perago.ports import Report, TaskStatus

from .one_workflow import DONE, FAILED, OneWorkflow


def test_a_terminal_task_ignores_further_updates_and_still_answers_success() -> None:
    run = OneWorkflow()
    delivery = run.poll()
    run.report(delivery, DONE)
    before = run.workflow
    run.report(delivery, Report(TaskStatus.FAILED, {"other": 1}, "late"))
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


def test_priority_goes_before_due_time_and_due_time_before_creation() -> None:
    run = OneWorkflow(retryDelaySeconds=10)
    run.report(run.poll(), FAILED)
    run.clock.advance(1)
    soon = run.conductor.start_workflow("w")
    run.clock.advance(20)
    urgent = run.conductor.start_workflow("w", priority=1)
    order = [run.poll().workflow_id for _ in range(3)]
    assert order == [urgent, soon, run.workflow_id]
