"""Updates beyond v1, and what they leave in the queues."""

from __future__ import annotations

import pytest

from .house import House


def test_update_v2_hands_out_the_next_attempt_for_an_ignored_update_too() -> None:
    house = House(steps=3)
    first = house.poll()
    result = {"taskId": first.task_id, "workflowInstanceId": first.workflow_id, "workerId": "w7"}
    second = house.conductor.update_task_v2({**result, "status": "COMPLETED"})
    assert second is not None
    assert (second["referenceTaskName"], second["status"], second["workerId"]) == ("r1", "IN_PROGRESS", "w7")
    house.conductor.update_task({**result, "taskId": second["taskId"], "status": "COMPLETED"})
    third = house.conductor.update_task_v2({**result, "status": "FAILED"})
    assert third is not None
    assert (third["referenceTaskName"], third["status"]) == ("r2", "IN_PROGRESS")
    assert house.statuses == ["COMPLETED", "COMPLETED", "IN_PROGRESS"]


@pytest.mark.parametrize(
    "fields", [{"status": "IN_PROGRESS"}, {"extendLease": True}], ids=["an attempt given back", "a lease extension"]
)
def test_update_v2_hands_out_nothing_for_an_attempt_that_goes_on(fields: dict[str, object]) -> None:
    house = House()
    house.conductor.start_workflow("w")
    first = house.poll()
    result = {"taskId": first.task_id, "workflowInstanceId": first.workflow_id, **fields}
    assert house.conductor.update_task_v2(result) is None


def test_update_v2_hands_out_nothing_for_the_lease_of_a_finished_attempt() -> None:
    house = House()
    house.conductor.start_workflow("w")
    first = house.poll()
    house.report(first)
    result = {"taskId": first.task_id, "workflowInstanceId": first.workflow_id, "extendLease": True}
    assert house.conductor.update_task_v2(result) is None


def test_update_v2_hands_out_attempts_of_the_same_domain() -> None:
    house = House(steps=2)
    workflow_id = house.conductor.start_workflow("w", task_to_domain={"t": "east"})
    (first,) = house.conductor.poll_tasks("t", domain="east")
    result = {"taskId": first["taskId"], "workflowInstanceId": workflow_id, "status": "COMPLETED"}
    further = house.conductor.update_task_v2(result)
    assert further is not None
    assert (further["referenceTaskName"], further["workflowInstanceId"]) == ("r1", workflow_id)


def test_a_step_can_be_updated_by_its_name_which_adds_to_its_output() -> None:
    house = House()
    delivery = house.poll("w1")
    conductor = house.conductor
    ids = {"taskId": delivery.task_id, "workflowInstanceId": delivery.workflow_id}
    conductor.update_task({**ids, "status": "IN_PROGRESS", "outputData": {"a": 1, "b": 1}, "workerId": "w1"})
    assert conductor.update_task_by_reference(house.workflow_id, "r0", "COMPLETED", {"b": 2}) == delivery.task_id
    assert (house.tasks[0]["outputData"], house.tasks[0]["workerId"]) == ({"a": 1, "b": 2}, "w1")
    assert house.status == "COMPLETED"


@pytest.mark.parametrize("reference", ["r0", "unknown"])
def test_an_update_by_name_without_an_open_attempt_changes_nothing(reference: str) -> None:
    house = House()
    house.report(house.poll())
    assert house.conductor.update_task_by_reference(house.workflow_id, reference, "FAILED", {}) is None
    assert house.conductor.update_task_by_reference("unknown", reference, "FAILED", {}) is None
    assert house.status == "COMPLETED"


def test_the_last_poll_of_a_type_is_remembered_however_empty() -> None:
    house = House()
    house.poll("w1")
    house.conductor.poll_tasks("t", "w2")
    polls = house.conductor.last_polls("t")
    assert [(poll.task_name, poll.worker_id) for poll in polls] == [("t", "w2")]
    assert polls[0].time == round(house.clock.now() * 1000)
    assert house.conductor.last_polls("unknown") == ()
