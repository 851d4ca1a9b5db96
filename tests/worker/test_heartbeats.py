"""The heartbeat of an attempt, whatever its function does, and the log that it brings to Conductor."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from perago.ports import ServiceError
from perago.worker import attempts
from perago.worker.events import Pulse

from .bench import RunningWorker, outcome, release, result, running_pid, wait_for
from .small_queue import SmallQueue


@contextlib.contextmanager
def open_for_writing(pipe: Path) -> Iterator[None]:
    """As soon as somebody reads from it."""

    def descriptor() -> int | None:
        with contextlib.suppress(OSError):  # nobody does yet
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        return None

    opened = wait_for("a reader", descriptor)
    assert opened is not None
    try:
        yield
    finally:
        os.close(opened)


def test_a_function_that_holds_the_interpreter_does_not_stop_its_heartbeat(
    worker: RunningWorker, queue: SmallQueue, tmp_path: Path
) -> None:
    file, pipe = tmp_path / "running", tmp_path / "running.end"
    os.mkfifo(pipe)
    task_id = queue.put(what="holds_the_gil", file=str(file), response_timeout=0.6)
    running_pid(file)
    beats = queue.beats.count(task_id)
    wait_for("three further beats", lambda: queue.beats.count(task_id) >= beats + 3)
    assert task_id not in queue.reports
    with open_for_writing(pipe):
        assert result(outcome(queue, task_id)) == "let go"


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
    assert [result(outcome(queue, each)) for each in (*over, task_id)] == ["fine", "fine", "waited"]


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
