"""Starting workflows from forms made of schemas, ending them, and the graph of a workflow definition."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel, Field, HttpUrl

from perago import task
from perago.authoring import Task
from perago.console import links
from perago.taskdef import build_task_definition
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of
from perago.workflows import Flow, workflow
from perago.workflows.picture import nodes_of, picture_of

from ..definitions import forking, operator, simple
from .filled import REPOSITORY, define, send, summarise
from .forked import Nothing, Part, part
from .markup import Element
from .site import PageAnswer, Site, page_of

ADDRESS = links.start("w", 1)


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Params(BaseModel):
    name: str = Field(min_length=2, description="What it is called.")
    size: Size = Size.SMALL
    count: int = Field(3, ge=1, le=10)
    ratio: float | None = None
    day: datetime.date = datetime.date(2026, 1, 31)
    url: HttpUrl = HttpUrl("https://example.com/")
    strict: bool = False
    tags: list[str] = []


class Result(BaseModel):
    rows: int


@task(name="form.filled", owner_email="data@example.com")
def fill_in(params: Params) -> Result:
    return Result(rows=len(params.name))


class Forms:
    """A page with one workflow, which gives its input to one task."""

    def __init__(self, site: Site, services: InMemoryServices) -> None:
        self.site = site
        self.services = services

    def register(self, declaration: Task) -> None:
        definition = build_task_definition(declaration)
        self.services.conductor.register_task_definitions([definition])
        taken = {key: f"${{workflow.input.{key}}}" for key in definition["inputKeys"]}
        define(self.services.conductor, "w", simple(declaration.name, **taken))

    def values(self) -> dict[str, str]:
        return values_of(self.site.get(ADDRESS).main)

    def send(self, **changed: str) -> PageAnswer:
        """The form as it comes, with some params changed."""
        return self.site.request(
            "POST", ADDRESS, {**self.values(), **{f"/params/{key}": text for key, text in changed.items()}}
        )

    def started(self, answer: PageAnswer) -> dict[str, Any]:
        """The input of the workflow that was started."""
        assert answer.status == 303, answer.main.text
        workflow_id = answer.headers["location"].rpartition("/")[2]
        payload: dict[str, Any] = self.services.conductor.workflow(workflow_id)["input"]
        return payload


def values_of(main: Element) -> dict[str, str]:
    values = {control.attributes["name"]: control.attributes["value"] for control in main.all("input")}
    for control in main.all("textarea"):
        values[control.attributes["name"]] = "".join(map(str, control.children)).removeprefix("\n")
    for control in main.all("select"):
        chosen = [option for option in control.all("option") if "selected" in option.attributes]
        values[control.attributes["name"]] = chosen[0].attributes["value"] if chosen else ""
    return values


def errors_of(main: Element) -> dict[str, str]:
    """What is wrong with each field; the error is tied to the field for those who hear the page."""
    errors = {}
    for field in main.all("div"):
        for control in field.all("input") + field.all("textarea") + field.all("select"):
            if control.attributes.get("aria-invalid") == "true":
                hint = field.one("p", id=control.attributes["aria-describedby"])
                errors[control.attributes["name"]] = hint.one("strong").text
    return errors


@pytest.fixture
def forms(services: InMemoryServices) -> Iterator[Forms]:
    samples = {"w": {"name": "first example", "tags": ["a", "b"]}}
    with page_of(services.conductor, services.lakefs.server, samples=samples) as site:
        forms = Forms(site, services)
        forms.register(task_of(fill_in))
        yield forms


def test_a_form_begins_with_the_sample_and_the_defaults(forms: Forms) -> None:
    assert forms.values() == {
        "/params/name": "first example",
        "/params/size": '"small"',
        "/params/count": "3",
        "/params/ratio": "",
        "/params/day": "2026-01-31",
        "/params/url": "https://example.com/",
        "/params/strict": "false",
        "/params/tags": '[\n  "a",\n  "b"\n]',
    }


def test_an_unchanged_form_starts_a_workflow_that_its_task_accepts(forms: Forms) -> None:
    params = forms.started(forms.send())["params"]
    assert Params.model_validate(params).name == "first example"
    assert "ratio" not in params, "an optional field that is left empty is left out"
    assert forms.services.attempt(fill_in).status == "COMPLETED"


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("name", "x", "has 1 length, allowed are 2 to inf"),
        ("name", "", "has 0 length, allowed are 2 to inf"),
        ("count", "0", "is less than 1"),
        ("count", "2.5", "must be integer, but is number"),
        ("count", "NaN", "is not a number"),
        ("ratio", "much", "is not a number"),
        ("size", '"huge"', "is not one of 'small', 'large'"),
        ("day", "tomorrow", "Input should be a valid date"),
        ("url", "example", "Input should be a valid URL"),
        ("tags", "[", "is not JSON"),
        ("tags", "[1]", "must be string"),
        ("tags", "[" * 100_000, "is not JSON"),
    ],
)
def test_an_error_is_shown_at_its_field_and_no_input_is_lost(forms: Forms, field: str, text: str, message: str) -> None:
    answer = forms.send(**{field: text, "strict": "true"})
    assert answer.status == 422
    [(key, error)] = errors_of(answer.main).items()
    assert key == f"/params/{field}"
    assert message in error
    assert "1 field must be changed" in answer.main.text
    values = values_of(answer.main)
    assert values["/params/strict"] == "true"
    assert not forms.services.conductor.workflow_ids()


def test_values_come_back_exactly(forms: Forms) -> None:
    text = "\n<b>\u202e\u200b'\"&\ttext\n\n"
    assert forms.started(forms.send(name=text))["params"]["name"] == text
    assert values_of(forms.send(name=text, count="0").main)["/params/name"] == text


def test_a_workspace_field_has_the_head_and_follows_it_when_empty(forms: Forms) -> None:
    first = forms.services.seed({"raw/a.csv": "id\n"})
    services = forms.services
    services.conductor.register_task_definitions([build_task_definition(task_of(summarise))])
    taken = {key: f"${{workflow.input.{key}}}" for key in ("workspace", "params")}
    define(services.conductor, "v", simple("table.summarise", **taken))
    address = links.start("v", 1)
    values = values_of(forms.site.get(address).main)
    place = {"repository": REPOSITORY, "branch": "main", "ref_type": "commit"}
    assert values["/workspace/ref"] == first
    assert forms.started(forms.site.request("POST", address, values))["workspace"] == {**place, "ref": first}
    second = services.seed({"raw/a.csv": "id\n1\n"})
    empty = {**values, "/workspace/ref": ""}
    assert forms.started(forms.site.request("POST", address, empty))["workspace"] == {**place, "ref": second}
    for key, text in (("branch", "none"), ("repository", "none"), ("ref", "0" * 64)):
        answer = forms.site.request("POST", address, {**values, f"/workspace/{key}": text})
        assert list(errors_of(answer.main)) == [f"/workspace/{'ref' if key == 'ref' else 'branch'}"]
    joined = {**values, "/workspace/ref": json.dumps([first, None, second])}
    assert forms.started(forms.site.request("POST", address, joined))["workspace"] == {
        **place,
        "ref": [first, None, second],
    }
    page = forms.site.get(links.workflow(services.conductor.workflow_ids()[-1]))
    assert links.commit(REPOSITORY, second) in {anchor.attributes.get("href") for anchor in page.main.all("a")}
    for text, message in (
        ("[", "is not JSON"),
        ('["main"]', "/0: must be a full commit id"),
        ("[]", "names no commit"),
        (json.dumps([first, "0" * 64]), "does not exist"),
    ):
        answer = forms.site.request("POST", address, {**values, "/workspace/ref": text})
        [(key, error)] = errors_of(answer.main).items()
        assert (key, message in error) == ("/workspace/ref", True), error


def test_a_form_of_an_unknown_type_or_without_bounds_is_refused(forms: Forms) -> None:
    assert forms.site.request("GET", links.start("none", 1)).status == 404
    assert forms.site.request("POST", links.start("w", 2), {}).status == 404
    assert forms.site.request("POST", ADDRESS, {"/params/name": "x" * 2_000_000}).status == 413
    many = {f"/params/{number}": "" for number in range(1000)}
    assert forms.site.request("POST", ADDRESS, many).status == 400


def test_a_workflow_is_ended_with_a_reason(forms: Forms) -> None:
    address = forms.send().headers["location"]
    page = forms.site.get(address).main
    assert [form.attributes["action"] for form in page.all("form")] == [f"{address}/terminate"]
    answer = forms.site.request("POST", f"{address}/terminate", {"reason": "wrong input"})
    assert (answer.status, answer.headers["location"]) == (303, address)
    workflow = forms.services.conductor.workflow(address.rpartition("/")[2])
    assert (workflow["status"], workflow["reasonForIncompletion"]) == ("TERMINATED", "wrong input")
    page = forms.site.get(address).main
    assert not page.all("form")
    assert "wrong input" in page.text
    assert forms.site.request("POST", f"{address}/terminate", {"reason": "again"}).status == 303
    assert "wrong input" in forms.site.get(address).main.text, "what has ended stays as it is"
    assert forms.site.request("POST", "/workflows/none/terminate", {}).status == 404


class Approval(BaseModel):
    by: str = Field(min_length=2)
    is_given: bool = False
    day: datetime.date = datetime.date(2026, 1, 31)


@workflow(name="form.approved", version=1, owner_email="d@example.com")
def approved(flow: Flow, params: Nothing) -> Approval:
    flow.sleep(minutes=1)
    return flow.wait_for("approval", Approval).result


def waiting(services: InMemoryServices) -> str:
    """Start a workflow that waits for a signal."""
    services.conductor.create_workflow_definition(approved.definition())
    workflow_id = services.conductor.start_workflow(approved.name, {}, version=1)
    services.conductor.advance(61)
    return workflow_id


def test_a_step_that_waits_is_answered_by_a_form(forms: Forms) -> None:
    address = links.workflow(waiting(forms.services))
    buttons = {button.text: button.attributes["href"] for button in forms.site.get(address).main.all("a")}
    form = buttons["Answer approval"]
    assert form == f"{address}/signals/approval"
    page = forms.site.get(form).main
    assert values_of(page) == {"/signal/by": "", "/signal/is_given": "false", "/signal/day": "2026-01-31"}

    wrong = forms.site.request("POST", form, {"/signal/by": "a", "/signal/day": "today"})
    assert (wrong.status, sorted(errors_of(wrong.main))) == (422, ["/signal/by", "/signal/day"])
    assert "Nothing was sent: 2 fields must be changed" in wrong.main.text
    done = forms.site.request("POST", form, {"/signal/by": "<b>ann", "/signal/is_given": "true", "/signal/day": ""})
    assert (done.status, done.headers["location"]) == (303, address)
    ended = forms.services.conductor.workflow(address.rpartition("/")[2])
    assert ended["output"]["result"] == {"by": "<b>ann", "is_given": True, "day": "2026-01-31"}
    assert "Answer approval" not in forms.site.get(address).main.text
    assert forms.site.request("GET", form).status == 404
    assert forms.site.request("POST", form, {"/signal/by": "late"}).status == 404


def test_a_signal_without_a_schema_is_an_object(forms: Forms) -> None:
    conductor = forms.services.conductor
    workflow_id = conductor.start_workflow("raw", {}, definition=define_raw())
    form = links.signal(workflow_id, "human")
    assert values_of(forms.site.get(form).main) == {"/signal": "{}"}
    wrong = forms.site.request("POST", form, {"/signal": "[1]"})
    assert "must be object, but is array" in wrong.main.text
    large = forms.site.request("POST", form, {"/signal": json.dumps({"text": "a" * 300_000})})
    assert "Nothing was sent: the signal has 300,012 bytes, but 262,144 at most" in large.main.text
    assert forms.site.request("POST", form, {"/signal": '{"n": 1}'}).status == 303
    assert conductor.workflow(workflow_id)["tasks"][0]["outputData"] == {"n": 1}


def define_raw() -> dict[str, Any]:
    return {"name": "raw", "version": 1, "schemaVersion": 2, "tasks": [operator("HUMAN", "human")]}


def test_samples_are_read_when_a_form_is_made(services: InMemoryServices) -> None:
    samples: dict[str, Any] = {}
    with page_of(services.conductor, services.lakefs.server, samples=samples) as site:
        forms = Forms(site, services)
        forms.register(task_of(send))
        assert forms.values()["/params/label"] == ""
        samples["w"] = {"label": "later"}
        assert forms.values()["/params/label"] == "later"


# ----------------------------------------------------------------------------------------------------
# The graph of a workflow definition: the steps that `perago workflow show` prints, with links to what they run.


class Given(Part):
    kind: str


@workflow(name="graph.inner", version=2, owner_email="d@example.com")
def inner(flow: Flow, params: Part) -> Nothing:
    return flow.step("inside", part, Part, name=params.name, files=params.files).result


@workflow(name="graph.outer", version=1, owner_email="d@example.com")
def outer(flow: Flow, params: Given) -> None:
    flow.fork("sides", ["north", "south"], lambda side: flow.step("side", part, Part, name=side, files=params.files))
    with flow.loop("rounds", at_most=3), flow.switch("choice", params.kind) as switch:
        with switch.case("<b>"):
            flow.step("small", part, Part, name=params.name)
        with switch.default():
            flow.sub("large", inner, Part, name="x")
    flow.map("words", ["a"], lambda word: flow.step("word", part, Part, name=word))


def test_the_page_has_the_steps_that_the_terminal_shows_and_links_them(services: InMemoryServices, fresh: Site) -> None:
    services.conductor.register(part)
    for flow in (inner, outer):
        services.conductor.create_workflow_definition(flow.definition())
    page = fresh.get(links.workflow_type("graph.outer", 1)).main
    shown = [" ".join(paragraph.text.split()) for paragraph in page.one("ol", class_="commits").all("p")]
    printed = [" ".join(line.strip(" ├└│─").split()) for line in picture_of(outer.definition()).splitlines()[1:]]
    assert "".join(shown).replace(": ", "") == "".join(printed).replace(": ", "")
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
    assert [box.one("legend").text for box in fresh.get(address).main.all("fieldset")] == ["workspace"]
    wrong = fresh.request("POST", address, {**values, "/files": "1.5"})
    assert (wrong.status, list(errors_of(wrong.main))) == (422, ["/files"])
    started = fresh.request("POST", address, {**values, "/files": "2"}).headers["location"].rpartition("/")[2]
    payload = services.conductor.workflow(started)["input"]
    assert (payload["name"], payload["files"]) == ("x", 2)


def test_a_graph_without_an_end_is_cut(services: InMemoryServices, fresh: Site) -> None:
    steps = [operator("WAIT", f"wait{number}", inputParameters={"duration": "1s"}) for number in range(500)]
    define(services.conductor, "many", *steps)
    page = fresh.get(links.workflow_type("many", 1)).main
    assert len(page.one("ol", class_="commits").all("li")) == 400
    assert "Further steps are not shown." in page.text

    define(services.conductor, "wide", *forking("fork", *([step] for step in steps)))
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
