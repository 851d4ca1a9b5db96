"""One face for the model and for a real Conductor, so that the same scenario runs on both."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from perago.embedded.clock import VirtualClock
from perago.embedded.conductor import (
    Conflict,
    InMemoryConductor,
    InvalidRequest,
    Malformed,
    NoSuchEntity,
    ServerError,
)
from perago.ports import Clock, NotFound, ServiceError

Answer = tuple[int, Any]
"""A status (200 for every success, with or without content) and the JSON or the text of the answer."""


class Server(Protocol):
    """What the scenarios need. Every call answers like HTTP, errors included."""

    @property
    def clock(self) -> Clock: ...

    def register(self, *definitions: Mapping[str, Any]) -> Answer: ...

    def create(self, definition: Mapping[str, Any]) -> Answer: ...

    def start(self, name: str, payload: Mapping[str, Any], **options: Any) -> Answer: ...

    def task_definition(self, name: str) -> Answer: ...

    def workflow(self, workflow_id: str) -> Answer: ...

    def task(self, task_id: str) -> Answer: ...

    def settled(self, workflow_id: str) -> Answer:
        """The workflow once the server has done what it does on its own after a call."""
        ...

    def poll(
        self, name: str, worker: str = "w1", count: int = 1, domain: str | None = None
    ) -> list[dict[str, Any]]: ...

    def update(self, result: Mapping[str, Any]) -> Answer: ...

    def logs(self, task_id: str) -> list[dict[str, Any]]: ...

    def queue_size(self, name: str) -> int: ...

    def act(self, action: str, workflow_id: str, **options: Any) -> Answer: ...


class ModelServer:
    """The model behind the common face."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.conductor = InMemoryConductor(self.clock)

    def register(self, *definitions: Mapping[str, Any]) -> Answer:
        return self._answer(lambda: self.conductor.register_task_definitions(definitions))

    def create(self, definition: Mapping[str, Any]) -> Answer:
        return self._answer(lambda: self.conductor.create_workflow_definition(definition))

    def start(self, name: str, payload: Mapping[str, Any], **options: Any) -> Answer:
        return self._answer(lambda: self.conductor.start_workflow(name, payload, **options))

    def task_definition(self, name: str) -> Answer:
        known = self.conductor.get_task_definition(name)
        return (200, known) if known is not None else (404, f"No such taskType found by name: {name}")

    def workflow(self, workflow_id: str) -> Answer:
        return self._answer(lambda: self.conductor.workflow(workflow_id))

    def task(self, task_id: str) -> Answer:
        return self._answer(lambda: self.conductor.get_task(task_id))

    def settled(self, workflow_id: str) -> Answer:
        return self.workflow(workflow_id)

    def poll(self, name: str, worker: str = "w1", count: int = 1, domain: str | None = None) -> list[dict[str, Any]]:
        return self.conductor.poll_tasks(name, worker, count=count, domain=domain)

    def update(self, result: Mapping[str, Any]) -> Answer:
        return self._answer(lambda: self.conductor.update_task(result))

    def logs(self, task_id: str) -> list[dict[str, Any]]:
        return list(self.conductor.task_logs(task_id))

    def queue_size(self, name: str) -> int:
        return self.conductor.queue_size(name)

    def act(self, action: str, workflow_id: str, **options: Any) -> Answer:
        conductor = self.conductor
        actions: dict[str, Callable[..., Any]] = {
            "decide": conductor.decide,
            "terminate": conductor.terminate_workflow,
            "pause": conductor.pause_workflow,
            "resume": conductor.resume_workflow,
            "retry": conductor.retry_workflow,
            "restart": conductor.restart_workflow,
            "rerun": conductor.rerun_workflow,
            "reset_callbacks": conductor.reset_callbacks,
            "remove": conductor.remove_workflow,
        }
        return self._answer(lambda: actions[action](workflow_id, **options))

    @staticmethod
    def _answer(call: Callable[[], Any]) -> Answer:
        try:
            return 200, call()
        except InvalidRequest as error:
            return 400, sorted(problem["message"] for problem in error.problems) or error.detail
        except (NoSuchEntity, Conflict, Malformed, ServerError) as error:
            return error.status, error.detail
        except (NotFound, ServiceError) as error:
            raise AssertionError(f"an error without a status: {error!r}") from error


_START_OPTIONS = {
    "correlation_id": "correlationId",
    "definition": "workflowDef",
    "task_to_domain": "taskToDomain",
}


