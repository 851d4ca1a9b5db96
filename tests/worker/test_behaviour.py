"""Whatever a function does to its process, its attempt has a clear outcome and the worker goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psutil
import pytest

from perago.ports import Report, TaskStatus
from perago.worker.events import AttemptReported, SlotDied, SlotReplaced

from .bench import RunningWorker, attempt_directories, outcome, wait_for
from .small_queue import SmallQueue

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
    "forks_and_leaves_the_child": (COMPLETED, None),
    "leaves_a_noisy_child": (COMPLETED, None),
    "leaves_a_thread": (COMPLETED, None),
    "prints": (COMPLETED, None),
    "prints_megabytes": (COMPLETED, None),
    "prints_many_lines": (COMPLETED, None),
    "prints_binary": (COMPLETED, None),
    "closes_its_output": (COMPLETED, None),
    "closes_all_descriptors": (FAILED, "SIGKILL"),
    "changes_the_process": (COMPLETED, None),
    "sends_itself_term": (COMPLETED, None),
}


def gone(pid: int) -> Callable[[], bool]:
    """Whether process `pid` has ended (a zombie has)."""

    def check() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        return True

    return check


def result(report: Report) -> str:
    assert report.status is COMPLETED, report
    return str(report.output["result"]["text"])


@pytest.mark.parametrize("what", OUTCOMES)
def test_every_behaviour_has_its_outcome_and_the_worker_goes_on(
    what: str, worker: RunningWorker, queue: SmallQueue
) -> None:
    status, reason = OUTCOMES[what]
    report = outcome(queue, queue.put(what=what))
    assert report.status is status
    assert (reason or "") in (report.reason or "")
    assert result(outcome(queue, queue.put(what="returns"))) == "fine"
    wait_for("the lines about both", lambda: len(worker.saw(AttemptReported)) == 2)


def test_a_child_that_returns_as_well_does_not_answer(worker: RunningWorker, queue: SmallQueue) -> None:
    assert result(outcome(queue, queue.put(what="forks_and_both_return"))) == "the parent"
    assert result(outcome(queue, queue.put(what="returns"))) == "fine"
    wait_for("both reports", lambda: len(worker.saw(AttemptReported)) == 2)


@pytest.mark.parametrize("what", ["forks_and_leaves_the_child", "leaves_a_daemon"])
def test_a_process_that_was_left_behind_is_ended_and_the_slot_replaced(
    what: str, worker: RunningWorker, queue: SmallQueue
) -> None:
    pid = int(result(outcome(queue, queue.put(what=what))))
    wait_for("the child's end", gone(pid))
    replaced = wait_for("the slot's replacement", lambda: worker.saw(SlotReplaced))
    assert "child processes" in replaced[0].reason
    assert not worker.saw(SlotDied)


def test_a_thread_that_was_left_behind_costs_the_slot_its_process(worker: RunningWorker, queue: SmallQueue) -> None:
    old = result(outcome(queue, queue.put(what="leaves_a_thread")))
    assert result(outcome(queue, queue.put(what="pid"))) != old
    assert "threads (forgotten)" in worker.saw(SlotReplaced)[0].reason


def test_a_well_behaved_function_keeps_its_process(worker: RunningWorker, queue: SmallQueue) -> None:
    pids = {result(outcome(queue, queue.put(what="pid"))) for _ in range(3)}
    assert len(pids) == 1
    assert not worker.saw(SlotReplaced)


def test_what_a_function_changes_in_its_process_is_restored(worker: RunningWorker, queue: SmallQueue) -> None:
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
    assert queue.reports[task_id][1] == "test0001"
    died = wait_for("the line about it", lambda: worker.saw(SlotDied))[0]
    assert died.restart_seconds == 1.0
    root = worker.plan.workspace_root
    wait_for("the attempt directory to go", lambda: not attempt_directories(root))
