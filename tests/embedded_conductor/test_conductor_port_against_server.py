"""One story told through the port: on the SDK adapter with a real Conductor, and on the model."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

import pytest

from perago.adapters.conductor import ConductorQueue
from perago.driver import SystemClock
from perago.embedded.conductor import InMemoryConductor
from perago.ports import Delivery, NotFound, Refused, Report, ServiceError, TaskQueue, TaskStatus, Unavailable
from perago.settings import ConductorSettings

from .house import DONE, FAILED
from .normal import Normal
from .servers import RealClock, RealServer, unique

KINDS: tuple[type[ServiceError], ...] = (NotFound, Refused, Unavailable, ServiceError)


class Backstage(Protocol):
    """What the port does not offer: starting and removing workflows."""

    def start(self, task: str) -> str: ...

    def remove(self, workflow_id: str) -> None: ...


class ModelBackstage:
    def __init__(self, conductor: InMemoryConductor) -> None:
        self._conductor = conductor

    def start(self, task: str) -> str:
        self._conductor.create_workflow_definition(_workflow(task))
        return self._conductor.start_workflow(f"w_{task}", {"x": [1]})

    def remove(self, workflow_id: str) -> None:
        self._conductor.remove_workflow(workflow_id)


class RealBackstage:
    def __init__(self, server: RealServer) -> None:
        self._server = server

    def start(self, task: str) -> str:
        assert self._server.create(_workflow(task))[0] == 200
        return str(self._server.start(f"w_{task}", {"x": [1]})[1])

    def remove(self, workflow_id: str) -> None:
        assert self._server.act("remove", workflow_id)[0] == 200


def _workflow(task: str) -> dict[str, Any]:
    step = {"name": task, "taskReferenceName": "a", "type": "SIMPLE", "inputParameters": {"x": "${workflow.input.x}"}}
    return {"name": f"w_{task}", "version": 1, "schemaVersion": 2, "tasks": [step]}


def _outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """The answer, or the kind of the error."""
    try:
        return call(*arguments)
    except ServiceError as error:
        return next(kind.__name__ for kind in KINDS if isinstance(error, kind))


def _shown(delivery: Delivery) -> dict[str, Any]:
    return {**asdict(delivery), "start_time": "time", "spent_seconds": "time", "input": dict(delivery.input)}


def _registrations(queue: TaskQueue, task: str) -> list[Any]:
    good = {"name": task, "retryCount": 1, "retryDelaySeconds": 0, "timeoutSeconds": 50, "responseTimeoutSeconds": 20}
    bad: list[list[dict[str, Any]]] = [[{"name": task, "retryCount": -1}], [], [{"name": task, "retryLogic": "x"}]]
    seen: list[Any] = [queue.get_task_definition(task)]
    queue.register_task_definitions([good])
    seen.append(queue.get_task_definition(task))
    return seen + [_outcome(queue.register_task_definitions, definitions) for definitions in bad]


def _story(queue: TaskQueue, backstage: Backstage) -> list[Any]:
    task = unique("t")
    seen = _registrations(queue, task)
    workflow_id = backstage.start(task)
    (first,) = queue.poll(task, "w1", count=1, wait_seconds=1)
    seen += [_shown(first), queue.is_current(first), queue.poll(task, "w1", count=1, wait_seconds=0)]
    queue.extend_lease(first)
    seen.append(queue.is_current(first))
    queue.hand_back(first)
    seen.append(queue.is_current(first))
    (second,) = queue.poll(task, "w2", count=3, wait_seconds=0.3)
    seen += [_shown(second), queue.is_current(first), queue.is_current(second), first.start_time == second.start_time]
    not_json = Report(TaskStatus.COMPLETED, {"a": float("nan")})
    seen.append(_outcome(queue.report, second, not_json, "w2"))
    queue.report(second, FAILED, "w2")
    queue.report(first, DONE, "w1")
    seen.append(queue.is_current(second))
    (third,) = queue.poll(task, "w2", count=1, wait_seconds=1)
    seen.append(_shown(third))
    for text in ("a\udcffb", ""):
        queue.add_log(third.task_id, text)
    queue.report(third, DONE, "w2")
    backstage.remove(workflow_id)
    seen += [_outcome(call, third) for call in (queue.is_current, queue.hand_back, queue.extend_lease)]
    return [*seen, _outcome(queue.report, third, DONE, "w2")]


@pytest.mark.live
def test_the_model_and_the_adapter_tell_the_same_story() -> None:
    url = os.environ.get("CONDUCTOR_SERVER_URL")
    if not url:
        pytest.skip("CONDUCTOR_SERVER_URL does not name a Conductor to compare with")
    queue = ConductorQueue(ConductorSettings(server_url=url, auth_key=None, auth_secret=None))
    real = _story(queue, RealBackstage(RealServer(url, RealClock())))
    queue.close()
    conductor = InMemoryConductor(SystemClock())
    assert Normal()(_story(conductor, ModelBackstage(conductor))) == Normal()(real)
