"""Scrapes of real workers while something is broken.

    WRITE_SCRAPES=1 python -m pytest tests/cli/test_breakages.py

records them in `tests/deploy/scrapes`, for tests/deploy/test_alerts.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from perago.embedded.lakefs import references

from ..definitions import flow, simple
from ..deploy.files import SCRAPES, Samples, samples_of
from ..http_faults import NOTHING, RefusingServices
from ..worker.bench import wait_for
from ..worker.outside import get, mounted
from .conftest import Project
from .start_command import LIMIT, Started, started

pytest.importorskip("prometheus_client")  # the extra `metrics`
pytestmark = pytest.mark.xdist_group("breakages")

TASK = """
from pathlib import Path
from pydantic import BaseModel
from perago import TaskFailed, WorkspaceSpec, task

class Params(BaseModel):
    what: str = ""

class Result(BaseModel):
    rows: int

@task(name="features", owner_email="data@example.com", workspace=WorkspaceSpec())
def work(workspace: Path, params: Params) -> Result:
    while params.what == "loop":
        pass
    if params.what == "fail":
        raise TaskFailed("no luck")
    (workspace / "rows").write_text(params.what)
    return Result(rows=1)
"""
CONDUCTOR, LAKEFS = r"^/[0-9a-f]{32}/api/", r"^/api/v1/"
WITH_CREDENTIALS = r"^/api/v1/(?!healthcheck)"


@dataclass
class Scene:
    """A worker, its services, and its disk."""

    worker: Started
    services: RefusingServices
    disk: Path

    def attempt(self, what: str = "") -> str:
        """Start a workflow of one attempt; returns its id."""
        conductor = self.services.conductor
        head = references.get_branch(self.services.lakefs.server.repository("data"), "main").commit_id
        workspace = {"repository": "data", "branch": "main", "ref_type": "commit", "ref": head}
        step = simple("features", workspace=workspace, params={"what": what})
        return conductor.start_workflow("w", {}, definition=flow(step))

    @property
    def url(self) -> str:
        """The address of the worker's pages."""
        (url,) = set(re.findall(r"at (http://127\.0\.0\.1:\d+)", self.worker.text))
        return str(url)

    def scrape(self) -> Samples:
        """What Prometheus would get now."""
        return samples_of(get(f"{self.url}/metrics")[1].decode())

    def scrape_once(self, condition: Callable[[Samples], bool]) -> Samples:
        """The first scrape for which the condition holds."""

        def find() -> Samples | None:
            return scrape if condition(scrape := self.scrape()) else None

        return wait_for("the scrape", find, LIMIT)

    def calm(self) -> Samples:
        """The first scrape when nothing is broken and no attempt runs."""
        up = ("perago_conductor_up", ())
        return self.scrape_once(
            lambda scrape: scrape[OLDEST] == scrape[WAITING] == scrape[PAUSED] == 0 and scrape[up] == scrape[UP] == 1
        )


