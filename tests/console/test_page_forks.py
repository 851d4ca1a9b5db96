"""Forks side by side, and the line of commits that their branches published to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perago.console import links
from perago.testing.services import InMemoryServices

from .browser import NAMES, Browser, find_browser, running_browser
from .filled import REPOSITORY, define
from .forked import Forked, begin, fork, forking, operator, step
from .markup import Element
from .site import Site, page_of

EXECUTABLE = find_browser()
needs_browser = pytest.mark.skipif(EXECUTABLE is None, reason=f"no browser: none of {', '.join(NAMES)} is installed")


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
    return {each.one("h3").all("bdi")[0].text: branches(each) for each in main.all("section", class_="fork")}


def test_each_branch_of_a_fork_is_a_lane_and_a_fork_inside_is_part_of_its_lane(page: Element) -> None:
    assert shown_forks(page) == {
        "outer": [
            ["north"],
            ["inner_left", "inner_right"],
            ["inner_left"],
            ["inner_right"],
            ["south", "south_again"],
        ],
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


def test_the_line_has_the_publications_in_the_order_of_the_branch_and_others_in_between(
    page: Element, forked: Forked
) -> None:
    items = [item for item in page.one("ol", class_="commits").children if isinstance(item, Element)]
    hrefs = [next(a.attributes["href"] for a in item.all("a", class_="id")) for item in items]
    history = forked.services.lakefs.history(REPOSITORY, "main", until=forked.root, limit=100)
    expected = [forked.root, *(commit.id for commit in reversed(history))]
    assert hrefs == [links.commit(REPOSITORY, commit) for commit in expected]

    start, north, foreign, *rest = items
    assert start.text.startswith("begins at")
    assert (north.one("strong").text, foreign.all("span")[0].text) == ("north", "others")
    assert foreign.all("p")[1].text == "A note about the visit (1 file: 1 added)"
    names = [each.one("strong").text for each in rest]
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


def test_an_unscheduled_step_is_shown_as_upcoming_and_an_empty_history_has_no_line(
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


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert EXECUTABLE is not None
    with running_browser(EXECUTABLE, tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@needs_browser
@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize(
    ("width", "columns", "dark", "javascript"),
    [(360, 1, True, False), (400, 1, False, True), (1280, 3, True, True), (1280, 3, False, False)],
)
def test_lanes_are_side_by_side_where_there_is_room_and_every_text_can_be_read(
    running: Browser, forked_site: Site, forked: Forked, width: int, columns: int, dark: bool, javascript: bool
) -> None:
    running.open(forked_site.url + links.workflow(forked.workflow), width=width, dark=dark, javascript=javascript)
    found = running.evaluate(Path(__file__).with_name("measure.js").read_text())
    lefts = running.evaluate(
        "[...document.querySelectorAll('.fork')[0].querySelectorAll(':scope > .lanes > .branch')]"
        ".map((lane) => Math.round(lane.getBoundingClientRect().left))"
    )
    assert running.complaints == []
    running.close()
    assert (found["width"], found["overflow"], found["outside"], found["faint"]) == (width, 0, [], [])
    assert (len(lefts), len(set(lefts))) == (3, columns)
