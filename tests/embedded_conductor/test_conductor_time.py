"""Time-outs, retry delays and sweeps, on a clock that only moves when told."""

from __future__ import annotations

import pytest

from perago.embedded.clock import VirtualClock
from perago.embedded.conductor import InMemoryConductor

from .house import DONE, FAILED, House

POLICIES = ("RETRY", "TIME_OUT_WF", "ALERT_ONLY")


@pytest.mark.parametrize("policy", POLICIES)
def test_a_response_timeout_makes_a_new_attempt_whatever_the_policy(policy: str) -> None:
    house = House(responseTimeoutSeconds=10, timeoutPolicy=policy)
    old = house.poll()
    house.clock.advance(10)
    house.conductor.sweep()
    new = house.poll()
    assert (new.task_id != old.task_id, new.retried_task_id) == (True, old.task_id)
    assert house.statuses == ["TIMED_OUT", "IN_PROGRESS"]


def test_a_response_timeout_waits_until_somebody_decides() -> None:
    house = House(responseTimeoutSeconds=10)
    house.poll()
    house.clock.advance(3600)
    assert house.statuses == ["IN_PROGRESS"]
    house.conductor.decide(house.workflow_id)
    assert house.statuses == ["TIMED_OUT", "SCHEDULED"]


def test_the_last_response_timeout_ends_the_workflow() -> None:
    house = House(responseTimeoutSeconds=10, retryCount=0)
    house.poll()
    house.clock.advance(10)
    house.conductor.sweep()
    assert (house.statuses, house.status) == (["TIMED_OUT"], "TIMED_OUT")
    assert "responseTimeout: 10 exceeded" in house.workflow["reasonForIncompletion"]


def test_lease_extensions_hold_off_the_response_timeout_but_not_the_task_timeout() -> None:
    house = House(responseTimeoutSeconds=10, timeoutSeconds=60, timeoutPolicy="RETRY")
    delivery = house.poll()
    for _ in range(7):
        house.clock.advance(8)
        house.conductor.extend_lease(delivery)
        house.conductor.sweep()
    assert house.statuses == ["IN_PROGRESS"]
    house.clock.advance(4)
    house.conductor.sweep()
    assert house.statuses == ["TIMED_OUT", "SCHEDULED"]


@pytest.mark.parametrize(
    ("policy", "statuses", "workflow"),
    [
        pytest.param("RETRY", ["TIMED_OUT", "SCHEDULED"], "RUNNING", id="RETRY"),
        pytest.param("TIME_OUT_WF", ["TIMED_OUT"], "TIMED_OUT", id="TIME_OUT_WF although a retry is left"),
        pytest.param("ALERT_ONLY", ["IN_PROGRESS"], "RUNNING", id="ALERT_ONLY"),
    ],
)
def test_the_task_timeout_obeys_the_policy(policy: str, statuses: list[str], workflow: str) -> None:
    house = House(responseTimeoutSeconds=30, timeoutSeconds=30, timeoutPolicy=policy)
    delivery = house.poll()
    house.clock.advance(29)
    house.conductor.extend_lease(delivery)
    house.clock.advance(1)
    house.conductor.sweep()
    assert (house.statuses, house.status) == (statuses, workflow)


def test_the_task_timeout_counts_parked_time() -> None:
    house = House(responseTimeoutSeconds=30, timeoutSeconds=30, timeoutPolicy="RETRY")
    delivery = house.poll()
    result = {"taskId": delivery.task_id, "workflowInstanceId": delivery.workflow_id, "status": "IN_PROGRESS"}
    house.conductor.update_task({**result, "callbackAfterSeconds": 100})
    house.clock.advance(30)
    house.conductor.sweep()
    assert house.statuses == ["TIMED_OUT", "SCHEDULED"]


def test_a_scheduled_attempt_never_response_times_out() -> None:
    house = House(responseTimeoutSeconds=10)
    house.clock.advance(86_400)
    house.conductor.sweep()
    assert house.statuses == ["SCHEDULED"]


@pytest.mark.parametrize(
    ("policy", "statuses"),
    [("RETRY", ["TIMED_OUT", "SCHEDULED"]), ("TIME_OUT_WF", ["TIMED_OUT"]), ("ALERT_ONLY", ["SCHEDULED"])],
)
def test_the_poll_timeout_obeys_the_policy(policy: str, statuses: list[str]) -> None:
    house = House(pollTimeoutSeconds=10, timeoutPolicy=policy)
    house.clock.advance(10)
    house.conductor.sweep()
    assert house.statuses == statuses


def test_the_poll_timeout_leaves_room_for_a_start_delay_twice() -> None:
    house = House(step={"startDelay": 5}, pollTimeoutSeconds=10, timeoutPolicy="RETRY")
    house.clock.advance(19)
    house.conductor.sweep()
    assert house.statuses == ["SCHEDULED"]
    house.clock.advance(1)
    house.conductor.sweep()
    assert house.statuses == ["TIMED_OUT", "SCHEDULED"]


