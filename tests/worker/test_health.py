"""What probes and service managers learn about a worker, and that no client can hold it up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from perago.embedded.services import EmbeddedServices
from perago.ports import TaskStatus, Unavailable
from perago.settings import Mask
from perago.worker import events, exporters
from perago.worker import supervisor as supervision
from perago.worker.events import Pulse, WorkerReady
from perago.worker.exporters import Page, StatusServer, service_manager
from perago.worker.health import BEAT_LIMIT, REJECTED, Health, Incidents
from perago.worker.metrics import Metrics
from perago.worker.plan import ExportContext

from ..definitions import flow, simple
from .bench import make_plan, release, running, wait_for
from .outside import get
from .small_queue import SmallQueue

READY = WorkerReady("m", "t", "w0000", 1, 0.1)
FINE = Pulse(slots=1, free=1, busy=0, unreported=0, beating=0.0)


class HealthOfAWorker(Health):
    """The health, and the record that it reads. Both hear each event, as in a worker."""

    def __init__(self) -> None:
        self.heard = Incidents()
        super().__init__(Mask(["password"]), self.heard)

    def __call__(self, event: events.Event) -> None:
        self.heard(event)
        super().__call__(event)


def health_after(*worker_events: events.Event) -> Health:
    health = HealthOfAWorker()
    for event in worker_events:
        health(event)
    return health


def test_a_worker_that_starts_lives_and_takes_nothing_yet() -> None:
    health = health_after()
    assert health.alive().problems == ()
    assert health.ready().problems == ("the worker is starting and waits for a server or for its task module",)


def test_a_worker_that_works_is_ready_unless_others_have_found_something() -> None:
    health = health_after(FINE, READY)
    assert health.ready(None).problems == ()
    assert health.ready("lakeFS does not answer").problems == ("lakeFS does not answer",)


@pytest.mark.parametrize(
    ("event", "problem", "over"),
    [
        (events.ConductorUnreachable("no route", denied=False), "no route", events.ConductorBack(3.0)),
        (events.ConductorUnreachable("401", denied=True), "Conductor rejects the credentials: 401", None),
        (
            events.SlotStartFailed("w1", "no\npassword", "a", 1.0),
            "slots for a cannot start: no / ***",
            events.SlotReady("w2", 7, "a"),
        ),
        (events.PollingPaused("/data is\nfull"), "/data is / full", events.PollingResumed(3.0)),
        (events.Draining(1), "the worker was asked to stop and takes no more work", None),
    ],
)
def test_obstacles_are_reported_as_long_as_they_last(
    event: events.Event, problem: str, over: events.Event | None
) -> None:
    health = health_after(FINE, READY, event)
    assert health.ready().problems == (problem,)
    assert health.alive().problems == (), "starting it anew would not help"
    if over is not None:
        health(over)
        assert health.ready().problems == ()


def test_polls_refused_for_one_task_are_a_warning_until_accepted() -> None:
    health = health_after(FINE, READY, events.ConductorUnreachable("403 password", denied=True, task_name="a"))
    assert health.ready().problems == ()
    assert health.ready().warnings == ("Conductor refuses polls for a: 403 ***",)
    health(events.ConductorBack(3.0, "a"))
    assert health.ready().warnings == ()


def test_repeated_calls_are_a_warning_and_bad_credentials_a_problem() -> None:
    texts = {"w0001": "lakeFS does not answer (x)", "w0002": "lakeFS does not accept the credentials (password)"}
    health = health_after(FINE, READY, *(events.WaitingForLakeFS(slot, text) for slot, text in texts.items()))
    assert health.ready().problems == ("lakeFS does not accept the credentials (***)",)
    assert health.ready().warnings == ("w0001: lakeFS does not answer (x)",)
    for slot in texts:
        health(events.LakeFSBack(slot, "lakeFS answers again, after 3 s"))
    assert (health.ready().problems, health.ready().warnings) == ((), ())


def test_rejected_credentials_outlive_their_attempt_until_a_success() -> None:
    delivery = SimpleNamespace(input={"workspace": {}})
    rejection = f"{REJECTED} (401)"
    health = health_after(FINE, READY, events.WaitingForLakeFS("w0001", rejection))
    for status, problems in ((TaskStatus.FAILED, (rejection,)), (TaskStatus.COMPLETED, ())):
        health(events.AttemptEnded(delivery, "w0001", events.Ending.REPORTED, 120.0, status=status))  # type: ignore[arg-type]
        assert health.ready().problems == problems


def test_only_the_service_that_answers_again_accepts_the_credentials() -> None:
    rejection = f"{REJECTED} (401)"
    health = health_after(FINE, READY, events.WaitingForLakeFS("w0001", rejection))
    for service, problems in (("the block store", (rejection,)), ("Conductor", (rejection,)), ("lakeFS", ())):
        health(events.LakeFSBack("w0001", f"{service} answers again, after 9 s"))
        assert health.ready().problems == problems


def test_a_call_that_waits_is_named_until_its_own_service_answers() -> None:
    health = health_after(FINE, READY, events.WaitingForLakeFS("w0001", "lakeFS does not answer (x)"))
    health(events.LakeFSBack("w0001", "the block store answers again, after 9 s"))
    assert health.ready().warnings == ("w0001: lakeFS does not answer (x)",)


def test_the_exporters_of_a_worker_share_its_incidents(tmp_path: Path) -> None:
    context = ExportContext(plan=make_plan(tmp_path))
    context.incidents(events.ConductorUnreachable("401", denied=True))
    health, metrics = Health(Mask(), context.incidents), Metrics([], incidents=context.incidents)
    rejections = {family.name: numbers for family, numbers in metrics.collect()}["perago_credentials_rejected"]
    assert (health.ready().problems[1:], rejections["Conductor",].value) == (
        ("Conductor rejects the credentials: 401",),
        1,
    )


def test_a_task_whose_process_dies_is_named_until_one_lives_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    how = "the slot's process ended with exit status 3"
    health = health_after(FINE, READY, events.SlotDied("w0001", 17, how, 30.0, task_name="a"))
    health(events.SlotReady("w0001", 18, "a"))
    (warning,) = health.ready().warnings
    assert warning == f"a: {how}; if it dies again, its restart is delayed by up to 30 s"
    later = time.monotonic() + 91
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert health.ready().warnings == ()


def test_a_loop_that_hangs_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    health = health_after(FINE, READY)
    later = time.monotonic() + 31
    monkeypatch.setattr("perago.worker.health.time", SimpleNamespace(monotonic=lambda: later))
    assert health.alive().problems == ("the event loop has been blocked for 31 s",)
    assert health.ready().problems == health.alive().problems


def test_a_heartbeat_that_never_ends_is_not_alive() -> None:
    stuck = Pulse(slots=1, free=0, busy=1, unreported=0, beating=BEAT_LIMIT + 1)
    assert health_after(stuck, READY).alive().problems == ("a heartbeat has had no answer for 301 s",)


@pytest.mark.usefixtures("frequent_beats")
def test_the_pulse_of_a_worker_has_its_slots_and_open_heartbeats(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "PULSE_INTERVAL", 0.02)
    stuck, file = threading.Event(), tmp_path / "running"
    with running(make_plan(tmp_path, slots=2), queue) as worker:

        def fault(operation: str) -> Unavailable | None:
            if operation == "is_current" and not stuck.is_set():
                wait_for("a pulse that tells of it", lambda: any(pulse.beating > 0.05 for pulse in worker.saw(Pulse)))
                stuck.set()
            return None

        def pulse(free: int, busy: int) -> Pulse | None:
            """The last pulse if it has so many slots, and no heartbeat on its way."""
            pulses = worker.saw(Pulse)[-1:]
            return next(
                (latest for latest in pulses if (latest.free, latest.busy, latest.beating) == (free, busy, 0)), None
            )

        wait_for("both slots to be free", lambda: pulse(2, 0))
        queue.fault = fault
        queue.put(what="waits", file=str(file))
        wait_for("the heartbeat", stuck.is_set)
        last = wait_for("its end", lambda: pulse(1, 1))
        assert (last.slots, last.free, last.busy, last.unreported, dict(last.waiting)) == (2, 1, 1, 0, {})
        assert last.ages["worker.behaves"] > 0
        assert set(last.free_bytes) == set(last.disk_bytes) == {"workspaces", "logs"}
        release(file)


# ------------------------------------------------------------------------------ the server


@contextlib.contextmanager
def serving(page: Page) -> Iterator[StatusServer]:
    server = StatusServer("127.0.0.1", 0, {"/page": lambda _: page})
    server.start()
    try:
        yield server
    finally:
        server.close()


def connected(server: StatusServer) -> socket.socket:
    port = int(server.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), 10)


PAGE = Page(503, "application/json", json.dumps({"ok": False}).encode())


def test_pages_are_served_and_others_are_named() -> None:
    with serving(PAGE) as server:
        assert get(f"{server.url}/page?x=1") == (503, PAGE.body)
        status, body = get(f"{server.url}/else")
    assert status == 404
    assert b"/page" in body


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9090", 503),
        ("localhost", 503),
        ("[::1]:9090", 503),
        ("evil.example:9090", 403),
        ("[", 403),
    ],
)
def test_a_web_page_cannot_read_it_under_a_name_of_its_own(host: str, status: int) -> None:
    with serving(PAGE) as server, connected(server) as connection:
        connection.sendall(f"GET /page HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert int(connection.recv(100).split()[1]) == status


def test_clients_that_hang_are_ended_and_nothing_waits_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporters, "DEADLINE", 0.5)
    with serving(PAGE) as server, contextlib.ExitStack() as open_ones:
        silent, dripping = (open_ones.enter_context(connected(server)) for _ in range(2))
        silent.sendall(b"GET /page HTTP/1.1\r\n")
        assert get(f"{server.url}/page")[0] == 503
        with pytest.raises(OSError):  # noqa: PT012 - the one that is refused comes after some that are not
            for _ in range(1000):
                dripping.sendall(b"x")
                time.sleep(0.01)
        assert silent.recv(100) == b""


def test_a_client_without_a_request_is_ended_before_one_with_a_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exporters, "DEADLINE", 3600.0)
    with serving(PAGE) as server, connected(server) as silent, connected(server) as asking:
        asking.sendall(b"GET /page HTTP/1.1\r\n")
        assert silent.recv(100) == b""
        asking.sendall(b"\r\n")
        assert b" 503 " in asking.recv(100)


@pytest.mark.parametrize("limit", ["MOST_CONNECTIONS", "MOST_OF_ONE_ADDRESS"])
def test_one_connection_too_many_ends_the_oldest_that_asks_nothing(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(exporters, "REQUEST_DEADLINE", 3600.0)
    monkeypatch.setattr(exporters, "DEADLINE", 3600.0)
    monkeypatch.setattr(exporters, limit, 3)
    with serving(PAGE) as server, contextlib.ExitStack() as open_ones:
        asking, first, second = (open_ones.enter_context(connected(server)) for _ in range(3))
        asking.sendall(b"GET /page HTTP/1.1\r\n")
        wait_for("the request line", lambda: any(its.has_asked for its in server._connections.values()))
        assert get(f"{server.url}/page") == (503, PAGE.body)
        assert first.recv(100) == b""
        asking.sendall(b"\r\n")
        assert b" 503 " in asking.recv(100)
        second.sendall(b"GET /page HTTP/1.1\r\n\r\n")
        assert b" 503 " in second.recv(100)


@pytest.mark.skipif(sys.platform == "darwin", reason="127.0.0.2 is not an address of a Mac by default")
def test_one_address_does_not_end_the_connections_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporters, "REQUEST_DEADLINE", 3600.0)
    monkeypatch.setattr(exporters, "DEADLINE", 3600.0)
    with serving(PAGE) as server, contextlib.ExitStack() as open_ones:
        port = int(server.url.rpartition(":")[2])
        other = open_ones.enter_context(socket.create_connection(("127.0.0.1", port), 10, ("127.0.0.2", 0)))
        many = [open_ones.enter_context(connected(server)) for _ in range(40)]
        assert many[0].recv(100) == b""
        other.sendall(b"GET /page HTTP/1.1\r\n\r\n")
        assert b" 503 " in other.recv(100)


def test_closing_ends_open_connections_and_all_threads() -> None:
    before = set(threading.enumerate())
    with serving(PAGE) as server:
        url, held = server.url, connected(server)
        wait_for("the connection", lambda: server._connections)
    with held:
        assert held.recv(100) == b""
    assert set(threading.enumerate()) <= before
    with pytest.raises(OSError):
        get(f"{url}/page")


# ----------------------------------------------------------------------------------------------------
# A service manager hears from a worker that is ready, alive, or stopping, as systemd's `sd_notify` wants it.


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


def reports(tmp_path: Path, sock: socket.socket, *worker_events: events.Event, **variables: str) -> list[str]:
    """What a worker of these events reports."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "0", **variables}.items():
            patch.setenv(name, value)
        with service_manager(ExportContext(plan=make_plan(tmp_path))) as listener:
            assert "NOTIFY_SOCKET" not in os.environ
            if listener is not None:
                for event in worker_events:
                    listener(event)
    sock.setblocking(False)
    states: list[str] = []
    while True:
        try:
            states.append(sock.recv(1024).decode())
        except BlockingIOError:
            return states


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
    states = reports(tmp_path, manager, *[FINE] * 9, WATCHDOG_USEC="60000000")
    assert len(states) == 1, "all within a quarter of a minute"


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
        environment = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        environment = {**environment, **services.environment(), "HOME": str(tmp_path)}
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
                definition = flow(simple("managed.look", params={}))
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
