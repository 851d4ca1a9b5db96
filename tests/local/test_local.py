"""A worker that stays: attempts side by side, and one that kills its process takes no other with it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from perago.driver import Limits
from perago.embedded.services import EmbeddedServices
from perago.local import InTurn, LocalTask, PersistentWorker, RunFailed, connection_to, run_workflow, workflow_of
from perago.ports import Delivery, TaskStatus
from perago.taskdef import build_task_definition, canonical_json, load_task
from perago.worker.events import (
    AttemptEnded,
    AttemptReceived,
    AttemptRecorded,
    Draining,
    Ending,
    Event,
    SlotReady,
    StepStarted,
)
from perago.worker.plan import LogPlan, TaskPlan, WorkerPlan
from tests.deliveries import make_delivery

MODULE = """
import os
from pydantic import BaseModel
from perago import task

class Model(BaseModel):
    x: int

@task(name="standing.task", owner_email="data@example.com")
def work(params: Model) -> Model:
    if params.x < 0:
        os._exit(7)
    return Model(x=params.x * 2)
"""


@pytest.fixture
def definition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The TaskDef of the module, which can be imported."""
    (tmp_path / "standing_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    document: dict[str, Any] = json.loads(canonical_json(build_task_definition(load_task("standing_module"))))
    return document


def plan_on(services: EmbeddedServices, directory: Path, root: Path) -> WorkerPlan:
    way = connection_to(services)
    return WorkerPlan(
        name="standing_module",
        tasks=(TaskPlan(module="standing_module", name="standing.task", store_factory=way.store_factory),),
        worker_prefix="standing",
        workspace_root=root,
        logs=LogPlan(root=directory / "logs", max_bytes=10**6, retention_days=1),
        limits=Limits(),
        shutdown_grace=1.0,
        preload=way.preload,
        watch=True,
        slots=2,
    )


def test_attempts_run_concurrently_and_are_heard_before_they_end(tmp_path: Path, definition: dict[str, Any]) -> None:
    heard: list[Event] = []
    with EmbeddedServices.for_workers() as services:
        plan = plan_on(services, tmp_path, tmp_path / "workspaces")
        with (
            PersistentWorker(services, LocalTask(plan, definition), heard.append) as worker,
            ThreadPoolExecutor(3) as pool,
        ):
            rows = list(pool.map(lambda x: worker.run({"params": {"x": x}}), (1, -1, 2, 3)))
            ended = {event.delivery.task_id for event in heard if isinstance(event, AttemptEnded)}
            recorded = {event.record.delivery.task_id for event in heard if isinstance(event, AttemptRecorded)}

    assert [row["status"] for row in rows] == ["COMPLETED", "FAILED", "COMPLETED", "COMPLETED"]
    assert [row.get("outputData", {}).get("result") for row in rows] == [{"x": 2}, None, {"x": 4}, {"x": 6}]
    assert ended == {row["taskId"] for row in rows}
    assert recorded >= {row["taskId"] for row in rows if row["status"] == "COMPLETED"}


def test_a_host_that_cannot_take_work_ends_the_run_with_the_reason(tmp_path: Path, definition: dict[str, Any]) -> None:
    """A worker of a server waits for the disk; a person waits for an answer."""
    (tmp_path / "file").touch()
    with EmbeddedServices.for_workers() as services:
        only = LocalTask(plan_on(services, tmp_path, tmp_path / "file" / "root"), definition)
        with pytest.raises(RunFailed, match=r"nothing can be written to .*file/root: Not a directory"):
            run_workflow(services, [only], workflow_of(only), {"params": {"x": 1}}, lambda event: None)


# -------------------------------------- Events of several workers are told one attempt after the other


def delivery(worker: int) -> Delivery:
    return make_delivery(task_id=f"task{worker}")


def received(worker: int) -> Event:
    return AttemptReceived(delivery(worker), f"w{worker}")


def reported(worker: int) -> Event:
    return AttemptEnded(delivery(worker), f"w{worker}", Ending.REPORTED, 0.1, None, TaskStatus.COMPLETED)


def step(worker: int) -> Event:
    return StepStarted(f"w{worker}", "Fetch")


def lost(worker: int) -> Event:
    return AttemptEnded(delivery(worker), f"w{worker}", Ending.LOST, 0.1, "gone")


@pytest.mark.parametrize("end", [reported, lost])
def test_the_next_attempt_waits_until_the_previous_one_is_reported(end: Any) -> None:
    passed_on: list[Event] = []
    turns = InTurn(passed_on.append)
    for worker, event in (
        (1, received(1)),
        (2, received(2)),
        (2, step(2)),
        (1, step(1)),
        (1, end(1)),
        (2, reported(2)),
    ):
        turns.hear(worker, event)
    assert passed_on == [received(1), step(1), end(1), received(2), step(2), reported(2)]


def test_three_workers_keep_the_order_in_which_their_attempts_began() -> None:
    passed_on: list[Event] = []
    turns = InTurn(passed_on.append)
    for worker, event in ((1, received(1)), (2, received(2)), (3, received(3)), (3, reported(3)), (1, reported(1))):
        turns.hear(worker, event)
    assert passed_on == [received(1), reported(1), received(2)]
    turns.hear(2, reported(2))
    assert passed_on[3:] == [reported(2), received(3), reported(3)]


def test_concurrent_attempts_of_one_worker_are_reported_in_turn() -> None:
    passed_on: list[Event] = []
    turns = InTurn(passed_on.append)
    draining = Draining(1)
    for event in (received(1), received(2), step(2), step(1), draining, reported(1), reported(2)):
        turns.hear(1, event)
    assert passed_on == [received(1), step(1), draining, reported(1), received(2), step(2), reported(2)]


def test_nothing_is_kept_back_for_ever() -> None:
    passed_on: list[Event] = []
    turns = InTurn(passed_on.append)
    ready = SlotReady("w2", 1, "a")
    turns.hear(1, received(1))
    turns.hear(2, ready)
    turns.finish()
    assert passed_on == [received(1), ready]
