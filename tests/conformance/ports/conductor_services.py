"""The Conductor that a port scenario is played on, and what a scenario needs beside the port."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Protocol

from perago.adapters.conductor import ConductorQueue
from perago.driver import SystemClock
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.http.conductor import conductor_app
from perago.embedded.http.loopback import serve
from perago.ports import TaskQueue
from perago.settings import ConductorSettings

Json = dict[str, Any]


class ConductorService(Protocol):
    """A queue, and workflows for it."""

    @property
    def queue(self) -> TaskQueue: ...

    def define(self, workflow: Mapping[str, Any]) -> None: ...

    def start(self, name: str, payload: Mapping[str, Any]) -> str: ...

    def workflow(self, workflow_id: str) -> Json: ...

    def terminate(self, workflow_id: str) -> None: ...

    def remove(self, workflow_id: str) -> None: ...

    def retry(self, workflow_id: str) -> None: ...

    def restart(self, workflow_id: str) -> None: ...

    def rerun(self, workflow_id: str, task_id: str) -> None:
        """Run again from this attempt on."""
        ...

    def log_of(self, task_id: str) -> list[str]: ...


class _Model:
    def __init__(self, conductor: InMemoryConductor) -> None:
        self._conductor = conductor
        self.queue: TaskQueue = conductor
        self.workflow = conductor.workflow
        self.terminate = conductor.terminate_workflow
        self.remove = conductor.remove_workflow
        self.retry = conductor.retry_workflow
        self.restart = conductor.restart_workflow

    def define(self, workflow: Mapping[str, Any]) -> None:
        self._conductor.create_workflow_definition(workflow)

    def start(self, name: str, payload: Mapping[str, Any]) -> str:
        return self._conductor.start_workflow(name, payload)

    def rerun(self, workflow_id: str, task_id: str) -> None:
        self._conductor.rerun_workflow(workflow_id, task_id)

    def log_of(self, task_id: str) -> list[str]:
        return [line["log"] for line in self._conductor.task_logs(task_id)]


class _OverHttp:
    def __init__(self, queue: TaskQueue, url: str) -> None:
        self.queue = queue
        self._url = url

    def define(self, workflow: Mapping[str, Any]) -> None:
        self._call("POST", "/metadata/workflow", workflow)

    def start(self, name: str, payload: Mapping[str, Any]) -> str:
        return self._call("POST", "/workflow", {"name": name, "version": 1, "input": payload}).decode()

    def workflow(self, workflow_id: str) -> Json:
        found: Json = json.loads(self._call("GET", f"/workflow/{workflow_id}"))
        return found

    def terminate(self, workflow_id: str) -> None:
        self._call("DELETE", f"/workflow/{workflow_id}")

    def remove(self, workflow_id: str) -> None:
        self._call("DELETE", f"/workflow/{workflow_id}/remove")

    def retry(self, workflow_id: str) -> None:
        self._call("POST", f"/workflow/{workflow_id}/retry")

    def restart(self, workflow_id: str) -> None:
        self._call("POST", f"/workflow/{workflow_id}/restart")

    def rerun(self, workflow_id: str, task_id: str) -> None:
        self._call("POST", f"/workflow/{workflow_id}/rerun", {"reRunFromTaskId": task_id})

    def log_of(self, task_id: str) -> list[str]:
        return [line["log"] for line in json.loads(self._call("GET", f"/tasks/{task_id}/log"))]

    def _call(self, method: str, path: str, body: object = None) -> bytes:
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, method=method, data=content, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            answer: bytes = response.read()
        return answer


@contextmanager
def on_the_model() -> Iterator[ConductorService]:
    """The model itself, as tests of attempts use it."""
    yield _Model(InMemoryConductor(SystemClock()))


@contextmanager
def over_http(url: str) -> Iterator[ConductorService]:
    """The adapter that production uses, on the server whose API is at `url`."""
    with closing(ConductorQueue(ConductorSettings(url))) as queue:
        yield _OverHttp(queue, url)


@contextmanager
def embedded() -> Iterator[str]:
    """The address of an embedded server's API."""
    with serve(conductor_app(InMemoryConductor(SystemClock()))) as url:
        yield f"{url}/api"