@pytest.fixture(scope="module")
def scene(shared_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    project, place = shared_project, tmp_path_factory.mktemp("breakages") / "disk"
    project.module("features", TASK)
    roots = {f"PERAGO_{name}_ROOT": str(place / name.lower()) for name in ("WORKSPACE", "LOG")}
    services = RefusingServices()
    with mounted(place, 256) as disk, services:
        services.lakefs.seed("data", "main", {"a": "1"})
        variables = {**services.environment(), **roots, "PERAGO_CACHE_MAX_BYTES": "0"}
        with started(project, "features", "-j", "2", "--http", "0", **variables) as worker:
            scene = Scene(worker, services, disk)
            wait_for("the address", lambda: "/metrics at" in worker.text, LIMIT)
            scene.attempt()
            scene.scrape_once(lambda scrape: scrape[COMPLETED] == scrape.get(UP) == 1 and scrape[STARTING] == 0)
            yield scene


COMPLETED = ("perago_attempts_total", (("outcome", "completed"), ("task", "features")))
WAITING = ("perago_attempts_waiting", (("service", "lakeFS"),))
OLDEST = ("perago_oldest_attempt_seconds", (("task", "features"),))
STARTING = ("perago_slots", (("state", "starting"),))
UP = ("perago_lakefs_up", ())
PAUSED = ("perago_polling_paused", ())
FREE = ("perago_free_bytes", (("root", "workspaces"),))


@contextmanager
def nothing(scene: Scene) -> Iterator[Samples]:
    yield scene.calm()


@contextmanager
def endless_loop(scene: Scene) -> Iterator[Samples]:
    workflow = scene.attempt("loop")
    yield scene.scrape_once(lambda scrape: scrape[OLDEST] > 2)
    scene.services.conductor.terminate_workflow(workflow, "the test ends")


@contextmanager
def conductor_outage(scene: Scene) -> Iterator[Samples]:
    scene.services.refused = CONDUCTOR
    yield scene.scrape_once(lambda scrape: scrape["perago_conductor_up", ()] == 0)
    scene.services.refused = NOTHING


@contextmanager
def lakefs_outage(scene: Scene) -> Iterator[Samples]:
    completed = scene.scrape()[COMPLETED]
    scene.services.refused = LAKEFS
    scene.attempt()
    repeats = ("perago_call_repeats_total", (("service", "lakeFS"),))
    # The attempt has not ended, and its repeated calls are counted already.
    yield scene.scrape_once(lambda scrape: scrape[UP] == 0 and scrape[WAITING] == 1 < scrape[repeats])
    scene.services.refused = NOTHING
    after = scene.scrape_once(lambda scrape: scrape[UP] == 1 and scrape[COMPLETED] == completed + 1)
    assert after[WAITING] == 0


@contextmanager
def lakefs_without_objects(scene: Scene) -> Iterator[Samples]:
    """Only some calls fail, and the health check does not."""
    scene.services.refused = f"{LAKEFS}repositories/"
    scene.attempt()
    yield scene.scrape_once(lambda scrape: scrape[WAITING] == 1)
    scene.services.refused = NOTHING


@contextmanager
def rejected_credentials(scene: Scene) -> Iterator[Samples]:
    """The health check needs no credentials."""
    scene.services.refused, scene.services.status = WITH_CREDENTIALS, 401
    scene.attempt()
    scrape = scene.scrape_once(lambda scrape: scrape[WAITING] == 1)
    status, body = get(f"{scene.url}/readyz")
    assert (status, b"lakeFS does not accept the credentials" in body) == (503, True)
    yield scrape
    scene.services.refused, scene.services.status = NOTHING, 503


@contextmanager
def full_disk(scene: Scene) -> Iterator[Samples]:
    with (scene.disk / "other").open("wb") as file:
        free = os.statvfs(scene.disk)
        file.write(bytes(free.f_bavail * free.f_frsize - 2**20))
    yield scene.scrape_once(lambda scrape: scrape[PAUSED] == 1 and scrape[FREE] < 2**26)
    (scene.disk / "other").unlink()


@contextmanager
def failing_function(scene: Scene) -> Iterator[Samples]:
    failed = ("perago_attempts_total", (("outcome", "failed"), ("task", "features")))
    before = scene.scrape()[failed]
    for _ in range(5):
        scene.attempt("fail")
    yield scene.scrape_once(lambda scrape: scrape[failed] == before + 5 and scrape[OLDEST] == 0)


BREAKAGES = (
    nothing,
    conductor_outage,
    lakefs_outage,
    lakefs_without_objects,
    rejected_credentials,
    full_disk,
    failing_function,
    endless_loop,
)


@pytest.mark.parametrize("broken", BREAKAGES, ids=lambda broken: broken.__name__)
def test_breakage_shows_in_the_metrics_as_recorded(
    scene: Scene, broken: Callable[[Scene], AbstractContextManager[Samples]]
) -> None:
    file = SCRAPES / f"{broken.__name__}.prom"
    scene.calm()
    with broken(scene) as scrape:
        if "WRITE_SCRAPES" in os.environ:
            file.write_text(scrape.text, encoding="utf-8")
        recorded = samples_of(file.read_text(encoding="utf-8"))
        assert set(recorded) == set(scrape), "run this test with WRITE_SCRAPES=1"
