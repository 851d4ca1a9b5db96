"""The Conductor of tests: time that passes when it is told to, and attempts that are run to the last."""

from __future__ import annotations

import pytest

from perago.testing import TaskRunner

from .tasks_for_runner import Params, count


def start_workflow(run: TaskRunner, *names: str) -> str:
    """A workflow of steps one after the other."""
    steps = [
        {"name": name, "taskReferenceName": f"step{number}", "type": "SIMPLE", "inputParameters": {"params": {}}}
        for number, name in enumerate(names)
    ]
    definition = {"name": "several", "version": 1, "schemaVersion": 2, "tasks": steps}
    return run.conductor.start_workflow("several", {}, definition=definition)


def test_draining_leaves_attempts_that_are_not_due_in_time(run: TaskRunner) -> None:
    run(count, Params(failures=1), controls={"retryDelaySeconds": 100})
    assert run.conductor.drain(within=99) == ()
    assert len(run.conductor.drain(within=100)) == 1


def test_draining_ends_even_if_retries_never_end(run: TaskRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perago.testing.conductor._MOST_ATTEMPTS", 3)
    run(count, Params(failures=100), controls={"retryCount": 10})
    with pytest.raises(RuntimeError, match=r"drain: 3 attempts, and runner\.count still waits"):
        run.conductor.drain()


def test_time_outs_happen_at_their_time_however_far_time_is_moved(run: TaskRunner) -> None:
    outcome = run(count, report=False)
    run.conductor.advance(100_000)
    row = run.conductor.get_task(outcome.delivery.task_id)
    assert row["status"] == "TIMED_OUT"
    assert row["endTime"] - row["startTime"] == 600_000
    assert run.conductor.queue_size("runner.count") == 1
    start = run.clock.now()
    run.again()
    assert run.clock.now() == start


@pytest.mark.parametrize(
    ("controls", "seconds", "status"),
    [
        pytest.param({"responseTimeoutSeconds": 7}, 7, "TIMED_OUT", id="response"),
        pytest.param({"timeoutSeconds": 9, "responseTimeoutSeconds": 9}, 9, "TIMED_OUT", id="whole task"),
        pytest.param({"totalTimeoutSeconds": 11, "timeoutPolicy": "RETRY"}, 11, "TIMED_OUT", id="all attempts"),
    ],
)
def test_a_timeout_is_neither_early_nor_late(
    run: TaskRunner, controls: dict[str, object], seconds: int, status: str
) -> None:
    outcome = run(count, report=False, controls=controls)
    task_id = outcome.delivery.task_id
    run.conductor.advance(seconds - 1)
    assert run.conductor.get_task(task_id)["status"] == "IN_PROGRESS"
    run.conductor.advance(1)
    assert run.conductor.get_task(task_id)["status"] == status


def test_an_attempt_that_nobody_polls_times_out(run: TaskRunner) -> None:
    run.conductor.register(count, controls={"pollTimeoutSeconds": 30, "timeoutPolicy": "RETRY", "retryCount": 0})
    workflow_id = start_workflow(run, "runner.count")
    run.conductor.advance(29)
    assert run.conductor.workflow(workflow_id)["status"] == "RUNNING"
    run.conductor.advance(1)
    assert run.conductor.workflow(workflow_id)["status"] != "RUNNING"


def test_time_does_not_run_backwards(run: TaskRunner) -> None:
    with pytest.raises(ValueError, match="time moves forward"):
        run.conductor.advance(-1)


def test_blocks_that_are_never_run_must_be_listed(run: TaskRunner) -> None:
    assert run.conductor.drain() == ()
    with pytest.raises(LookupError, match="no workflow was started"):
        run.conductor.next_delivery("runner.copy", within=1)
