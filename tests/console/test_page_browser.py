"""The page in a real headless browser: with JavaScript and without, wide and narrow, light and dark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel
from starlette.responses import HTMLResponse
from starlette.types import Receive, Scope, Send

from perago.console import console_of, links
from perago.embedded.services import EmbeddedServices
from perago.taskdef import build_task_definition
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of
from perago.worker.log_reader import WorkerLogs
from perago.worker.logs import JsonLog, delivery_ids
from perago.worker.plan import LogPlan
from perago.workflows import Flow, workflow

from ..definitions import simple
from ..worker.bench import make_plan
from .browser import Browser
from .filled import REPOSITORY, STAGING, Filled, define, send, start
from .forked import Nothing
from .hostile import Hostile
from .markup import Element, read
from .site import Site, page_of, site_of


class Approval(BaseModel):
    by: str
    is_given: bool = False


@workflow(name="page.asked", version=1, owner_email="d@example.com")
def asked(flow: Flow, params: Nothing) -> Approval:
    return flow.wait_for("approval", Approval).result


PHONE, DESK = 360, 1280
LIGHT_GROUND, DARK_GROUND = "rgb(247, 247, 245)", "rgb(19, 22, 21)"

pytestmark = pytest.mark.xdist_group("browser")
with_and_without_javascript = pytest.mark.parametrize(
    "javascript", [True, False], ids=["with-javascript", "without-javascript"]
)


@pytest.fixture
def browser(running: Browser) -> Iterator[Browser]:
    """With a fresh tab, in which nothing may be complained about."""
    yield running
    complaints = list(running.complaints)
    running.close()
    assert complaints == []


def shown(browser: Browser) -> Element:
    """The document as the browser has it."""
    return read(browser.html())


# -------------------------------------------------------------- what is shown


@with_and_without_javascript
def test_workflows_are_shown_with_and_without_javascript(
    browser: Browser, site: Site, filled: Filled, javascript: bool
) -> None:
    browser.open(site.url, javascript=javascript)
    ids = [row[1] for row in shown(browser).all("table")[0].rows()]
    assert ids == list(filled.services.conductor.workflow_ids())[::-1]


@with_and_without_javascript
@pytest.mark.parametrize("kind", ["workflow", "commit", "file"])
def test_hostile_values_are_inert_in_the_browser(
    browser: Browser, hostile: Hostile, kind: str, javascript: bool
) -> None:
    path = {
        "workflow": links.workflow(hostile.workflow),
        "commit": links.commit(REPOSITORY, hostile.commit),
        "file": links.file(REPOSITORY, hostile.commit, "/absolute"),
    }[kind]
    browser.open(hostile.site.url + path, javascript=javascript)
    page = shown(browser)
    assert page.one("head").one("title").text.endswith("· perago"), "a script that ran would have changed it"
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert "<script>document.title='taken'</script>" in page.one("main").text


# ------------------------------------------------------------------------ live

FOLLOWING = "stream !== null && stream.readyState === 1 && !loading"
STATUS = "document.querySelector('h1 .status').textContent"


def running_workflow(services: InMemoryServices) -> tuple[str, Callable[[], object]]:
    """A workflow that runs, and what ends it."""
    workflow = start(services, {})
    delivery = services.take(task_of(send))
    result = {"taskId": delivery.task_id, "workflowInstanceId": workflow, "status": "COMPLETED", "outputData": {}}
    return workflow, lambda: services.conductor.update_task(result)


def test_a_running_workflow_is_followed_to_its_end_and_no_further(
    browser: Browser, services: InMemoryServices, fresh: Site
) -> None:
    workflow, end = running_workflow(services)
    browser.open(fresh.url + links.workflow(workflow))
    browser.wait_for(FOLLOWING)
    browser.evaluate("document.getElementById('input').open = true")
    end()
    browser.wait_for(f"{STATUS} === 'completed'")
    browser.wait_for("stream === null")
    assert browser.evaluate("document.getElementById('input').open") is True, "the reader has opened it"
    assert browser.evaluate("document.getElementById('output').open") is False


def test_without_javascript_a_page_stays_as_it_was_loaded(
    browser: Browser, services: InMemoryServices, fresh: Site
) -> None:
    workflow, end = running_workflow(services)
    browser.open(fresh.url + links.workflow(workflow), javascript=False)
    end()
    assert shown(browser).one("h1").all("span")[-1].text == "running"


def test_a_form_with_input_is_not_reloaded(browser: Browser, services: InMemoryServices, fresh: Site) -> None:
    workflow, end = running_workflow(services)
    browser.open(fresh.url + links.workflow(workflow))
    browser.wait_for(FOLLOWING)
    browser.evaluate("document.getElementById('end').open = true; document.getElementById('reason').focus()")
    browser.evaluate("document.getElementById('reason').value = 'half a'")
    end()
    browser.wait_for("missed")
    assert browser.evaluate("document.getElementById('reason').value") == "half a"
    browser.evaluate("document.activeElement.blur()")
    browser.wait_for(f"{STATUS} === 'completed'")


def test_output_of_a_running_attempt_is_shown_immediately(
    browser: Browser, services: InMemoryServices, tmp_path: Path
) -> None:
    workflow = start(services, {})
    delivery = services.take(task_of(send))
    log = JsonLog(make_plan(tmp_path, logs=LogPlan(root=tmp_path / "logs")), "w0001")
    with page_of(services.conductor, services.lakefs.server, WorkerLogs(tmp_path / "logs")) as site:
        browser.open(site.url + links.workflow(workflow))
        browser.wait_for(FOLLOWING)
        log.write("INFO", "half way <b>", source="output", **delivery_ids(delivery))
        log.write("INFO", "progress 30/60", source="progress", **delivery_ids(delivery))
        services.conductor.on_change()
        browser.wait_for("document.body.textContent.includes('half way <b>')", seconds=3)
        browser.wait_for("document.querySelector('progress').value === 30", seconds=3)
    log.close()


def test_a_reader_learns_that_the_services_have_ended(browser: Browser, services: InMemoryServices) -> None:
    with page_of(services.conductor, services.lakefs.server) as site:
        browser.open(site.url)
        browser.wait_for(FOLLOWING)
    browser.wait_for("live.textContent === 'The services do not answer; what is shown may be old.'")
    browser.evaluate("close()")
    assert browser.complaints
    browser.complaints.clear()


def test_a_workflow_is_started_and_ended_by_hand(running: Browser) -> None:
    with EmbeddedServices(page=console_of) as services:
        services.conductor.register_task_definitions([build_task_definition(task_of(send))])
        define(services.conductor, "w", simple("message.send", params="${workflow.input.params}"))
        for javascript in (True, False):
            running.open(f"{services.url}/", javascript=javascript)
            running.open(f"{services.url}/start?name=w&version=1", javascript=javascript)
            running.click("main button")
            assert shown(running).one("h1").all("span")[-1].text == "running"
            running.click("#end summary")
            running.click("#end button")
            assert shown(running).one("h1").all("span")[-1].text == "terminated"
            assert running.complaints == []
            running.close()


def test_a_step_that_waits_is_answered_by_hand(running: Browser) -> None:
    with EmbeddedServices(page=console_of) as services:
        services.conductor.create_workflow_definition(asked.definition())
        for javascript in (True, False):
            workflow_id = services.conductor.start_workflow(asked.name, {}, version=1)
            running.open(f"{services.url}/", javascript=javascript)
            running.open(f"{services.url}{links.workflow(workflow_id)}", javascript=javascript)
            running.click("[href$='/signals/approval'].button")
            running.evaluate("document.querySelector('main input').value = 'ann'")
            running.click("main button")
            assert shown(running).one("h1").all("span")[-1].text == "completed"
            assert services.conductor.workflow(workflow_id)["output"]["result"] == {"by": "ann", "is_given": False}
            assert running.complaints == []
            running.close()


# ---------------------------------------------------------------------- looks


KINDS: Mapping[str, Callable[[Filled], str]] = {
    "overview": lambda filled: "/",
    "refused": lambda filled: links.workflow(filled.refused),
    "published": lambda filled: links.workflow(filled.published),
    "terminated": lambda filled: links.workflow(filled.terminated),
    "running": lambda filled: links.RUNNING,
    "workers": lambda filled: links.WORKERS,
    "search": lambda filled: links.search("table.summ"),
    "diff": lambda filled: links.diff(REPOSITORY, filled.commit, "raw/orders.csv"),
    "task-types": lambda filled: links.TASK_TYPES,
    "task-type": lambda filled: links.task_type("table.summarise"),
    "workflow-type": lambda filled: links.workflow_type("test.table.summarise", 1),
    "start": lambda filled: links.start("test.table.summarise", 1),
    "repositories": lambda filled: links.REPOSITORIES,
    "repository": lambda filled: links.repository(REPOSITORY),
    "branch": lambda filled: links.branch(REPOSITORY, "main"),
    "staging": lambda filled: links.branch(REPOSITORY, STAGING),
    "commit": lambda filled: links.commit(REPOSITORY, filled.commit),
    "directory": lambda filled: links.files(REPOSITORY, filled.root, "raw/"),
    "file": lambda filled: links.file(REPOSITORY, filled.root, "notes/long.txt"),
}
"""The address of one page of each kind."""


@pytest.mark.parametrize(("width", "dark"), [(PHONE, True), (DESK, False)], ids=["phone, dark", "desk, light"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_fits_its_window_and_every_text_can_be_read(
    browser: Browser, site: Site, filled: Filled, kind: str, width: int, dark: bool
) -> None:
    browser.open(site.url + KINDS[kind](filled), width=width, dark=dark)
    measured = browser.evaluate(Path(__file__).with_name("measure.js").read_text())
    assert measured["texts"] >= 9
    assert (measured["width"], measured["overflow"], measured["outside"]) == (width, 0, [])
    assert measured["faint"] == [], "contrast below 4.5"
    assert measured["ground"] == (DARK_GROUND if dark else LIGHT_GROUND)


def test_the_keyboard_reaches_the_content_first_and_sees_where_it_is(browser: Browser, site: Site) -> None:
    browser.open(site.url)
    browser.evaluate("document.querySelector('.skip').focus()")
    assert browser.evaluate("document.querySelector('.skip').getBoundingClientRect().left") >= 0
    browser.evaluate("document.querySelector('main a').focus({focusVisible: true})")
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


# ------------------------------------------------------- who may see it, and what other pages can do

ATTACK = """(async () => {
  const tries = [];
  const [bases, running] = %s;
  for (const base of bases) {
    const post = {method: "POST", body: "{}", mode: "no-cors", credentials: "include"};
    tries.push(fetch(`${base}/api/workflow/victim`, post).catch(() => null));
    tries.push(fetch(`${base}/start?name=victim`, post).catch(() => null));
    for (const [tag, source] of [["img", "src"], ["script", "src"], ["iframe", "src"], ["object", "data"]]) {
      tries.push(new Promise((done) => {
        const element = document.createElement(tag);
        element.onload = element.onerror = done;
        setTimeout(done, 5000);
        element[source] = `${base}/api/tasks/poll/victim?workerid=${tag}`;
        document.body.append(element);
      }));
    }
    for (const action of ["api/workflow/victim", "start?name=victim", `workflows/${running}/terminate`]) {
      tries.push(new Promise((done) => {
        const frame = document.createElement("iframe");
        frame.name = `frame${tries.length}`;
        document.body.append(frame);
        const form = document.createElement("form");
        Object.assign(form, {method: "POST", action: `${base}/${action}`, target: frame.name});
        document.body.append(form);
        frame.onload = done;
        setTimeout(done, 5000);
        form.submit();
      }));
    }
  }
  await Promise.all(tries);
  return tries.length;
})()"""
"""What a page can send to another address without being able to read the answer."""


def test_the_page_opens_by_its_printed_address_and_its_links_lead_on(browser: Browser) -> None:
    with EmbeddedServices(page=console_of) as services:
        browser.open(f"{services.url}/")
        assert shown(browser).one("head").one("title").text.endswith("· perago")
        links = (
            "[...document.querySelectorAll('nav a, link[rel=stylesheet], script')].map((one) => one.href || one.src)"
        )
        followed = f"Promise.all({links}.map((url) => fetch(url).then((answer) => answer.status)))"
        statuses = browser.evaluate(followed)
        assert set(statuses) == {200}
        base = services.lakefs_url
        assert browser.evaluate(f"fetch('{base}/task-types').then((answer) => answer.status)") == 403
        assert browser.evaluate(f"fetch('{base}/api/metadata/taskdefs').then((answer) => answer.status)") == 403
        assert all("403" in complaint for complaint in browser.complaints)
        browser.complaints.clear()


def test_a_page_of_another_port_starts_nothing_and_takes_nothing(running: Browser) -> None:
    """All ports of a host are one site. The page of the other port even knows the token here."""

    async def elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
        await HTMLResponse("<!doctype html><title>evil</title><body></body>")(scope, receive, send)

    with EmbeddedServices(page=console_of) as services, site_of(elsewhere) as evil:
        conductor = services.conductor
        conductor.register_task_definitions([{"name": "victim"}])
        define(conductor, "victim", simple("victim"))
        waiting = conductor.start_workflow("victim")
        running.open(f"{services.url}/")
        running.close()
        running.open(evil.url)
        assert running.evaluate(ATTACK % json.dumps([[services.lakefs_url, services.url], waiting])) == 18
        refusals = [complaint for complaint in running.complaints if "403" in complaint]
        running.close()
        assert conductor.workflow_ids() == (waiting,)
        assert conductor.workflow(waiting)["status"] == "RUNNING"
        assert conductor.workflow(waiting)["tasks"][0]["pollCount"] == 0
        assert refusals
