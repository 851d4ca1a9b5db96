"""The same services as of `LocalServices`, reached as in production: by the adapters, over HTTP."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from pydantic import SecretStr

from perago.adapters.conductor import ConductorQueue
from perago.adapters.lakefs import LakeFSStore
from perago.embedded.http.services import EmbeddedServices
from perago.local.services import BRANCH, LONGEST_POLL, REPOSITORY
from perago.ports import TaskQueue
from perago.settings import ConductorSettings, LakeFSSettings
from perago.worker.plan import StoreFactory

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


class ServedServices:
    """Both services, from entering the context to leaving it. Needs the extra `embedded`."""

    preload = ("perago.driver", "perago.adapters.lakefs", "lakefs_sdk")

    def __init__(self) -> None:
        self._services = EmbeddedServices(longest_poll=LONGEST_POLL)
        self.clock = self._services.clock
        self.lakefs = self._services.lakefs

    def __enter__(self) -> ServedServices:
        self._services.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._services.__exit__(kind, error, traceback)

    @property
    def conductor(self) -> HttpConductor:
        """Where workflows are defined, started and watched."""
        return HttpConductor(self._services.conductor_url)

    def queue(self) -> TaskQueue:
        """A connection for one worker, to be closed by the caller."""
        return ConductorQueue(ConductorSettings(self._services.conductor_url, None, None))

    @property
    def store_factory(self) -> StoreFactory:
        """Makes a slot's connection to lakeFS."""
        services = self._services
        keys = services.keys
        settings = LakeFSSettings(services.lakefs_url, keys.access_key_id, SecretStr(keys.secret_access_key))
        return functools.partial(LakeFSStore, settings)

    def seed(self, files: Mapping[str, str | bytes | Path | None], message: str) -> str:
        """Commit files to the workspace branch; returns the commit id."""
        return self.lakefs.seed(REPOSITORY, BRANCH, files, message=message).id
