"""`perago start`: up to and including the moment the worker is ready, its pages, and several modules."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import shutil
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from urllib.request import ProxyHandler, build_opener

import psutil
import pytest
from pydantic import SecretStr

from perago.cli.services import HEALTH_LIMIT, lakefs_problem
from perago.probe import AT_ONCE
from perago.settings import LakeFSSettings
from perago.worker.health import LakeFSCheck
from perago.worker.plan import selected_limit

from ..worker.bench import has_ended, wait_for
from ..worker.outside import PID_1, can_unshare, get
from .conftest import PLAIN, Project
from .services import SECRET, Services
from .start_command import Started, started, terminal


@pytest.fixture(autouse=True)
def modules(project: Project) -> None:
    project.task("features", "features.build")
    project.task("plain", "plain.work", PLAIN)


def test_a_worker_has_slots_for_each_module_and_drains_on_a_signal(project: Project, services: Services) -> None:
    project.run("register", "features", "plain", **services.variables)
    with started(project, "features=1", "plain=2", "-j", "3", **services.variables) as worker:
        worker.wait_for("ready: features.build (features), 1 slot, polling as features0000")
        worker.wait_for("ready: plain.work (plain), 2 slots, polling as features0000")
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
    with terminal(project, "start", "slow", **services.variables) as shown:
        shown.wait_for("starting 1 slot: importing task modules")
        (project.directory / "gate").touch()
        shown.wait_for(r"ready: slow.work \(slow\), 1 slot")


def test_a_task_without_workspace_and_definition_needs_only_conductor(project: Project, services: Services) -> None:
    project.task("two", "plain.work", PLAIN)
    variables = {"CONDUCTOR_SERVER_URL": services.variables["CONDUCTOR_SERVER_URL"]}
    with started(project, "plain", "two", **variables) as worker:
        worker.wait_for("ready: plain.work (plain)")
        assert worker.stop(signal.SIGINT) == 0
    assert "module two declares the task 'plain.work', which plain declares as well" in worker.text
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
    project.run("start", "bad", **services.variables | {"PERAGO_LOG_RETENTION": "30"}).ends(
        3, "bad.py:1: ", "PERAGO_LOG_RETENTION"
    )
    assert services.server.requests == []


def test_missing_services_are_all_named(project: Project) -> None:
    ran = project.run("start", "features").ends(4)
    assert [line.split(":")[0].strip() for line in ran.err.splitlines()[1:]] == [
        "CONDUCTOR_SERVER_URL",
        "LAKECTL_SERVER_ENDPOINT_URL",
        "LAKECTL_CREDENTIALS_ACCESS_KEY_ID",
        "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY",
    ]


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
    with started(project, "plain", "--wait", **services.variables) as worker:
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
        assert all(has_ended(server.pid)() for server in servers)
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
        ({"PERAGO_LOG_ROOT": "plain.py"}, "PERAGO_LOG_ROOT (environment): "),
    ],
)
def test_a_log_that_cannot_be_is_invalid_configuration(
    project: Project, services: Services, variables: dict[str, str], problem: str
) -> None:
    project.run("start", "plain", **services.variables | variables).ends(4, problem)


def test_errors_of_the_start_are_lines_of_the_log_too(project: Project, services: Services) -> None:
    services.conductor_status = 401
    ran = project.run("start", "plain", **services.variables, PERAGO_LOG_FORMAT="json").ends(5)
    (line,) = ran.err.splitlines()
    assert json.loads(line)["level"] == "ERROR"
    assert "Conductor rejects the credentials" in json.loads(line)["message"]


# ----------------------------------------------------------- `perago start --http`: probes and metrics


def test_probes_show_the_state_of_a_worker_from_start_to_end(project: Project, services: Services) -> None:
    services.conductor_status = 503
    with started(project, "features", "--http", "0", "--wait", **services.variables) as worker:
        worker.wait_for("/readyz")
        where = re.search(r"http://127\.0\.0\.1:\d+", worker.text)
        assert where
        assert get(f"{where[0]}/livez")[0] == 200
        status, body = get(f"{where[0]}/readyz")
        assert (status, json.loads(body)["state"]) == (503, "starting")
        services.conductor_status = 200
        worker.wait_for("ready:")
        fine = {"ok": True, "state": "working", "problems": [], "warnings": []}
        wait_for("readiness", lambda: get(f"{where[0]}/readyz")[0] == 200)
        assert json.loads(get(f"{where[0]}/readyz")[1]) == fine
        worker.process.send_signal(signal.SIGSTOP)
        wait_for("the stop", lambda: psutil.Process(worker.process.pid).status() == psutil.STATUS_STOPPED)
        with pytest.raises(OSError):
            build_opener(ProxyHandler({})).open(f"{where[0]}/livez", timeout=0.3)
        worker.process.send_signal(signal.SIGCONT)
        assert get(f"{where[0]}/livez")[0] == 200
        assert worker.stop(signal.SIGTERM) == 0


def test_a_port_that_is_taken_ends_the_start(project: Project, services: Services) -> None:
    port = services.server.url.rpartition(":")[2]
    ran = project.run("start", "plain", "--http", port, **services.variables).ends(1)
    assert ran.err == (
        f"error: --http cannot listen on 127.0.0.1 port {port}: Address already in use\n"
        "  fix: choose another port, or find the process that uses this one: ss -ltnp\n"
    )


def test_a_lakefs_that_does_not_answer_makes_a_worker_unready() -> None:
    settings = LakeFSSettings("http://127.0.0.1:1", "key", SecretStr("secret"))
    with LakeFSCheck(functools.partial(lakefs_problem, settings)) as check:
        problem = wait_for("the look", lambda: check.problem)
    assert problem.startswith("lakeFS does not answer: ")


def test_a_lakefs_that_hangs_does_not_hold_up_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, contextlib.ExitStack() as held:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = LakeFSSettings(address, "key", SecretStr("secret"))
        with LakeFSCheck(functools.partial(lakefs_problem, settings)):
            held.enter_context(silent.accept()[0])
            asked = time.monotonic()
        assert time.monotonic() - asked < HEALTH_LIMIT / 2


def test_without_the_extra_there_are_probes_and_a_word_about_metrics(project: Project, services: Services) -> None:
    project.module("prometheus_client", "raise ModuleNotFoundError('not here', name='prometheus_client')")
    with started(project, "plain", "--http", "0", **services.variables) as worker:
        worker.wait_for("ready:")
        where = re.search(r"at (http://127\.0\.0\.1:\d+)", worker.text)
        assert where
        assert get(f"{where[1]}/livez")[0] == 200
        status, body = get(f"{where[1]}/metrics")
        assert (status, b"pip install prometheus-client" in body) == (501, True)
        worker.stop(signal.SIGTERM)
    assert (
        "warning: there are no metrics: prometheus_client cannot be found; pip install prometheus-client" in worker.text
    )


# --------------------------------- `perago start` with several modules: which are started, and as what


BROKEN_MODULES = {
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
    for name, text in BROKEN_MODULES.items():
        project.module(f"app.{name}", text)
    project.module("app.helper", "RATE = 3\n")
    return good


def test_broken_modules_are_reported_and_the_others_poll_with_one_request(
    project: Project, services: Services, package: list[str]
) -> None:
    with started(project, "app", "-j", "3", **services.variables) as worker:
        worker.wait_for(f"ready: {package[-1]}")
        services.looked.wait(30)
        assert worker.stop(signal.SIGTERM) == 0
    looks = [request.target for request in services.server.requests if request.path == "/api/tasks/queue/sizes"]
    assert all(f"taskType={name}" in looks[-1] for name in package)
    assert not [request for request in services.server.requests if "/tasks/poll/" in request.path]
    for name in package:
        assert f"ready: {name} ({name}), up to 3 slots when there is work, polling as app0000" in worker.text
    assert "app/missing.py:1: module app.missing needs the module nothing_of_that_name" in worker.text
    assert "app/failing.py:1: module app.failing cannot be imported: ZeroDivisionError" in worker.text
    assert "task 'app.misspelt' (function work): parameter 'p' must be named 'params'" in worker.text
    assert "warning: 3 of 20 modules cannot run; perago starts the other ones" in worker.text
    assert f"the server has no TaskDefs {', '.join(package)}; create them with: perago register app.t00" in worker.text


def test_without_a_module_that_may_be_started_no_server_is_asked(
    project: Project, services: Services, package: list[str]
) -> None:
    strict = project.run("start", "app", "--strict", **services.variables)
    strict.ends(3, "3 of 20 modules cannot run, so perago starts no worker (--strict)")
    project.run("start", *(f"app.{name}" for name in BROKEN_MODULES), **services.variables).ends(3)
    assert services.server.requests == []


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
    ("limits", "module", "limit"),
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
    limits: Mapping[str, int | None], module: str, limit: int | None
) -> None:
    assert selected_limit(module, limits) == limit


STARTS_A_PROCESS = """\
import multiprocessing
if __name__ != "__mp_main__":
    child = multiprocessing.get_context("forkserver").Process(target=print)
    child.start()
    child.join()
    assert child.exitcode == 0
"""
HANGS = """\
import time
from pathlib import Path
Path("imported").touch()
time.sleep(600)
"""


def add_modules(project: Project, last: str) -> None:
    """One module more than are checked before the fork server starts, which begins with `last`."""
    for number in range(AT_ONCE + 1):
        name = f"app.t{number}"
        project.task(name, name, (last if number == AT_ONCE else "") + PLAIN)


def test_a_module_that_starts_processes_is_checked_after_the_fork_server(project: Project, services: Services) -> None:
    add_modules(project, STARTS_A_PROCESS)
    with started(project, "app", "--strict", **services.variables) as worker:
        worker.wait_for(f"ready: app.t{AT_ONCE}")
        assert worker.stop(signal.SIGTERM) == 0


def test_a_hanging_module_does_not_keep_the_fork_server_of_a_killed_start(project: Project, services: Services) -> None:
    add_modules(project, HANGS)
    with started(project, "app", **services.variables) as worker:
        wait_for("the import", (project.directory / "imported").exists)
        children = psutil.Process(worker.process.pid).children()
        (server,) = fork_servers(worker.process.pid)
        try:
            worker.process.kill()
            wait_for("the end of the fork server", has_ended(server.pid))
        finally:
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
