"""The page of configured servers: read only, half a page where one does not answer, and the shapes of answers."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from perago.adapters.conductor.overview import ConductorOverview, ConductorWorkflows
from perago.adapters.http_answers import AnswerTooLargeError, NoAnswerError
from perago.console import links, source
from perago.console.app import page_app
from perago.console.source import CHANGEABLE_TTL, SILENT_SERVER_BACKOFF, Answers, Conductor, LakeFS, source_of
from perago.embedded.http.loopback import Admission
from perago.embedded.lakefs import objects
from perago.ports import Unavailable
from perago.settings import ConductorSettings, LakeFSSettings
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of
from perago.worker.log_reader import no_traces

from ..adapters.scripted import Reply, Request, ScriptedServer, reply_json
from ..conformance.recordings import ROOT, recorded
from .filled import REPOSITORY, Filled, summarise
from .site import KEYS, NOWHERE, Site, conductor_at, crawl, lakefs_at, page_of_servers, servers_of, settings_of, site_of

AWAY = "does not answer"


Servers = tuple[ConductorSettings, LakeFSSettings]


@pytest.fixture(scope="module")
def servers(filled: Filled) -> Iterator[Servers]:
    """Servers that are full of everything."""
    with servers_of(filled.services) as servers:
        yield servers


@pytest.fixture(scope="module")
def read_only(filled: Filled, servers: Servers) -> Iterator[Site]:
    """The page of these servers."""
    with page_of_servers(filled.services, *servers) as site:
        yield site


def test_the_page_of_servers_changes_nothing_and_takes_no_post(read_only: Site, filled: Filled) -> None:
    answers = crawl(read_only)
    assert len(answers) > 25
    for path, answer in answers.items():
        if "text/html" in answer.headers["content-type"]:
            assert not answer.page.all("form", method="post"), path
    for address in ("/start", f"/workflows/{filled.waiting}/terminate", f"/workflows/{filled.waiting}/signals/a"):
        assert read_only.request("POST", address, {"reason": "x"}).status in (404, 405)
    assert filled.services.conductor.workflow(filled.waiting)["status"] == "RUNNING"


def test_servers_show_only_both_sizes_of_a_changed_file(read_only: Site, filled: Filled) -> None:
    assert "History" not in [heading.text for heading in read_only.get(links.workflow(filled.published)).main.all("h2")]
    rows = read_only.get(links.commit(REPOSITORY, filled.commit)).main.one("table").rows()
    assert rows[1:3] == [
        ["raw/orders.csv", "changed", "19 bytes", "14 bytes"],
        ["raw/scratch.csv", "removed", "3 bytes", ""],
    ]


def test_the_footer_names_the_servers_without_secrets(read_only: Site) -> None:
    answer = read_only.get("/")
    assert "127.0.0.1" in answer.page.one("footer").text
    for secret in (KEYS.token, KEYS.access_key_id, KEYS.secret_access_key):
        assert secret not in answer.text


@pytest.mark.parametrize(("status", "total"), [("FAILED", 1), ("' OR 'a'='a", 0), ("NONE", 0)])
def test_a_status_of_the_address_is_not_part_of_a_query(read_only: Site, status: str, total: int) -> None:
    page = read_only.get(links.with_query("/", status=status)).main
    assert sum("v1" in row[0] for table in page.all("table")[:1] for row in table.rows()) == total


# ------------------------------------------------------------------ a server that does not answer


def test_without_lakefs_the_other_half_is_complete(filled: Filled, servers: Servers) -> None:
    with page_of_servers(filled.services, servers[0], lakefs_at(NOWHERE)) as site:
        first = site.get("/").main
        workflow = site.get(links.workflow(filled.published)).main
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


def test_without_lakefs_a_join_is_shown(services: InMemoryServices) -> None:
    """Which of its commits continues the others is not known then."""
    commits = [services.seed({"number.txt": str(number)}) for number in range(2)]
    workflow = services.start(task_of(summarise), {"label": "orders"}, ref=commits)
    with servers_of(services) as (conductor, _), page_of_servers(services, conductor, lakefs_at(NOWHERE)) as site:
        assert "lakeFS: " in site.get(links.workflow(workflow)).main.one("div", class_="problem").text


def test_without_conductor_the_other_half_is_complete(filled: Filled, servers: Servers) -> None:
    with page_of_servers(filled.services, conductor_at(NOWHERE), servers[1]) as site:
        first = site.get("/").main
        commit = site.get(links.commit(REPOSITORY, filled.commit)).main
        task_type = site.request("GET", links.task_type("message.send"))
        workflow = site.request("GET", links.workflow(filled.published))
    assert "Conductor: " in first.one("div", class_="problem").text
    assert f"Not known: Conductor {AWAY}." in first.text
    assert "No workflow has been started" not in first.text
    assert f"{REPOSITORY} main" in first.text
    assert "raw/scratch.csv" in commit.text
    assert [task_type.status, workflow.status] == [503, 503]


def test_a_server_that_denies_access_only_hides_its_half(filled: Filled, servers: Servers) -> None:
    wrong = lakefs_at(servers[1].endpoint_url, "wrong-but-secret")
    with page_of_servers(filled.services, servers[0], wrong) as site:
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
def test_an_answer_of_another_program_is_a_server_that_does_not_answer(services: InMemoryServices, body: bytes) -> None:
    def answer(request: Request) -> Reply:
        return Reply(200, body, {"Content-Type": "application/json"})

    with (
        ScriptedServer(answer) as server,
        page_of_servers(services, conductor_at(server.url), lakefs_at(server.url)) as site,
    ):
        assert len(site.get("/").main.all("div", class_="problem")) == 2


def test_a_repository_that_may_not_be_read_takes_nothing_from_the_others(services: InMemoryServices) -> None:
    def answer(request: Request) -> Reply:
        if request.path.endswith("/repositories"):
            rows = [
                {"id": name, "storage_namespace": "s3://x", "default_branch": "main", "creation_date": 1}
                for name in ("closed", "open")
            ]
            return reply_json({"results": rows, "pagination": {"has_more": False}})
        return reply_json({"message": "insufficient permissions"}, 403 if "/closed/" in request.path else 404)

    with (
        ScriptedServer(answer) as server,
        page_of_servers(services, conductor_at(NOWHERE), lakefs_at(server.url)) as site,
    ):
        page = site.get(links.REPOSITORIES).main
    assert [row[0] for row in page.one("table").rows()] == ["closed main", "open main"]
    assert page.all("div", class_="problem") == []


def test_names_that_lakefs_refuses_are_not_there(services: InMemoryServices) -> None:
    """An input with a mistake, and metadata of other authors: lakeFS answers 400, and 500 to an expression."""
    root = services.seed({"number.txt": "1"})
    workflow = services.start(task_of(summarise), {"label": "orders"}, ref=root, repository="My-Data")
    services.attempt(summarise)
    services.lakefs.create_branch(REPOSITORY, "work", root)
    objects.put_object(services.lakefs.server.repository(REPOSITORY), "work", "number.txt", b"2")
    noted = {"perago.input_ref": "x~y", "perago.branch": "no such name", "perago.adopts": "main@"}
    commit = services.lakefs.commit(REPOSITORY, "work", "by hand", noted).id
    with servers_of(services) as servers, page_of_servers(services, *servers) as site:
        asked = [links.workflow(workflow), links.commit(REPOSITORY, commit), links.repository(REPOSITORY)]
        pages = [site.get(address).main for address in asked]
        refused = site.request("GET", links.branch("My-Data", "main"))
    assert [page.all("div", class_="problem") for page in pages] == [[], [], []]
    assert "My-Data" in pages[0].text
    assert "x~y" in pages[1].text
    assert refused.status == 404
    assert "repository id: invalid value" in refused.main.text


@pytest.mark.parametrize(("service", "kind"), [("Conductor", Conductor), ("lakeFS", LakeFS)])
def test_every_list_that_is_empty_without_a_server_is_asked_of_one(service: str, kind: type) -> None:
    with source_of(settings_of(), no_traces) as source:
        missing: Any = source.without(Unavailable(service, "answer", "gone"))
        assert set((missing.lakefs if kind is LakeFS else missing.conductor)._empty) <= set(vars(kind))


# ------------------------------------------------------------------------- how much is asked


def test_an_answer_is_remembered_for_a_moment_or_until_it_is_forgotten() -> None:
    now = itertools.count(step=CHANGEABLE_TTL / 2)
    answers, asked = Answers(lambda: next(now)), itertools.count()
    values = [answers.changeable("x", lambda: next(asked)) for _ in range(6)]
    assert values[0] == values[1] == 0
    assert values[-1] > 0
    answers.forget()
    assert answers.changeable("x", lambda: next(asked)) > values[-1]


def test_an_answer_that_was_asked_for_before_a_change_is_forgotten_too() -> None:
    answers = Answers()

    def ask() -> str:
        answers.forget()
        return "old"

    assert answers.changeable("x", ask) == "old"
    assert answers.changeable("x", lambda: "new") == "new"


def test_a_server_that_did_not_answer_is_not_called_for_a_while() -> None:
    time_is = [0.0]
    answers, asked = Answers(lambda: time_is[0]), itertools.count()

    def ask() -> int:
        next(asked)
        raise Unavailable("lakeFS", "answer", "gone") from NoAnswerError("gone", sent=True)

    for _ in range(5):
        with pytest.raises(Unavailable, match="gone"):
            answers.ask(ask)
    time_is[0] = SILENT_SERVER_BACKOFF + 1
    assert answers.ask(lambda: next(asked)) == 1


@pytest.mark.parametrize("cause", [None, AnswerTooLargeError("larger than 64 MB", sent=True)], ids=["bad", "large"])
def test_one_answer_of_no_use_takes_no_other_with_it(cause: Exception | None) -> None:
    answers = Answers()

    def ask() -> int:
        raise Unavailable("Conductor", "read workflow w", "the answer is of no use") from cause

    with pytest.raises(Unavailable):
        answers.ask(ask)
    assert answers.ask(lambda: 1) == 1


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
def test_a_non_workflow_answer_counts_as_no_answer_of_conductor(
    services: InMemoryServices, answer: dict[str, object]
) -> None:
    def answers(request: Request) -> Reply:
        return reply_json(answer if request.path.endswith("/workflow/w") else [])

    with (
        ScriptedServer(answers) as server,
        page_of_servers(services, conductor_at(server.url), lakefs_at(NOWHERE)) as site,
    ):
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
    conductor = Conductor(workflows, overview, lambda: 1000 + time_is[0], Answers(lambda: time_is[0]))
    while time_is[0] < 700:
        conductor.task_log({"taskId": "t", "endTime": 1_000_000})
        time_is[0] += 4
    assert sum(moment < 20 for moment in asked) == 5
    assert sum(moment >= 600 for moment in asked) == 2


def test_the_number_of_is_answers_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perago.console.source.CACHE_WEIGHT_LIMIT", 10)
    answers = Answers()
    for number in range(20):
        answers.remember(number, str(number))
        answers.known(0)
    assert [number for number in range(20) if answers.known(number)] == [0, *range(11, 20)]
    answers.remember("large", "x", weight=50)
    assert answers.known("large") is None


# ---------------------------------------------------------------------------- who may look


def test_slow_downloads_do_not_keep_pages_waiting(
    filled: Filled, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, path = threading.Event(), links.download(REPOSITORY, filled.root, "raw/logo.bin")

    def read(*_: object) -> Iterator[bytes]:
        release.wait(30)
        yield b"1234567890"

    monkeypatch.setattr(LakeFS, "read", read)
    with page_of_servers(filled.services, *servers) as site, ThreadPoolExecutor(60) as pool:
        downloads = [pool.submit(site.get, path) for _ in range(60)]
        try:
            for _ in range(20):
                assert "Repositories" in site.get(links.REPOSITORIES).main.text
                assert not any(download.done() for download in downloads)
        finally:
            release.set()
        assert {download.result().data for download in downloads} == {b"1234567890"}


def test_nothing_is_answered_without_the_token() -> None:
    with (
        source_of(settings_of(), no_traces) as source,
        site_of(Admission(page_app(source), "secret-token", apis=False)) as site,
    ):
        for path in ("/", "/health", "/api/v1/repositories", "/static/style.css", "/wrong-token/"):
            assert site.request("GET", path).status == 403, path
        assert site.request("GET", "/secret-token/").status == 200


# ----------------------------------------------------------------------------------------------------
# The shapes that the console checks Conductor's answers against fit what a real one has answered.


SHAPES = {
    "GET /workflow/{workflow}": source.Workflow,
    "GET /metadata/workflow/{name}": source.WorkflowDefinition,
    "GET /tasks/{task}/log": list[source.LogEntry],
    "GET /admin/task/{name}": list[source.Attempt],
}
PLACEHOLDERS = ("<time>", "<luck>", "<hidden>")


def restored(value: Any) -> Any:
    """Recordings keep no times and no numbers that are luck."""
    if isinstance(value, dict):
        return {
            name: restored(member) for name, member in value.items() if (name, member) != ("workflowTask", "<hidden>")
        }
    if isinstance(value, list):
        return [restored(member) for member in value]
    return 1 if value in PLACEHOLDERS else value


@pytest.mark.parametrize("operation", SHAPES)
def test_recorded_answers_of_a_real_conductor_have_the_shape(operation: str) -> None:
    exchanges = [
        exchange
        for path in (ROOT / "conductor").glob("*.jsonl")
        for scenario in recorded(path)[1].values()
        for exchange in scenario
        if exchange.get("request", {}).get("operation") == operation and exchange["response"]["status"] == 200
    ]
    assert exchanges
    for exchange in exchanges:
        source.checked(SHAPES[operation], restored(exchange["response"]["body"]))
