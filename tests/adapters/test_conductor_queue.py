"""`ConductorQueue`: what goes over the wire, how often, what each answer means; and the tokens of servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from perago import conductor_json as wire_format
from perago.adapters.conductor import ConductorQueue, session
from perago.ports import AccessDenied, NotFound, Refused, ServiceError, Unavailable, Unclear, WorkflowRow
from perago.settings import ConductorSettings

from .conductor_script import ACCEPTED, DELIVERY, POLLED, REPORT, conductor, conductor_error
from .lakefs_script import CALM, QUICK, policy_for
from .scripted import Action, Drop, Hang, Reply, Request, Script, ScriptedServer, reply_json

# --------------------------------------------------------------------- fences

STATES: dict[str, tuple[dict[str, object], bool]] = {
    "as polled": ({}, True),
    "redelivered": ({"pollCount": 4}, False),
    "rerun": ({"startTime": 1_795_565_999_999}, False),
    "back in the queue": ({"status": "SCHEDULED"}, False),
    "timed out": ({"status": "TIMED_OUT"}, False),
    "cancelled": ({"status": "CANCELED"}, False),
    "completed": ({"status": "COMPLETED"}, False),
}


@pytest.mark.parametrize(("change", "current"), STATES.values(), ids=STATES.keys())
def test_a_delivery_is_current_while_nothing_about_it_changed(change: dict[str, object], current: bool) -> None:
    with conductor(reply_json({**POLLED, **change})) as (queue, server):
        assert queue.is_current(DELIVERY) is current
    assert server.requests[0].path == "/api/tasks/task"


SILENCE: dict[str, tuple[Action, type[ServiceError]]] = {
    "404 of a proxy": (Reply(404, b"<html>"), Unavailable),
    "404 of another server": (reply_json({"detail": "nope"}, 404), Unavailable),
    "404 of a gateway": (reply_json({"message": "no route to /api/tasks/task"}, 404), Unavailable),
    "404 of a framework": (reply_json({"status": 404, "message": "cannot GET /api/tasks/task"}, 404), Unavailable),
    "404 of a wrong path": (conductor_error(404, "No static resource api/tasks/task."), NotFound),
    "401": (reply_json({"message": "no"}, 401), AccessDenied),
    "500": (conductor_error(500, "database is locked"), Unavailable),
    "503": (Reply(503, b""), Unavailable),
    "dropped": (Drop(), Unavailable),
    "silent": (Hang(), Unavailable),
    "not JSON": (Reply(200, b"OK"), Unavailable),
    "not a task": (reply_json({}), Unavailable),
}


@pytest.mark.parametrize(("answer", "error"), SILENCE.values(), ids=SILENCE.keys())
def test_silence_is_neither_a_yes_nor_a_no(answer: Action, error: type[ServiceError]) -> None:
    with conductor(answer, policy_for(answer)) as (queue, _), pytest.raises(error):
        queue.is_current(DELIVERY)


def test_a_broken_connection_leaves_a_poll_in_flight_alone() -> None:
    polling, broken = threading.Event(), threading.Event()

    def script(request: Request) -> Action:
        if "/poll/" in request.path:
            polling.set()
            broken.wait(10)
            return reply_json([POLLED])
        return Drop()

    with conductor(script, QUICK) as (queue, _):
        results: list[object] = []
        thread = threading.Thread(target=lambda: results.extend(queue.poll("t", "w", count=1, wait_seconds=5)))
        thread.start()
        polling.wait(10)
        with pytest.raises(Unavailable):
            queue.is_current(DELIVERY)
        broken.set()
        thread.join(10)
    assert results == [DELIVERY]


# -------------------------------------------------------------------- updates


REPEATED: dict[str, tuple[Callable[[ConductorQueue], object], Action]] = {
    "question": (lambda queue: queue.is_current(DELIVERY), reply_json(POLLED)),
    "lease extension": (lambda queue: queue.extend_lease(DELIVERY), ACCEPTED),
    "definitions": (lambda queue: queue.register_task_definitions([{"name": "a"}, {"name": "b"}]), Reply(200)),
}


@pytest.mark.parametrize(("call", "answer"), REPEATED.values(), ids=REPEATED)
def test_an_idempotent_call_is_repeated_if_its_connection_drops(
    call: Callable[[ConductorQueue], object], answer: Action
) -> None:
    answers: list[Action] = [Drop(), answer]
    with conductor(lambda _: answers.pop(0)) as (queue, server):
        call(queue)
    first, second = server.requests
    assert first == second


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_hand_back_requests_redelivery_immediately_or_later(seconds: int) -> None:
    with conductor(ACCEPTED) as (queue, server):
        queue.hand_back(DELIVERY, seconds)
    sent = server.requests[0].json
    assert (sent["status"], sent["callbackAfterSeconds"]) == ("IN_PROGRESS", seconds)
    assert "extendLease" not in sent


ONCE: dict[str, Callable[[ConductorQueue], None]] = {
    "report": lambda queue: queue.report(DELIVERY, REPORT, "w0001"),
    "hand back": lambda queue: queue.hand_back(DELIVERY),
    "log": lambda queue: queue.add_log("task", "line"),
}
ANSWERS: dict[str, tuple[Action, type[ServiceError]]] = {
    "dropped": (Drop(), Unclear),
    "silent": (Hang(), Unclear),
    "500": (conductor_error(500, "database is locked"), Unclear),
    "502": (Reply(502, b"<html>"), Unclear),
    "malformed": (conductor_error(500, "JSON parse error: Unexpected character"), Refused),
    "429": (Reply(429, b""), Unavailable),
    "503": (Reply(503, b""), Unavailable),
    "403": (Reply(403, b""), AccessDenied),
    "404 of a proxy": (Reply(404, b"<html>"), Unavailable),
    "workflow removed": (conductor_error(404, "No such workflow found by id: workflow"), NotFound),
    "400": (conductor_error(400, "taskId cannot be empty"), Refused),
}


@pytest.mark.parametrize("write", ONCE.values(), ids=ONCE.keys())
@pytest.mark.parametrize(("answer", "error"), ANSWERS.values(), ids=ANSWERS.keys())
def test_a_write_is_sent_once_and_its_answer_decides(
    write: Callable[[ConductorQueue], None], answer: Action, error: type[ServiceError]
) -> None:
    with conductor(answer, policy_for(answer)) as (queue, server), pytest.raises(error):
        write(queue)
    assert len(server.requests) == 1


@pytest.mark.parametrize("text", ['one\ntwo "quoted" \\ üñ 😀', '{"looks": "like JSON"}'])
def test_a_log_line_arrives_as_it_is(text: str) -> None:
    with conductor(Reply(200)) as (queue, server):
        queue.add_log("task", text)
        queue.add_log("task", "")
    assert [request.body.decode() for request in server.requests] == [text]
    assert server.requests[0].path == "/api/tasks/task/log"


# ---------------------------------------------------------------- definitions


def test_definitions_are_read_as_they_are() -> None:
    with conductor(reply_json({"name": "t", "unknownField": [1]})) as (queue, _):
        assert queue.get_task_definition("t") == {"name": "t", "unknownField": [1]}
    with conductor(conductor_error(404, "No such taskType found by name: t")) as (queue, _):
        assert queue.get_task_definition("t") is None
    wrong_path = conductor_error(404, "No static resource metadata/taskdefs/t.")
    with conductor(wrong_path) as (queue, _), pytest.raises(NotFound):
        queue.get_task_definition("t")


def test_a_refused_definition_names_the_problem() -> None:
    problems = [{"path": "p", "message": "retryCount: -1 must be >= 0"}]
    answer = conductor_error(400, "Validation failed, check below errors for detail.", validationErrors=problems)
    with conductor(answer) as (queue, _), pytest.raises(Refused, match="retryCount: -1 must be >= 0"):
        queue.register_task_definitions([{"name": "a"}])


SUB_STEP = {"taskType": "SUB_WORKFLOW", "referenceTaskName": "sub"}


def workflow_of(*tasks: dict[str, Any], steps: Sequence[dict[str, Any]] = ()) -> WorkflowRow:
    """The row of a workflow with these tasks, in this order."""
    numbered = [{"taskId": str(place), "seq": place, **task} for place, task in enumerate(tasks, 1)]
    definition = {"tasks": list(steps)}
    return wire_format.workflow_from({"workflowId": "w", "workflowDefinition": definition, "tasks": numbered})


def test_rows_are_sorted_by_their_sequence_number() -> None:
    tasks = [{"taskType": "a.b", "seq": 2}, {"taskType": "a.b", "seq": 10}, {"taskType": "a.b", "seq": 1}]
    assert [row.task_id for row in workflow_of(*tasks).rows] == ["3", "1", "2"]


def test_a_sub_workflow_that_is_starting_has_a_row_without_a_workflow() -> None:
    """As a real Conductor shows a workflow right after it was retried (`docs/dev/servers/conductor.md`, "Measured
    later")."""
    before = {**SUB_STEP, "status": "FAILED", "retried": True, "subWorkflowId": "old"}
    first, second = workflow_of(before, {**SUB_STEP, "status": "SCHEDULED", "subWorkflowId": ""}).rows
    assert (first.is_sub_workflow, first.sub_workflow_id, first.is_open) == (True, "old", False)
    assert (second.is_sub_workflow, second.sub_workflow_id, second.is_open) == (True, None, True)


def test_an_attempt_whose_retry_a_rerun_has_removed_has_no_retry() -> None:
    """The mark stays on the row."""
    step = {**SUB_STEP, "taskId": "1", "retried": True, "subWorkflowId": "first"}
    retry = {**SUB_STEP, "taskId": "2", "retriedTaskId": "1", "subWorkflowId": "second"}
    workflow = workflow_of(step, retry)
    assert [workflow.has_retry(row) for row in workflow.rows] == [True, False]
    assert workflow.retries_of(workflow.rows[1]) == ("1",)
    workflow = workflow_of(step)
    assert not workflow.has_retry(workflow.rows[0])


@pytest.mark.parametrize(
    ("task", "is_operator"),
    [
        ({"taskType": "a.b", "workflowTask": {"type": "SIMPLE"}}, False),
        ({"taskType": "a.b", "workflowTask": {"type": "DYNAMIC"}}, False),
        ({"taskType": "a.b"}, False),
        ({"taskType": "SUB_WORKFLOW", "workflowTask": {"type": "SUB_WORKFLOW"}}, False),
        ({"taskType": "JOIN", "workflowTask": {"type": "JOIN"}}, True),
        ({"taskType": "HTTP", "workflowTask": {"type": "HTTP"}}, True),
    ],
)
def test_attempts_and_sub_workflows_are_not_operators(task: dict[str, Any], is_operator: bool) -> None:
    assert workflow_of(task).rows[0].is_operator is is_operator


def test_the_commits_of_an_input_are_found_at_any_depth() -> None:
    one, two, three = ("1" * 64, "2" * 64, "3" * 64)
    payload = {"workspace": {"ref": {"left": {"workspace": {"ref": one}}}}, "params": {"list": [two, "no", 3]}}
    (row,) = workflow_of({"taskType": "a.b", "inputData": payload, "outputData": {"other": three}}).rows
    assert row.input_commits == {one, two}


LOOP: dict[str, Any] = {"type": "DO_WHILE", "loopOver": [{"type": "SIMPLE"}]}
FORGETFUL_LOOP = {**LOOP, "inputParameters": {"keepLastN": 2}}


@pytest.mark.parametrize(
    ("step", "forgets_rounds"),
    [
        (LOOP, False),
        (FORGETFUL_LOOP, True),
        ({"type": "DO_WHILE", "loopOver": [FORGETFUL_LOOP]}, False),
        ({"type": "FORK_JOIN", "forkTasks": [[LOOP], [FORGETFUL_LOOP]]}, False),
        ({"type": "SWITCH", "decisionCases": {"a": [FORGETFUL_LOOP]}}, False),
    ],
)
def test_a_workflow_knows_whether_a_loop_that_has_begun_forgets_rounds(
    step: dict[str, Any], forgets_rounds: bool
) -> None:
    assert workflow_of({"taskType": step["type"], "workflowTask": step}).forgets_rounds is forgets_rounds
    assert not workflow_of(steps=[step]).forgets_rounds


# ---------------------------------------------------------- reaching a server

PINGS: dict[str, tuple[Action, type[ServiceError], str]] = {
    "another server": (Reply(200, b"<html>"), Unavailable, "answer as expected: the answer is not Conductor's"),
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
            definitions = [*threads.map(queue.get_task_definition, ("a", "b"))]
        assert definitions[0] == definitions[1]
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
