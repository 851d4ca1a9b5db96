"""A modeled server with one repository, and a small HTTP client for lakeFS's REST API."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import urllib3

from perago.driver import SystemClock
from perago.embedded.faults import FaultScript
from perago.embedded.http.lakefs import lakefs_app
from perago.embedded.http.loopback import serve
from perago.embedded.lakefs import InMemoryLakeFS, LakeFSServer, commits, objects, references
from perago.ports import VirtualClock

from ..http_answer import Answer


@dataclass
class Http:
    """One server's repository; paths are below it unless they start with a slash."""

    url: str
    credentials: str
    repository: str = "repo"
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False, timeout=30))

    def __call__(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, **extra: Any
    ) -> Answer:
        sent = urllib3.make_headers(basic_auth=self.credentials) | (headers or {})
        if isinstance(body, dict):
            body = json.dumps(body)
            sent.setdefault("content-type", "application/json")
        target = path if path.startswith("/") else f"/api/v1/repositories/{self.repository}/{path}"
        response = self.pool.request(method, self.url + target, body=body, headers=sent, **extra)  # type: ignore[arg-type]
        return Answer.of(response)


KEY, SECRET = "AKIATEST", "secret"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(start=1_000_000)


@pytest.fixture
def faults() -> FaultScript:
    return FaultScript()


@pytest.fixture
def store(clock: VirtualClock, faults: FaultScript) -> Iterator[InMemoryLakeFS]:
    with InMemoryLakeFS(clock, faults) as store:
        store.server.create_repository("repo")
        yield store


@pytest.fixture
def server(store: InMemoryLakeFS) -> LakeFSServer:
    return store.server


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[LakeFSServer, Http]]:
    server = LakeFSServer(VirtualClock(start=1_000_000))
    with serve(lakefs_app(server, access_key_id=KEY, secret_access_key=SECRET)) as url:
        http = Http(url, f"{KEY}:{SECRET}")
        yield server, http
        http.pool.clear()
    server.close()


@pytest.fixture
def http(shared: tuple[LakeFSServer, Http]) -> Iterator[Http]:
    """A fresh repository `repo` with `a/1` committed and the branch `side`."""
    server, http = shared
    server.create_repository("repo", f"local://{os.urandom(8).hex()}")
    objects.put_object(server.repository("repo"), "main", "a/1", b"hello", content_type="text/csv", metadata={"k": "v"})
    commits.commit(server.repository("repo"), "main", "first")
    references.create_branch(server.repository("repo"), "side", "main")
    yield http
    server.delete_repository("repo")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server on real time, for the official clients."""
    server = LakeFSServer(SystemClock())
    with serve(lakefs_app(server, access_key_id="key", secret_access_key="secret")) as url:
        yield url
    server.close()


@pytest.fixture(scope="module")
def client(url: str) -> Any:
    """The wrapper's client for it."""
    from lakefs.client import Client

    return Client(host=url, username="key", password="secret")


@pytest.fixture
def repository(client: Any) -> Any:
    """A new repository of the wrapper."""
    import lakefs

    name = f"r-{os.urandom(6).hex()}"
    return lakefs.Repository(name, client=client).create(storage_namespace=f"local://{name}")
