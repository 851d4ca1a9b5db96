"""`ConductorQueue`: polls, and the depths of queues."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from perago.ports import (
    UNTIL_ITS_RETRY_ENDS,
    Unavailable,
    Unclear,
)

from .conductor_script import ACCEPTED, DELIVERY, POLLED, conductor, conductor_error
from .lakefs_script import QUICK
from .scripted import Action, Drop, Reply, Request, reply_json


def test_a_poll_brings_deliveries_exactly_as_on_the_wire() -> None:
    with conductor(reply_json([POLLED])) as (queue, server):
        assert queue.poll("features.build", "w0000", count=4, wait_seconds=2.5) == (DELIVERY,)
    (request,) = server.requests
    assert (request.method, request.path) == ("GET", "/api/tasks/poll/batch/features.build")
    assert request.query == {"count": "4", "timeout": "2500", "workerid": "w0000"}


def test_the_depths_of_many_queues_are_asked_for_in_few_requests() -> None:
    names = [f"{number:0128}" for number in range(120)]  # as long as names may be

    def depths(request: Request) -> Action:
        return reply_json({name: int(name) for name in parse_qs(urlsplit(request.target).query)["taskType"]})

    with conductor(depths) as (queue, server):
        assert queue.queue_depths(names) == {name: number for number, name in enumerate(names)}
    assert [request.path for request in server.requests] == ["/api/tasks/queue/sizes"] * 3
    assert max(len(request.target) for request in server.requests) < 8 * 1024


@pytest.mark.parametrize("answer", [[], {}, {"t": "1"}, {"t": True}, {"t": None}, {"other": 1}])
def test_depths_that_are_no_numbers_are_refused(answer: object) -> None:
    with conductor(reply_json(answer)) as (queue, _), pytest.raises(Unavailable, match="a number for each queue"):
        queue.queue_depths(["t"])


def test_a_compressed_answer_is_read() -> None:
    packed = Reply(200, gzip.compress(json.dumps([POLLED]).encode()), {"Content-Encoding": "gzip"})
    with conductor(packed) as (queue, server):
        assert queue.poll("features.build", "w", count=1, wait_seconds=0) == (DELIVERY,)
    assert server.requests[0].headers["accept-encoding"] == "gzip"


def test_fields_that_are_null_are_left_out_by_the_server() -> None:
    nulls = ("retriedTaskId", "iteration", "taskDefinition", "updateTime", "queueWaitTime")
    bare = {key: POLLED[key] for key in POLLED if key not in nulls}
    with conductor(reply_json([{**bare, "inputData": {}, "externalInputPayloadStoragePath": "x"}])) as (queue, _):
        (delivery,) = queue.poll("features.build", "w", count=1, wait_seconds=0)
    assert (delivery.retried_task_id, delivery.iteration) == (None, 0)
    assert (delivery.timeout_seconds, delivery.spent_seconds) == (0, 0)
    assert (delivery.input, delivery.external_input) == ({}, True)


def _rows(*later: Mapping[str, object]) -> Action:
    """A workflow as read, with the polled attempt and other attempts of its step."""
    step = {"referenceTaskName": POLLED["referenceTaskName"]}
    return reply_json({"tasks": [POLLED, *({**step, **row} for row in later), {"referenceTaskName": "next step"}]})


RETRY = {"taskId": "next", "retriedTaskId": "task"}
DONE = {"status": "COMPLETED", "outputData": {"result": 1}}
WORKFLOWS: dict[str, tuple[Action, bool]] = {
    "the retry is there": (_rows(RETRY), True),
    "the retry is forgotten": (_rows({"taskId": "other", "retriedTaskId": "another"}), False),
    "nobody answers": (Drop(), True),
    "the workflow is gone": (conductor_error(404, "No such workflow found by id: workflow"), True),
    "no list of attempts": (reply_json({"tasks": None}), True),
    "no attempts": (reply_json({"tasks": ["x"]}), True),
    "no workflow": (reply_json({}), True),
}


@pytest.mark.parametrize(("answer", "retried"), WORKFLOWS.values(), ids=WORKFLOWS.keys())
def test_an_attempt_is_retried_if_the_retry_may_still_be_there(answer: Action, retried: bool) -> None:
    """The mark alone does not tell: a rerun from an older step removes the retry."""

    def script(request: Request) -> Action:
        return reply_json([{**POLLED, "retried": True}]) if "/poll/" in request.path else answer

    with conductor(script) as (queue, server):
        (delivery,) = queue.poll("features.build", "w", count=1, wait_seconds=0)
    assert delivery == replace(DELIVERY, retried=retried)
    assert {request.target for request in server.requests[1:]} == {"/api/workflow/workflow?includeTasks=true"}


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        (_rows(), {}),
        (_rows({**RETRY, **DONE}), {"retried": True, "retry_output": {"result": 1}}),
        (
            _rows({**RETRY, "status": "FAILED"}, {"retriedTaskId": "next", **DONE}),
            {"retried": True, "retry_output": {"result": 1}},
        ),
        (_rows({**RETRY, "status": "COMPLETED_WITH_ERRORS"}), {"retried": True, "retry_output": {}}),
    ],
    ids=["no retry", "done", "done by the second retry", "optional"],
)
def test_an_attempt_whose_mark_is_lost_is_known_by_its_retry(answer: Action, known: dict[str, object]) -> None:
    """Conductor takes the mark off a cancelled attempt that it begins again beside a sub-workflow, and counts one more
    retry."""

    def script(request: Request) -> Action:
        return reply_json([{**POLLED, "retryCount": 1}]) if "/poll/" in request.path else answer

    with conductor(script) as (queue, _):
        (delivery,) = queue.poll("features.build", "w", count=1, wait_seconds=0)
    assert delivery == replace(DELIVERY, retry_count=1, **known)  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [_rows(RETRY), _rows({**RETRY, "status": "IN_PROGRESS"}), Drop()])
def test_an_attempt_goes_back_until_its_retry_has_ended(answer: Action) -> None:
    """It would undo what the retry publishes, or fail the workflow."""

    def script(request: Request) -> Action:
        if "/poll/" in request.path:
            return reply_json([{**POLLED, "retryCount": 1}])
        return ACCEPTED if request.method == "POST" else answer

    with conductor(script) as (queue, server):
        assert queue.poll("features.build", "w", count=1, wait_seconds=0) == ()
    handed_back = json.loads(server.requests[-1].body)
    assert handed_back["status"] == "IN_PROGRESS"
    assert handed_back["callbackAfterSeconds"] == UNTIL_ITS_RETRY_ENDS


def test_a_poll_never_asks_for_more_than_the_server_allows() -> None:
    with conductor(reply_json([])) as (queue, server):
        assert queue.poll("t", "w", count=1, wait_seconds=60) == ()
    assert server.requests[0].query["timeout"] == "5000"


def test_a_task_name_cannot_leave_its_place_in_the_url() -> None:
    with conductor(reply_json([])) as (queue, server):
        queue.poll("../../x?y", "w&count=9", count=1, wait_seconds=0)
    assert server.requests[0].target.startswith("/api/tasks/poll/batch/..%2F..%2Fx%3Fy?")
    assert server.requests[0].query["count"] == "1"


def test_a_long_poll_is_not_given_up_before_the_server_answers() -> None:
    release = threading.Event()

    def slowly(_: Request) -> Action:
        release.wait(1.5)
        return reply_json([POLLED])

    with conductor(slowly, replace(QUICK, answer=0.5)) as (queue, _):
        assert len(queue.poll("t", "w", count=1, wait_seconds=1)) == 1


LOST_POLLS = {
    "dropped": Drop(),
    "cut off": Reply(200, b"[", length=50),
    "504 of a proxy": Reply(504, b"<html>"),
    "not JSON": Reply(200, b"<html>"),
    "broken compression": Reply(200, b"[]", {"Content-Encoding": "gzip"}),
    "not a list": reply_json({}),
    "not tasks": reply_json([{"taskId": "x"}, 7]),
}


@pytest.mark.parametrize("answer", LOST_POLLS.values(), ids=LOST_POLLS.keys())
def test_a_lost_poll_is_unclear_and_not_repeated(answer: Action) -> None:
    with conductor(answer) as (queue, server), pytest.raises(Unclear):
        queue.poll("t", "w", count=1, wait_seconds=0)
    assert len(server.requests) == 1
