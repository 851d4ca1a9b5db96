"""`perago start`, up to and including the moment the worker is ready."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from ..worker.bench import gone, wait_for
from ..worker.outside import PID_1, can_unshare
from .conftest import PLAIN, Project
from .services import SECRET, Services
from .start_command import Started, on_a_terminal, started

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="start does not work there")


@pytest.fixture(autouse=True)
def modules(project: Project) -> None:
    project.task("features", "features.build")
    project.task("plain", "plain.work", PLAIN)


def test_a_worker_gets_ready_and_drains_on_a_signal(project: Project, services: Services) -> None:
    project.run("register", "features", **services.variables)
    with started(project, "features", "-j", "2", **services.variables) as worker:
        worker.wait_for("ready")
        assert worker.stop(signal.SIGTERM) == 0
    assert "warning" not in worker.text
    assert SECRET not in worker.text
    assert [request for request in services.server.requests if request.path.endswith("/user")]


IN_A_SLOT = """
import time
from pathlib import Path
here = Path(__file__).parent
while (here / "checked").exists() and not (here / "gate").exists():
    time.sleep(0.02)
(here / "checked").touch()
"""


def test_a_terminal_shows_that_slots_import_modules_until_one_is_ready(project: Project, services: Services) -> None:
    project.module("slow", IN_A_SLOT + dedent(PLAIN).format(name="slow.work"))
    with on_a_terminal(project, "start", "slow", **services.variables) as wait_for:
        wait_for("starting 1 slot: importing task modules")
        (project.directory / "gate").touch()
        wait_for("ready: slow.work (slow), 1 slot")


def test_a_task_without_workspace_and_definition_needs_only_conductor(project: Project, services: Services) -> None:
    variables = {"CONDUCTOR_SERVER_URL": services.variables["CONDUCTOR_SERVER_URL"]}
    with started(project, "plain", **variables) as worker:
        worker.wait_for("ready")
        assert worker.stop(signal.SIGINT) == 0
    assert "warning: the server has no TaskDef plain.work; create it with: perago register plain" in worker.text
    assert services.writes == []


def test_a_different_definition_causes_a_warning_and_is_not_changed(project: Project, services: Services) -> None:
    project.run("register", "features", **services.variables)
    services.definitions["features.build"]["retryCount"] = 9
    with started(project, "features", **services.variables) as worker:
        worker.wait_for("ready")
        worker.stop(signal.SIGTERM)
    assert "warning: the server's TaskDef features.build differs from the module's" in worker.text
    assert "\n  /retryCount: 9 -> 3\n  replace it with: perago register features\n" in worker.text
    assert services.definitions["features.build"]["retryCount"] == 9


def test_an_invalid_module_fails_before_anything_is_connected_to(project: Project, services: Services) -> None:
    project.module("bad", "x / 0\n")
    ran = project.run("start", "bad", **services.variables | {"PERAGO_LOG_RETENTION": "30"})
    assert ran.code == 3
    assert "bad.py:1: " in ran.err
    assert "PERAGO_LOG_RETENTION" in ran.err
    assert services.server.requests == []


def test_missing_services_are_all_named(project: Project) -> None:
    ran = project.run("start", "features")
    assert ran.code == 4
    assert [line.split(":")[0].strip() for line in ran.err.splitlines()[1:]] == [
        "CONDUCTOR_SERVER_URL",
        "LAKECTL_SERVER_ENDPOINT_URL",
        "LAKECTL_CREDENTIALS_ACCESS_KEY_ID",
        "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY",
    ]


def test_a_root_that_cannot_be_used_is_invalid_configuration(
    project: Project, services: Services, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    ran = project.run("start", "features", **services.variables | {"PERAGO_LOG_ROOT": str(tmp_path / "file")})
    assert ran.code == 4
    assert "PERAGO_LOG_ROOT" in ran.err


@pytest.mark.parametrize(
    ("conductor", "lakefs", "service", "variable"),
    [
        (401, 200, "Conductor", "CONDUCTOR_AUTH_SECRET"),
        (200, 401, "lakeFS", "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"),
    ],
)
def test_rejected_credentials_end_the_start(
    project: Project, services: Services, conductor: int, lakefs: int, service: str, variable: str
) -> None:
    services.conductor_status, services.lakefs_status = conductor, lakefs
    ran = project.run("start", "features", **services.variables)
    assert ran.code == 5
    assert f"error: {service} " in ran.err
    assert variable in ran.err.partition("fix: ")[2]
    assert SECRET not in ran.err
    assert "ready" not in ran.out


def test_with_wait_the_worker_comes_up_once_it_is_let_in(project: Project, services: Services) -> None:
    services.conductor_status = services.lakefs_status = 401
    services.definitions_status = 503
    with started(project, "features", "--wait", **services.variables) as worker:
        worker.wait_for("warning: Conductor rejects the credentials: status 401")
        services.conductor_status = 200
        worker.wait_for("warning: Conductor did not read task definition features.build: status 503")
        services.definitions_status = 200
        worker.wait_for("warning: lakeFS rejects the credentials: status 401")
        services.lakefs_status = 200
        worker.wait_for("ready")
        assert worker.stop(signal.SIGTERM) == 0


def test_a_signal_while_waiting_ends_it_well(project: Project, services: Services) -> None:
    services.conductor_status = 401
    with started(project, "features", "--wait", **services.variables) as worker:
        worker.wait_for("trying again")
        assert worker.stop(signal.SIGTERM) == 0
    assert "stopped before anything was started" in worker.text


MOMENTS = {
    "before the imports": (signal.SIGTERM, None),
    "while the module is imported": (signal.SIGINT, "/import"),
    "while Conductor is pinged": (signal.SIGHUP, "/api/tasks/queue/sizes"),
    "while the definitions are compared": (signal.SIGTERM, "/api/metadata/taskdefs/features.build"),
    "while lakeFS is pinged": (signal.SIGINT, "/api/v1/user"),
}
"""A signal, and the request that is under way when it comes."""


@pytest.mark.parametrize("pid_1", [False, True], ids=["", "as process 1"])
@pytest.mark.parametrize(("number", "path"), MOMENTS.values(), ids=MOMENTS.keys())
def test_a_signal_during_the_start_ends_it_well(
    project: Project, services: Services, number: signal.Signals, path: str | None, *, pid_1: bool
) -> None:
    if pid_1 and not can_unshare():
        pytest.skip("needs the right to make a process namespace")
    services.silent_path = path
    if path == "/import":
        asking = f"import urllib.request\nurllib.request.urlopen({services.server.url + path!r})\n"
        project.module("features", asking)
    with started(project, "features", within=PID_1 if pid_1 else [], **services.variables) as worker:
        command = wait_for("the command", lambda: command_of(worker, child=pid_1))
        wait_for("its handlers", lambda: handles(command, number))
        if path is not None:
            wait_for("the request", lambda: any(request.path == path for request in services.server.requests))
        servers = fork_servers(command.pid)
        command.send_signal(number)
        with contextlib.suppress(psutil.NoSuchProcess):  # a second one changes nothing
            command.send_signal(number)
        worker.process.wait(30)
        assert all(gone(server.pid)() for server in servers)
        assert worker.ended() == 0, worker.text
        services.release()
    assert worker.text.endswith("note: stopped before anything was started\n")
    assert "Traceback" not in worker.text


def command_of(worker: Started, *, child: bool) -> psutil.Process | None:
    process = psutil.Process(worker.process.pid)
    if not child:
        return process
    children = process.children()
    return children[0] if children else None


def handles(process: psutil.Process, number: signal.Signals) -> bool:
    """Whether the process has set a handler of its own."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    name = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")[:1]
    return b"python" in name[0] and bool(int(status["SigCgt"], 16) >> (number - 1) & 1)


