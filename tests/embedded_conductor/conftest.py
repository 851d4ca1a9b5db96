"""The model over HTTP, on virtual and on real time, and a small HTTP client for Conductor's REST API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import urllib3
from starlette.types import ASGIApp, Receive, Scope, Send

from perago.driver import SystemClock
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.faults import FaultScript
from perago.embedded.http.conductor import conductor_app
from perago.embedded.http.loopback import serve
from perago.ports import VirtualClock

from ..http_answer import Answer


@dataclass
class Http:
    """One server; paths are below its `/api` unless they are whole URLs."""

    url: str
    pool: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(retries=False, timeout=30, maxsize=80, block=False)
    )

    def __call__(
        self, method: str, path: str, body: object = None, *, raw: bytes | None = None, content_type: str | None = None
    ) -> Answer:
        """Send `body` as JSON, or `raw` as it is."""
        content = raw if raw is not None or body is None else json.dumps(body).encode()
        headers = {} if content is None else {"content-type": content_type or "application/json"}
        target = path if path.startswith("http") else f"{self.url}/api{path}"
        response = self.pool.request(method, target, body=content, headers=headers)
        return Answer.of(response)

    def close(self) -> None:
        self.pool.clear()


class Served:
    """One server for all tests, each with an application of its own: starting one takes a quarter of a second."""

    def __init__(self) -> None:
        self.url = ""
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    served = Served()
    with serve(served) as served.url:
        yield served


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def conductor(clock: VirtualClock) -> InMemoryConductor:
    """A model on virtual time with one task type `t` and a workflow `w` of two steps `r0` and `r1`."""
    return prepared(InMemoryConductor(clock, seed=1))


@pytest.fixture
def http(conductor: InMemoryConductor, served: Served) -> Iterator[Http]:
    """`conductor` over HTTP."""
    served.app = conductor_app(conductor)
    http = Http(served.url)
    yield http
    http.close()


@pytest.fixture
def calls() -> FaultScript:
    """Counts the calls that have reached `live_conductor`."""
    return FaultScript()


@pytest.fixture
def live_conductor(calls: FaultScript) -> InMemoryConductor:
    """The same as `conductor` in real time."""
    return prepared(InMemoryConductor(SystemClock(), calls, seed=1))


@pytest.fixture
def live_http(live_conductor: InMemoryConductor, served: Served) -> Iterator[Http]:
    """The same as `http` in real time."""
    served.app = conductor_app(live_conductor)
    http = Http(served.url)
    yield http
    http.close()


def prepared(conductor: InMemoryConductor) -> InMemoryConductor:
    conductor.register_task_definitions([{"name": "t", "retryCount": 0, "retryDelaySeconds": 0}])
    steps = [{"name": "t", "taskReferenceName": f"r{index}"} for index in range(2)]
    conductor.create_workflow_definition({"name": "w", "tasks": steps})
    return conductor
