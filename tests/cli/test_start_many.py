"""`perago start` with several modules: which are started, and as what."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Mapping

import pytest

from perago.cli.commands.start import limit_of

from .conftest import PLAIN, Project
from .services import Services
from .start_command import started

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="start does not work there")

BROKEN = {
    "missing": "import nothing_of_that_name\n",
    "failing": "x = 1 / 0\n",
    "misspelt": PLAIN.format(name="app.misspelt").replace("(params:", "(p:"),
}


@pytest.fixture
def package(project: Project) -> list[str]:
    """A package of twenty task modules, three of which are broken, and a helper; the names of the good tasks."""
    good = [f"app.t{number:02}" for number in range(17)]
    for name in good:
        project.task(name, name, PLAIN)
    for name, text in BROKEN.items():
        project.module(f"app.{name}", text)
    project.module("app.helper", "RATE = 3\n")
    return good


def test_broken_modules_are_reported_and_the_others_started(
    project: Project, services: Services, package: list[str]
) -> None:
    with started(project, "app", "-j", "3", **services.variables) as worker:
        worker.wait_for(f"ready: {package[-1]}")
        assert worker.stop(signal.SIGTERM) == 0
    for name in package:
        assert f"ready: {name} ({name}), up to 3 slots when there is work, polling as app0000" in worker.text
    assert "app/missing.py:1: module app.missing needs the module nothing_of_that_name" in worker.text
    assert "app/failing.py:1: module app.failing cannot be imported: ZeroDivisionError" in worker.text
    assert "task 'app.misspelt' (function work): parameter 'p' must be named 'params'" in worker.text
    assert "warning: 3 of 20 modules cannot run; perago starts the other ones" in worker.text
    assert f"the server has no TaskDefs {', '.join(package)}; create them with: perago register app.t00" in worker.text


def test_a_strict_start_refuses_broken_modules(project: Project, services: Services, package: list[str]) -> None:
    ran = project.run("start", "app", "--strict", **services.variables)
    assert ran.code == 3
    assert "3 of 20 modules cannot run, so perago starts no worker (--strict)" in ran.err
    assert services.server.requests == []


def test_nothing_is_started_where_all_modules_are_broken(
    project: Project, services: Services, package: list[str]
) -> None:
    ran = project.run("start", *(f"app.{name}" for name in BROKEN), **services.variables)
    assert ran.code == 3
    assert services.server.requests == []


def test_an_idle_worker_reads_all_queues_with_one_request(
    project: Project, services: Services, package: list[str]
) -> None:
    with started(project, "app", "-j", "8", **services.variables) as worker:
        worker.wait_for(f"ready: {package[-1]}")
        services.looked.wait(30)
        assert worker.stop(signal.SIGTERM) == 0
    looks = [request.target for request in services.server.requests if request.path == "/api/tasks/queue/sizes"]
    assert all(f"taskType={name}" in looks[-1] for name in package)
    assert not [request for request in services.server.requests if "/tasks/poll/" in request.path]


def test_a_task_that_two_modules_declare_is_started_once(project: Project, services: Services) -> None:
    project.task("one", "same.name", PLAIN)
    project.task("two", "same.name", PLAIN)
    with started(project, "one", "two", **services.variables) as worker:
        worker.wait_for("ready: same.name (one)")
        assert worker.stop(signal.SIGTERM) == 0
    assert "module two declares the task 'same.name', which one declares as well" in worker.text


def test_limits_that_fit_give_each_module_slots_of_its_own(project: Project, services: Services) -> None:
    for name in ("one", "two"):
        project.task(name, f"{name}.work", PLAIN)
    with started(project, "one=1", "two=2", "-j", "3", **services.variables) as worker:
        worker.wait_for("ready: one.work (one), 1 slot, polling as one0000")
        worker.wait_for("ready: two.work (two), 2 slots, polling as one0000")
        assert worker.stop(signal.SIGTERM) == 0


def test_a_signal_while_modules_are_imported_ends_the_start_and_all_imports(
    project: Project, services: Services
) -> None:
    for number in range(6):
        marker = project.directory / f"importing-{number}"
        project.module(f"slow.t{number}", f"import time\nopen({str(marker)!r}, 'w').close()\ntime.sleep(600)\n")
    with started(project, "slow", **services.variables) as worker:
        while not (project.directory / "importing-0").exists():
            assert worker.process.poll() is None
        assert worker.stop(signal.SIGTERM) == 0
    assert "stopped before anything was started" in worker.text


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit")
def test_more_slots_than_the_limit_of_open_files_has_room_for_are_refused(project: Project, services: Services) -> None:
    project.task("plain", "plain.work", PLAIN)
    with started(project, "plain", "-j", "60", within=("prlimit", "--nofile=256:4096"), **services.variables) as worker:
        assert worker.ended() == 1
    assert worker.text.endswith(
        "error: 60 slots may need 281 open files, and a process may have 256 files open\n"
        "  fix: ulimit -n 4096 (at most 4,096 here), or LimitNOFILE= of the systemd unit; or take fewer slots (-j)\n"
    )


@pytest.mark.parametrize(
    ("wanted", "module", "limit"),
    [
        ({"app": None}, "app.a", None),
        ({"app": 3}, "app.a", 3),
        ({"app": 3, "app.a": 1}, "app.a", 1),
        ({"app.a": 1, "app": 3}, "app.a", 1),
        ({"app": 3, "app.a": 1}, "app.ab", 3),
        ({"app": None, "app.sub": 2}, "app.sub.deep.a", 2),
    ],
)
def test_the_longest_name_that_means_a_module_limits_it(
    wanted: Mapping[str, int | None], module: str, limit: int | None
) -> None:
    assert limit_of(module, wanted) == limit
