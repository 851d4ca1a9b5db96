"""What a naive model gets wrong (`docs/servers/conductor.md` 7), one test for each behaviour."""

from __future__ import annotations

from typing import Any

import pytest

from perago.embedded.conductor import Conflict, HistoryEvent, InvalidRequest, Malformed, NoSuchEntity, ServerError
from perago.ports import Report, TaskStatus

from .house import DONE, FAILED, House


def test_an_in_progress_update_gives_the_same_task_to_the_next_poller() -> None:
    house = House()
    first = house.poll("w0001")
    house.conductor.hand_back(first)
    assert house.statuses == ["SCHEDULED"]
    assert "workerId" not in house.tasks[0]
    house.clock.advance(5)
    second = house.poll("w0002")
    assert second.task_id == first.task_id
    assert second.start_time == first.start_time
    assert (first.poll_count, second.poll_count) == (1, 2)


def test_an_older_holder_can_still_fail_the_task_and_swallow_the_result_of_the_new_one() -> None:
    house = House(retryCount=0)
    older = house.poll()
    house.conductor.hand_back(older)
    newer = house.poll()
    house.report(older, FAILED)
    house.report(newer, DONE)
    assert house.statuses == ["FAILED"]
    assert house.status == "FAILED"


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "FAILED_WITH_TERMINAL_ERROR"])
def test_a_terminal_task_ignores_further_updates_and_still_answers_success(status: str) -> None:
    house = House()
    delivery = house.poll()
    house.report(delivery, DONE)
    before = house.workflow
    house.report(delivery, Report(TaskStatus(status), {"other": 1}, "late"))
    assert house.workflow == before
    assert house.conductor.history()[-1].what is HistoryEvent.IGNORED


def test_a_result_after_termination_is_ignored() -> None:
    house = House(steps=2)
    delivery = house.poll()
    house.conductor.terminate_workflow(house.workflow_id, "enough")
    house.report(delivery, DONE)
    assert (house.statuses, house.status) == (["CANCELED"], "TERMINATED")
    assert house.workflow["reasonForIncompletion"] == "enough"


def test_termination_empties_the_queue() -> None:
    house = House()
    house.conductor.terminate_workflow(house.workflow_id)
    assert house.conductor.queue_size("t") == 0


def test_the_final_update_moves_the_end_time_and_not_the_update_time() -> None:
    house = House()
    delivery = house.poll()
    polled = house.tasks[0]["updateTime"]
    house.clock.advance(9)
    house.report(delivery)
    task = house.tasks[0]
    assert (task["updateTime"], task["endTime"]) == (polled, polled + 9000)


def test_a_result_of_a_timed_out_attempt_does_not_touch_the_new_one() -> None:
    house = House(responseTimeoutSeconds=10)
    old = house.poll()
    house.clock.advance(11)
    house.conductor.sweep()
    house.report(old, DONE)
    assert house.statuses == ["TIMED_OUT", "SCHEDULED"]


def test_a_late_result_of_an_overdue_attempt_is_accepted_before_the_sweep() -> None:
    house = House(responseTimeoutSeconds=10)
    delivery = house.poll()
    house.clock.advance(1000)
    assert house.statuses == ["IN_PROGRESS"]
    house.report(delivery, DONE)
    assert (house.statuses, house.status) == (["COMPLETED"], "COMPLETED")


def test_a_lease_extension_moves_the_update_time_and_nothing_else() -> None:
    house = House()
    delivery = house.poll()
    before = house.tasks[0]
    house.clock.advance(7)
    result = {"taskId": delivery.task_id, "workflowInstanceId": "other", "extendLease": True}
    house.conductor.update_task({**result, "status": "COMPLETED", "outputData": {"a": 1}, "workerId": "x"})
    changed = {key for key, value in house.tasks[0].items() if before[key] != value}
    assert changed == {"updateTime"}
    assert house.tasks[0]["updateTime"] - before["updateTime"] == 7000


def test_a_lease_extension_for_a_lost_task_answers_success() -> None:
    house = House()
    delivery = house.poll()
    house.conductor.terminate_workflow(house.workflow_id)
    before = house.workflow
    house.conductor.extend_lease(delivery)
    assert house.workflow == before


