"""The heartbeat of an attempt goes on whatever its function does, and bears a Conductor that does not answer."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from perago.ports import ServiceError
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
