"""What operators ask of both servers: versions, clocks, queues; and answers that are too large to be read."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest
from pydantic import SecretStr

from perago.adapters.conductor import ConductorQueue
from perago.adapters.conductor.overview import ConductorOverview, ConductorWorkflows
from perago.adapters.http import Answer, CallPolicy, ServerAbout
from perago.adapters.lakefs import LakeFSBrowser, LakeFSStore
from perago.ports import AccessDenied, NotFound, ServiceError, Unavailable, Unclear
from perago.settings import ConductorSettings, LakeFSSettings

from .conductor_script import DELIVERY, POLLED, conductor_error
from .lakefs_script import CALM, COMMIT, SECRET
from .scripted import Action, Reply, ScriptedServer, Trickle, reply_json


def overview(server: ScriptedServer) -> ConductorOverview:
    return ConductorOverview(ConductorSettings(server_url=f"{server.url}/api"), policy=CALM)


def lakefs(server: ScriptedServer, policy: CallPolicy = CALM) -> LakeFSStore:
    settings = LakeFSSettings(endpoint_url=server.url, access_key_id="key", secret_access_key=SecretStr(SECRET))
    return LakeFSStore(settings, policy=policy)


def page(entry: object) -> dict[str, object]:
    return {"results": [entry], "pagination": {"has_more": False, "next_offset": ""}}


def test_a_server_reports_its_version_and_its_clock() -> None:
    def ahead() -> str:
        return formatdate(time.time() + 300, usegmt=True)

    with ScriptedServer(lambda _: Reply(200, b"3.32.3", {"Date": ahead()})) as server:
        about = overview(server).about()
    assert about.version == "3.32.3"
    assert about.ahead == pytest.approx(300, abs=3)
    with ScriptedServer(lambda _: reply_json({"version": "1.84.0"}, Date=ahead())) as server:
        about = lakefs(server).about()
        assert [request.path for request in server.requests] == ["/api/v1/config/version"]
    assert about.version == "1.84.0"
    assert about.ahead == pytest.approx(300, abs=3)


def test_a_server_that_reports_nothing_has_no_version_and_no_clock() -> None:
    with ScriptedServer(lambda _: conductor_error(404, "No static resource api/version.")) as server:
        assert overview(server).about().version is None
    with ScriptedServer(lambda _: reply_json({"something": "else"})) as server:
        assert lakefs(server).about().version is None


@pytest.mark.parametrize("date", ["", "soon", "Fri, 99 Nov 2026 12:00:00 GMT"])
def test_a_malformed_date_is_ignored(date: str) -> None:
    assert ServerAbout.of(Answer(200, {"Date": date} if date else {}, b""), None, 0.0).ahead is None


@pytest.mark.parametrize(("status", "error"), [(401, AccessDenied), (500, Unavailable)])
def test_a_lakefs_that_does_not_report_its_version_is_an_error(status: int, error: type[ServiceError]) -> None:
    with ScriptedServer(lambda _: reply_json({"message": "no"}, status)) as server, pytest.raises(error):
        lakefs(server).about()


CHANGE = {"path": "k", "type": "added", "size_bytes": 1, "checksum": "c", "mtime": 1, "metadata": {"k": "v"}}
HEAD = {"commit_id": COMMIT, "id": COMMIT, "parents": [], "committer": "c", "message": "m", "creation_date": 1}
ENDED = {"status": "COMPLETED", "startTime": 1, "endTime": 2, "workflowName": "w", "tasks": [POLLED]}
Read = Callable[[LakeFSStore, ConductorQueue], object]
READS: dict[str, tuple[Read, Any]] = {
    "a branch": (lambda lakefs, _: lakefs.get_commit("r", "main"), {**HEAD, "meta_range_id": "m"}),
    "branches": (lambda lakefs, _: lakefs.list_branches("r", ""), page({"id": "main"})),
    "changes": (lambda lakefs, _: lakefs.diff("r", "a", "b"), page(CHANGE)),
    "staged objects": (lambda lakefs, _: lakefs.newest_staged("r", "main"), page(CHANGE)),
    "objects": (
        lambda lakefs, _: [entry.size + entry.mtime for entry in lakefs.list_objects("r", "c", "")],
        page(CHANGE),
    ),
    "a workflow": (lambda _, queue: queue.read_workflow(DELIVERY, "w"), {**ENDED, "workflowId": "w"}),
    "deliveries": (lambda _, queue: queue.poll("t", "w", count=1, wait_seconds=0), [POLLED]),
    "the end of a workflow": (lambda _, queue: queue.read_end("w", 3), ENDED),
}


def wrong_values(good: Any) -> Iterator[object]:
    """Yield an answer with one of its values replaced or missing."""
    yield from (None, 1, True, "x", math.inf, [None], {"x": []})
    if isinstance(good, dict):
        for key in good:
            yield {name: value for name, value in good.items() if name != key}
            yield from ({**good, key: value} for value in wrong_values(good[key]))
    elif isinstance(good, list):
        yield from ([value] for member in good for value in wrong_values(member))


@pytest.mark.parametrize(("read", "good"), READS.values(), ids=READS.keys())
def test_a_wrong_value_in_an_answer_is_one_error_that_says_what_is_wrong(read: Read, good: Any) -> None:
    answer, policy, details = good, replace(CALM, tries=1), set[str]()
    with ScriptedServer(lambda _: reply_json(answer)) as server:
        queue = ConductorQueue(ConductorSettings(f"{server.url}/api"), policy=policy, traced=True)
        store = lakefs(server, policy)
        read(store, queue)
        for wrong in wrong_values(good):
            answer = wrong
            try:
                read(store, queue)
            except NotFound:  # the answer has the id of another commit
                continue
            except (Unavailable, Unclear) as error:
                details.add(error.detail)
    clear = r"the answer is not .+ \(.+\); is \w+ the address of a \w+ server.*"
    assert details or good is ENDED, "nothing was refused"
    assert [detail for detail in details if not re.fullmatch(clear, detail)] == []


@pytest.mark.parametrize("answer", [reply_json([{}]), reply_json(["text"]), reply_json({}), Reply(200, b"<html>")])
def test_an_answer_of_another_kind_is_not_from_conductor(answer: Action) -> None:
    with ScriptedServer(lambda _: answer) as server, pytest.raises(Unavailable):
        overview(server).last_polls()


LARGE = [{"log": "x" * 100_000}] * 20
LIMITED = CallPolicy(tries=1, largest=1_000_000)


def test_a_log_beyond_the_largest_size_is_given_up() -> None:
    with ScriptedServer(lambda _: reply_json(LARGE)) as server:
        workflows = ConductorWorkflows(ConductorSettings(server_url=f"{server.url}/api"), policy=LIMITED)
        with pytest.raises(Unavailable, match="larger than 1,000,000 bytes"):
            workflows.log("t")


@pytest.mark.parametrize(("body", "task_id"), [(b"", None), (b"4a6c-1f", "4a6c-1f"), (b'"4a6c"', "4a6c")])
def test_an_answer_to_a_step_has_the_id_of_the_attempt_that_took_it(body: bytes, task_id: str | None) -> None:
    with ScriptedServer(lambda _: Reply(200, body)) as server:
        workflows = ConductorWorkflows(ConductorSettings(server_url=f"{server.url}/api"))
        assert workflows.update_task_by_reference("w", "ask__2", "COMPLETED", {"by": "ann"}) == task_id
        (request,) = server.requests
        assert (request.path, request.body) == ("/api/tasks/w/ask__2/COMPLETED", b'{"by":"ann"}')


def test_a_page_in_place_of_the_answer_to_a_step_is_unclear() -> None:
    with ScriptedServer(lambda _: Reply(200, b"<html>")) as server:
        workflows = ConductorWorkflows(ConductorSettings(server_url=f"{server.url}/api"))
        with pytest.raises(Unclear, match="a task id"):
            workflows.update_task_by_reference("w", "ask", "COMPLETED", {})


def from_place(place: str) -> tuple[Action, CallPolicy, str]:
    return Reply(206, b"x" * 100, {"Content-Range": place} if place else {}), CALM, "the server sends"


OBJECTS: dict[str, tuple[Action, CallPolicy, str]] = {
    "a large error": (reply_json(LARGE, 500), LIMITED, "larger than 1,000,000 bytes"),
    "a byte now and then": (Trickle(100, 0.05), CallPolicy(connect=0.2, answer=0.3), "no answer within the time limit"),
    "later bytes": from_place("bytes 100-199/200"),
    "fewer bytes": from_place("bytes 0-98/200"),
    "no place": from_place(""),
    "no bytes": from_place("bytes */200"),
}


@pytest.mark.parametrize(("answer", "policy", "message"), OBJECTS.values(), ids=OBJECTS)
def test_an_object_that_is_not_given_as_it_was_asked_for_is_given_up(
    answer: Action, policy: CallPolicy, message: str
) -> None:
    with ScriptedServer(lambda _: answer) as server:
        settings = LakeFSSettings(endpoint_url=server.url, access_key_id="key", secret_access_key=SecretStr(SECRET))
        browser = LakeFSBrowser(settings, policy=policy)
        with pytest.raises(Unavailable, match=message):
            b"".join(browser.read("repo", "main", "a.bin", 100))
        browser.close()
