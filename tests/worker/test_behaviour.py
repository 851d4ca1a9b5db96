"""Whatever a function does to its process, its attempt has a clear outcome and the worker goes on."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from perago.ports import TaskStatus
from perago.processes import running_processes
from perago.retry import BackOff
from perago.worker.events import SlotDied, SlotReplaced

from .bench import RunningWorker, attempt_directories, gone, make_plan, outcome, result, running, wait_for
from .small_queue import SmallQueue

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere daemons cannot be found")

COMPLETED, FAILED = TaskStatus.COMPLETED, TaskStatus.FAILED
TERMINAL = TaskStatus.FAILED_WITH_TERMINAL_ERROR

OUTCOMES = {
    "returns": (COMPLETED, None),
    "raises": (FAILED, "KeyError: 'no such thing'"),
    "fails": (FAILED, "not today"),
    "fails_for_good": (TERMINAL, "never"),
    "exits": (FAILED, "SystemExit: the function called sys.exit(4)"),
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
    wait_for("the child's end", gone(pid))
    replaced = wait_for("the slot's replacement", lambda: worker.saw(SlotReplaced))
    assert f"child processes (python with pid {pid})" in replaced[0].reason
    assert not worker.saw(SlotDied)
    wait_for("the line in the task log", lambda: f"with pid {pid}" in "".join(map(str, queue.logs.values())))


@linux
def test_hundreds_of_processes_are_ended_before_the_workspace_is_read(worker: RunningWorker, queue: SmallQueue) -> None:
    pids = result(outcome(queue, queue.put(what="leaves_hundreds"))).split()
    assert len(pids) == 150
    assert all(gone(int(pid))() for pid in pids)
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
    assert gone(int((tmp_path / "file.daemon").read_text()))()


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
        wait_for("the end of the daemon", gone(int((tmp_path / "file.daemon").read_text())))
        if end == "fork server killed":
            why = "the slot's process was ended because its fork server has died"
            assert outcome(queue, task_id).reason == f"{why} while it ran the attempt"
            wait_for("the end of the slot", gone(pid))
        assert result(outcome(queue, queue.put(what="returns"))) == "fine"
        assert worker.exit_code is None


def test_a_thread_that_was_left_behind_costs_the_slot_its_process(worker: RunningWorker, queue: SmallQueue) -> None:
    old = result(outcome(queue, queue.put(what="leaves_a_thread")))
    assert result(outcome(queue, queue.put(what="pid"))) != old
    assert "threads (forgotten)" in worker.saw(SlotReplaced)[0].reason


def test_a_well_behaved_function_keeps_its_process_and_its_changes_are_undone(
    worker: RunningWorker, queue: SmallQueue
) -> None:
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
