"""`ConductorQueue`: what it says to Conductor, each thing once, and what the answers mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from perago.adapters.conductor import ConductorQueue
from perago.ports import AccessDenied, NotFound, Refused, Report, ServiceError, TaskStatus, Unavailable, Unclear

from .conductor_script import ACCEPTED, DELIVERY, POLLED, REPORT, conductor, conductor_error
from .lakefs_script import policy_for
from .scripted import Action, Drop, Hang, Reply, Request, reply_json


def test_a_report_is_an_update_v1_with_the_slot_s_id() -> None:
    with conductor(ACCEPTED) as (queue, server):
        queue.report(DELIVERY, REPORT, "w0001")
        queue.report(DELIVERY, Report(TaskStatus.FAILED, {}, "why"), "w0001")
    assert [request.target for request in server.requests] == ["/api/tasks", "/api/tasks"]
    assert server.requests[0].json == {
        "taskId": "task",
        "workflowInstanceId": "workflow",
        "status": "COMPLETED",
        "workerId": "w0001",
        "outputData": {"result": {"big": 2**70, "one": 1.0, "nothing": None}},
    }
    assert b'"one":1.0' in server.requests[0].body
    assert server.requests[1].json["reasonForIncompletion"] == "why"


def test_a_report_takes_the_next_task_from_the_answer_of_an_update_v2() -> None:
    answers = [reply_json(POLLED), Reply(204)]
    with conductor(lambda _: answers.pop(0)) as (queue, server):
        assert queue.report_and_poll(DELIVERY, REPORT, "w0001") == DELIVERY
        assert queue.report_and_poll(DELIVERY, REPORT, "w0001") is None
    assert [request.target for request in server.requests] == ["/api/tasks/update-v2"] * 2
    assert server.requests[0].json["workerId"] == "w0001"


def test_a_server_without_update_v2_gets_update_v1_and_is_not_asked_again() -> None:
    def script(request: Request) -> Action:
        missing = conductor_error(404, "No static resource api/tasks/update-v2.")
        return missing if request.path.endswith("v2") else ACCEPTED

    with conductor(script) as (queue, server):
        for _ in range(2):
            assert queue.report_and_poll(DELIVERY, REPORT, "w0001") is None
    assert [request.target for request in server.requests] == ["/api/tasks/update-v2", "/api/tasks", "/api/tasks"]


def test_a_next_task_that_cannot_be_read_leaves_doubt() -> None:
    with conductor(reply_json({"taskId": 1})) as (queue, _), pytest.raises(Unclear):
        queue.report_and_poll(DELIVERY, REPORT, "w0001")


def test_a_lease_extension_is_nothing_but_that() -> None:
    with conductor(ACCEPTED) as (queue, server):
        queue.extend_lease(DELIVERY)
    sent = server.requests[0].json
    assert sent["extendLease"] is True
    assert (sent["taskId"], sent["workflowInstanceId"]) == ("task", "workflow")


def test_a_lost_lease_extension_is_repeated() -> None:
    answers: list[Action] = [Drop(), ACCEPTED]
    with conductor(lambda _: answers.pop(0)) as (queue, server):
        queue.extend_lease(DELIVERY)
    assert len(server.requests) == 2


def test_a_hand_back_asks_for_redelivery_at_once() -> None:
    with conductor(ACCEPTED) as (queue, server):
        queue.hand_back(DELIVERY)
    sent = server.requests[0].json
    assert (sent["status"], sent["callbackAfterSeconds"]) == ("IN_PROGRESS", 0)
    assert "extendLease" not in sent


ONCE: dict[str, Callable[[ConductorQueue], object]] = {
    "report": lambda queue: queue.report(DELIVERY, REPORT, "w0001"),
    "report and poll": lambda queue: queue.report_and_poll(DELIVERY, REPORT, "w0001"),
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
def test_a_write_is_sent_once_and_its_answer_tells(
    write: Callable[[ConductorQueue], object], answer: Action, error: type[ServiceError]
) -> None:
    with conductor(answer, policy_for(answer)) as (queue, server), pytest.raises(error):
        write(queue)
    assert len(server.requests) == 1


def test_a_server_that_is_down_certainly_did_nothing() -> None:
    with conductor(Drop()) as (queue, server):
        server.__exit__()
        with pytest.raises(Unavailable, match="connection refused"):
            queue.report(DELIVERY, REPORT, "w0001")


@pytest.mark.parametrize("value", [float("nan"), object()], ids=["NaN", "an object"])
def test_a_payload_that_is_not_json_is_refused_without_asking(value: object) -> None:
    with conductor(ACCEPTED) as (queue, server), pytest.raises(Refused, match="JSON"):
        queue.report(DELIVERY, replace(REPORT, output={"x": value}), "w0001")
    assert server.requests == []


@pytest.mark.parametrize("text", ['one\ntwo "quoted" \\ üñ 😀', '{"looks": "like JSON"}'])
def test_a_log_line_arrives_as_it_is(text: str) -> None:
    with conductor(Reply(200)) as (queue, server):
        queue.add_log("task", text)
        queue.add_log("task", "")
    assert [request.body.decode() for request in server.requests] == [text]
    assert server.requests[0].path == "/api/tasks/task/log"


def test_undecodable_output_can_be_logged() -> None:
    with conductor(Reply(200)) as (queue, server):
        queue.add_log("task", "bad \udcff byte")
    assert server.requests[0].body == b"bad ? byte"