def fork_servers(pid: int) -> list[psutil.Process]:
    """The fork servers that a worker has started."""
    return [child for child in psutil.Process(pid).children() if "forkserver" in " ".join(child.cmdline())]


def test_a_fork_server_that_dies_during_the_start_is_named(project: Project, services: Services) -> None:
    services.silent_path = "/api/v1/user"
    with started(project, "features", **services.variables) as worker:
        wait_for("the ping", lambda: any(request.path == "/api/v1/user" for request in services.server.requests))
        wait_for("the fork server", lambda: fork_servers(worker.process.pid) != [])
        killed = fork_servers(worker.process.pid)
        for child in killed:
            child.kill()
        wait_for("its end", lambda: all(child.status() == psutil.STATUS_ZOMBIE for child in killed))
        services.release()
        assert worker.ended() == 1
    assert "error: the slots cannot be started: the fork server has died" in worker.text
    assert "\n  fix: start it again" in worker.text
    assert "ready" not in worker.text


def test_a_worker_that_has_stopped_ends_without_dismantling_python(project: Project, services: Services) -> None:
    project.module(
        "sitecustomize",
        """
        import atexit, os, sys
        class Late:
            def __del__(self, write=os.write):
                write(2, b"dismantled")
        if "start" in sys.orig_argv:
            sys.late = Late()
            atexit.register(print, "flushed")
        """,
    )
    path = {"PYTHONPATH": str(project.directory)}
    with started(project, "plain", **services.variables, **path) as worker:
        worker.wait_for("ready")
        assert worker.stop(signal.SIGTERM) == 0
    assert "stopped with exit code 0" in worker.text
    assert "flushed" in worker.text
    assert "dismantled" not in worker.text


def test_with_a_log_format_all_messages_are_lines_of_the_log(project: Project, services: Services) -> None:
    project.module("loud", "print('imported')\n" + PLAIN.format(name="loud.work"))
    off = {"PERAGO_LOG_FILES": "off", "PERAGO_LOG_ROOT": str(project.directory / "logs")}
    with started(project, "loud", "--log-format", "json", **services.variables, **off) as worker:
        worker.wait_for("WorkerReady")
        assert worker.stop(signal.SIGTERM) == 0
    lines = [json.loads(line) for line in worker.text.splitlines()]
    warning = next(line for line in lines if line["level"] == "WARNING")
    assert warning["message"].startswith("the server has no TaskDef loud.work; ")
    assert [line["message"] for line in lines if line.get("source") == "start"] == ["imported"]
    assert lines[-1]["event"] == "Stopped"
    assert list((project.directory / "logs").iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"PERAGO_LOG_FORMAT": "xml"}, "PERAGO_LOG_FORMAT (environment): must be text or json."),
        ({"PERAGO_LOG_FILES": "no"}, "PERAGO_LOG_FILES (environment): must be on or off."),
        ({"PERAGO_LOG_FILES": "off"}, "PERAGO_LOG_FILES: off, and PERAGO_LOG_FORMAT is not set"),
    ],
)
def test_a_log_that_cannot_be_is_invalid_configuration(
    project: Project, services: Services, variables: dict[str, str], problem: str
) -> None:
    ran = project.run("start", "plain", **services.variables | variables)
    assert ran.code == 4
    assert problem in ran.err


def test_errors_of_the_start_are_lines_of_the_log_too(project: Project, services: Services) -> None:
    services.conductor_status = 401
    ran = project.run("start", "plain", **services.variables, PERAGO_LOG_FORMAT="json")
    assert ran.code == 5
    (line,) = ran.err.splitlines()
    assert json.loads(line)["level"] == "ERROR"
    assert "Conductor rejects the credentials" in json.loads(line)["message"]
