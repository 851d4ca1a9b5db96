"""A Conductor that was kept answers like the one that was."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from perago.embedded.conductor import InMemoryConductor
from perago.embedded.conductor.state import State
from perago.embedded.lakefs import LakeFSServer
from perago.embedded.lakefs.values import KeyPair
from perago.embedded.persistence import KINDS, persisted
from perago.ports import VirtualClock

from ..definitions import flow, simple
from .completeness import unless_late

TASKS = ("first", "second", "slow")


def task(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "retryCount": 2, "retryDelaySeconds": 5, "responseTimeoutSeconds": 60, **more}


def finish(model: InMemoryConductor, polled: Mapping[str, Any], status: str, **more: Any) -> None:
    model.update_task(
        {"taskId": polled["taskId"], "workflowInstanceId": polled["workflowInstanceId"], "status": status, **more}
    )


def make_busy(model: InMemoryConductor, clock: VirtualClock) -> None:
    """Workflows in every state that there is."""
    model.register_task_definitions([task(name) for name in TASKS])
    pair = simple("first", "first_ref"), simple("second", "second_ref", x="${first_ref.output.x}")
    for version in (1, 2):
        model.create_workflow_definition(flow(*pair, name="pair", version=version))
    model.create_workflow_definition(flow(simple("slow"), name="slow"))
    ids = [model.start_workflow("pair", {"n": n, "text": "größer 日本"}, priority=n) for n in range(6)]
    for status in ("COMPLETED", "FAILED", "FAILED_WITH_TERMINAL_ERROR"):
        (polled,) = model.poll_tasks("first", "w1")
        model.add_log(polled["taskId"], f"about to be {status}")
        finish(model, polled, status, outputData={"x": [1, 2.5, None, {"y": "z"}]}, reasonForIncompletion="a reason")
        clock.advance(1.5)
    model.pause_workflow(ids[0])
    model.terminate_workflow(ids[1], "no longer wanted")
    failed = next(i for i in ids if model.workflow(i)["status"] == "FAILED")
    model.rerun_workflow(failed)
    model.start_workflow("slow", correlation_id="c")
    (polled,) = model.poll_tasks("slow", "w2")
    finish(model, polled, "IN_PROGRESS", callbackAfterSeconds=30)
    model.start_workflow("slow")
    model.poll_tasks("slow", "w2")


def answers(model: InMemoryConductor) -> dict[str, Any]:
    """Everything that can be asked."""
    workflows = {workflow_id: model.workflow(workflow_id) for workflow_id in model.workflow_ids()}
    task_ids = [row["taskId"] for workflow in workflows.values() for row in workflow["tasks"]]
    return {
        "task definitions": [model.get_task_definition(name) for name in TASKS],
        "workflow definitions": [model.get_workflow_definition("pair", version) for version in (1, 2, None)],
        "workflows": workflows,
        "tasks": [model.get_task(task_id) for task_id in task_ids],
        "logs": [model.task_logs(task_id) for task_id in task_ids],
        "queues": [model._state.queue.waiting(name) for name in TASKS],
        "history": model.history(),
    }


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def opened(path: Path, model: InMemoryConductor, clock: VirtualClock) -> AbstractContextManager[KeyPair]:
    return persisted(path, model, LakeFSServer(clock), KeyPair.random(), unless_late)


def test_a_busy_model_gives_equal_answers_after_a_restart(tmp_path: Path, clock: VirtualClock) -> None:
    before, after = InMemoryConductor(clock, seed=1), InMemoryConductor(clock, seed=1)
    with opened(tmp_path / "state", before, clock):
        make_busy(before, clock)
    with opened(tmp_path / "state", after, clock):
        assert answers(after) == answers(before)


def test_it_goes_on_as_the_old_one_would_have(tmp_path: Path, clock: VirtualClock) -> None:
    before, after = InMemoryConductor(clock, seed=1), InMemoryConductor(clock, seed=2)
    with opened(tmp_path / "state", before, clock):
        make_busy(before, clock)
    with opened(tmp_path / "state", after, clock):
        clock.advance(100)
        order = []
        for model in (before, after):
            model.sweep()
            polled = [model.poll_tasks(name, "w3", count=9) for name in TASKS]
            order.append([[row["workflowInstanceId"] for row in rows] for rows in polled])
            for rows in polled:
                for row in rows:
                    finish(model, row, "COMPLETED", outputData={"x": 1})
        assert order[0] == order[1]
        statuses = [[model.workflow(i)["status"] for i in model.workflow_ids()] for model in (before, after)]
        assert statuses[0] == statuses[1]


def test_a_task_that_a_dying_poll_had_taken_is_queued_again(tmp_path: Path, clock: VirtualClock) -> None:
    before, after = InMemoryConductor(clock), InMemoryConductor(clock)
    with opened(tmp_path / "state", before, clock):
        before.register_task_definitions([task("first")])
        before.create_workflow_definition(flow(simple("first"), name="one"))
        before.start_workflow("one")
        with before._locked() as state:
            assert state.queue.take("first", 1, state.now())
    with opened(tmp_path / "state", after, clock):
        assert len(after.poll_tasks("first", "w")) == 1


def test_every_table_of_the_state_is_kept_or_left_out_on_purpose(clock: VirtualClock) -> None:
    """Left out is what ends with the server: its random numbers, the last polls, and the work of one call."""
    of_the_server = {"http_handler", "random", "last_polls", "_clock"}
    of_one_call = {"problems", "attention", "between_writes", "journal"}
    assert set(vars(State(clock, None))) == {*KINDS, *of_the_server, *of_one_call}
