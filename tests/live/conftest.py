"""The servers and the fixtures of the end-to-end suite (docs/dev/live.md)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest

from perago.driver import SystemClock
from perago.embedded.http.lakefs import lakefs_app
from perago.embedded.http.loopback import serve
from perago.embedded.lakefs.repository import LakeFSServer as EmbeddedLakeFS

from .commands import Worker
from .deploying import Deployment, Gate, deployed
from .proxy import Proxy, proxied
from .repositories import LakeFSServer, Repository, created, started
from .workflows import Conductor

Deploy = Callable[..., Deployment]
LAKEFS = ("LAKECTL_SERVER_ENDPOINT_URL", "LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY")


@pytest.fixture(scope="session")
def conductor() -> Iterator[Conductor]:
    """The real Conductor."""
    url = os.environ.get("CONDUCTOR_SERVER_URL")
    if not url:
        pytest.skip("needs a real Conductor: CONDUCTOR_SERVER_URL not set (docs/dev/live.md)")
    conductor = Conductor(url)
    yield conductor
    conductor.close()


@pytest.fixture(scope="session")
def lakefs() -> Iterator[LakeFSServer]:
    """The real lakeFS that is configured, or one of the binary `LAKEFS_BIN`, otherwise the embedded one over HTTP."""
    if all(os.environ.get(name) for name in LAKEFS):
        url, key, secret = (os.environ[name] for name in LAKEFS)
        yield LakeFSServer(url, key, secret, real=True)
        return
    if program := os.environ.get("LAKEFS_BIN"):
        with started(program) as server:
            yield server
        return
    model = EmbeddedLakeFS(SystemClock())
    with serve(lakefs_app(model, access_key_id="live-key", secret_access_key="live-secret")) as url:
        yield LakeFSServer(url, "live-key", "live-secret", real=False)
    model.close()


@pytest.fixture
def repository(lakefs: LakeFSServer) -> Iterator[Repository]:
    """A repository of this test's own, with an empty branch `main`."""
    repository = created(lakefs)
    yield repository
    repository.delete()


@pytest.fixture
def seeded(repository: Repository) -> tuple[Repository, str]:
    """The repository and a commit that satisfies the `workspace` task."""
    return repository, repository.commit({"raw/a.txt": b"a", "raw/b.txt": b"b", "doc/readme.txt": b"read me"})


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate, which opens at the end of the test at the latest."""
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


@pytest.fixture
def deploy(conductor: Conductor, lakefs: LakeFSServer, tmp_path: Path) -> Iterator[Deploy]:
    """A function that deploys a task module for this test alone."""
    with ExitStack() as stack:
        yield lambda module, **variables: stack.enter_context(
            deployed(conductor, lakefs, module, tmp_path / module, **variables)
        )


@pytest.fixture(scope="module")
def deploy_shared(
    conductor: Conductor, lakefs: LakeFSServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deploy]:
    """A function that deploys a task module for all tests of a file, because the start of a worker takes longer than
    most of them."""
    with ExitStack() as stack:
        yield lambda module, **variables: stack.enter_context(
            deployed(conductor, lakefs, module, tmp_path_factory.mktemp(module), **variables)
        )


@pytest.fixture(scope="module")
def workspace(deploy_shared: Deploy) -> Deployment:
    """The `workspace` task, shared by the tests of a file."""
    return deploy_shared("workspace")


@pytest.fixture(scope="module")
def worker(workspace: Deployment) -> Worker:
    """A worker of two slots for `workspace`."""
    return workspace.worker(2)


@pytest.fixture
def conductor_proxy(conductor: Conductor) -> Iterator[Proxy]:
    """A proxy in front of Conductor."""
    with proxied(conductor.url) as proxy:
        yield proxy


@pytest.fixture
def lakefs_proxy(lakefs: LakeFSServer) -> Iterator[Proxy]:
    """A proxy in front of lakeFS."""
    with proxied(lakefs.url) as proxy:
        yield proxy


@pytest.fixture
def proxies(conductor_proxy: Proxy, lakefs_proxy: Proxy) -> Iterator[dict[str, Proxy]]:
    """The proxies in front of the servers, by name. The block store has one if lakeFS signs addresses of a port that is
    reserved for it (`PERAGO_LIVE_STORE`)."""
    servers = {"conductor": conductor_proxy, "lakefs": lakefs_proxy}
    port, _, url = os.environ.get("PERAGO_LIVE_STORE", "").partition("=")
    with proxied(url, int(port)) if url else nullcontext() as store:
        yield servers | ({"store": store} if store else {})


@pytest.fixture(scope="module")
def seed() -> int:
    """What all rounds are drawn from."""
    return int(os.environ.get("CHAOS_SEED") or secrets.randbelow(10**6))