def test_a_stale_lease_extension_keeps_the_successor_alive() -> None:
    house = House(responseTimeoutSeconds=10)
    stale = house.poll("w0001")
    house.conductor.hand_back(stale)
    house.poll("w0002")
    for _ in range(5):
        house.clock.advance(8)
        house.conductor.extend_lease(stale)
        house.conductor.sweep()
    assert house.statuses == ["IN_PROGRESS"]


def test_output_is_replaced_by_each_update_and_a_retry_starts_empty() -> None:
    house = House()
    delivery = house.poll()
    ids = {"taskId": delivery.task_id, "workflowInstanceId": delivery.workflow_id}
    house.conductor.update_task({**ids, "status": "IN_PROGRESS", "outputData": {"a": 1}})
    assert house.tasks[0]["outputData"] == {"a": 1}
    house.conductor.update_task({**ids, "status": "IN_PROGRESS", "outputData": {"b": 2}})
    assert house.tasks[0]["outputData"] == {"b": 2}
    house.conductor.update_task({**ids, "status": "IN_PROGRESS"})
    assert house.tasks[0]["outputData"] == {}
    house.report(house.poll(), FAILED)
    assert [task["outputData"] for task in house.tasks] == [{"partial": True}, {}]


def test_a_retry_is_a_new_task_with_the_old_reason() -> None:
    house = House()
    first = house.poll()
    house.report(first, FAILED)
    second = house.poll()
    assert second.task_id != first.task_id
    assert (second.retried_task_id, second.retry_count, second.poll_count) == (first.task_id, 1, 1)
    old, new = house.tasks
    assert (new["seq"], new["referenceTaskName"], new["reasonForIncompletion"]) == (old["seq"] + 1, "r0", "boo")
    assert (old["retried"], new["retried"]) == (True, False)


def test_a_terminal_error_is_not_retried() -> None:
    house = House()
    house.report(house.poll(), Report(TaskStatus.FAILED_WITH_TERMINAL_ERROR, {"why": 1}, "broken"))
    assert (house.statuses, house.status) == (["FAILED_WITH_TERMINAL_ERROR"], "FAILED")
    assert house.workflow["output"] == {"why": 1}
    assert house.workflow["failedReferenceTaskNames"] == ["r0"]


def test_a_rerun_keeps_the_task_id_and_starts_the_poll_count_again() -> None:
    house = House(retryCount=0)
    before = house.poll()
    house.report(before, FAILED)
    house.conductor.rerun_workflow(house.workflow_id, before.task_id)
    house.clock.advance(1)
    after = house.poll()
    assert (after.task_id, after.poll_count, after.retry_count) == (before.task_id, 1, 0)
    assert after.start_time > before.start_time
    house.report(before, DONE)
    assert house.status == "COMPLETED", "the previous holder's result finishes the rerun"


def test_a_rerun_hands_out_failed_attempts_of_earlier_steps_again() -> None:
    house = House(steps=2)
    failed = house.poll()
    house.report(failed, FAILED)
    house.report(house.poll(), DONE)
    last = house.poll()
    house.report(last, DONE)
    house.conductor.rerun_workflow(house.workflow_id, last.task_id)
    again = house.conductor.poll("t", "w0001", count=5, wait_seconds=0)
    assert {(delivery.task_id, delivery.poll_count) for delivery in again} == {(failed.task_id, 2), (last.task_id, 1)}


def test_a_restart_makes_new_ids_and_forgets_the_old_ones() -> None:
    house = House()
    before = house.poll()
    house.report(before)
    house.clock.advance(5)
    house.conductor.restart_workflow(house.workflow_id)
    assert house.workflow["createTime"] == round(house.clock.now() * 1000)
    after = house.poll()
    assert (after.task_id != before.task_id, after.retried_task_id) == (True, None)
    with pytest.raises(NoSuchEntity, match="Task not found"):
        house.conductor.get_task(before.task_id)


def test_a_manual_retry_chains_clears_the_reason_and_eats_the_budget() -> None:
    house = House(retryCount=1)
    first = house.poll()
    house.report(first, Report(TaskStatus.FAILED_WITH_TERMINAL_ERROR, {}, "boo"))
    house.conductor.retry_workflow(house.workflow_id)
    second = house.poll()
    assert (second.retried_task_id, second.retry_count) == (first.task_id, 1)
    assert "reasonForIncompletion" not in house.tasks[1]
    house.report(second, FAILED)
    assert house.status == "FAILED", "the manual retry was the only one in the budget"


