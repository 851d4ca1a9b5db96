"""What waits, what runs, and which workers are silent, by what Conductor tells at a given time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from perago.adapters.conductor.overview import MOST_PENDING, ConductorOverview
from perago.diagnosis.queues import UNATTENDED_AFTER, TaskTypeStatus, check_queues, read_queues
from perago.embedded.services import EmbeddedServices
from perago.failure import Finding, Level
from perago.settings import ConductorSettings
from perago.taskdef.definition import Declared
from perago.workspace.directory import AttemptDirectory
from tests.deliveries import make_delivery

from ..adapters.scripted import Action, Drop, Request, ScriptedServer, reply_json
from ..cli.conftest import started_attempt
from ..definitions import flow, simple


@pytest.fixture
def embedded() -> Iterator[EmbeddedServices]:
    with EmbeddedServices() as services:
        services.conductor.register_task_definitions([{"name": "work", "responseTimeoutSeconds": 300}])
        yield services


@pytest.fixture
def overview(embedded: EmbeddedServices) -> Iterator[ConductorOverview]:
    overview = ConductorOverview(ConductorSettings(server_url=embedded.environment()["CONDUCTOR_SERVER_URL"]))
    yield overview
    overview.close()


def row(overview: ConductorOverview, root: Path, after: float) -> TaskTypeStatus:
    (row,) = read_queues(overview, root, ["work"], time.time() + after).rows
    return row


def overview_at(url: str) -> ConductorOverview:
    return ConductorOverview(ConductorSettings(server_url=f"{url}/api"))


@contextmanager
def served(attempts: list[dict[str, object]]) -> Iterator[ConductorOverview]:
    """A Conductor that has these attempts of the task type `work`, and 12,001 in its queue."""

    def answer(request: Request) -> Action:
        if "/admin/task/" in request.path:
            start, count = (int(request.query[name]) for name in ("start", "count"))
            return reply_json(attempts[start : start + count])
        return reply_json({"work": 12_001} if request.path.endswith("/queue/all") else [])

    with ScriptedServer(answer) as server, closing(overview_at(server.url)) as overview:
        yield overview


def findings(overview: ConductorOverview, root: Path, after: float) -> list[Finding]:
    return list(check_queues(overview, root, [Declared("tasks.work", "work", "{}")], time.time() + after))


def test_a_worker_that_missed_two_heartbeats_is_silent(
    embedded: EmbeddedServices, overview: ConductorOverview, tmp_path: Path
) -> None:
    task_id = started_attempt(embedded.conductor, "work")
    embedded.conductor.poll_tasks("work", "dead0000", wait_seconds=0)
    assert row(overview, tmp_path, 120).silent == ()
    (silent,) = row(overview, tmp_path, 180).silent
    assert (silent.task_id, silent.worker_id, silent.freed - silent.since) == (task_id, "dead0000", 300_000)
    (finding,) = findings(overview, tmp_path, 180)
    assert (finding.level, finding.advice.startswith(f"perago show {task_id}")) == (Level.PROBLEM, True)
    assert "delivers the attempt again in" in finding.why


def test_an_attempt_of_a_dead_process_here_is_silent_immediately(
    embedded: EmbeddedServices, overview: ConductorOverview, tmp_path: Path
) -> None:
    task_id = started_attempt(embedded.conductor, "work")
    (task,) = embedded.conductor.poll_tasks("work", "dead0000@node-7:4711", wait_seconds=0)
    delivery = make_delivery(task_id=task_id, task_name="work", start_time=task["startTime"])
    directory = AttemptDirectory.create(tmp_path / "root", delivery)
    assert row(overview, tmp_path / "root", 0).silent == ()
    directory.close()  # as the system does when the process ends
    assert [attempt.task_id for attempt in row(overview, tmp_path / "root", 0).silent] == [task_id]
    (finding,) = findings(overview, tmp_path / "root", 0)
    assert (finding.level, "dead0000@node-7:4711" in finding.what) == (Level.PROBLEM, True)


def test_a_worker_of_another_sdk_is_silent_after_its_response_timeout(
    embedded: EmbeddedServices, overview: ConductorOverview, tmp_path: Path
) -> None:
    started_attempt(embedded.conductor, "work")
    embedded.conductor.poll_tasks("work", "build-host.example.com", wait_seconds=0)
    assert row(overview, tmp_path, 290).silent == ()
    assert [attempt.worker_id for attempt in row(overview, tmp_path, 310).silent] == ["build-host.example.com"]


def test_an_attempt_that_runs_is_found_behind_thousands_that_wait(tmp_path: Path) -> None:
    """Conductor has no order in them, and each of its answers is a part of the list."""
    waiting: list[dict[str, object]] = [{"taskId": str(number), "status": "SCHEDULED"} for number in range(2500)]
    with served([*waiting, {"taskId": "last", "status": "IN_PROGRESS"}]) as overview:
        status = row(overview, tmp_path, 0)
    assert (status.waiting, status.running, status.all_read) == (12_001, 1, True)
    assert not status.is_unattended(time.time())


def test_a_partly_read_list_is_reported(tmp_path: Path) -> None:
    with served([{"taskId": str(number), "status": "SCHEDULED"} for number in range(MOST_PENDING + 1)]) as overview:
        status = row(overview, tmp_path, 0)
    assert (status.running, status.all_read, status.is_unattended(time.time())) == (0, False, True)
    assert status.absence(0).endswith("; none of the checked attempts is with a worker")


def test_a_long_list_that_takes_long_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perago.diagnosis.queues._LIST_READ_LIMIT", -1)
    with served([{"taskId": str(number), "status": "IN_PROGRESS"} for number in range(3000)]) as overview:
        status = row(overview, tmp_path, 0)
    assert (status.running, status.all_read) == (1000, False)


def test_a_server_that_does_not_answer_is_not_called_for_each_task_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them would be waited for."""
    monkeypatch.setattr("perago.diagnosis.queues._LIST_READ_LIMIT", -1)
    names = [f"work{number}" for number in range(100)]

    def answer(request: Request) -> Action:
        return Drop() if "/admin/task/" in request.path else reply_json({} if "/queue/all" in request.path else [])

    with ScriptedServer(answer) as server, closing(overview_at(server.url)) as overview:
        report = read_queues(overview, tmp_path, names, time.time())
        asked = {request.path for request in server.requests if "/admin/task/" in request.path}
    assert len(asked) < 20
    assert (len(report.problems), {row.running for row in report.rows}) == (100, {None})


