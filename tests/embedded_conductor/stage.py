"""What the scenarios share: the registry, and one workflow of one task type on a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .servers import Server, unique

Seen = list[Any]
Scenario = Callable[[Server], Seen]

SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    """Add a story to those that are told to both servers."""
    SCENARIOS[function.__name__] = function
    return function


DEFINITIONS = frozenset(("workflowTask", "taskDefinition", "workflowDefinition", "executionMetadata"))


def without_definitions(value: Any) -> Any:
    """A copy of an answer without the definitions that rows repeat."""
    if isinstance(value, dict):
        return {key: without_definitions(item) for key, item in value.items() if key not in DEFINITIONS}
    if isinstance(value, list | tuple):
        return [without_definitions(item) for item in value]
    return value


@dataclass
class Stage:
    """One workflow of one task type on a server."""

    server: Server
    task: str
    workflow_id: str
    seen: Seen = field(default_factory=list)

    def poll(self, worker: str = "w1") -> dict[str, Any]:
        (task,) = self.server.poll(self.task, worker)
        return task

    def nothing_to_poll(self) -> None:
        self.seen.append(("nothing to poll", self.server.poll(self.task) == []))

    def update(self, task: Mapping[str, Any], status: str | None, **fields: Any) -> None:
        ids = {"taskId": task["taskId"], "workflowInstanceId": task["workflowInstanceId"], "workerId": "w1"}
        self.seen.append(("update", self.server.update({**ids, "status": status, **fields})))

    def act(self, action: str, **options: Any) -> None:
        self.seen.append((action, self.server.act(action, self.workflow_id, **options)))

    def look(self) -> None:
        """Note what the workflow shows, without the definitions that every row repeats."""
        self.seen.append(without_definitions(self.server.workflow(self.workflow_id)))

    def wait(self, seconds: float) -> None:
        self.server.clock.sleep(seconds)


def stage(
    server: Server,
    definition: Mapping[str, Any] | None = None,
    *,
    steps: int = 1,
    step: Mapping[str, Any] | None = None,
    workflow: Mapping[str, Any] | None = None,
    payload: Mapping[str, Any] | None = None,
    **options: Any,
) -> Stage:
    """Register a task type (one retry, no delay) and start a workflow that runs it `steps` times."""
    task = unique("t")
    server.register({"name": task, "retryCount": 1, "retryDelaySeconds": 0, **(definition or {})})
    template = {"name": task, "type": "SIMPLE", "inputParameters": {"x": "${workflow.input.x}"}, **(step or {})}
    tasks = [{**template, "taskReferenceName": f"r{index}"} for index in range(steps)]
    server.create({"name": f"w_{task}", "version": 1, "schemaVersion": 2, "tasks": tasks, **(workflow or {})})
    status, workflow_id = server.start(f"w_{task}", {"x": 1} if payload is None else payload, **options)
    assert status == 200, workflow_id
    return Stage(server, task, workflow_id)
