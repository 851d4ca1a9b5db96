"""A service manager hears from a worker that is ready, alive, or stopping, as systemd's `sd_notify` wants it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from perago.embedded.services import EmbeddedServices
from perago.worker import events
from perago.worker.health import BEAT_LIMIT
from perago.worker.plan import ExportContext
from perago.worker.service_manager import service_manager

from .bench import make_plan
from .test_health import FINE, READY

MODULE = """
import os
from pydantic import BaseModel
from perago import task

class Params(BaseModel):
    pass

class Result(BaseModel):
    seen: list[str]

@task(name="managed.look", owner_email="data@example.com")
def look(params: Params) -> Result:
    return Result(seen=[name for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC") if name in os.environ])
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        yield sock


def reports(tmp_path: Path, sock: socket.socket, *seen: events.Event, **variables: str) -> list[str]:
    """What a worker of these events reports."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "0", **variables}.items():
            patch.setenv(name, value)
        with service_manager(ExportContext(plan=make_plan(tmp_path))) as listener:
            assert "NOTIFY_SOCKET" not in os.environ
            if listener is not None:
                for event in seen:
                    listener(event)
    sock.setblocking(False)
    found: list[str] = []
    while True:
        try:
            found.append(sock.recv(1024).decode())
        except BlockingIOError:
            return found


def test_states_are_reported_and_the_watchdog_is_fed(tmp_path: Path, manager: socket.socket) -> None:
    assert reports(tmp_path, manager, FINE, READY, FINE, events.Draining(0)) == [
        "STATUS=starting\nWATCHDOG=1",
        "READY=1",
        "STATUS=working\nWATCHDOG=1",
        "STOPPING=1",
    ]


def test_a_worker_whose_heartbeat_hangs_does_not_feed_the_watchdog(tmp_path: Path, manager: socket.socket) -> None:
    stuck = replace(FINE, beating=BEAT_LIMIT + 1)
    assert reports(tmp_path, manager, READY, stuck, FINE)[1:] == [
        "STATUS=a heartbeat has had no answer for 301 s",
        "STATUS=working\nWATCHDOG=1",
    ]


def test_the_watchdog_is_fed_a_few_times_in_its_interval(tmp_path: Path, manager: socket.socket) -> None:
    found = reports(tmp_path, manager, *[FINE] * 9, WATCHDOG_USEC="60000000")
    assert len(found) == 1, "all within a quarter of a minute"


@pytest.mark.parametrize("variables", [{"WATCHDOG_PID": "1"}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_nothing_is_reported_if_nobody_asks_this_process(
    tmp_path: Path, manager: socket.socket, variables: dict[str, str]
) -> None:
    assert reports(tmp_path, manager, READY, FINE, **variables) == []


def test_a_service_manager_that_went_away_does_not_disturb(tmp_path: Path, manager: socket.socket) -> None:
    (tmp_path / "notify").unlink()
    assert reports(tmp_path, manager, READY, FINE) == []


def test_a_started_worker_reports_and_its_functions_cannot(tmp_path: Path, manager: socket.socket) -> None:
    (tmp_path / "managed.py").write_text(MODULE)
    with EmbeddedServices() as services:
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        environment = {**kept, **services.environment(), "HOME": str(tmp_path)}
        run = [sys.executable, "-m", "perago"]
        subprocess.run([*run, "register", "managed"], cwd=tmp_path, env=environment, check=True, capture_output=True)
        notified = {**environment, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "4000000"}
        command = [*run, "start", "managed"]
        with subprocess.Popen(command, cwd=tmp_path, env=notified, stderr=subprocess.DEVNULL) as worker:
            try:
                heard: list[str] = []
                while heard.count("STATUS=working\nWATCHDOG=1") < 2:
                    heard.append(manager.recv(1024).decode())
                assert "READY=1" in heard
                step = {"name": "managed.look", "taskReferenceName": "r", "type": "SIMPLE"}
                step["inputParameters"] = {"params": {}}  # type: ignore[assignment]
                definition = {"name": "w", "version": 1, "schemaVersion": 2, "tasks": [step]}
                workflow = services.conductor.start_workflow("w", {}, definition=definition)
                assert services.conductor.await_workflow(workflow, [], wait_seconds=60)
                (row,) = services.conductor.workflow(workflow)["tasks"]
                assert row["outputData"]["result"] == {"seen": []}
                worker.send_signal(signal.SIGTERM)
                while manager.recv(1024).decode() != "STOPPING=1":
                    pass
                assert worker.wait(60) == 0
            finally:
                worker.kill()
