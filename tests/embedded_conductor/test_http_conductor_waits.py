"""Long polls in real time: they end when there is something, hold up nobody, and lose what nobody fetches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import urllib3

from perago.driver import SystemClock
from perago.embedded.conductor import InMemoryConductor, model
from perago.embedded.faults import FaultScript
from perago.embedded.http.conductor import POLLS_AT_ONCE, conductor_app
from perago.embedded.http.loopback import serve
from perago.embedded.services import _swept

from ..http_answer import Answer
from .conftest import Http, Served, prepared

LONG_POLL = "/tasks/poll/batch/t?timeout=60000"
SOON = 30.0
"""Seconds; what does not come by itself would take twice as long."""


@pytest.fixture(autouse=True)
def _longer_polls_that_do_not_look_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a poll that does not wake by itself comes too late on the slowest machine."""
    monkeypatch.setattr(model, "CHECK_SECONDS", 120.0)
    monkeypatch.setattr(model, "MAX_WAIT_SECONDS", 60.0)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(POLLS_AT_ONCE + 8) as threads:
        yield threads


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def waiting_poll(threads: ThreadPoolExecutor, http: Http, calls: FaultScript, path: str = LONG_POLL) -> Future[Answer]:
    """A poll that has reached the model and found nothing."""
    before = calls.calls("poll")
    poll = threads.submit(http, "GET", path)
    wait_for(lambda: calls.calls("poll") > before)
    time.sleep(0.05)  # one that has found something would be answered by now
    assert not poll.done()
    return poll


def seconds_until_done(poll: Future[Answer]) -> float:
    started = time.monotonic()
    poll.result(timeout=90)
    return time.monotonic() - started


def test_a_waiting_poll_gets_a_delayed_attempt_when_it_is_due(
    threads: ThreadPoolExecutor, live_http: Http, live_conductor: InMemoryConductor, calls: FaultScript
) -> None:
    workflow_id = live_conductor.start_workflow("w")
    (task,) = live_conductor.poll_tasks("t")
    result = {"taskId": task["taskId"], "workflowInstanceId": workflow_id, "status": "IN_PROGRESS"}
    poll = waiting_poll(threads, live_http, calls)
    live_conductor.update_task({**result, "callbackAfterSeconds": 1})
    assert 0.9 < seconds_until_done(poll) < SOON
    assert len(poll.result().json) == 1


def test_a_waiting_poll_gets_attempts_from_a_sweep(
    threads: ThreadPoolExecutor, served: Served, calls: FaultScript
) -> None:
    conductor = prepared(InMemoryConductor(SystemClock(), calls))
    served.app = conductor_app(conductor)
    http = Http(served.url)
    conductor.register_task_definitions(
        [{"name": "t", "retryCount": 1, "retryDelaySeconds": 0, "responseTimeoutSeconds": 3}]
    )
    conductor.start_workflow("w")
    (first,) = conductor.poll_tasks("t")
    with _swept(conductor, 0.2, pytest.fail):
        poll = waiting_poll(threads, http, calls)
        assert seconds_until_done(poll) < SOON
    (second,) = poll.result().json
    http.close()
    assert second["retriedTaskId"] == first["taskId"]


def test_the_maximum_of_long_polls_delays_no_other_call(
    threads: ThreadPoolExecutor, live_http: Http, live_conductor: InMemoryConductor, calls: FaultScript
) -> None:
    polls = [threads.submit(live_http, "GET", LONG_POLL) for _ in range(POLLS_AT_ONCE)]
    wait_for(lambda: calls.calls("poll") == POLLS_AT_ONCE)
    started = live_http("POST", "/workflow", {"name": "w"})
    assert live_http("GET", f"/workflow/{started.text}/status").json["status"] == "RUNNING"
    assert sum(not poll.done() for poll in polls) >= POLLS_AT_ONCE - 1
    for _ in range(POLLS_AT_ONCE - 1):
        live_conductor.start_workflow("w")
    fetched = [task["taskId"] for poll in polls for task in poll.result(timeout=20).json]
    assert len(set(fetched)) == POLLS_AT_ONCE


def test_a_poll_that_its_client_gives_up_loses_the_attempt(
    live_http: Http, live_conductor: InMemoryConductor, calls: FaultScript
) -> None:
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        live_http.pool.request("GET", f"{live_http.url}/api{LONG_POLL}", timeout=0.2)
    workflow_id = live_conductor.start_workflow("w")
    wait_for(lambda: live_conductor.workflow(workflow_id)["tasks"][0]["status"] == "IN_PROGRESS")
    assert live_conductor.queue_size("t") == 0


def test_a_server_that_is_about_to_stop_ends_all_waits(
    threads: ThreadPoolExecutor, live_http: Http, live_conductor: InMemoryConductor, calls: FaultScript
) -> None:
    poll = waiting_poll(threads, live_http, calls)
    live_conductor.end_waits()
    assert seconds_until_done(poll) < SOON
    assert (poll.result().status, poll.result().json) == (200, [])
    started = time.monotonic()
    assert live_http("GET", LONG_POLL).json == []
    assert time.monotonic() - started < SOON


def test_no_thread_is_left_when_the_server_has_ended() -> None:
    before = set(threading.enumerate())
    app = conductor_app(prepared(InMemoryConductor(SystemClock())))
    with serve(app) as url, ThreadPoolExecutor(8) as clients:
        statuses = list(
            clients.map(lambda path: Http(url)("GET", path).status, ["/tasks/poll/t", "/metadata/taskdefs"] * 8)
        )
    assert set(statuses) == {200, 204}
    wait_for(lambda: before.issuperset(threading.enumerate()))


@pytest.mark.parametrize("reference", ["r0", "other,r0"])
def test_an_execution_waits_for_a_step(
    threads: ThreadPoolExecutor, live_http: Http, live_conductor: InMemoryConductor, reference: str
) -> None:
    path = f"/workflow/execute/w/1?waitForSeconds=20&requestId=me&waitUntilTaskRef={reference}"
    execution = threads.submit(live_http, "POST", path, {"input": {"x": 1}, "correlationId": "c"})
    wait_for(lambda: live_conductor.queue_size("t") == 1)
    (workflow_id,) = live_conductor.workflow_ids()
    live_conductor.update_task_by_reference(workflow_id, "r0", "COMPLETED", {})
    progress = execution.result(timeout=20).json
    assert (progress["responseType"], progress["requestId"], progress["signalTimeout"]) == (
        "TARGET_WORKFLOW",
        "me",
        False,
    )
    assert (progress["targetWorkflowId"], progress["targetWorkflowStatus"]) == (workflow_id, "RUNNING")
    assert (progress["input"], progress["correlationId"]) == ({"x": 1}, "c")
    assert [task["referenceTaskName"] for task in progress["tasks"]] == ["r0", "r1"]


def test_a_slow_execution_is_reported(http: Http) -> None:
    progress = http("POST", "/workflow/execute/w/0?waitForSeconds=1", {}).json
    assert (progress["signalTimeout"], progress["status"]) == (True, "RUNNING")
