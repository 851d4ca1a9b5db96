"""The model as a `TaskQueue`: polling, fences, leases, errors, faults, threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from perago.driver import SystemClock
from perago.embedded.clock import VirtualClock
from perago.embedded.conductor import InMemoryConductor


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
