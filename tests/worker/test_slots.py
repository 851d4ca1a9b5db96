"""Slots: one that dies, one that hangs, and many side by side."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from perago.ports import Report, TaskStatus
from perago.worker.channel import (
    MOST_CHUNKS,
    MOST_REMARKS,
    MOST_STEPS,
    DeliveryQuestion,
    Finished,
    FromSlot,
    Ready,
    encode,
)
from perago.worker.events import AttemptReceived, Ending, FunctionSaid, Pulse, SlotDied, SlotReady
from perago.worker.host import MAX_THREADS

from .bench import LIMIT, RunningWorker, make_plan, outcome, release, result, running, running_pid, wait_for
from .small_queue import SmallQueue

LONG = 3600.0


# ------------------------------------------------------------------------- dying slots


def test_a_slot_that_dies_while_no_descriptor_is_free_is_replaced(worker: RunningWorker, queue: SmallQueue) -> None:
    outcome(queue, queue.put(what="returns"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        os.kill(worker.saw(SlotReady)[0].pid, signal.SIGKILL)
        wait_for("the slot's death", lambda: worker.saw(SlotDied))
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert outcome(queue, queue.put(what="returns")).status is TaskStatus.COMPLETED


def test_a_slot_that_does_not_read_its_delivery_is_replaced(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perago.worker.channel.IO_LIMIT", 1)
    with running(make_plan(tmp_path), queue) as worker:
        os.kill(worker.saw(SlotReady)[0].pid, signal.SIGSTOP)
        task_id = queue.put(what="returns", file="x" * 4_000_000)  # more than the pipe holds
        assert result(outcome(queue, task_id)) == "fine"
        assert queue.handed_back == [task_id]
        (died,) = worker.saw(SlotDied)
        assert died.reason == "the slot's process was ended because it did not take a message within 1 s"


@pytest.mark.parametrize("seconds", [0, LONG], ids=["and returns", "and goes on"])
def test_garbage_on_every_descriptor_costs_the_slot_and_its_attempt_alone(
    tmp_path: Path, queue: SmallQueue, seconds: float
) -> None:
    file = tmp_path / "running"
    with running(make_plan(tmp_path, slots=2), queue) as worker:
        wait_for("both slots", lambda: len(worker.saw(SlotReady)) == 2)
        neighbour = queue.put(what="waits", file=str(file))
        pid = running_pid(file)
        report = outcome(queue, queue.put(what="writes_garbage_to_every_descriptor", seconds=seconds))
        assert report.status is TaskStatus.FAILED
        assert report.reason == (
            "the slot's process was ended because it sent bytes that do not begin a message of at most 1,572,864 "
            "bytes (did the function write to a descriptor that is not its own?) while it ran the attempt"
        )
        release(file)
        assert result(outcome(queue, neighbour)) == "waited"
        assert result(outcome(queue, queue.put(what="returns"))) == "fine"
        assert pid not in {event.pid for event in worker.saw(SlotDied)}
        assert len(worker.saw(SlotDied)) == 1


@pytest.mark.parametrize(
    "message",
    [
        Ready(),
        Finished(("task-9", 1, 1), None),
        FunctionSaid("test0001", "hello"),
        DeliveryQuestion(1, ("task-9", 1, 1)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_an_unexpected_message_ends_its_slot(worker: RunningWorker, queue: SmallQueue, message: FromSlot) -> None:
    report = outcome(queue, queue.put(what="sends", file=encode(message).decode()))
    assert report.status is TaskStatus.FAILED
    assert f"an unexpected message ({type(message).__name__})" in str(report.reason)
    assert result(outcome(queue, queue.put(what="returns"))) == "fine"


MANY: dict[str, Any] = {
    "steps": (("Fetch", 0.1),) * (MOST_STEPS + 1),
    "remarks": ("",) * (MOST_REMARKS + 1),
    "log_chunks": ("",) * (MOST_CHUNKS + 1),
}


@pytest.mark.parametrize("field", MANY)
def test_a_report_with_too_many_items_ends_its_slot(worker: RunningWorker, queue: SmallQueue, field: str) -> None:
    message: Any = Finished(("task-1", 1, 5), Report(TaskStatus.COMPLETED), **{field: MANY[field]})
    report = outcome(queue, queue.put(what="sends", file=encode(message).decode(), began=5))
    assert "an unexpected message (Finished)" in str(report.reason)


def test_a_function_that_was_called_cannot_hand_its_attempt_back(worker: RunningWorker, queue: SmallQueue) -> None:
    message = Finished(("task-1", 1, 5), Report(TaskStatus.FAILED, reason="disk full"), hand_back=True)
    report = outcome(queue, queue.put(what="sends", file=encode(message).decode(), began=5))
    assert "an unexpected message (Finished)" in str(report.reason)
    assert not queue.handed_back


def test_many_questions_of_a_slot_are_asked_one_after_the_other(worker: RunningWorker, queue: SmallQueue) -> None:
    """Each occupies a thread that heartbeats of other attempts need."""
    asked, through = [], threading.Event()

    def fault(operation: str) -> None:
        if operation == "is_current":
            asked.append(operation)
            through.wait(LIMIT)

    queue.fault = fault
    questions = b"\n".join(encode(DeliveryQuestion(number, ("task-1", 1, 5))) for number in range(20))
    queue.put(what="sends", file=questions.decode(), began=5)
    wait_for("the first question", lambda: asked)
    pulses = len(worker.saw(Pulse))
    wait_for("time for others", lambda: len(worker.saw(Pulse)) > pulses + 1)
    assert len(asked) == 1
    through.set()
    wait_for("the others", lambda: len(asked) == 20)


@pytest.mark.skipif(sys.platform != "linux", reason="sockets are found in /proc")
def test_a_slot_that_stops_within_a_message_is_replaced(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perago.worker.channel.IO_LIMIT", 1)
    with running(make_plan(tmp_path), queue):
        report = outcome(queue, queue.put(what="sends_half_a_message"))
        assert report.status is TaskStatus.FAILED
        assert report.reason == (
            "the slot's process was ended because it sent 8 bytes of a message and did not continue within 1 s "
            "while it ran the attempt"
        )
        assert result(outcome(queue, queue.put(what="returns"))) == "fine"


def test_slots_can_be_spawned(tmp_path: Path, queue: SmallQueue) -> None:
    with running(make_plan(tmp_path, start_method="spawn"), queue):
        assert "SIGKILL" in str(outcome(queue, queue.put(what="kills_itself")).reason)


# ---------------------------------------------------------------------------- many slots


def test_full_slots_are_not_polled_for(worker: RunningWorker, queue: SmallQueue, tmp_path: Path) -> None:
    file = tmp_path / "running"
    task_id = queue.put(what="waits", file=str(file))
    running_pid(file)
    polls = len(queue.polls)
    time.sleep(0.2)  # the time in which a poll would show
    assert len(queue.polls) == polls
    release(file)
    outcome(queue, task_id)
    assert len(worker.saw(AttemptReceived)) == 1


def test_a_full_queue_fills_all_free_slots_with_one_poll(tmp_path: Path, queue: SmallQueue) -> None:
    files = [tmp_path / name for name in ("a", "b", "c")]
    are_free = threading.Event()

    def hold_polls(operation: str) -> None:
        if operation == "poll":
            are_free.wait(LIMIT)

    with running(make_plan(tmp_path, slots=3), queue) as worker:
        for file in files:
            queue.put(what="waits", file=str(file))
        wait_for("all to run", lambda: all(file.exists() for file in files))
        queue.fault = hold_polls  # the one for the slot that is free first
        for file in files:
            release(file)
        wait_for("all slots to be free", lambda: len(worker.ended(Ending.REPORTED)) == 3)
        for _ in range(3):
            queue.put(what="returns")
        are_free.set()
        wait_for("all reports", lambda: len(queue.reports) == 6)
    assert any(count > 1 and wait == 0.0 for count, wait in queue.polls)
    assert all(count == 1 for count, wait in queue.polls if wait > 0)


def test_more_slots_than_reports_may_wait_are_all_given_work(tmp_path: Path, queue: SmallQueue) -> None:
    """Running attempts are no backlog of reports."""
    slots = 2 * MAX_THREADS + 4
    with running(make_plan(tmp_path, slots=slots), queue) as worker:
        for number in range(slots):
            queue.put(what="waits", file=str(tmp_path / f"running-{number}"))
            wait_for("the next one to run", (tmp_path / f"running-{number}").exists)
        assert not worker.ended(Ending.REPORTED)
        for number in range(slots):
            release(tmp_path / f"running-{number}")
        wait_for("all to be reported", lambda: len(queue.reports) == slots)