class RealServer:
    """A real Conductor's REST API behind the common face."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url.rstrip("/")
        self.clock = clock

    def register(self, *definitions: Mapping[str, Any]) -> Answer:
        return self._call("POST", "/metadata/taskdefs", list(definitions))

    def create(self, definition: Mapping[str, Any]) -> Answer:
        return self._call("POST", "/metadata/workflow", definition)

    def start(self, name: str, payload: Mapping[str, Any], **options: Any) -> Answer:
        renamed = {_START_OPTIONS.get(key, key): value for key, value in options.items()}
        return self._call("POST", "/workflow", {"name": name, "input": payload, **renamed})

    def task_definition(self, name: str) -> Answer:
        return self._call("GET", f"/metadata/taskdefs/{name}")

    def workflow(self, workflow_id: str) -> Answer:
        return self._call("GET", f"/workflow/{workflow_id}")

    def task(self, task_id: str) -> Answer:
        return self._call("GET", f"/tasks/{task_id}")

    def settled(self, workflow_id: str) -> Answer:
        before, quiet = None, 0
        while quiet < QUIET_LOOKS:
            seen = self.workflow(workflow_id)
            quiet = quiet + 1 if _without_join_polls(seen) == before else 0
            before = _without_join_polls(seen)
            time.sleep(LOOK_SECONDS)
        return seen

    def poll(self, name: str, worker: str = "w1", count: int = 1, domain: str | None = None) -> list[dict[str, Any]]:
        query = f"count={count}&timeout=100&workerid={worker}" + (f"&domain={domain}" if domain else "")
        answer = self._call("GET", f"/tasks/poll/batch/{name}?{query}")
        return list(answer[1])

    def update(self, result: Mapping[str, Any]) -> Answer:
        return self._call("POST", "/tasks", result)

    def logs(self, task_id: str) -> list[dict[str, Any]]:
        return list(self._call("GET", f"/tasks/{task_id}/log")[1] or [])

    def queue_size(self, name: str) -> int:
        return int(self._call("GET", f"/tasks/queue/size?taskType={name}")[1])

    def act(self, action: str, workflow_id: str, **options: Any) -> Answer:
        calls: dict[str, Callable[..., Answer]] = {
            "decide": lambda: self._call("PUT", f"/workflow/decide/{workflow_id}"),
            "terminate": self._terminate,
            "pause": lambda: self._call("PUT", f"/workflow/{workflow_id}/pause"),
            "resume": lambda: self._call("PUT", f"/workflow/{workflow_id}/resume"),
            "retry": self._retry,
            "restart": lambda: self._call("POST", f"/workflow/{workflow_id}/restart"),
            "rerun": self._rerun,
            "reset_callbacks": lambda: self._call("POST", f"/workflow/{workflow_id}/resetcallbacks"),
            "remove": lambda: self._call("DELETE", f"/workflow/{workflow_id}/remove"),
        }
        if action in ("terminate", "rerun", "retry"):
            return calls[action](workflow_id, **options)
        return calls[action]()

    def _retry(self, workflow_id: str, *, resume_sub_workflows: bool = False) -> Answer:
        query = "?resumeSubworkflowTasks=true" if resume_sub_workflows else ""
        return self._call("POST", f"/workflow/{workflow_id}/retry{query}")

    def _terminate(self, workflow_id: str, reason: str | None = None) -> Answer:
        query = "" if reason is None else f"?reason={urllib.parse.quote(reason)}"
        return self._call("DELETE", f"/workflow/{workflow_id}{query}")

    def _rerun(
        self, workflow_id: str, from_task_id: str | None = None, task_input: Any = None, workflow_input: Any = None
    ) -> Answer:
        body = {"reRunFromTaskId": from_task_id, "taskInput": task_input, "workflowInput": workflow_input}
        status, _ = answer = self._call("POST", f"/workflow/{workflow_id}/rerun", body)
        return (200, None) if status == 200 else answer

    def _call(self, method: str, path: str, body: Any = None) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return 200, _parsed(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _error_text(json.loads(error.read()))


QUIET_LOOKS = 6
LOOK_SECONDS = 0.15
"""A workflow that looks the same so often and at such intervals has settled."""


def _without_join_polls(answer: Answer) -> Answer:
    """A JOIN that waits is looked at all the time, which shows in its row and nowhere else."""
    if answer[0] != 200:
        return answer
    moving = ("pollCount", "updateTime", "queueWaitTime", "callbackAfterSeconds")
    tasks = [
        {key: value for key, value in task.items() if task["taskType"] != "JOIN" or key not in moving}
        for task in answer[1]["tasks"]
    ]
    return 200, {**answer[1], "tasks": tasks}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text


def _error_text(body: Mapping[str, Any]) -> Any:
    problems = body.get("validationErrors")
    return sorted(problem["message"] for problem in problems) if problems else body["message"]


class RealClock:
    """The system's time, for a real server."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def unique(prefix: str) -> str:
    """A name that no other scenario has used on a server that keeps everything."""
    return f"{prefix}_{uuid.uuid4().hex[:10]}"