def test_the_task_timeout_begins_a_start_delay_after_the_first_poll() -> None:
    house = House(step={"startDelay": 5}, timeoutSeconds=30, responseTimeoutSeconds=30, timeoutPolicy="RETRY")
    house.clock.advance(5)
    delivery = house.poll()
    house.clock.advance(20)
    house.conductor.extend_lease(delivery)
    house.clock.advance(14)
    house.conductor.sweep()
    assert house.statuses == ["IN_PROGRESS"]
    house.clock.advance(1)
    house.conductor.sweep()
    assert house.statuses == ["TIMED_OUT", "SCHEDULED"]


def test_a_hand_back_of_a_delayed_retry_is_due_at_once() -> None:
    house = House(retryDelaySeconds=60)
    house.report(house.poll(), FAILED)
    house.clock.advance(60)
    retry = house.poll()
    house.conductor.hand_back(retry)
    assert house.poll().task_id == retry.task_id


def test_the_total_timeout_ends_all_attempts_together() -> None:
    house = House(responseTimeoutSeconds=10, totalTimeoutSeconds=25, retryCount=5, timeoutPolicy="RETRY")
    for _ in range(2):
        house.poll()
        house.clock.advance(10)
        house.conductor.sweep()
    house.poll()
    house.clock.advance(5)
    house.conductor.sweep()
    assert (house.statuses, house.status) == (["TIMED_OUT"] * 3, "TIMED_OUT")


@pytest.mark.parametrize(
    ("logic", "cap", "delays"),
    [
        ("FIXED", 0, [5, 5, 5]),
        ("LINEAR_BACKOFF", 0, [10, 20, 30]),
        ("EXPONENTIAL_BACKOFF", 0, [5, 10, 20]),
        ("EXPONENTIAL_BACKOFF", 12, [5, 10, 12]),
    ],
)
def test_a_retry_is_delayed_by_its_logic(logic: str, cap: int, delays: list[int]) -> None:
    house = House(retryCount=3, retryLogic=logic, retryDelaySeconds=5, backoffScaleFactor=2, maxRetryDelaySeconds=cap)
    for delay in delays:
        house.report(house.poll(), FAILED)
        house.clock.advance(delay - 1)
        assert house.conductor.poll("t", "w0001", count=1, wait_seconds=0) == ()
        house.clock.advance(1)
    assert house.poll().retry_count == 3


def _waits_of_ten_retries() -> list[float]:
    house = House(retryCount=10, retryDelaySeconds=1, backoffJitterMs=500)
    delivery = house.poll()
    waits = []
    for _ in range(10):
        house.report(delivery, FAILED)
        failed = house.clock.now()
        (delivery,) = house.conductor.poll("t", "w0001", count=1, wait_seconds=2)
        waits.append(round(house.clock.now() - failed, 1))
    return waits


def test_jitter_is_added_to_the_delay_and_repeats_with_the_seed() -> None:
    waits = _waits_of_ten_retries()
    assert all(1.0 <= seconds <= 1.6 for seconds in waits)
    assert len(set(waits)) > 1
    assert waits == _waits_of_ten_retries()


def test_a_callback_redelivers_the_same_task_when_it_is_due() -> None:
    house = House()
    delivery = house.poll()
    result = {"taskId": delivery.task_id, "workflowInstanceId": delivery.workflow_id, "status": "IN_PROGRESS"}
    house.conductor.update_task({**result, "callbackAfterSeconds": "4"})
    house.clock.advance(3.9)
    assert house.conductor.poll("t", "w0001", count=1, wait_seconds=0) == ()
    house.clock.advance(0.1)
    assert house.poll().task_id == delivery.task_id
    assert house.tasks[0]["callbackAfterSeconds"] == 0


def test_with_a_sweep_period_time_outs_fire_at_the_first_call_after_it() -> None:
    clock = VirtualClock()
    conductor = InMemoryConductor(clock, sweep_seconds=30)
    conductor.register_task_definitions([{"name": "t", "responseTimeoutSeconds": 10, "retryDelaySeconds": 0}])
    conductor.create_workflow_definition({"name": "w", "tasks": [{"name": "t", "taskReferenceName": "a"}]})
    conductor.start_workflow("w")
    (delivery,) = conductor.poll("t", "w0001", count=1, wait_seconds=0)
    clock.advance(20)
    assert conductor.is_current(delivery), "overdue, but not swept"
    clock.advance(10)
    assert not conductor.is_current(delivery)


def test_a_workflow_timeout_cancels_the_running_attempt() -> None:
    clock = VirtualClock()
    conductor = InMemoryConductor(clock)
    definition = {"name": "w", "timeoutSeconds": 60, "timeoutPolicy": "TIME_OUT_WF"}
    conductor.create_workflow_definition({**definition, "tasks": [{"name": "t", "taskReferenceName": "a"}]})
    workflow_id = conductor.start_workflow("w")
    (delivery,) = conductor.poll("t", "w0001", count=1, wait_seconds=0)
    clock.advance(60)
    conductor.sweep()
    conductor.report(delivery, DONE, "w0001")
    workflow = conductor.workflow(workflow_id)
    assert (workflow["status"], workflow["tasks"][0]["status"]) == ("TIMED_OUT", "CANCELED")