@pytest.mark.parametrize("value", ["soon", 10**400, -1, [1], {"a": 1}, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["updateTime", "scheduledTime", "responseTimeoutSeconds"])
def test_a_number_that_makes_no_sense_is_a_problem_of_its_task_type(tmp_path: Path, name: str, value: object) -> None:
    with served([{"taskId": "t", "status": "IN_PROGRESS", name: value}]) as overview:
        report = read_queues(overview, tmp_path, ["work"], time.time())
    assert (report.rows[0].running, len(report.problems)) == (None, 1)


def test_attempts_are_unattended_after_a_long_time_without_a_poll(
    embedded: EmbeddedServices, overview: ConductorOverview, tmp_path: Path
) -> None:
    embedded.conductor.poll_tasks("work", "w0000", wait_seconds=0)
    task_id = started_attempt(embedded.conductor, "work")
    now = time.time()
    assert not row(overview, tmp_path, 0).is_unattended(now)
    later = row(overview, tmp_path, 0)
    assert later.is_unattended(now + UNATTENDED_AFTER + 60)
    assert later.oldest is not None
    assert later.oldest.task_id == task_id
    (finding,) = findings(overview, tmp_path, UNATTENDED_AFTER + 60)
    assert (finding.level, finding.advice) == (Level.PROBLEM, "perago start tasks.work")
    assert "no worker has asked for 3 min" in finding.what
    assert [finding.level for finding in findings(overview, tmp_path, 0)] == [Level.OK]


def test_attempts_that_wait_in_a_domain_are_a_problem(
    embedded: EmbeddedServices, overview: ConductorOverview, tmp_path: Path
) -> None:
    embedded.conductor.poll_tasks("work", "w0000", wait_seconds=0, domain="east")
    embedded.conductor.start_workflow("w", {}, definition=flow(simple("work")), task_to_domain={"work": "east"})
    (finding,) = findings(overview, tmp_path, 0)
    assert (finding.level, "in the domain east" in finding.what) == (Level.PROBLEM, True)
