"""Slots: one that dies, one that hangs, many side by side, and whatever a function does to its process."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from perago.ports import Report, TaskStatus
from perago.processes import running_processes
from perago.retry import BackOff
from perago.worker import channel
from perago.worker.events import AttemptReceived, Ending, FunctionSaid, Pulse, SlotDied, SlotReady, SlotReplaced
from perago.worker.host import MAX_THREADS

from .bench import (
    LIMIT,
    RunningWorker,
    attempt_directories,
    has_ended,
    make_plan,
    outcome,
    release,
    result,
    running,
    running_pid,
    wait_for,
)
from .outside import room_for_files
from .small_queue import SmallQueue

LONG = 3600.0


# ------------------------------------------------------------------------- dying slots


def test_a_slot_that_dies_while_no_descriptor_is_free_is_replaced(worker: RunningWorker, queue: SmallQueue) -> None:
    outcome(queue, queue.put(what="returns"))
    with room_for_files(0):
        os.kill(worker.saw(SlotReady)[0].pid, signal.SIGKILL)
        wait_for("the slot's death", lambda: worker.saw(SlotDied))
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


CURRENT = ("task-1", 1, 5)
"""The delivery that the slot has."""


@pytest.mark.parametrize(
    "message",
    [
        channel.Ready(),
        channel.Finished(("task-9", 1, 1), None),
        FunctionSaid("test0001", "hello"),
        channel.DeliveryQuestion(1, ("task-9", 1, 1)),
        channel.Finished(CURRENT, Report(TaskStatus.COMPLETED), steps=(("Fetch", 0.1),) * (channel.MOST_STEPS + 1)),
        channel.Finished(CURRENT, Report(TaskStatus.COMPLETED), remarks=("",) * (channel.MOST_REMARKS + 1)),
        channel.Finished(CURRENT, Report(TaskStatus.COMPLETED), log_chunks=("",) * (channel.MOST_CHUNKS + 1)),
        channel.Finished(CURRENT, Report(TaskStatus.FAILED, reason="its function was called"), hand_back=True),
    ],
    ids=lambda message: type(message).__name__,
)
def test_an_unexpected_message_ends_its_slot(
    worker: RunningWorker, queue: SmallQueue, message: channel.FromSlot
) -> None:
    report = outcome(queue, queue.put(what="sends", file=channel.encode(message).decode(), began=5))
    assert report.status is TaskStatus.FAILED
    assert f"an unexpected message ({type(message).__name__})" in str(report.reason)
    assert not queue.handed_back
    assert result(outcome(queue, queue.put(what="returns"))) == "fine"


def test_many_questions_of_a_slot_are_asked_one_after_the_other(worker: RunningWorker, queue: SmallQueue) -> None:
    """Each occupies a thread that heartbeats of other attempts need."""
    asked, through = [], threading.Event()

    def fault(operation: str) -> None:
        if operation == "is_current":
            asked.append(operation)
            through.wait(LIMIT)

    queue.fault = fault
    questions = b"\n".join(channel.encode(channel.DeliveryQuestion(number, ("task-1", 1, 5))) for number in range(20))
    queue.put(what="sends", file=questions.decode(), began=5)
    wait_for("the first question", lambda: asked)
    pulses = len(worker.saw(Pulse))
    wait_for("time for others", lambda: len(worker.saw(Pulse)) > pulses + 1)
    assert len(asked) == 1
    through.set()
    wait_for("the others", lambda: len(asked) == 20)


def test_an_attempt_with_a_hanging_call_waits_for_the_service(worker: RunningWorker, queue: SmallQueue) -> None:
    """Before the call is repeated, which can take a minute."""
    through = threading.Event()

    def fault(operation: str) -> None:
        if operation == "is_current":
            through.wait(LIMIT)

    queue.fault = fault
    waits = channel.Waiting(CURRENT, "the block store has not answered for 5 s", False)
    messages = (waits, channel.DeliveryQuestion(1, CURRENT))
    queue.put(what="sends", file=b"\n".join(map(channel.encode, messages)).decode(), began=5)
    wait_for("its pulse", lambda: any(pulse.waiting == {"block store": 1} for pulse in worker.saw(Pulse)))
    through.set()


@pytest.mark.skipif(sys.platform != "linux", reason="states of processes are found in /proc")
def test_a_stopped_slot_is_counted_until_it_continues(worker: RunningWorker) -> None:
    pid = wait_for("the slot", lambda: worker.saw(SlotReady))[0].pid
    os.kill(pid, signal.SIGSTOP)
    wait_for("a pulse with it", lambda: worker.saw(Pulse)[-1:] and worker.saw(Pulse)[-1].stopped == 1)
    os.kill(pid, signal.SIGCONT)
    wait_for("a pulse without it", lambda: worker.saw(Pulse)[-1].stopped == 0)


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


# ----------------------------------------------------------------------------------------------------
# Whatever a function does to its process, its attempt has a clear outcome and the worker goes on.


linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere daemons cannot be found")

COMPLETED, FAILED = TaskStatus.COMPLETED, TaskStatus.FAILED

OUTCOMES = {
    "returns": (COMPLETED, None),
    "raises": (FAILED, "KeyError: 'no such thing'"),
    "fails": (FAILED, "not today"),
    "exits_hard": (FAILED, "exit status 3"),
    "kills_itself": (FAILED, "SIGKILL"),
    "segfaults": (FAILED, "SIGSEGV"),
    "forks_and_both_return": (COMPLETED, None),
    "leaves_a_noisy_child": (COMPLETED, None),
    "prints": (COMPLETED, None),
    "prints_megabytes": (COMPLETED, None),
    "prints_many_lines": (COMPLETED, None),
    "prints_binary": (COMPLETED, None),
    "closes_its_output": (COMPLETED, None),
    "closes_all_descriptors": (FAILED, "SIGKILL"),
    "changes_the_process": (COMPLETED, None),
    "sends_itself_term": (COMPLETED, None),
}


@pytest.fixture(scope="module")
def lasting_queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallQueue]:
    """That of one worker for all behaviours."""
    queue = SmallQueue()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perago.retry.RESTARTS", BackOff(0.01, 0.01))
        with running(make_plan(tmp_path_factory.mktemp("lasting")), queue) as worker:
            yield queue
            assert worker.exit_code is None


@pytest.mark.parametrize("what", OUTCOMES)
def test_every_behavior_has_its_outcome_and_the_worker_continues(what: str, lasting_queue: SmallQueue) -> None:
    status, reason = OUTCOMES[what]
    report = outcome(lasting_queue, lasting_queue.put(what=what))
    assert report.status is status
    assert (reason or "") in (report.reason or "")
    assert result(outcome(lasting_queue, lasting_queue.put(what="returns"))) == "fine"


@pytest.mark.parametrize("what", ["forks_and_leaves_the_child", "leaves_a_daemon"])
def test_a_process_that_was_left_behind_is_ended_and_the_slot_replaced(
    what: str, worker: RunningWorker, queue: SmallQueue
) -> None:
    pid = int(result(outcome(queue, queue.put(what=what))))
    wait_for("the child's end", has_ended(pid))
    replaced = wait_for("the slot's replacement", lambda: worker.saw(SlotReplaced))
    assert f"child processes (python with pid {pid})" in replaced[0].reason
    assert not worker.saw(SlotDied)
    wait_for("the line in the task log", lambda: f"with pid {pid}" in "".join(map(str, queue.logs.values())))


@linux
def test_hundreds_of_processes_are_ended_before_the_workspace_is_read(worker: RunningWorker, queue: SmallQueue) -> None:
    pids = result(outcome(queue, queue.put(what="leaves_hundreds"))).split()
    assert len(pids) == 150
    assert all(has_ended(int(pid))() for pid in pids)
    reason = wait_for("the slot's replacement", lambda: worker.saw(SlotReplaced))[0].reason
    assert re.search(r"child processes \((sh|sleep) with pid .* and \d+ more\)", reason)


@linux
def test_a_fork_bomb_is_ended_with_one_signal(lasting_queue: SmallQueue) -> None:
    task_id = lasting_queue.put(what="leaves_one_that_forks_all_the_time")
    session = int(result(outcome(lasting_queue, task_id)))
    assert session not in {process.session for process in running_processes().values()}


@linux
@pytest.mark.parametrize(
    "then", ["returns", "raises", "exits_hard", "exits_with_status_0", "kills_itself", "segfaults"]
)
def test_a_daemon_has_ended_when_the_attempt_is_reported(lasting_queue: SmallQueue, tmp_path: Path, then: str) -> None:
    outcome(lasting_queue, lasting_queue.put(what="leaves_a_daemon_and", then=then, file=str(tmp_path / "file")))
    assert has_ended(int((tmp_path / "file.daemon").read_text()))()


@linux
@pytest.mark.parametrize("end", ["lost", "timed out", "killed from outside", "fork server killed"])
def test_a_daemon_ends_with_its_attempt(queue: SmallQueue, tmp_path: Path, end: str) -> None:
    timeout = 1.0 if end == "timed out" else 0
    with running(make_plan(tmp_path, shutdown_grace=0.3), queue) as worker:
        file = tmp_path / "file"
        task_id = queue.put(
            what="leaves_a_daemon_and", then="ignores_term", file=str(file), response_timeout=0.6, timeout=timeout
        )
        pid = int(wait_for("the function", lambda: file.read_text() if file.exists() else ""))
        if end == "lost":
            queue.supersede(task_id)
        elif end == "killed from outside":
            os.kill(pid, signal.SIGKILL)
        elif end == "fork server killed":
            os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
        wait_for("the end of the daemon", has_ended(int((tmp_path / "file.daemon").read_text())))
        if end == "fork server killed":
            why = "the slot's process was ended because its fork server has died"
            assert outcome(queue, task_id).reason == f"{why} while it ran the attempt"
            wait_for("the end of the slot", has_ended(pid))
        assert result(outcome(queue, queue.put(what="returns"))) == "fine"
        assert worker.exit_code is None


def test_a_thread_that_was_left_behind_costs_the_slot_its_process(worker: RunningWorker, queue: SmallQueue) -> None:
    old = result(outcome(queue, queue.put(what="leaves_a_thread")))
    assert result(outcome(queue, queue.put(what="pid"))) != old
    assert "threads (forgotten)" in worker.saw(SlotReplaced)[0].reason


def test_a_hard_limit_that_a_function_lowered_costs_the_slot_its_process(
    worker: RunningWorker, queue: SmallQueue
) -> None:
    old = result(outcome(queue, queue.put(what="lowers_a_hard_limit")))
    assert result(outcome(queue, queue.put(what="pid"))) != old
    assert "lowered a hard limit" in worker.saw(SlotReplaced)[0].reason


def test_a_well_behaved_function_leaves_its_process_as_it_was(worker: RunningWorker, queue: SmallQueue) -> None:
    pids = {result(outcome(queue, queue.put(what="pid"))) for _ in range(3)}
    assert len(pids) == 1
    assert not worker.saw(SlotReplaced)
    before = result(outcome(queue, queue.put(what="state")))
    outcome(queue, queue.put(what="changes_the_process"))
    assert result(outcome(queue, queue.put(what="state"))) == before
    assert before.endswith("test0001")


def test_a_crash_is_reported_by_the_slot_that_died_and_leaves_no_directory(
    worker: RunningWorker, queue: SmallQueue
) -> None:
    task_id = queue.put(what="kills_itself")
    report = outcome(queue, task_id)
    assert report.reason == (
        "the slot's process was killed by SIGKILL (out of memory, or killed from outside) while it ran the attempt"
    )
    assert queue.reports[task_id][1].startswith("test0001@")
    wait_for("the line about it", lambda: worker.saw(SlotDied))
    root = worker.plan.workspace_root
    wait_for("the attempt directory to go", lambda: not attempt_directories(root))