def test_a_manual_retry_does_not_inherit_the_delay_of_an_automatic_one() -> None:
    house = House(retryDelaySeconds=60, retryCount=5)
    house.report(house.poll(), FAILED)
    house.conductor.terminate_workflow(house.workflow_id)
    house.conductor.retry_workflow(house.workflow_id)
    assert house.poll().retry_count == 2


def test_retrying_a_running_workflow_is_not_found_and_a_finished_one_a_conflict() -> None:
    house = House()
    with pytest.raises(NoSuchEntity, match="still running"):
        house.conductor.retry_workflow(house.workflow_id)
    house.report(house.poll())
    with pytest.raises(Conflict, match="no retryable tasks"):
        house.conductor.retry_workflow(house.workflow_id)


def test_a_paused_workflow_serves_its_queue_but_does_not_advance() -> None:
    house = House(steps=2)
    house.conductor.pause_workflow(house.workflow_id)
    house.report(house.poll(), DONE)
    assert (house.statuses, house.status) == (["COMPLETED"], "PAUSED")
    house.conductor.resume_workflow(house.workflow_id)
    assert house.statuses == ["COMPLETED", "SCHEDULED"]


def test_a_paused_workflow_does_not_retry_until_it_is_resumed() -> None:
    house = House()
    house.conductor.pause_workflow(house.workflow_id)
    house.report(house.poll(), FAILED)
    assert house.statuses == ["FAILED"]
    ended = house.tasks[0]["endTime"]
    house.clock.advance(10)
    house.conductor.resume_workflow(house.workflow_id)
    assert house.statuses == ["FAILED", "SCHEDULED"]
    assert house.tasks[0]["endTime"] == ended


def test_a_task_definition_counts_from_the_start_of_the_workflow() -> None:
    house = House(retryCount=0)
    house.conductor.register_task_definitions([{"name": "t", "retryCount": 5, "responseTimeoutSeconds": 7}])
    delivery = house.poll()
    assert delivery.response_timeout_seconds == 3600
    house.report(delivery, FAILED)
    assert house.status == "FAILED"
    house.conductor.start_workflow("w")
    assert house.poll().response_timeout_seconds == 7


def test_an_unknown_task_type_gets_the_default_definition() -> None:
    house = House()
    house.conductor.create_workflow_definition(
        {"name": "other", "tasks": [{"name": "unregistered", "taskReferenceName": "a"}]}
    )
    workflow_id = house.conductor.start_workflow("other")
    (delivery,) = house.conductor.poll("unregistered", "w0001", count=1, wait_seconds=0)
    house.report(delivery, FAILED)
    retry = house.conductor.workflow(workflow_id)["tasks"][1]
    assert (delivery.response_timeout_seconds, retry["callbackAfterSeconds"]) == (3600, 60)
    assert retry["taskDefinition"]["retryCount"] == 3


def test_a_full_concurrency_limit_refuses_silently_until_a_slot_is_free() -> None:
    house = House(concurrentExecLimit=1)
    house.clock.advance(1)
    house.conductor.start_workflow("w")
    running = house.poll()
    assert house.conductor.poll("t", "w0002", count=1, wait_seconds=0) == ()
    house.report(running)
    assert house.poll().workflow_id != house.workflow_id


def test_a_parked_task_keeps_its_concurrency_slot() -> None:
    house = House(concurrentExecLimit=1)
    house.clock.advance(1)
    house.conductor.start_workflow("w")
    parked = house.poll()
    result = {"taskId": parked.task_id, "workflowInstanceId": parked.workflow_id, "status": "IN_PROGRESS"}
    house.conductor.update_task({**result, "callbackAfterSeconds": 30})
    assert house.conductor.poll("t", "w0002", count=1, wait_seconds=0) == ()
    house.clock.advance(30)
    assert house.poll().task_id == parked.task_id


