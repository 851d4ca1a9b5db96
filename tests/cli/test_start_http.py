"""`perago start --http`: probes and metrics."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import signal
import socket
import sys
import time
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import psutil
import pytest
from pydantic import SecretStr

from perago.cli.services import HEALTH_LIMIT, lakefs_problem
from perago.settings import LakeFSSettings
from perago.worker.health import LakeFSCheck

from ..worker.bench import wait_for
from .conftest import PLAIN, Project
from .services import Services
from .start_command import started

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="start does not work there")


@pytest.fixture(autouse=True)
def modules(project: Project) -> None:
    project.task("features", "features.build")
    project.task("plain", "plain.work", PLAIN)


def read(url: str) -> tuple[int, dict[str, object]]:
    """Status and body of a probe; status 0 while no one listens."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_probes_show_the_state_of_a_worker_from_start_to_end(project: Project, services: Services) -> None:
    services.conductor_status = 503
    with started(project, "features", "--http", "0", "--wait", **services.variables) as worker:
        worker.wait_for("/readyz")
        where = re.search(r"http://127\.0\.0\.1:\d+", worker.text)
        assert where
        assert read(f"{where[0]}/livez")[0] == 200
        status, body = read(f"{where[0]}/readyz")
        assert (status, body["state"]) == (503, "starting")
        services.conductor_status = 200
        worker.wait_for("ready:")
        fine = {"ok": True, "state": "working", "problems": [], "warnings": []}
        wait_for("readiness", lambda: read(f"{where[0]}/readyz") == (200, fine))
        worker.process.send_signal(signal.SIGSTOP)
        wait_for("the stop", lambda: psutil.Process(worker.process.pid).status() == psutil.STATUS_STOPPED)
        with pytest.raises(OSError):
            build_opener(ProxyHandler({})).open(f"{where[0]}/livez", timeout=0.3)
        worker.process.send_signal(signal.SIGCONT)
        assert read(f"{where[0]}/livez")[0] == 200
        assert worker.stop(signal.SIGTERM) == 0


def test_a_port_that_is_taken_ends_the_start(project: Project, services: Services) -> None:
    port = services.server.url.rpartition(":")[2]
    ran = project.run("start", "plain", "--http", port, **services.variables)
    assert ran.code == 1
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
        assert read(f"{where[1]}/livez")[0] == 200
        with pytest.raises(HTTPError) as refused:
            build_opener(ProxyHandler({})).open(f"{where[1]}/metrics", timeout=10)
        assert refused.value.code == 501
        assert b"pip install prometheus-client" in refused.value.read()
        worker.stop(signal.SIGTERM)
    assert (
        "warning: there are no metrics: prometheus_client cannot be found; pip install prometheus-client" in worker.text
    )
