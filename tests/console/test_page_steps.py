"""Steps of attempts, from the logs that workers write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perago.console import links
from perago.ports import Delivery, TaskStatus
from perago.testing.services import InMemoryServices
from perago.worker.events import AttemptEnded, AttemptReceived, Ending
from perago.worker.log_reader import FIRST_LOOK_BYTES, WorkerLogs
from perago.worker.logs import journal
from perago.worker.plan import ExportContext, LogPlan

from ..worker.bench import make_plan
from .filled import declared, start
from .site import Site, page_of
from .tasks import send

STEPS = (("Fetch", 0.25), ("RunFunction", 0.75))


def reported(delivery: Delivery) -> AttemptEnded:
    return AttemptEnded(delivery, "w0001", Ending.REPORTED, 1.0, status=TaskStatus.COMPLETED, steps=STEPS)


def test_steps_of_a_workers_log_are_shown_with_their_attempt(services: InMemoryServices, tmp_path: Path) -> None:
    workflow = start(services, {})
    delivery = services.take(declared(send))
    plan = make_plan(tmp_path, logs=LogPlan(root=tmp_path / "logs"))
    with journal(ExportContext(plan=plan)) as listener:
        listener(reported(delivery))
    with page_of(services.conductor, services.lakefs.server, WorkerLogs(tmp_path / "logs")) as site:
        attempt = site.get(links.workflow(workflow)).main.one("article")
    steps = attempt.one("details", class_="times")
    assert steps.one("summary").text == "Steps of delivery 1 1.0 s"
    assert [row[:2] for row in steps.one("table").rows()] == [["Fetch", "250 ms"], ["Run function", "750 ms"]]
    drawn = [(bar.attributes["x"], bar.attributes["width"]) for bar in steps.all("rect")]
    assert drawn == [("0.0%", "25.0%"), ("25.0%", "75.0%")]
    assert [picture.one("title").text for picture in steps.all("svg", role="img")] == [
        "after 0 ms, for 250 ms",
        "after 250 ms, for 750 ms",
    ]


def test_an_attempt_whose_log_is_elsewhere_shows_when_it_waited_and_when_a_worker_had_it(
    services: InMemoryServices,
    fresh: Site,
) -> None:
    workflow = start(services, {})
    services.clock.advance(10)
    services.take(declared(send))
    services.clock.advance(30)
    steps = fresh.get(links.workflow(workflow)).main.one("details", class_="times")
    assert [row[:2] for row in steps.one("table").rows()] == [["Waiting", "10.0 s"], ["With a worker", "30.0 s"]]
    drawn = [(bar.attributes["x"], bar.attributes["width"]) for bar in steps.all("rect")]
    assert drawn == [("0.0%", "25.0%"), ("25.0%", "75.0%")]


def test_an_attempt_that_waits_has_nothing_but_that(services: InMemoryServices, fresh: Site) -> None:
    workflow = start(services, {})
    services.clock.advance(10)
    steps = fresh.get(links.workflow(workflow)).main.one("details", class_="times")
    assert [row[:2] for row in steps.one("table").rows()] == [["Waiting", "10.0 s"]]


def log_line(task_id: str, poll_count: object = 1, **fields: object) -> str:
    entry = {"task_id": task_id, "poll_count": poll_count, "start_time": 5, "steps": {"Fetch": 1.5}, **fields}
    return json.dumps(entry) + "\n"


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    path = tmp_path / "module" / "worker_id=w1" / "pid=1__started=now.jsonl"
    path.parent.mkdir(parents=True)
    return path


def test_a_log_is_read_on_where_it_ended(tmp_path: Path, log_file: Path) -> None:
    logs = WorkerLogs(tmp_path)
    log_file.write_text(log_line("a"))
    assert [trace.steps for trace in logs("a").values()] == [(("Fetch", 1.5),)]
    with log_file.open("a") as file:
        file.write(log_line("a", 2))
    assert set(logs("a")) == {("a", 1, 5), ("a", 2, 5)}


def test_a_line_is_taken_once_it_is_complete(tmp_path: Path, log_file: Path) -> None:
    logs = WorkerLogs(tmp_path)
    whole = log_line("a")
    log_file.write_text(whole[:20])
    assert logs("a") == {}
    log_file.write_text(whole)
    assert set(logs("a")) == {("a", 1, 5)}


def test_of_a_huge_log_the_end_is_read(tmp_path: Path, log_file: Path) -> None:
    filler = "x" * 1023 + "\n"
    log_file.write_text(log_line("old") + filler * (FIRST_LOOK_BYTES // 1024) + log_line("new"))
    logs = WorkerLogs(tmp_path)
    assert logs("old") == {}
    assert set(logs("new")) == {("new", 1, 5)}


@pytest.mark.parametrize(
    "line",
    [
        "no json\n",
        '["steps"]\n',
        '{"steps": {"a": 1}}\n',
        log_line("a", "many"),
        log_line("a", steps=["Fetch"]),
        log_line("a", steps={"Fetch": "long"}),
        log_line("a", steps={}),
        "[" * 100_000 + '"steps"\n',
    ],
    ids=["no-json", "no-object", "no-ids", "no-number", "list", "no-seconds", "empty", "deep"],
)
def test_lines_of_another_kind_are_passed_over(tmp_path: Path, log_file: Path, line: str) -> None:
    log_file.write_text(line + log_line("b"))
    logs = WorkerLogs(tmp_path)
    assert not any(trace.steps or trace.lines for trace in logs("a").values())
    assert logs("b")["b", 1, 5].steps


def test_a_terminated_workflow_is_ending_until_its_function_has_ended(
    services: InMemoryServices, tmp_path: Path
) -> None:
    address = links.workflow(workflow := start(services, {}))
    delivery = services.take(declared(send))
    plan = make_plan(tmp_path, logs=LogPlan(root=tmp_path / "logs"))
    with (
        journal(ExportContext(plan=plan)) as listener,
        page_of(services.conductor, services.lakefs.server, WorkerLogs(tmp_path / "logs")) as site,
    ):

        def statuses() -> list[str]:
            page = site.get(address).main
            assert (page.attributes["data-live"] == "true") == ("ending" in page.one("h1").text)
            found = [each for title in ("h1", "h4") for each in page.one(title).all("span")]
            return [each.text for each in found if each.attributes["class"].startswith("status")]

        listener(AttemptReceived(delivery, "w0001"))
        services.conductor.terminate_workflow(workflow, "by hand")
        assert statuses() == ["terminated", "ending", "canceled", "ending"]
        listener(AttemptEnded(delivery, "w0001", Ending.LOST, 1.0, "Conductor is no longer waiting for it"))
        assert statuses() == ["terminated", "canceled"]


def test_a_killed_worker_does_not_leave_a_workflow_ending(services: InMemoryServices, tmp_path: Path) -> None:
    workflow = start(services, {})
    delivery = services.take(declared(send))
    with journal(ExportContext(plan=make_plan(tmp_path, logs=LogPlan(root=tmp_path / "logs")))) as listener:
        listener(AttemptReceived(delivery, "w0001"))
    services.conductor.terminate_workflow(workflow, "by hand")
    services.clock.advance(121)
    with page_of(services.conductor, services.lakefs.server, WorkerLogs(tmp_path / "logs")) as site:
        assert "ending" not in site.get(links.workflow(workflow)).main.text


def test_a_missing_log_directory_gives_no_steps(tmp_path: Path) -> None:
    assert WorkerLogs(tmp_path / "none")("a") == {}