def test_a_reason_is_cut_at_500_characters_and_the_logs_of_a_result_at_ten() -> None:
    house = House()
    delivery = house.poll()
    for number in range(30):
        house.conductor.add_log(delivery.task_id, f"single {number}")
    ids = {"taskId": delivery.task_id, "workflowInstanceId": delivery.workflow_id}
    later = round(house.clock.now() * 1000) + 1
    logs = [{"log": f"listed {number}", "createdTime": later} for number in range(15)]
    house.conductor.update_task({**ids, "status": "FAILED", "reasonForIncompletion": "r" * 900, "logs": logs})
    assert len(house.tasks[0]["reasonForIncompletion"]) == 500
    texts = [entry["log"] for entry in house.conductor.task_logs(delivery.task_id)]
    assert texts[:30] == [f"single {number}" for number in range(30)]
    assert texts[30:] == [f"listed {number}" for number in range(10)]


def test_a_result_takes_over_the_worker_id_and_one_without_removes_it() -> None:
    house = House(steps=2)
    house.report(house.poll("w0001"), DONE, "w0009")
    assert house.tasks[0]["workerId"] == "w0009"
    second = house.poll("w0001")
    ids = {"taskId": second.task_id, "workflowInstanceId": second.workflow_id}
    house.conductor.update_task({**ids, "status": "COMPLETED"})
    assert "workerId" not in house.tasks[1]


def test_a_result_under_another_workflow_leaves_its_own_undecided_until_the_sweep() -> None:
    house = House(steps=2)
    delivery = house.poll()
    other = house.conductor.start_workflow("w")
    ids = {"taskId": delivery.task_id, "workflowInstanceId": other}
    house.conductor.update_task({**ids, "status": "COMPLETED"})
    assert (house.statuses, house.status) == (["COMPLETED"], "RUNNING")
    house.conductor.sweep()
    assert house.statuses == ["COMPLETED", "SCHEDULED"]


def test_a_cancelled_result_terminates_the_workflow_without_a_retry() -> None:
    house = House()
    delivery = house.poll()
    ids = {"taskId": delivery.task_id, "workflowInstanceId": delivery.workflow_id}
    house.conductor.update_task({**ids, "status": "CANCELED"})
    assert (house.statuses, house.status) == (["CANCELED"], "TERMINATED")


def test_priority_goes_before_due_time_and_due_time_before_creation() -> None:
    house = House(retryDelaySeconds=10)
    house.report(house.poll(), FAILED)
    house.clock.advance(1)
    soon = house.conductor.start_workflow("w")
    house.clock.advance(20)
    urgent = house.conductor.start_workflow("w", priority=1)
    order = [house.poll().workflow_id for _ in range(3)]
    assert order == [urgent, soon, house.workflow_id]


def test_the_queue_size_counts_delayed_retries_that_show_as_scheduled() -> None:
    house = House(retryDelaySeconds=60)
    house.report(house.poll(), FAILED)
    assert house.statuses == ["FAILED", "SCHEDULED"]
    assert house.conductor.queue_size("t") == 1
    assert [task["callbackAfterSeconds"] for task in house.conductor.pending("t")] == [60]
    assert house.conductor.poll("t", "w0001", count=1, wait_seconds=0) == ()


def test_an_optional_step_completes_with_errors_and_the_workflow_goes_on() -> None:
    house = House(steps=2, step={"optional": True}, retryCount=0)
    house.report(house.poll(), FAILED)
    assert house.statuses == ["COMPLETED_WITH_ERRORS", "SCHEDULED"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"taskId": None}, InvalidRequest, id="no task id"),
        pytest.param({"workflowInstanceId": ""}, InvalidRequest, id="no workflow id"),
        pytest.param({"taskId": "unknown"}, NoSuchEntity, id="unknown task"),
        pytest.param({"workflowInstanceId": "unknown"}, NoSuchEntity, id="unknown workflow"),
        pytest.param({"status": None}, ServerError, id="no status"),
        pytest.param({"status": "TIMED_OUT"}, Malformed, id="a status that is Conductor's own"),
        pytest.param({"status": "completed"}, Malformed, id="a status in lower case"),
        pytest.param({"outputData": [1]}, Malformed, id="output is a list"),
        pytest.param({"outputData": {"a": float("nan")}}, Malformed, id="NaN in the output"),
    ],
)
def test_a_refused_update_changes_nothing(change: dict[str, Any], error: type[Exception]) -> None:
    house = House()
    delivery = house.poll()
    before = house.workflow
    ids = {"taskId": delivery.task_id, "workflowInstanceId": delivery.workflow_id, "status": "COMPLETED"}
    with pytest.raises(error):
        house.conductor.update_task({**ids, **change})
    assert house.workflow == before
