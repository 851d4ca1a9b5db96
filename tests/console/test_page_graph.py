"""The graph of a workflow definition: the steps that `perago workflow show` prints, with links to what they run."""

from __future__ import annotations

from typing import Any

import pytest

from perago.console import links
from perago.testing.services import InMemoryServices
from perago.workflows import Flow, workflow
from perago.workflows.picture import nodes_of, picture_of

from .forked import Nothing, Part, operator, part
from .site import Site
from .test_page_forms import errors_of, values_of


class Given(Part):
    kind: str


@workflow(name="graph.inner", version=2, owner_email="d@example.com")
def inner(flow: Flow, given: Part) -> Nothing:
    return flow.step("inside", part, Part, name=given.name, files=given.files).result


@workflow(name="graph.outer", version=1, owner_email="d@example.com")
def outer(flow: Flow, given: Given) -> None:
    flow.fork("sides", ["north", "south"], lambda side: flow.step("side", part, Part, name=side, files=given.files))
    with flow.loop("rounds", at_most=3), flow.switch("choice", given.kind) as switch:
        with switch.case("<b>"):
            flow.step("small", part, Part, name=given.name)
        with switch.default():
            flow.sub("large", inner, Part, name="x")
    flow.map("words", ["a"], lambda word: flow.step("word", part, Part, name=word))


def test_the_page_has_the_steps_that_the_terminal_shows_and_links_them(services: InMemoryServices, fresh: Site) -> None:
    services.conductor.register(part)
    for one in (inner, outer):
        services.conductor.create_workflow_definition(one.definition())
    page = fresh.get(links.workflow_type("graph.outer", 1)).main
    shown = [" ".join(paragraph.text.split()) for paragraph in page.one("ol", class_="commits").all("p")]
    printed = [" ".join(line.strip(" ├└│─").split()) for line in picture_of(outer.definition()).splitlines()[1:]]
    assert "".join(shown) == "".join(printed).replace(": ", "")
    addresses = {link.text: link.attributes["href"] for link in page.one("ol", class_="commits").all("a")}
    assert addresses == {
        "table.part": links.task_type("table.part"),
        "sub-workflow graph.inner 2": links.workflow_type("graph.inner", 2),
    }
    assert all(fresh.get(address).status == 200 for address in addresses.values())


def test_the_form_has_the_types_of_the_parameters(services: InMemoryServices, fresh: Site) -> None:
    services.seed({"a.txt": ""})
    services.conductor.register(part)
    services.conductor.create_workflow_definition(inner.definition())
    address = links.start("graph.inner", 2)
    values = {**values_of(fresh.get(address).main), "/name": "x"}
    assert values["/files"] == "1"
    wrong = fresh.request("POST", address, {**values, "/files": "1.5"})
    assert (wrong.status, list(errors_of(wrong.main))) == (422, ["/files"])
    started = fresh.request("POST", address, {**values, "/files": "2"}).headers["location"].rpartition("/")[2]
    given = services.conductor.workflow(started)["input"]
    assert (given["name"], given["files"]) == ("x", 2)


def test_a_graph_without_an_end_is_cut(services: InMemoryServices, fresh: Site) -> None:
    steps = [operator("WAIT", f"wait{number}", inputParameters={"duration": "1s"}) for number in range(500)]
    services.conductor.create_workflow_definition({"name": "many", "version": 1, "schemaVersion": 2, "tasks": steps})
    page = fresh.get(links.workflow_type("many", 1)).main
    assert len(page.one("ol", class_="commits").all("li")) == 400
    assert "Further steps are not shown." in page.text

    fork = operator("FORK_JOIN", "fork", forkTasks=[[step] for step in steps])
    join = operator("JOIN", "join", joinOn=[step["taskReferenceName"] for step in steps])
    services.conductor.create_workflow_definition(
        {"name": "wide", "version": 1, "schemaVersion": 2, "tasks": [fork, join]}
    )
    page = fresh.get(links.workflow_type("wide", 1)).main
    assert len(page.one("ol", class_="commits").all("li")) == 400
    assert "Further steps are not shown." in page.text


@pytest.mark.parametrize(
    "tasks",
    [
        None,
        "text",
        [None, 1, {}],
        [{"type": "FORK_JOIN", "forkTasks": [None, {"a": 1}]}, {"type": "FORK_JOIN", "forkTasks": 7}],
        [{"type": "FORK_JOIN_DYNAMIC", "inputParameters": [], "dynamicForkTasksParam": {}}],
        [{"type": "SWITCH", "decisionCases": [], "defaultCase": "x", "expression": ["y"]}],
        [{"type": "SUB_WORKFLOW", "subWorkflowParam": None}, {"type": None}, {"type": "DO_WHILE", "loopOver": 3}],
    ],
)
def test_a_malformed_definition_is_shown_as_far_as_possible(tasks: Any) -> None:
    assert isinstance(nodes_of(tasks), tuple)


def test_structures_in_structures_without_an_end_are_cut() -> None:
    task: dict[str, Any] = operator("SIMPLE", "deepest")
    for number in range(400):
        task = operator("DO_WHILE", f"loop{number}", loopOver=[task])
    assert "…  steps in more than 20 structures" in picture_of({"name": "deep", "tasks": [task]})
