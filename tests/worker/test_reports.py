"""How the supervisor reports what an attempt came to, and ends with a report that does not get through."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from perago.driver import delivery
from perago.ports import ServiceError, TaskStatus, Unavailable
from perago.worker import supervisor
from perago.worker.events import AttemptEnded, AttemptReceived, Draining, Ending

from .bench import LIMIT, RunningWorker, hold_reports, make_plan, outcome, result, running, wait_for
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
    monkeypatch.setattr(supervisor, "LAST_WORDS", 0.3 if hangs else LIMIT)
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
def test_only_a_delivery_that_may_have_published_is_checked_right_after_its_poll(
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


def test_reports_that_pile_up_hold_back_further_polls_until_they_are_through(
    worker: RunningWorker, queue: SmallQueue
) -> None:
    through = hold_reports(queue)
    for _ in range(20):
        queue.put(what="returns")
    backlog = 8  # twice the four threads that report for one slot
    wait_for("the backlog", lambda: len(worker.saw(AttemptReceived)) == backlog)
    time.sleep(0.2)  # the time in which a further poll would show
    assert len(worker.saw(AttemptReceived)) == backlog
    through.set()
    wait_for("all reports", lambda: len(queue.reports) == 20)
