"""The few calls of a Conductor that running a workflow takes, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

_LIMIT = 30.0


class HttpConductor:
    """Speaks to the server at `url` (`/api` included), which is on this machine: proxies are passed by."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener: OpenerDirector = build_opener(ProxyHandler({}))

    def register_task_definitions(self, definitions: Sequence[Mapping[str, Any]]) -> None:
        """Create or replace them."""
        self._send("/metadata/taskdefs", list(definitions))

    def create_workflow_definition(self, definition: Mapping[str, Any]) -> None:
        """Create one."""
        self._send("/metadata/workflow", definition)

    def start_workflow(self, name: str, payload: Mapping[str, Any]) -> str:
        """Start it with `payload` as its input; returns the workflow id."""
        return self._send(f"/workflow/{name}", payload).decode()

    def workflow(self, workflow_id: str, *, include_tasks: bool = True) -> dict[str, Any]:
        """The workflow and its attempts as JSON."""
        found: dict[str, Any] = json.loads(
            self._send(f"/workflow/{workflow_id}?includeTasks={str(include_tasks).lower()}")
        )
        return found

    def _send(self, path: str, body: Any = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._url + path, data, {"Content-Type": "application/json"})  # noqa: S310 - always http
        with self._opener.open(request, timeout=_LIMIT) as answer:
            content: bytes = answer.read()
            return content
