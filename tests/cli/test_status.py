"""`perago status`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from perago.embedded.services import EmbeddedServices
from perago.worker.events import Pulse, WaitingForLakeFS, WorkerReady
from perago.worker.plan import ExportContext
from perago.worker.presence import presence, worker_processes, workers_here

from ..adapters.scripted import Action, Hang, Request, ScriptedServer, reply_json
from ..worker.bench import LIMIT, make_plan, wait_for
from ..worker.outside import mounted
from .conftest import PLAIN, Project, started_attempt
from .services import Services
from .start_command import started


def rows(project: Project, services: EmbeddedServices, *arguments: str, **variables: str) -> dict[str, Any]:
    ran = project.run("status", "--json", *arguments, **services.environment(), **variables)
    assert (ran.code, ran.err) == (0, "")
    return {row["task_name"]: row for row in json.loads(ran.out)}


def test_waiting_and_running_attempts_are_reported(project: Project, embedded: EmbeddedServices) -> None:
    embedded.conductor.register_task_definitions([{"name": name} for name in ("busy", "idle", "unused")])
    oldest, second = started_attempt(embedded.conductor, "busy"), started_attempt(embedded.conductor, "busy")
    embedded.conductor.poll_tasks("idle", "elsewhere0000", wait_seconds=0)

    by_task = rows(project, embedded)
    assert sorted(by_task) == ["busy", "idle"]
    busy = by_task["busy"]
    assert (busy["waiting"], busy["running"], busy["unattended"]) == (2, 0, True)
    assert busy["oldest"]["task_id"] in (oldest, second)
    assert by_task["idle"]["last_poll"]["worker_id"] == "elsewhere0000"

    (taken,) = embedded.conductor.poll_tasks("busy", "elsewhere0000", wait_seconds=0)
    busy = rows(project, embedded)["busy"]
    assert (busy["waiting"], busy["running"], busy["unattended"]) == (1, 1, False)
    assert busy["oldest"]["task_id"] == ({oldest, second} - {taken["taskId"]}).pop()


def test_the_lines_name_unattended_tasks_and_the_workers_of_attempts(
    project: Project, embedded: EmbeddedServices
) -> None:
    embedded.conductor.register_task_definitions([{"name": "busy"}])
    task_id = started_attempt(embedded.conductor, "busy")
    ran = project.run("status", **embedded.environment())
    head, row, oldest, why = ran.out.splitlines()
    assert head.split() == ["waiting", "oldest", "running", "here", "polled", "task"]
    assert row.split()[0] == "1"
    assert row.endswith("busy")
    assert oldest.strip() == f"oldest: task {task_id}"
    assert why.strip() == "no worker has ever asked for it"
    assert max(map(len, ran.out.splitlines())) <= 60

    embedded.conductor.poll_tasks("busy", "p-10000@node-7:4711", wait_seconds=0)
    shown = project.run("status", **embedded.environment()).out
    assert re.search(rf"running for \d+ s: task {task_id}, p-10000@node-7:4711\n", shown)
    (attempt,) = rows(project, embedded)["busy"]["attempts"]
    assert (attempt["task_id"], attempt["worker_id"], attempt["silent"]) == (task_id, "p-10000@node-7:4711", 0)


def test_a_named_module_has_a_row_although_nothing_is_known_of_it(project: Project, embedded: EmbeddedServices) -> None:
    project.task("plain", "plain.work", PLAIN)
    embedded.conductor.poll_tasks("other", "w", wait_seconds=0)
    assert list(rows(project, embedded, "plain")) == ["plain.work"]
    assert "no TaskDef of this name" in project.run("status", "plain", **embedded.environment()).out


def test_a_task_in_a_domain_has_a_row_of_its_own(project: Project, embedded: EmbeddedServices) -> None:
    embedded.conductor.register_task_definitions([{"name": "busy"}])
    embedded.conductor.poll_tasks("busy", "w1", wait_seconds=0, domain="east")
    embedded.conductor.poll_tasks("busy", "w2", wait_seconds=0)
    ran = project.run("status", **embedded.environment())
    assert [line.split()[-1] for line in ran.out.splitlines()[1:]] == ["busy", "east:busy"]


def test_workers_of_this_root_are_here(project: Project, embedded: EmbeddedServices, tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    plan.workspace_root.mkdir(mode=0o700)
    variables = {"PERAGO_WORKSPACE_ROOT": str(plan.workspace_root)}
    with presence(ExportContext(plan=plan)) as worker:
        worker(WorkerReady("m", "busy", "m0000", 3, 0.1))
        assert "no TaskDef of this name" in project.run("status", **embedded.environment(), **variables).out
        embedded.conductor.register_task_definitions([{"name": "busy"}])
        (here,) = rows(project, embedded, **variables)["busy"]["workers"]
        assert (here["worker_id"], here["slots"]) == ("m0000", 3)
        shown = project.run("status", **embedded.environment(), **variables).out
        assert "0 of 3" in shown
        host, pid = socket.gethostname(), os.getpid()
        assert shown.splitlines()[-1] == f"worker m0000 on {host} (process {pid}): 1 slot shared, 0 busy, 1 free; busy"
    assert rows(project, embedded, **variables) == {}


def test_the_problems_of_a_worker_are_below_it(project: Project, embedded: EmbeddedServices, tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    plan.workspace_root.mkdir(mode=0o700)
    variables = {**embedded.environment(), "PERAGO_WORKSPACE_ROOT": str(plan.workspace_root)}
    rejection = "lakeFS does not accept the credentials (401)"
    context = ExportContext(plan=plan)
    with presence(context) as worker:
        worker(WorkerReady("m", "busy", "m0000", 1, 0.1))
        for listener in (context.incidents, worker):  # as `exporting` has them
            listener(WaitingForLakeFS("m0001", rejection))
        worker(Pulse(1, 0, 1, 0, 0.0))
        wait_for("the marker", lambda: worker_processes(workers_here(plan.workspace_root))[0].problems)
        assert project.run("status", **variables).out.splitlines()[-1].strip() == rejection


def test_a_lakefs_that_does_not_answer_is_named(project: Project, embedded: EmbeddedServices) -> None:
    variables = {**embedded.environment(), "LAKECTL_SERVER_ENDPOINT_URL": "http://127.0.0.1:9"}
    ran = project.run("status", **variables)
    assert (ran.code, ran.err.startswith("warning: lakeFS does not answer:")) == (0, True), ran.err


def test_a_stopped_process_of_a_worker_is_named(project: Project, embedded: EmbeddedServices, tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    plan.workspace_root.mkdir(mode=0o700)
    variables = {**embedded.environment(), "PERAGO_WORKSPACE_ROOT": str(plan.workspace_root)}
    with presence(ExportContext(plan=plan)) as worker, subprocess.Popen(["/bin/sleep", "60"]) as child:
        worker(WorkerReady("m", "busy", "m0000", 1, 0.1))
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        shown = [project.run(name, **variables).out for name in ("status", "doctor")]
        child.kill()
    for text in shown:
        assert f"stopped (state T): process {child.pid} (sleep)" in text
        assert f"kill -CONT {child.pid}" in text


def test_a_killed_worker_is_named_until_the_next_one_starts(
    project: Project, embedded: EmbeddedServices, tmp_path: Path
) -> None:
    project.task("plain", "busy")
    project.run("register", "plain", **embedded.environment())
    variables = {**embedded.environment(), "PERAGO_WORKSPACE_ROOT": str(tmp_path / "workspaces")}
    with started(project, "plain", **variables) as worker:
        worker.wait_for("ready:")
        worker.process.kill()
        worker.process.wait(LIMIT)
        killed = f"killed worker plain0000@{socket.gethostname()}:{worker.process.pid}"
    for name in ("status", "doctor"):
        assert killed in project.run(name, **variables).out
    with started(project, "plain", **variables) as worker:
        worker.wait_for("ready:")
        assert "killed" not in project.run("status", **variables).out


def test_a_disk_without_room_is_named(project: Project, embedded: EmbeddedServices, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", 1) as small:
        plan = replace(make_plan(tmp_path), workspace_root=small)
        with presence(ExportContext(plan=plan)) as worker:
            worker(WorkerReady("m", "busy", "m0000", 1, 0.1))
            variables = {**embedded.environment(), "PERAGO_WORKSPACE_ROOT": str(small)}
            assert f"workers here take no work: {small} has" in project.run("status", **variables).out


def test_a_hanging_conductor_is_reported_during_the_wait(project: Project) -> None:
    is_reported = threading.Event()

    def answer(request: Request) -> Action:
        is_reported.wait(60)
        return reply_json({} if request.path.endswith("/queue/all") else [])

    with ScriptedServer(answer) as server:
        environment = {**project.environment, "CONDUCTOR_SERVER_URL": f"{server.url}/api"}
        with replace(project, environment=environment).start("status") as process:
            assert process.stderr is not None
            note = process.stderr.readline().decode()
            is_reported.set()
            process.communicate(timeout=60)
    pattern = r"note: Conductor has not answered for \d+ s when asked to .*; this call ends after 15 s"
    assert (re.match(pattern, note) is not None, process.returncode) == (True, 0), note


def test_a_server_without_the_list_of_pending_attempts_is_reported(project: Project, services: Services) -> None:
    project.task("plain", "plain.work", PLAIN)
    ran = project.run("status", "plain", **services.variables).ends(0)
    assert ran.out.splitlines()[1].split()[:3] == ["0", "-", "?"]
    assert "unknown: Conductor did not read the pending tasks of plain.work" in ran.err


def test_an_interrupt_does_not_wait_for_a_server_that_hangs(project: Project) -> None:
    project.task("plain", "plain.work", PLAIN)
    is_asked = threading.Event()

    def answer(request: Request) -> Action:
        if "/admin/task/" in request.path:
            is_asked.set()
            return Hang()
        return reply_json({} if request.path.endswith("/queue/all") else [])

    with ScriptedServer(answer) as server:
        environment = {**project.environment, "CONDUCTOR_SERVER_URL": f"{server.url}/api"}
        process = replace(project, environment=environment).start("status", "plain")
        assert is_asked.wait(60)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=15)
    assert (process.returncode, err) == (130, b"error: interrupted\n")
