"""The model as a `TaskQueue`: polling, fences, leases, errors, faults, threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from perago.driver import SystemClock
from perago.embedded.clock import VirtualClock
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.faults import FaultScript
from perago.ports import Refused, Report, TaskStatus, Unavailable, Unclear

from .one_workflow import DONE, FAILED, OneWorkflow


def test_the_input_of_a_delivery_is_not_shared_with_the_model() -> None:
    run = OneWorkflow(step={"inputParameters": {"list": [1]}})
    dict(run.poll().input)["list"].append(2)
    assert run.tasks[0]["inputData"] == {"list": [1]}


def test_a_batch_poll_waits_on_the_clock_for_its_full_count() -> None:
    run = OneWorkflow()
    start = run.clock.now()
    deliveries = run.conductor.poll("t", "w0001", count=5, wait_seconds=2)
    assert len(deliveries) == 1
    assert run.clock.now() - start == pytest.approx(2)


def test_a_poll_returns_as_soon_as_the_count_is_there() -> None:
    run = OneWorkflow(retryDelaySeconds=1)
    run.report(run.poll(), FAILED)
    start = run.clock.now()
    assert len(run.conductor.poll("t", "w0001", count=1, wait_seconds=5)) == 1
    assert run.clock.now() - start == pytest.approx(1, abs=0.11)


def test_a_poll_longer_than_five_seconds_is_cut_and_refused_by_the_server() -> None:
    run = OneWorkflow()
    start = run.clock.now()
    run.conductor.poll("t", "w0001", count=2, wait_seconds=60)
    assert run.clock.now() - start == pytest.approx(5)
    with pytest.raises(Refused, match="5 seconds"):
        run.conductor.poll_tasks("t", "w0001", wait_seconds=5.1)


def test_an_empty_log_entry_is_left_out_and_undecodable_text_is_replaced() -> None:
    run = OneWorkflow()
    for text in ("", "a\udcffb"):
        run.conductor.add_log("t", text)
    assert [entry["log"] for entry in run.conductor.task_logs("t")] == ["a?b"]


def test_a_result_passes_through_json() -> None:
    run = OneWorkflow()
    run.report(run.poll(), Report(TaskStatus.COMPLETED, {"tuple": (1, 2.0), "text": "a\ud800b", "big": 2**70}))
    assert run.tasks[0]["outputData"] == {"tuple": [1, 2.0], "text": "a?b", "big": 2**70}


def test_a_result_that_json_cannot_carry_is_refused_completely() -> None:
    run = OneWorkflow()
    delivery = run.poll()
    with pytest.raises(Refused, match="outputData"):
        run.report(delivery, Report(TaskStatus.COMPLETED, {"a": float("nan")}))
    assert run.conductor.is_current(delivery)


def test_a_lost_answer_to_a_report_leaves_the_report_done() -> None:
    faults = FaultScript().after("report", error=Unclear)
    conductor = InMemoryConductor(VirtualClock(), faults)
    conductor.create_workflow_definition({"name": "w", "tasks": [{"name": "t", "taskReferenceName": "a"}]})
    workflow_id = conductor.start_workflow("w")
    (delivery,) = conductor.poll("t", "w0001", count=1, wait_seconds=0)
    with pytest.raises(Unclear):
        conductor.report(delivery, DONE, "w0001")
    assert conductor.workflow(workflow_id)["status"] == "COMPLETED"
    assert faults.unused() == ()


def test_an_abandoned_poll_loses_its_task_until_the_response_timeout() -> None:
    clock = VirtualClock()
    conductor = InMemoryConductor(clock, FaultScript().after("poll", error=Unavailable))
    conductor.register_task_definitions([{"name": "t", "responseTimeoutSeconds": 30, "retryDelaySeconds": 0}])
    conductor.create_workflow_definition({"name": "w", "tasks": [{"name": "t", "taskReferenceName": "a"}]})
    conductor.start_workflow("w")
    with pytest.raises(Unavailable):
        conductor.poll("t", "w0001", count=1, wait_seconds=0)
    assert conductor.poll("t", "w0001", count=1, wait_seconds=5) == ()
    clock.advance(25)
    conductor.sweep()
    assert len(conductor.poll("t", "w0001", count=1, wait_seconds=0)) == 1


class _BrokenOff(VirtualClock):
    """A clock on which nobody sleeps to the end."""

    def sleep(self, seconds: float) -> None:
        raise KeyboardInterrupt


def test_an_interrupted_poll_puts_its_tasks_back() -> None:
    conductor = InMemoryConductor(_BrokenOff())
    conductor.create_workflow_definition({"name": "w", "tasks": [{"name": "t", "taskReferenceName": "a"}]})
    conductor.start_workflow("w")
    with pytest.raises(KeyboardInterrupt):
        conductor.poll("t", "w0001", count=2, wait_seconds=1)
    assert len(conductor.poll("t", "w0001", count=1, wait_seconds=0)) == 1


def test_a_callback_between_sending_and_effect_may_use_the_model() -> None:
    faults = FaultScript()
    conductor = InMemoryConductor(VirtualClock(), faults)
    conductor.create_workflow_definition({"name": "w", "tasks": [{"name": "t", "taskReferenceName": "a"}]})
    workflow_id = conductor.start_workflow("w")
    (delivery,) = conductor.poll("t", "w0001", count=1, wait_seconds=0)
    faults.between("report", lambda: conductor.terminate_workflow(workflow_id))
    conductor.report(delivery, DONE, "w0001")
    assert conductor.workflow(workflow_id)["status"] == "TERMINATED"


def test_a_waiting_long_poll_does_not_block_other_calls() -> None:
    conductor = InMemoryConductor(SystemClock())
    conductor.create_workflow_definition({"name": "w", "tasks": [{"name": "t", "taskReferenceName": "a"}]})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(conductor.poll, "t", "w0001", count=1, wait_seconds=5)
        workflow_id = conductor.start_workflow("w")
        (delivery,) = waiting.result(timeout=10)
    assert delivery.workflow_id == workflow_id


def test_no_task_is_handed_out_twice_to_pollers_at_the_same_time() -> None:
    conductor = InMemoryConductor(SystemClock())
    conductor.create_workflow_definition({"name": "w", "tasks": [{"name": "t", "taskReferenceName": "a"}]})
    started = {conductor.start_workflow("w") for _ in range(60)}
    barrier = threading.Barrier(6)

    def drain(worker_id: str) -> list[str]:
        barrier.wait(timeout=10)
        taken: list[str] = []
        while deliveries := conductor.poll("t", worker_id, count=3, wait_seconds=0):
            taken += [delivery.workflow_id for delivery in deliveries]
        return taken

    with ThreadPoolExecutor(6) as pool:
        taken = [workflow_id for part in pool.map(drain, [f"w000{n}" for n in range(6)]) for workflow_id in part]
    assert sorted(taken) == sorted(started)
