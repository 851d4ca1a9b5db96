"""The page of real servers: the same as that of models, read only, and half a page where one does not answer."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from perago.adapters.conductor import ConductorOverview, ConductorWorkflows
from perago.adapters.http import AnswerTooLargeError, NoAnswerError
from perago.console import text as links
from perago.console.app import page_app, without
from perago.console.embedded import source_of
from perago.console.remote import MOMENT, PAUSE, Kept, RemoteConductor
from perago.console.source import Conductor, LakeFS
from perago.embedded.http.loopback import Admission
from perago.ports import Unavailable
from perago.testing import InMemoryServices

from ..adapters.scripted import Reply, Request, ScriptedServer, reply_json
from .filled import REPOSITORY, Filled, declared, fill, start
from .markup import Element
from .servers import KEYS, NOWHERE, page_of_servers, servers_of, settings_of, variables
from .site import Site, site_of
from .tasks import summarise
from .test_page_links import crawl

AWAY = "does not answer"


@pytest.fixture(scope="module")
def twins(filled: Filled, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Site]]:
    """Two pages of the same models that change nothing: by looking at them, and over HTTP."""
    services = filled.services
    source = source_of(services.conductor, services.lakefs.server)
    with servers_of(services) as environment:
        settings = settings_of(environment, tmp_path_factory.mktemp("settings"))
        with site_of(page_app(replace(source, actions=None))) as here, page_of_servers(services, settings) as there:
            yield here, there
    source.news.close()


def pages_of(site: Site) -> dict[str, Element]:
    answers = crawl(site)
    return {path: each.page for path, each in answers.items() if "text/html" in each.headers["content-type"]}


def shown(page: Element) -> list[str]:
    """What can be compared: servers tell no history, and the size of a changed file only as it is afterwards."""
    main = page.one("main")
    without_history(main)
    for part in main.walk():
        if part.tag == "table" and any(cell.text == "Before" for cell in part.all("th")):
            part.children.clear()
        if part.tag == "li" and part.all("span", class_="change changed"):
            part.children.clear()
    return [text for part in main.walk() for text in (f"{part.tag} {sorted(part.attributes.items())}", part.text)]


def without_history(element: Element) -> None:
    """Take out what `perago dev` alone knows: what happened to each attempt, and to the whole workflow."""
    for child in list(element.children):
        if isinstance(child, str):
            continue
        if child.attributes.get("id", "").endswith("-history"):
            element.children.remove(child)
        elif child.tag == "h2" and child.text == "History":
            del element.children[element.children.index(child) :]
            return
        else:
            without_history(child)


def test_servers_are_shown_as_models_are(twins: tuple[Site, Site]) -> None:
    here, there = map(pages_of, twins)
    assert len(here) > 25
    assert set(here) == set(there)
    for path in here:
        assert shown(there[path]) == shown(here[path]), path


def test_the_page_of_servers_has_no_form_and_takes_no_post(twins: tuple[Site, Site], filled: Filled) -> None:
    _, there = twins
    for path, page in pages_of(there).items():
        assert not page.all("form"), path
        assert not page.all("button"), path
    for address in ("/start", f"/workflows/{filled.waiting}/terminate"):
        assert there.request("POST", address, {"reason": "x"}).status in (404, 405)
    assert filled.services.conductor.workflow(filled.waiting)["status"] == "RUNNING"


def test_the_foot_names_the_servers_without_what_is_secret(twins: tuple[Site, Site]) -> None:
    answer = twins[1].get("/")
    assert "127.0.0.1" in answer.page.one("footer").text
    for secret in (KEYS.token, KEYS.access_key_id, KEYS.secret_access_key):
        assert secret not in answer.text


def test_the_first_page_of_many_workflows_asks_for_one_page(services: InMemoryServices, tmp_path: Path) -> None:
    started = [start(services, {}) for _ in range(120)]
    with servers_of(services) as environment, page_of_servers(services, settings_of(environment, tmp_path)) as site:
        pages = [site.get(f"/?page={number}").main for number in (1, 3)]
    ids = [row[0].split()[-1] for page in pages for row in page.all("table")[0].rows()]
    assert ids == [*started[:69:-1], *started[19::-1]]
    assert "page 3 of 3" in pages[1].text


@pytest.mark.parametrize("status", ["FAILED", "' OR 'a'='a", "NONE"])
def test_a_status_of_the_address_is_no_part_of_a_query(twins: tuple[Site, Site], status: str) -> None:
    here, there = (site.get(links.with_query("/", status=status)).main.text for site in twins)
    assert there == here


# ------------------------------------------------------------------ a server that does not answer


@pytest.fixture
def filled_here(services: InMemoryServices) -> Filled:
    return fill(services)


def test_without_lakefs_the_other_half_is_whole(filled_here: Filled, tmp_path: Path) -> None:
    services = filled_here.services
    with servers_of(services) as environment:
        environment["LAKECTL_SERVER_ENDPOINT_URL"] = NOWHERE
        with page_of_servers(services, settings_of(environment, tmp_path)) as site:
            first = site.get("/").main
            workflow = site.get(links.workflow(filled_here.published)).main
            branch = site.request("GET", links.branch(REPOSITORY, "main"))
            repositories = site.get(links.REPOSITORIES).main
    assert "lakeFS: list the repositories: " in first.one("div", class_="problem").text
    assert len(first.all("table")[0].rows()) == 5
    assert f"Not known: lakeFS {AWAY}." in first.text
    assert "raw/orders.csv: row 17 has 3 columns" in workflow.text
    assert "lakeFS: " in workflow.one("div", class_="problem").text
    assert branch.status == 503
    assert "Not available" in branch.main.text
    assert "There is no repository" not in repositories.text


def test_without_lakefs_a_join_is_shown(services: InMemoryServices, tmp_path: Path) -> None:
    """Which of its commits continues the others is not known then."""
    commits = [services.seed({"number.txt": str(number)}) for number in range(2)]
    workflow = services.start(declared(summarise), {"label": "orders"}, ref=commits)
    with servers_of(services) as environment:
        environment["LAKECTL_SERVER_ENDPOINT_URL"] = NOWHERE
        with page_of_servers(services, settings_of(environment, tmp_path)) as site:
            assert "lakeFS: " in site.get(links.workflow(workflow)).main.one("div", class_="problem").text


def test_without_conductor_the_other_half_is_whole(filled_here: Filled, tmp_path: Path) -> None:
    services = filled_here.services
    with servers_of(services) as environment:
        environment["CONDUCTOR_SERVER_URL"] = f"{NOWHERE}/api"
        with page_of_servers(services, settings_of(environment, tmp_path)) as site:
            first = site.get("/").main
            commit = site.get(links.commit(REPOSITORY, filled_here.commit)).main
            task_type = site.request("GET", links.task_type("message.send"))
            workflow = site.request("GET", links.workflow(filled_here.published))
    assert "Conductor: " in first.one("div", class_="problem").text
    assert f"Not known: Conductor {AWAY}." in first.text
    assert "No workflow has been started" not in first.text
    assert f"{REPOSITORY} main" in first.text
    assert "raw/scratch.csv" in commit.text
    assert [task_type.status, workflow.status] == [503, 503]


def test_without_both_the_first_page_says_so(services: InMemoryServices, tmp_path: Path) -> None:
    settings = settings_of(variables(f"{NOWHERE}/api", NOWHERE), tmp_path)
    with page_of_servers(services, settings) as site:
        assert len(site.get("/").main.all("div", class_="problem")) == 2


def test_a_server_that_is_not_configured_is_named(services: InMemoryServices, tmp_path: Path) -> None:
    with servers_of(services) as environment:
        only = {"CONDUCTOR_SERVER_URL": environment["CONDUCTOR_SERVER_URL"]}
        with page_of_servers(services, settings_of(only, tmp_path)) as site:
            assert "LAKECTL_SERVER_ENDPOINT_URL is not set" in site.get("/").main.one("div", class_="problem").text


def test_a_server_that_denies_access_takes_its_half_only(filled_here: Filled, tmp_path: Path) -> None:
    services = filled_here.services
    with servers_of(services) as environment:
        environment["LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY"] = "wrong-but-secret"
        with page_of_servers(services, settings_of(environment, tmp_path)) as site:
            answer = site.get("/")
    assert "401" in answer.main.one("div", class_="problem").text
    assert len(answer.main.all("table")[0].rows()) == 5
    assert "wrong-but-secret" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"results": 1, "totalHits": "many"}',
        b'{"results": [{"id": null}], "pagination": {}}',
        b'{"results": [{"id": "a", "storage_namespace": "s3://a", "default_branch": "b", "creation_date": 1e999}],'
        b' "pagination": {"has_more": false}}',
        b"[" * 9000,
    ],
    ids=["html", "list", "types", "nulls", "infinite", "deep"],
)
def test_an_answer_of_another_program_is_a_server_that_does_not_answer(
    services: InMemoryServices, tmp_path: Path, body: bytes
) -> None:
    def answer(request: Request) -> Reply:
        return Reply(200, body, {"Content-Type": "application/json"})

    with ScriptedServer(answer) as server:
        settings = settings_of(variables(f"{server.url}/api", server.url), tmp_path)
        with page_of_servers(services, settings) as site:
            assert len(site.get("/").main.all("div", class_="problem")) == 2


def test_a_repository_that_may_not_be_read_takes_nothing_from_the_others(
    services: InMemoryServices, tmp_path: Path
) -> None:
    def answer(request: Request) -> Reply:
        if request.path.endswith("/repositories"):
            rows = [
                {"id": name, "storage_namespace": "s3://x", "default_branch": "main", "creation_date": 1}
                for name in ("closed", "open")
            ]
            return reply_json({"results": rows, "pagination": {"has_more": False}})
        return reply_json({"message": "insufficient permissions"}, 403 if "/closed/" in request.path else 404)

    with ScriptedServer(answer) as server:
        settings = settings_of(variables(f"{NOWHERE}/api", server.url), tmp_path)
        with page_of_servers(services, settings) as site:
            page = site.get(links.REPOSITORIES).main
    assert [row[0] for row in page.one("table").rows()] == ["closed main", "open main"]
    assert page.all("div", class_="problem") == []


def test_names_that_lakefs_refuses_are_not_there(services: InMemoryServices, tmp_path: Path) -> None:
    """An input with a mistake, and metadata of other authors: lakeFS answers 400, and 500 to an expression."""
    root = services.seed({"number.txt": "1"})
    workflow = services.start(declared(summarise), {"label": "orders"}, ref=root, repository="My-Data")
    services.attempt(summarise)
    services.lakefs.create_branch(REPOSITORY, "work", root)
    services.lakefs.server.put_object(REPOSITORY, "work", "number.txt", b"2")
    noted = {"perago.input_ref": "x~y", "perago.branch": "no such name", "perago.adopts": "main@"}
    commit = services.lakefs.commit(REPOSITORY, "work", "by hand", noted).id
    with servers_of(services) as environment, page_of_servers(services, settings_of(environment, tmp_path)) as site:
        asked = [links.workflow(workflow), links.commit(REPOSITORY, commit), links.repository(REPOSITORY)]
        pages = [site.get(address).main for address in asked]
        refused = site.request("GET", links.branch("My-Data", "main"))
    assert [page.all("div", class_="problem") for page in pages] == [[], [], []]
    assert "My-Data" in pages[0].text
    assert "x~y" in pages[1].text
    assert refused.status == 404
    assert "repository id: invalid value" in refused.main.text


def test_every_list_that_is_empty_without_a_server_is_asked_of_one(services: InMemoryServices) -> None:
    source = source_of(services.conductor, services.lakefs.server)
    for service, protocol in (("Conductor", Conductor), ("lakeFS", LakeFS)):
        seen = without(source, Unavailable(service, "answer", "gone"))
        half = seen.lakefs if service == "lakeFS" else seen.conductor
        assert set(half._empty) <= set(vars(protocol))  # type: ignore[union-attr]
    source.news.close()


# ------------------------------------------------------------------------- how much is asked


def test_an_answer_is_kept_for_a_moment() -> None:
    now = itertools.count(step=MOMENT / 2)
    kept, asked = Kept(lambda: next(now)), itertools.count()
    answers = [kept.for_a_moment("x", lambda: next(asked)) for _ in range(6)]
    assert answers[0] == answers[1] == 0
    assert answers[-1] > 0


def test_a_server_that_did_not_answer_is_left_alone_for_a_while() -> None:
    time_is = [0.0]
    kept, asked = Kept(lambda: time_is[0]), itertools.count()

    def ask() -> int:
        next(asked)
        raise Unavailable("lakeFS", "answer", "gone") from NoAnswerError("gone", sent=True)

    for _ in range(5):
        with pytest.raises(Unavailable, match="gone"):
            kept.ask(ask)
    time_is[0] = PAUSE + 1
    assert kept.ask(lambda: next(asked)) == 1


@pytest.mark.parametrize("cause", [None, AnswerTooLargeError("larger than 64 MB", sent=True)], ids=["bad", "large"])
def test_one_answer_of_no_use_takes_no_other_with_it(cause: Exception | None) -> None:
    kept = Kept()

    def ask() -> int:
        raise Unavailable("Conductor", "read workflow w", "the answer is of no use") from cause

    with pytest.raises(Unavailable):
        kept.ask(ask)
    assert kept.ask(lambda: 1) == 1


ATTEMPT: dict[str, object] = {
    "taskId": "t", "workflowInstanceId": "w", "taskDefName": "n", "taskType": "FORK", "referenceTaskName": "r",
    "status": "COMPLETED", "iteration": 0, "pollCount": 1, "retryCount": 0, "scheduledTime": 1, "startTime": 1,
    "endTime": 1,
}  # fmt: skip
WORKFLOW: dict[str, object] = {
    "workflowId": "w", "workflowName": "n", "workflowVersion": 1, "status": "COMPLETED", "startTime": 1, "endTime": 2,
    "tasks": [ATTEMPT],
}  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {**WORKFLOW, "tasks": {}},
        {**WORKFLOW, "tasks": ["text"]},
        {**WORKFLOW, "startTime": "soon"},
        {**WORKFLOW, "endTime": 10**400},
        {**WORKFLOW, "reasonForIncompletion": 7},
        *({**WORKFLOW, "tasks": [{**ATTEMPT, name: []}]} for name in [*ATTEMPT, "workerId", "retriedTaskId"]),
        {**WORKFLOW, "tasks": [{**ATTEMPT, "inputData": "text"}]},
        {**WORKFLOW, "tasks": [{**ATTEMPT, "inputData": {"forkedTaskDefs": ["text"]}}]},
        {**WORKFLOW, "tasks": [{**ATTEMPT, "workflowTask": {"taskReferenceName": "r", "forkTasks": [[{}]]}}]},
    ],
)
def test_a_workflow_that_is_none_is_a_conductor_without_an_answer(
    services: InMemoryServices, tmp_path: Path, answer: dict[str, object]
) -> None:
    def answers(request: Request) -> Reply:
        return reply_json(answer if request.path.endswith("/workflow/w") else [])

    with ScriptedServer(answers) as server:
        settings = settings_of(variables(f"{server.url}/api", NOWHERE), tmp_path)
        with page_of_servers(services, settings) as site:
            assert site.request("GET", links.workflow("w")).status == 503
            answer = WORKFLOW
            assert site.request("GET", links.workflow("w")).status == 200


def test_the_log_of_an_attempt_that_ended_long_ago_is_asked_for_seldom() -> None:
    """It may still grow for a while: workers send it after their report."""
    time_is, asked, overview = [0.0], list[float](), cast("ConductorOverview", None)

    class Workflows:
        def log_entries(self, task_id: str) -> list[object]:
            asked.append(time_is[0])
            return []

    workflows = cast("ConductorWorkflows", Workflows())
    conductor = RemoteConductor(workflows, overview, lambda: 1000 + time_is[0], clock=lambda: time_is[0])
    while time_is[0] < 700:
        conductor.task_log({"taskId": "t", "endTime": 1_000_000})
        time_is[0] += 4
    assert sum(moment < 20 for moment in asked) == 5
    assert sum(moment >= 600 for moment in asked) == 2


def test_what_is_kept_for_long_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perago.console.remote.ROOM", 10)
    kept = Kept()
    for number in range(20):
        kept.keep(number, str(number))
        kept.known(0)
    assert [number for number in range(20) if kept.known(number)] == [0, *range(11, 20)]
    kept.keep("large", "x", weight=50)
    assert kept.known("large") is None


# ---------------------------------------------------------------------------- who may look


def test_nothing_is_answered_without_the_token(services: InMemoryServices) -> None:
    source = source_of(services.conductor, services.lakefs.server)
    with site_of(Admission(page_app(source), "secret-token", apis=False)) as site:
        for path in ("/", "/health", "/api/v1/repositories", "/static/style.css", "/wrong-token/"):
            assert site.request("GET", path).status == 403, path
        assert site.request("GET", "/secret-token/").status == 200
    source.news.close()
