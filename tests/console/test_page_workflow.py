"""Forks side by side, their line of commits, and the steps of attempts from the logs of workers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perago.console import links
from perago.ports import Delivery, TaskStatus
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of
from perago.worker.events import AttemptEnded, AttemptReceived, Ending
from perago.worker.log_reader import FIRST_READ_BYTES, WorkerLogs
from perago.worker.logs import journal
from perago.worker.plan import ExportContext, LogPlan

from ..definitions import forking, operator
from ..worker.bench import make_plan
from .browser import Browser
from .filled import REPOSITORY, define, send, start
from .forked import Forked, begin, fork, step
from .markup import Element
from .site import Site, page_of


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    with InMemoryServices() as services:
        yield fork(services)


@pytest.fixture(scope="module")
def forked_site(forked: Forked) -> Iterator[Site]:
    with page_of(forked.services.conductor, forked.services.lakefs.server) as site:
        yield site


@pytest.fixture(scope="module")
def page(forked: Forked, forked_site: Site) -> Element:
    return forked_site.get(links.workflow(forked.workflow)).main


def branches(of: Element) -> list[list[str]]:
    """The references of each lane of a fork, those of inner forks in lists of their own behind."""
    return [[link.text for link in lane.all("a") if is_step(link)] for lane in of.all("li", class_="branch")]


def is_step(link: Element) -> bool:
    return "attempt-" in link.attributes["href"]


def shown_forks(main: Element) -> dict[str, list[list[str]]]:
    return {section.one("h3").all("bdi")[0].text: branches(section) for section in main.all("section", class_="fork")}


def test_each_branch_of_a_fork_is_a_lane_that_contains_inner_forks(page: Element) -> None:
    assert shown_forks(page) == {
        "outer": [["north"], ["inner_left", "inner_right"], ["inner_left"], ["inner_right"], ["south", "south_again"]],
        "spread": [["east"], ["west"]],
    }
    inner = page.one("li", class_="inner-fork")
    assert inner.all("p")[0].text == "Fork inner"


def test_a_lane_shows_status_attempt_and_publication(page: Element, forked: Forked) -> None:
    north = page.all("li", class_="branch")[0]
    attempt, commit = north.all("a")
    assert attempt.attributes["href"][1:] in {article.attributes["id"] for article in page.all("article")}
    published = forked.services.conductor.workflow(forked.workflow)["tasks"][1]["outputData"]["workspace"]["ref"]
    assert commit.attributes["href"] == links.commit(REPOSITORY, published)
    assert north.one("span", class_="status good").text == "completed"


def test_the_line_has_all_commits_in_the_order_of_the_branch(page: Element, forked: Forked) -> None:
    items = [item for item in page.one("ol", class_="commits").children if isinstance(item, Element)]
    hrefs = [next(a.attributes["href"] for a in item.all("a", class_="id")) for item in items]
    history = forked.services.lakefs.history(REPOSITORY, "main", until=forked.root, limit=100)
    expected = [forked.root, *(commit.id for commit in reversed(history))]
    assert hrefs == [links.commit(REPOSITORY, commit) for commit in expected]

    start, north, foreign, *rest = items
    assert start.text.startswith("begins at")
    assert (north.one("strong").text, foreign.all("span")[0].text) == ("north", "others")
    assert foreign.all("p")[1].text == "A note about the visit (1 file: 1 added)"
    names = [commit.one("strong").text for commit in rest]
    assert set(names) == {"inner_left", "inner_right", "south", "south_again", "east", "west"}
    assert names.index("south") < names.index("south_again") < names.index("west")


def test_a_commit_of_the_line_lists_its_first_files_and_counts_the_rest(page: Element) -> None:
    north = page.one("ol", class_="commits").all("li")[1]
    files = [item.text for item in north.one("ul", class_="changed").all("li")]
    assert files == [*(f"added parts/north/{number}.txt" for number in range(5)), "and 2 more files"]


def test_every_link_to_an_attempt_leads_to_it_on_any_page_of_steps(
    services: InMemoryServices, fresh: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perago.console.workflow._STEPS_PER_PAGE", 3)
    workflow, _ = begin(services, forking("wide", *([step(f"b{number}")] for number in range(5))))
    services.conductor.drain()
    address = links.workflow(workflow)
    lanes = fresh.get(address).main.one("section", class_="fork").all("li", class_="branch")
    assert len(lanes) == 5
    for lane in lanes:
        query, _, anchor = next(a.attributes["href"] for a in lane.all("a") if is_step(a)).partition("#")
        assert fresh.get(address + query).page.one("article", id=anchor)


def test_an_unscheduled_step_is_upcoming_and_an_empty_history_has_no_line(
    services: InMemoryServices, fresh: Site
) -> None:
    workflow, _ = begin(services, forking("early", [step("now"), step("later")]))
    main = fresh.get(links.workflow(workflow)).main
    lane = main.one("li", class_="branch")
    assert [status.text for status in lane.all("span") if "status" in status.attributes.get("class", "")] == [
        "scheduled",
        "to come",
    ]
    assert [link.text for link in lane.all("a")] == ["now"]
    assert main.all("ol", class_="commits") == []


def test_a_publication_of_a_sub_workflow_is_listed_under_its_step(services: InMemoryServices, fresh: Site) -> None:
    define(services.conductor, "inside", step("deep"))
    runs = operator(
        "SUB_WORKFLOW",
        "nested",
        subWorkflowParam={"name": "inside", "version": 1},
        inputParameters={"workspace": "${workflow.input.workspace}"},
    )
    workflow, _ = begin(services, forking("both", [runs], [step("plain")]))
    services.conductor.drain()
    main = fresh.get(links.workflow(workflow)).main
    names = [name.text for name in main.one("ol", class_="commits").all("strong")]
    assert sorted(names) == ["nested / deep", "plain"]
    nested = main.all("li", class_="branch")[0]
    assert nested.all("a", class_="id")[0].text in main.one("ol", class_="commits").text


def test_a_switch_is_followed_by_the_steps_of_its_chosen_case(services: InMemoryServices, fresh: Site) -> None:
    switch = operator(
        "SWITCH",
        "which",
        evaluatorType="value-param",
        expression="case",
        inputParameters={"case": "left"},
        decisionCases={"left": [step("taken")], "right": [step("passed_over")]},
    )
    workflow, _ = begin(services, forking("deciding", [switch], [step("plain")]))
    assert shown_forks(fresh.get(links.workflow(workflow)).main) == {"deciding": [["which", "taken"], ["plain"]]}


def test_each_round_of_a_loop_has_its_fork(services: InMemoryServices, fresh: Site) -> None:
    condition = "if ($.loop['iteration'] < 2) { true; } else { false; }"
    rounds = forking(
        "halves", [operator("INLINE", "left", inputParameters=INLINE)], [operator("SET_VARIABLE", "right")]
    )
    workflow, _ = begin(services, [operator("DO_WHILE", "loop", loopCondition=condition, loopOver=rounds)])
    assert shown_forks(fresh.get(links.workflow(workflow)).main) == {
        "halves__1": [["left__1"], ["right__1"]],
        "halves__2": [["left__2"], ["right__2"]],
    }


INLINE = {"evaluatorType": "javascript", "expression": "1"}


# ---------------------------------------------------------------------- in a browser


@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize(
    ("width", "columns", "dark", "javascript"),
    [(360, 1, True, False), (400, 1, False, True), (1280, 3, True, True), (1280, 3, False, False)],
)
def test_lanes_are_side_by_side_if_they_fit_and_all_text_is_readable(
    running: Browser, forked_site: Site, forked: Forked, width: int, columns: int, dark: bool, javascript: bool
) -> None:
    running.open(forked_site.url + links.workflow(forked.workflow), width=width, dark=dark, javascript=javascript)
    measured = running.evaluate(Path(__file__).with_name("measure.js").read_text())
    lefts = running.evaluate(
        "[...document.querySelectorAll('.fork')[0].querySelectorAll(':scope > .lanes > .branch')]"
        ".map((lane) => Math.round(lane.getBoundingClientRect().left))"
    )
    assert running.complaints == []
    running.close()
    assert (measured["width"], measured["overflow"], measured["outside"], measured["faint"]) == (width, 0, [], [])
    assert (len(lefts), len(set(lefts))) == (3, columns)


# ------------------------------------------------- Steps of attempts, from the logs that workers write


TIMED = (("Fetch", 0.25), ("RunFunction", 0.75))


def reported(delivery: Delivery) -> AttemptEnded:
    return AttemptEnded(delivery, "w0001", Ending.REPORTED, 1.0, status=TaskStatus.COMPLETED, steps=TIMED)


def test_steps_of_a_workers_log_are_shown_with_their_attempt(services: InMemoryServices, tmp_path: Path) -> None:
    workflow = start(services, {})
    delivery = services.take(task_of(send))
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


def test_an_attempt_without_a_log_here_shows_its_waiting_and_running_time(
    services: InMemoryServices, fresh: Site
) -> None:
    workflow = start(services, {})
    services.clock.advance(10)
    steps = fresh.get(links.workflow(workflow)).main.one("details", class_="times")
    assert [row[:2] for row in steps.one("table").rows()] == [["Waiting", "10.0 s"]]
    services.take(task_of(send))
    services.clock.advance(30)
    steps = fresh.get(links.workflow(workflow)).main.one("details", class_="times")
    assert [row[:2] for row in steps.one("table").rows()] == [["Waiting", "10.0 s"], ["With a worker", "30.0 s"]]
    drawn = [(bar.attributes["x"], bar.attributes["width"]) for bar in steps.all("rect")]
    assert drawn == [("0.0%", "25.0%"), ("25.0%", "75.0%")]


def log_line(task_id: str, poll_count: object = 1, **fields: object) -> str:
    entry = {"task_id": task_id, "poll_count": poll_count, "start_time": 5, "steps": {"Fetch": 1.5}, **fields}
    return json.dumps(entry) + "\n"


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    path = tmp_path / "module" / "worker_id=w1" / "pid=1__started=now.jsonl"
    path.parent.mkdir(parents=True)
    return path


def test_a_log_is_read_on_where_its_last_complete_line_ended(tmp_path: Path, log_file: Path) -> None:
    assert WorkerLogs(tmp_path / "none")("a") == {}
    logs, second = WorkerLogs(tmp_path), log_line("a", 2)
    log_file.write_text(log_line("a"))
    assert [trace.steps for trace in logs("a").values()] == [(("Fetch", 1.5),)]
    with log_file.open("a") as file:
        file.write(second[:20])
        file.flush()
        assert set(logs("a")) == {("a", 1, 5)}
        file.write(second[20:])
    assert set(logs("a")) == {("a", 1, 5), ("a", 2, 5)}


def test_of_a_huge_log_the_end_is_read(tmp_path: Path, log_file: Path) -> None:
    filler = "x" * 1023 + "\n"
    log_file.write_text(log_line("old") + filler * (FIRST_READ_BYTES // 1024) + log_line("new"))
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
    delivery = services.take(task_of(send))
    plan = make_plan(tmp_path, logs=LogPlan(root=tmp_path / "logs"))
    with (
        journal(ExportContext(plan=plan)) as listener,
        page_of(services.conductor, services.lakefs.server, WorkerLogs(tmp_path / "logs")) as site,
    ):

        def statuses() -> list[str]:
            page = site.get(address).main
            assert (page.attributes["data-live"] == "true") == ("ending" in page.one("h1").text)
            spans = [span for title in ("h1", "h4") for span in page.one(title).all("span")]
            return [span.text for span in spans if span.attributes["class"].startswith("status")]

        def wait_for(expected: list[str]) -> None:  # the journal is written in the background
            until = time.monotonic() + 30
            while (shown := statuses()) != expected and time.monotonic() < until:
                time.sleep(0.01)
            assert shown == expected

        listener(AttemptReceived(delivery, "w0001"))
        services.conductor.terminate_workflow(workflow, "by hand")
        wait_for(["terminated", "ending", "canceled", "ending"])
        listener(AttemptEnded(delivery, "w0001", Ending.LOST, 1.0, "Conductor is no longer waiting for it"))
        wait_for(["terminated", "canceled"])


def test_a_killed_worker_does_not_leave_a_workflow_ending(services: InMemoryServices, tmp_path: Path) -> None:
    workflow = start(services, {})
    delivery = services.take(task_of(send))
    with journal(ExportContext(plan=make_plan(tmp_path, logs=LogPlan(root=tmp_path / "logs")))) as listener:
        listener(AttemptReceived(delivery, "w0001"))
    services.conductor.terminate_workflow(workflow, "by hand")
    services.clock.advance(121)
    with page_of(services.conductor, services.lakefs.server, WorkerLogs(tmp_path / "logs")) as site:
        assert "ending" not in site.get(links.workflow(workflow)).main.text
