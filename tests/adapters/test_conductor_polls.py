"""`ConductorQueue`: polls, and the depths of queues."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from perago.ports import Unavailable, Unclear, trace_of, workflow_span

from .conductor_script import ACCEPTED, DELIVERY, POLLED, conductor, conductor_error
from .lakefs_script import QUICK
from .scripted import Action, Drop, Hang, Reply, Request, reply_json


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


@pytest.mark.parametrize("levels", [990, 100_000])
def test_an_input_that_is_nested_too_deeply_does_not_hide_the_others(levels: int) -> None:
    text = json.dumps([POLLED, {**POLLED, "inputData": {"params": "DEEP", "text": '[{"\\"'}}, POLLED])
    body = text.replace('"DEEP"', "[" * levels + "]" * levels).encode()
    with conductor(Reply(200, body)) as (queue, _):
        deliveries = queue.poll("features.build", "w", count=3, wait_seconds=0)
    assert (deliveries[0], deliveries[2]) == (DELIVERY, DELIVERY)
    assert deliveries[1].input_is_too_deep or levels < 1000
    assert deliveries[1] == replace(
        DELIVERY, input=deliveries[1].input, input_is_too_deep=deliveries[1].input_is_too_deep
    )
    assert deliveries[1].input_is_too_deep is (deliveries[1].input == {})


def test_a_task_with_a_deep_input_is_read() -> None:
    body = json.dumps({**POLLED, "inputData": "DEEP"}).replace('"DEEP"', '{"a":' * 100_000 + "1" + "}" * 100_000)
    with conductor(Reply(200, body.encode())) as (queue, _):
        assert queue.is_current(DELIVERY)


def test_brackets_without_an_end_are_no_answer() -> None:
    with conductor(Reply(200, b"[" * 100_000)) as (queue, _), pytest.raises(Unclear, match="a list of tasks"):
        queue.poll("features.build", "w", count=1, wait_seconds=0)


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


@pytest.mark.parametrize(("polls", "delay"), [(1, 5), (2, 10), (4, 40), (5, 60), (99, 60)])
@pytest.mark.parametrize("answer", [_rows(RETRY), _rows({**RETRY, "status": "IN_PROGRESS"}), Drop()])
def test_an_attempt_goes_back_until_its_retry_has_ended(answer: Action, polls: int, delay: int) -> None:
    """It would undo what the retry publishes, or fail the workflow."""

    def script(request: Request) -> Action:
        if "/poll/" in request.path:
            return reply_json([{**POLLED, "retryCount": 1, "pollCount": polls}])
        return ACCEPTED if request.method == "POST" else answer

    with conductor(script) as (queue, server):
        assert queue.poll("features.build", "w", count=1, wait_seconds=0) == ()
    handed_back = json.loads(server.requests[-1].body)
    assert handed_back["status"] == "IN_PROGRESS"
    assert handed_back["callbackAfterSeconds"] == delay


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
        release.wait(0.6)
        return reply_json([POLLED])

    with conductor(slowly, QUICK) as (queue, _):
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


def _traced(input_: object, polled: object = (POLLED,)) -> Callable[[Request], Action]:
    """A Conductor whose workflows were started with this input."""

    def answer(request: Request) -> Action:
        if "/poll/" in request.path:
            return reply_json(polled)
        return input_ if isinstance(input_, Action) else reply_json({"workflowId": "workflow", "input": input_})

    return answer


GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_deliveries_continue_the_trace_of_their_workflow() -> None:
    polled = [POLLED, {**POLLED, "taskId": "two"}]
    with conductor(_traced({"traceparent": GIVEN}, polled), traced=True) as (queue, server):
        first, second = queue.poll("features.build", "w", count=2, wait_seconds=0)
    assert first == replace(DELIVERY, trace=trace_of(DELIVERY.identity, workflow_span("workflow", GIVEN)))
    assert second.trace == trace_of(second.identity, workflow_span("workflow", GIVEN))
    reads = [request for request in server.requests[1:] if "/workflow/" in request.path]
    assert [(read.path, read.query) for read in reads] == [("/api/workflow/workflow", {"includeTasks": "false"})]


def test_a_delivery_has_the_spans_of_its_retry_and_of_the_parent_workflow() -> None:
    answers = {
        "/api/workflow/workflow": {"parentWorkflowId": "above", "input": {}},
        "/api/workflow/above": {"input": {"traceparent": GIVEN}},
        "/api/tasks/earlier": {"taskId": "earlier", "pollCount": 2, "startTime": 9},
    }
    script = lambda request: reply_json(answers.get(request.path, [POLLED]))  # noqa: E731
    with conductor(script, traced=True) as (queue, _):
        (delivery,) = queue.poll("features.build", "w", count=1, wait_seconds=0)
    assert delivery.trace is not None
    before = trace_of(("earlier", 2, 9), workflow_span("workflow", None))
    assert (delivery.trace.trace_id, delivery.trace.retry_of) == (before.trace_id, before.span_id)
    assert delivery.trace.workflow.parent == workflow_span("above", GIVEN)


@pytest.mark.parametrize(
    "input_",
    [{}, None, [], {"traceparent": 7}, Drop(), Hang(), conductor_error(404, "gone"), Reply(200, b"{")],
    ids=str,
)
def test_work_is_delivered_with_any_trace_header(input_: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perago.adapters.conductor.queue._TRACE_LIMIT", 0.2)
    with conductor(_traced(input_), traced=True) as (queue, _):
        (delivery,) = queue.poll("features.build", "w", count=1, wait_seconds=0)
    assert delivery == replace(DELIVERY, trace=trace_of(DELIVERY.identity, workflow_span("workflow", None)))


def test_a_workflow_that_cannot_be_read_costs_others_nothing() -> None:
    polled = [{**POLLED, "workflowInstanceId": "gone"}, POLLED]

    def answer(request: Request) -> Action:
        was_removed = request.path.endswith("/gone")
        return conductor_error(404, "gone") if was_removed else _traced({"traceparent": GIVEN}, polled)(request)

    with conductor(answer, traced=True) as (queue, _):
        first, second = queue.poll("features.build", "w", count=2, wait_seconds=0)
    assert first.trace == trace_of(first.identity, workflow_span("gone", None))
    assert second.trace == trace_of(second.identity, workflow_span("workflow", GIVEN))


def test_many_workflows_that_are_not_read_hold_up_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perago.adapters.conductor.queue._TRACE_LIMIT", 0.2)
    polled = [{**POLLED, "taskId": f"{number}", "workflowInstanceId": f"w{number}"} for number in range(50)]
    with conductor(_traced(Hang(), polled), traced=True) as (queue, server):
        assert len(queue.poll("features.build", "w", count=50, wait_seconds=0)) == 50
    assert len(server.requests) == 2


OWN = trace_of(DELIVERY.identity, workflow_span("w1", None))


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (GIVEN, True),
        (f"{GIVEN[:-2]}00", False),
        (f"{GIVEN[:-2]}fe", False),
        (f"01{GIVEN[2:]}-what a later version has", True),
    ],
)
def test_a_traceparent_says_where_a_delivery_belongs(text: str, sampled: bool) -> None:
    trace = trace_of(DELIVERY.identity, workflow_span("w1", text))
    assert (trace.trace_id, trace.workflow.caller_id, trace.workflow.sampled) == (GIVEN[3:35], GIVEN[36:52], sampled)
    assert trace.traceparent == f"00-{GIVEN[3:35]}-{OWN.span_id}-{'01' if sampled else '00'}"


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        GIVEN.upper(),
        f" {GIVEN}",
        f"{GIVEN}\n",
        f"{GIVEN}-more",
        f"ff{GIVEN[2:]}",
        GIVEN.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        GIVEN.replace("00f067aa0ba902b7", "0" * 16),
        GIVEN[:-1],
    ],
)
def test_a_malformed_traceparent_is_passed_over(text: object) -> None:
    assert trace_of(DELIVERY.identity, workflow_span("w1", text)) == OWN
    assert trace_of(("t2", 1, 7), workflow_span("w1", text)).trace_id == OWN.trace_id
    assert trace_of(DELIVERY.identity, workflow_span("w2", text)).trace_id != OWN.trace_id
