"""Heartbeats, logs and reports: what Conductor hears of an attempt, and when."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from perago.driver import delivery
from perago.ports import ServiceError, TaskStatus, Unavailable
from perago.taskdef.payload import TOO_DEEP
from perago.worker import attempts, supervisor
from perago.worker.events import AttemptEnded, AttemptReceived, Draining, Ending, Pulse

from ..adapters.conductor_script import ACCEPTED, POLLED, conductor
from ..adapters.scripted import Action, Reply, Request, reply_json
from .bench import (
    LIMIT,
    RunningWorker,
    hold_reports,
    make_plan,
    outcome,
    release,
    result,
    running,
    running_pid,
    wait_for,
)
from .small_queue import SmallQueue


def test_a_report_that_never_arrives_is_logged_and_costs_no_slot(worker: RunningWorker, queue: SmallQueue) -> None:
    queue.fault = lambda operation: RuntimeError("a defect") if operation == "report" else None  # type: ignore[assignment, return-value]
    queue.put(what="returns")
    failed = wait_for("the failed report", lambda: worker.ended(Ending.UNREPORTED))[0]
    assert "a defect" in str(failed.reason)
    queue.fault = lambda operation: None
    assert result(outcome(queue, queue.put(what="returns"))) == "fine"


def down(operation: str) -> ServiceError | None:
    """A Conductor that is not there; what it has given out it has given out."""
    return None if operation == "poll" else Unavailable("Conductor", operation, "down")


def test_a_drain_waits_for_a_report_until_conductor_is_back(worker: RunningWorker, queue: SmallQueue) -> None:
    queue.fault = down
    task_id = queue.put(what="returns")
    wait_for("the attempt", lambda: worker.saw(AttemptReceived))
    worker.supervisor.stop()
    wait_for("the drain", lambda: worker.saw(Draining))
    time.sleep(0.3)  # the time in which a worker that does not wait would be down
    assert worker.exit_code is None
    queue.fault = lambda operation: None
    assert worker.wait_until_down() == 0
    assert queue.reports[task_id][0].status is TaskStatus.COMPLETED


@pytest.mark.parametrize("hangs", [False, True], ids=["fails", "hangs"])
def test_a_second_stop_gives_up_an_unanswered_report_and_logs_this(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch, *, hangs: bool
) -> None:
    """No thread continues to call."""
    monkeypatch.setattr(supervisor, "GIVE_UP_AFTER", 0.1)
    monkeypatch.setattr(supervisor, "ABANDONED_REPORTS_LIMIT", 0.3 if hangs else LIMIT)
    monkeypatch.setattr(delivery, "FRESH", LIMIT if hangs else 0.0)
    asked, ended = threading.Event(), threading.Event()

    def fault(operation: str) -> ServiceError | None:
        if operation == ("report" if hangs else "is_current"):
            asked.set()
            ended.wait(LIMIT if hangs else 0)
        return None if hangs else down(operation)

    queue.fault = fault
    queue.put(what="returns")
    try:
        with running(make_plan(tmp_path, shutdown_grace=0.1), queue) as worker:
            wait_for("the report", asked.is_set)
            worker.supervisor.stop()
            worker.supervisor.stop()
            assert worker.wait_until_down() == 128 + signal.SIGTERM
        (said,) = worker.saw(AttemptEnded)
        assert (said.ending, said.status) == (Ending.UNREPORTED, TaskStatus.COMPLETED)
        assert "before Conductor answered" in str(said.reason)
    finally:
        ended.set()
    left = [thread for thread in threading.enumerate() if thread.name.startswith("perago-report")]
    wait_for("the reporting threads", lambda: not any(thread.is_alive() for thread in left))


@pytest.mark.parametrize(("workspace", "asked"), [(None, False), ({}, True)])
def test_only_deliveries_that_can_have_published_are_checked_first(
    worker: RunningWorker, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch, workspace: Any, asked: bool
) -> None:
    monkeypatch.setattr(delivery, "FRESH", LIMIT)
    questions: list[str] = []
    queue.fault = questions.append
    queue.put(what="returns", workspace=workspace)
    wait_for("the report", lambda: worker.ended(Ending.REPORTED))
    assert ("is_current" in questions) is asked


def test_a_delivery_that_is_lost_before_its_report_gets_no_report(
    worker: RunningWorker, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FRESH", 0.0)

    def lose_it(operation: str) -> None:
        if operation == "is_current":  # the report's own delivery question
            queue.held.clear()

    queue.fault = lose_it
    queue.put(what="returns")
    wait_for("the loss", lambda: worker.ended(Ending.LOST))
    assert not queue.reports
    assert not worker.ended(Ending.REPORTED)


def test_reports_that_pile_up_hold_back_polls_until_they_are_accepted(worker: RunningWorker, queue: SmallQueue) -> None:
    through = hold_reports(queue)
    for _ in range(20):
        queue.put(what="returns")
    backlog = 8  # twice the four threads that report for one slot
    wait_for("the backlog", lambda: len(worker.saw(AttemptReceived)) == backlog)
    time.sleep(0.2)  # the time in which a further poll would show
    assert len(worker.saw(AttemptReceived)) == backlog
    through.set()
    wait_for("all reports", lambda: len(queue.reports) == 20)


# ----------------------------------------------------------------------------------------------------
# The heartbeat of an attempt, whatever its function does, and the log that it brings to Conductor.


def test_a_function_that_holds_the_interpreter_does_not_stop_its_heartbeat(
    worker: RunningWorker, queue: SmallQueue, tmp_path: Path
) -> None:
    file, pipe = tmp_path / "running", tmp_path / "running.end"

    def opened() -> int | None:
        with contextlib.suppress(OSError):  # nobody reads from it yet
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        return None

    os.mkfifo(pipe)
    task_id = queue.put(what="holds_the_gil", file=str(file), response_timeout=0.6)
    running_pid(file)
    beats = queue.beats.count(task_id)
    wait_for("three further beats", lambda: queue.beats.count(task_id) >= beats + 3)
    assert task_id not in queue.reports
    writer = wait_for("a reader", opened)
    assert result(outcome(queue, task_id)) == "let go"
    os.close(writer)


def test_a_beat_and_a_report_are_never_on_their_way_together(
    worker: RunningWorker, queue: SmallQueue, tmp_path: Path
) -> None:
    """Conductor may write what it has read for the beat after it has taken the report."""
    beating, answered = threading.Event(), threading.Event()
    overlapped = list[str]()

    def fault(operation: str) -> ServiceError | None:
        if operation == "extend_lease" and not beating.is_set():
            beating.set()
            assert answered.wait(30)
        elif operation == "report" and not answered.is_set():
            overlapped.append(operation)
        return None

    queue.fault = fault
    file = tmp_path / "running"
    task_id = queue.put(what="waits", file=str(file), response_timeout=0.6)
    wait_for("a beat", beating.is_set)
    file.with_suffix(".end").touch()
    wait_for("its end", lambda: [pulse for pulse in worker.saw(Pulse) if pulse.unreported] or overlapped)
    answered.set()
    assert result(outcome(queue, task_id)) == "waited"
    assert not overlapped


def test_reports_that_get_no_answer_do_not_keep_others_from_beating(
    worker: RunningWorker, queue: SmallQueue, tmp_path: Path
) -> None:
    """There are two threads for beats, as many as reports here."""
    answered = threading.Event()

    def fault(operation: str) -> ServiceError | None:
        assert operation != "report" or answered.wait(30)
        return None

    queue.fault = fault
    over = [queue.put(what="returns", response_timeout=0.6) for _ in range(2)]
    wait_for("their end", lambda: [pulse for pulse in worker.saw(Pulse) if pulse.unreported == 2])
    file = tmp_path / "running"
    task_id = queue.put(what="waits", file=str(file), response_timeout=0.6)
    wait_for("beats", lambda: queue.beats.count(task_id) > 3)
    assert not queue.reports
    answered.set()
    release(file)
    assert [result(outcome(queue, waiting)) for waiting in (*over, task_id)] == ["fine", "fine", "waited"]


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch, frequent_beats: None) -> None:
    """Nothing holds a log back that is there."""
    monkeypatch.setattr(attempts, "LOG_INTERVAL", 0.1)


@pytest.mark.usefixtures("soon")
def test_a_heartbeat_sends_the_log_so_far_and_the_report_the_rest(
    worker: RunningWorker, queue: SmallQueue, tmp_path: Path
) -> None:
    task_id = queue.put(what="says_and_waits", file=str(tmp_path / "file"))
    assert wait_for("the beginning", lambda: queue.logs.get(task_id)) == ["begun"]
    assert task_id in queue.held
    (tmp_path / "file.end").touch()
    outcome(queue, task_id)
    wait_for("the end", lambda: queue.logs[task_id] == ["begun", "ended"])


@pytest.mark.usefixtures("soon")
def test_a_heartbeat_sends_the_progress_and_does_not_change_the_output(
    worker: RunningWorker, queue: SmallQueue, tmp_path: Path
) -> None:
    task_id = queue.put(what="counts_and_waits", file=str(tmp_path / "file"))
    wait_for("how far it is", lambda: "progress 2 of 3" in _lines(queue, task_id))
    assert task_id in queue.held
    (tmp_path / "file.end").touch()
    assert outcome(queue, task_id).output == {"result": {"text": "waited"}}
    assert [line for line in _lines(queue, task_id) if line != "progress 1 of 3"] == ["two", "progress 2 of 3"]


def _lines(queue: SmallQueue, task_id: str) -> list[str]:
    return "\n".join(queue.logs.get(task_id, ())).split("\n")


@pytest.mark.usefixtures("frequent_beats")
def test_heartbeats_do_not_bring_it_more_often_than_every_few_seconds(
    worker: RunningWorker, queue: SmallQueue, tmp_path: Path
) -> None:
    assert attempts.LOG_INTERVAL >= 3
    task_id = queue.put(what="says_and_waits", file=str(tmp_path / "file"))
    wait_for("a few beats", lambda: queue.beats.count(task_id) >= 3)
    assert task_id not in queue.logs
    (tmp_path / "file.end").touch()
    assert wait_for("the log", lambda: queue.logs.get(task_id)) == ["begun\nended"]


def wait_for_last_entry(queue: SmallQueue, task_id: str, why: str) -> str:
    """Wait for the entry of the worker that names the reason why it stopped an attempt."""

    def last() -> str | None:
        (*_, entry) = queue.logs.get(task_id) or [""]
        stopped = entry.startswith("[test0001@") and entry.endswith(f" stopped this attempt: {why}]")
        return entry if stopped else None

    return wait_for("the last entry", last)


def test_the_log_of_a_lost_attempt_is_kept_and_says_why_it_ends(
    frequent_beats: None, worker: RunningWorker, queue: SmallQueue, tmp_path: Path
) -> None:
    task_id = queue.put(what="says_and_waits", file=str(tmp_path / "file"))
    wait_for("the function", (tmp_path / "file").exists)
    queue.supersede(task_id)
    entry = wait_for_last_entry(queue, task_id, "Conductor is no longer waiting for this delivery")
    *said, traceback, last = queue.logs[task_id]
    assert (said, last) == (["begun", "ended"], entry)
    assert "in _waits" in traceback  # where it stood
    assert task_id not in queue.reports


def test_so_is_that_of_one_that_takes_too_long(worker: RunningWorker, queue: SmallQueue, tmp_path: Path) -> None:
    task_id = queue.put(what="says_and_waits", file=str(tmp_path / "file"), timeout=0.5)
    wait_for_last_entry(queue, task_id, "it ran longer than its time limit of 0.5 s")
    assert queue.logs[task_id][:2] == ["begun", "ended"]
    assert task_id not in queue.reports


def test_one_that_conductor_would_retry_is_reported_as_failed(
    worker: RunningWorker, queue: SmallQueue, tmp_path: Path
) -> None:
    task_id = queue.put(what="says_and_waits", file=str(tmp_path / "file"), timeout=0.5, timeout_policy="RETRY")
    report, _ = wait_for("the report", lambda: queue.reports.get(task_id))
    assert (report.status, report.reason) == (
        TaskStatus.FAILED,
        "Timed out: it ran longer than its time limit of 0.5 s",
    )
    wait_for("the log", lambda: queue.logs[task_id][:2] == ["begun", "ended"])


# ----------------------------------------------------------------------------------------- deep inputs


ROW = {**POLLED, "taskType": "worker.behaves", "taskDefName": "worker.behaves"}
LEVELS = (300, 940, 994, 100_000)
ROWS = {
    "plain": {**ROW, "taskId": "plain", "inputData": {"params": {"what": "returns"}}},
    **{
        f"deep-{levels}": {
            **ROW,
            "taskId": f"deep-{levels}",
            "inputData": {"params": {"what": "returns", "more": f"DEEP-{levels}"}},
        }
        for levels in LEVELS
    },
}


class Conductor:
    """Delivers all tasks with one poll, and again what is handed back because it was not asked for."""

    def __init__(self) -> None:
        self.reports: dict[str, dict[str, object]] = {}
        self._waiting = list(ROWS.values())
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Action:
        if "/poll/" in request.path:
            with self._lock:
                rows, self._waiting = self._waiting, []
            return self._reply(rows)
        if request.method == "POST":
            update = request.json if request.path.endswith("/tasks") else {}
            if "callbackAfterSeconds" in update:
                with self._lock:
                    self._waiting.append(ROWS[update["taskId"]])
            elif update.get("status") != "IN_PROGRESS" and update:
                self.reports[update["taskId"]] = update
            return ACCEPTED
        match = re.search(r"/tasks/(plain|deep-\d+)$", request.path)
        return self._reply(ROWS[match[1]]) if match else reply_json({})

    def _reply(self, value: object) -> Action:
        body = json.dumps(value).encode()
        for levels in LEVELS:
            body = body.replace(f'"DEEP-{levels}"'.encode(), b"[" * levels + b"]" * levels)
        return Reply(200, body, {"Content-Type": "application/json"})


def test_a_deep_input_fails_for_good_and_costs_no_other_task(tmp_path: Path) -> None:
    script = Conductor()
    with conductor(script) as (queue, _), running(make_plan(tmp_path), queue):
        wait_for("all reports", lambda: len(script.reports) == len(ROWS))
    assert script.reports.pop("plain")["status"] == "COMPLETED"
    for deep in script.reports.values():
        assert deep["status"] == "FAILED_WITH_TERMINAL_ERROR"
        assert TOO_DEEP in str(deep["reasonForIncompletion"])
