"""Getting in: what `ping` tells apart, and the tokens of servers that want them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from pydantic import SecretStr

from perago.adapters.conductor import ConductorQueue, session
from perago.ports import AccessDenied, ServiceError, Unavailable
from perago.settings import ConductorSettings

from .conductor_script import DELIVERY, REPORT, conductor, conductor_error
from .lakefs_script import CALM
from .scripted import Action, Drop, Reply, Request, Script, ScriptedServer, reply_json

# ---------------------------------------------------------- reaching a server

PINGS: dict[str, tuple[Action, type[ServiceError], str]] = {
    "another server": (Reply(200, b"<html>"), Unavailable, "not Conductor's"),
    "wrong path": (conductor_error(404, "No static resource tasks/queue/sizes."), Unavailable, "/api"),
    "rejected": (Reply(401, b""), AccessDenied, "401"),
    "starting up": (Reply(503, b""), Unavailable, "503"),
}


@pytest.mark.parametrize(("answer", "error", "text"), PINGS.values(), ids=PINGS.keys())
def test_a_ping_distinguishes_the_failures(answer: Action, error: type[ServiceError], text: str) -> None:
    with conductor(answer) as (queue, server), pytest.raises(error, match="answer") as caught:
        queue.ping()
    assert text in str(caught.value)
    assert len(server.requests) == 1


# --------------------------------------------------------------------- tokens


def token_server(*rejections: str, token_answer: Action | None = None) -> Script:
    """A server that wants a token and calls the first ones stale."""
    stale = list(rejections)
    issued = iter(range(100))

    def script(request: Request) -> Action:
        if request.path == "/api/token":
            assert request.json == {"keyId": "key", "keySecret": "secret"}
            return token_answer or reply_json({"token": f"token-{next(issued)}"})
        if stale:
            return reply_json({"error": stale.pop(0), "message": "token"}, 401)
        return reply_json({"authorization": request.headers.get("x-authorization", "")})

    return script


@contextmanager
def with_credentials(script: Script) -> Iterator[tuple[ConductorQueue, ScriptedServer]]:
    with ScriptedServer(script) as server:
        settings = ConductorSettings(f"{server.url}/api", "key", SecretStr("secret"))
        queue = ConductorQueue(settings, policy=CALM)
        yield queue, server
        queue.close()


def test_one_token_serves_many_calls() -> None:
    with with_credentials(token_server()) as (queue, server):
        assert queue.get_task_definition("t") == {"authorization": "token-0"}
        assert queue.get_task_definition("t") == {"authorization": "token-0"}
    assert server.count("POST", "/token") == 1


@pytest.mark.parametrize("code", ["EXPIRED_TOKEN", "INVALID_TOKEN"])
def test_a_stale_token_is_renewed_and_the_call_sent_again(code: str) -> None:
    with with_credentials(token_server(code)) as (queue, server):
        assert queue.get_task_definition("t") == {"authorization": "token-1"}
    assert server.count("POST", "/token") == 2


def test_an_old_token_is_used_while_no_newer_one_can_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_TOKEN_LIFETIME", 0.0)
    issuing = [reply_json({"token": "old"})]

    def script(request: Request) -> Action:
        if request.path == "/api/token":
            return issuing.pop() if issuing else Reply(503, b"")
        return reply_json({"authorization": request.headers.get("x-authorization", "")})

    with with_credentials(script) as (queue, server):
        assert [queue.get_task_definition("t") for _ in range(3)] == [{"authorization": "old"}] * 3
    assert server.count("POST", "/token") == 2, "the next one is requested after a delay"


def test_a_401_of_a_gateway_renews_a_token_that_is_not_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    with with_credentials(token_server("a gateway's word")) as (queue, _), pytest.raises(AccessDenied):
        queue.get_task_definition("t")
    monkeypatch.setattr(session, "_FRESH_SECONDS", 0.0)
    with with_credentials(token_server("a gateway's word")) as (queue, _):
        assert queue.get_task_definition("t") == {"authorization": "token-1"}


def test_threads_with_one_stale_token_fetch_one_new_token() -> None:
    both, refused = threading.Barrier(2), set[str]()

    def script(request: Request) -> Action:
        if request.path == "/api/token":
            return reply_json({"token": f"token-{server.count('POST', '/token')}"})
        token = request.headers["x-authorization"]
        if token == first and request.path not in refused:
            refused.add(request.path)
            both.wait(30)
            return reply_json({"error": "EXPIRED_TOKEN"}, 401)
        return reply_json({"authorization": token})

    first = ""
    with with_credentials(script) as (queue, server):
        first = str((queue.get_task_definition("t") or {})["authorization"])
        with ThreadPoolExecutor(2) as threads:
            found = [*threads.map(queue.get_task_definition, ("a", "b"))]
        assert found[0] == found[1]
        assert server.count("POST", "/token") == 2


def test_a_refusal_that_repeats_the_secret_does_not_show_it() -> None:
    echo = reply_json({"message": "no key with secret secret"}, 500)
    with with_credentials(token_server(token_answer=echo)) as (queue, _), pytest.raises(ServiceError) as caught:
        queue.ping()
    assert "no key with *** ***" in str(caught.value)


def test_a_token_that_stays_stale_is_an_access_problem() -> None:
    with with_credentials(token_server(*["EXPIRED_TOKEN"] * 9)) as (queue, server), pytest.raises(AccessDenied):
        queue.report(DELIVERY, REPORT, "w0001")
    assert server.count("POST", "/tasks") == 2


def test_credentials_that_are_not_accepted_are_named() -> None:
    script = token_server(token_answer=reply_json({"message": "no"}, 401))
    with with_credentials(script) as (queue, _), pytest.raises(AccessDenied, match="CONDUCTOR_AUTH_KEY"):
        queue.ping()


def test_a_token_that_cannot_be_fetched_now_is_fetched_later() -> None:
    answers: list[Action] = [Drop(), Drop(), Drop()]

    def script(request: Request) -> Action:
        return answers.pop() if answers else token_server()(request)

    with with_credentials(script) as (queue, _):
        with pytest.raises(Unavailable):
            queue.get_task_definition("t")
        assert queue.get_task_definition("t") == {"authorization": "token-0"}


def test_a_server_without_tokens_is_an_open_one() -> None:
    script = token_server(token_answer=conductor_error(404, "No static resource api/token."))
    with with_credentials(script) as (queue, _):
        assert queue.get_task_definition("t") == {"authorization": ""}


def test_the_environment_s_credentials_are_not_used_behind_our_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CONDUCTOR_AUTH_KEY", "other")
    monkeypatch.setenv("CONDUCTOR_AUTH_SECRET", "other")
    with conductor(reply_json({"name": "t"})) as (queue, server):
        queue.get_task_definition("t")
    assert server.count("POST") == 0
    assert caplog.records == []
