"""Timeouts, retry delays and sweeps, on a clock that only moves when told."""

from __future__ import annotations

from perago.embedded.clock import VirtualClock
from perago.embedded.conductor import InMemoryConductor

from .one_workflow import FAILED, OneWorkflow


def test_the_poll_timeout_leaves_room_for_a_start_delay_twice() -> None:
    run = OneWorkflow(step={"startDelay": 5}, pollTimeoutSeconds=10, timeoutPolicy="RETRY")
    run.clock.advance(19)
    run.conductor.sweep()
    assert run.statuses == ["SCHEDULED"]
    run.clock.advance(1)
    run.conductor.sweep()
    assert run.statuses == ["TIMED_OUT", "SCHEDULED"]


def test_the_task_timeout_begins_a_start_delay_after_the_first_poll() -> None:
    run = OneWorkflow(step={"startDelay": 5}, timeoutSeconds=30, responseTimeoutSeconds=30, timeoutPolicy="RETRY")
    run.clock.advance(5)
    delivery = run.poll()
    run.clock.advance(20)
    run.conductor.extend_lease(delivery)
    run.clock.advance(14)
    run.conductor.sweep()
    assert run.statuses == ["IN_PROGRESS"]
    run.clock.advance(1)
    run.conductor.sweep()
    assert run.statuses == ["TIMED_OUT", "SCHEDULED"]


def _waits_of_ten_retries() -> list[float]:
    run = OneWorkflow(retryCount=10, retryDelaySeconds=1, backoffJitterMs=500)
    delivery = run.poll()
    waits = []
    for _ in range(10):
        run.report(delivery, FAILED)
        failed = run.clock.now()
        (delivery,) = run.conductor.poll("t", "w0001", count=1, wait_seconds=2)
        waits.append(round(run.clock.now() - failed, 1))
    return waits


def test_jitter_is_added_to_the_delay_and_repeats_with_the_seed() -> None:
    waits = _waits_of_ten_retries()
    assert all(1.0 <= seconds <= 1.6 for seconds in waits)
    assert len(set(waits)) > 1
    assert waits == _waits_of_ten_retries()


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
