"""What operators ask of both servers: versions, clocks, queues; and answers that are too large to be read."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from pydantic import SecretStr

from perago.adapters.conductor import ConductorOverview, ConductorWorkflows
from perago.adapters.http import Answer, CallPolicy, ServerAbout
from perago.adapters.lakefs import LakeFSBrowser, LakeFSStore
from perago.ports import AccessDenied, ServiceError, Unavailable
from perago.settings import ConductorSettings, LakeFSSettings

from .conductor_script import conductor_error
from .lakefs_script import CALM, SECRET
from .scripted import Action, Reply, ScriptedServer, Trickle, reply_json


def overview(server: ScriptedServer) -> ConductorOverview:
    return ConductorOverview(ConductorSettings(server_url=f"{server.url}/api"), policy=CALM)


def lakefs(server: ScriptedServer) -> LakeFSStore:
    settings = LakeFSSettings(endpoint_url=server.url, access_key_id="key", secret_access_key=SecretStr(SECRET))
    return LakeFSStore(settings, policy=CALM)


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


@pytest.mark.parametrize("answer", [reply_json([{}]), reply_json(["text"]), reply_json({}), Reply(200, b"<html>")])
def test_an_answer_of_another_kind_is_not_from_conductor(answer: Action) -> None:
    with ScriptedServer(lambda _: answer) as server, pytest.raises(Unavailable):
        overview(server).last_polls()


def test_an_answer_beyond_the_largest_size_is_given_up() -> None:
    log = [{"log": "x" * 100_000}] * 20
    policy = CallPolicy(tries=1, largest=1_000_000)
    with ScriptedServer(lambda _: reply_json(log)) as server:
        workflows = ConductorWorkflows(ConductorSettings(server_url=f"{server.url}/api"), policy=policy)
        with pytest.raises(Unavailable, match="larger than 1,000,000 bytes"):
            workflows.log("t")
    with ScriptedServer(lambda _: reply_json(log, 500)) as server:
        settings = LakeFSSettings(endpoint_url=server.url, access_key_id="key", secret_access_key=SecretStr(SECRET))
        browser = LakeFSBrowser(settings, policy=policy)
        with pytest.raises(Unavailable, match="larger than 1,000,000 bytes"):
            b"".join(browser.read("repo", "main", "a.bin", 100))
        browser.close()


def test_an_object_that_trickles_is_given_up() -> None:
    """A byte now and then is no silence, so only the time of the whole ends it."""
    policy = CallPolicy(connect=0.2, answer=0.3)
    with ScriptedServer(lambda _: Trickle(100, 0.05)) as server:
        settings = LakeFSSettings(endpoint_url=server.url, access_key_id="key", secret_access_key=SecretStr(SECRET))
        browser = LakeFSBrowser(settings, policy=policy)
        with pytest.raises(Unavailable, match="no answer within the time limit"):
            b"".join(browser.read("repo", "main", "slow.bin", 100))
        browser.close()


@pytest.mark.parametrize("place", ["bytes 100-199/200", "bytes 0-98/200", "", "bytes */200"])
def test_bytes_from_another_place_of_an_object_are_not_taken_for_its_beginning(place: str) -> None:
    headers = {"Content-Range": place} if place else {}
    with ScriptedServer(lambda _: Reply(206, b"x" * 100, headers)) as server:
        settings = LakeFSSettings(endpoint_url=server.url, access_key_id="key", secret_access_key=SecretStr(SECRET))
        browser = LakeFSBrowser(settings, policy=CALM)
        with pytest.raises(Unavailable, match="the server sends"):
            b"".join(browser.read("repo", "main", "file", 100))
        browser.close()
