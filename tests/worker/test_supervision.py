"""Stopping, losing and timing out: what the supervisor does around an attempt, and what its listeners get."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perago.ports import TaskStatus, Unavailable
from perago.retry import BackOff
from perago.worker import events, exporters, host, poller, supervisor
from perago.worker.plan import ExportContext
from perago.worker.slot_process import AttemptCancelled, Cancellation
from perago.worker.supervisor import Supervisor
from perago.workspace.directory import AttemptDirectory
from tests.deliveries import make_delivery

from .bench import (
    LIMIT,
    RunningWorker,
    has_ended,
    hold_reports,
    make_plan,
    outcome,
    planned,
    release,
    result,
    running,
    running_pid,
    wait_for,
)
from .small_queue import SmallQueue

LONG = 3600.0


# --------------------------------------------------------------------------- stopping


def test_a_first_stop_finishes_running_attempts_and_takes_no_more(
    worker: RunningWorker, queue: SmallQueue, tmp_path: Path
) -> None:
    file = tmp_path / "running"
    task_id = queue.put(what="waits", file=str(file))
    running_pid(file)
    worker.supervisor.stop()
    wait_for("the drain", lambda: worker.saw(events.Draining))
    later = queue.put(what="returns")
    release(file)
    assert worker.wait_until_down() == 0
    assert queue.reports[task_id][0].status is TaskStatus.COMPLETED
    assert queue.waiting() == [later]


def test_a_stopping_worker_waits_for_the_hand_back_of_its_last_poll(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_to_take_back(operation: str) -> None:
        if operation == "hand_back":
            time.sleep(0.5)

    monkeypatch.setattr(poller, "LONG_POLL_SECONDS", LIMIT)
    with running(make_plan(tmp_path), queue) as worker:
        wait_for("a long poll", lambda: queue.polls and queue.polls[-1] == (1, LIMIT))
        queue.fault = slow_to_take_back
        worker.supervisor.stop()
        wait_for("the end of the slot", has_ended(worker.saw(events.SlotReady)[0].pid))
        task_id = queue.put(what="returns")
        assert worker.wait_until_down() == 0
    assert [(event.delivery.task_id, event.error) for event in worker.saw(events.HandedBack)] == [(task_id, None)]
    assert (queue.handed_back, queue.pauses) == ([task_id], [0])
    assert not queue.reports


def test_an_idle_slot_ends_immediately_while_a_busy_one_finishes(tmp_path: Path, queue: SmallQueue) -> None:
    file = tmp_path / "running"
    with running(make_plan(tmp_path, slots=2), queue) as worker:
        wait_for("both slots", lambda: len(worker.saw(events.SlotReady)) == 2)
        task_id = queue.put(what="waits", file=str(file))
        busy = running_pid(file)
        idle = next(event.pid for event in worker.saw(events.SlotReady) if event.pid != busy)
        worker.supervisor.stop()
        wait_for("the idle slot's end", has_ended(idle))
        assert task_id not in queue.reports
        release(file)
        assert result(outcome(queue, task_id)) == "waited"


def test_a_second_stop_cancels_running_attempts_and_reports_nothing(
    worker: RunningWorker, queue: SmallQueue, tmp_path: Path
) -> None:
    file = tmp_path / "running"
    queue.put(what="cleans_up_when_cancelled", file=str(file))
    wait_for("the function", file.exists)
    worker.supervisor.stop()
    worker.supervisor.stop(signal.SIGINT)
    assert worker.wait_until_down() == 128 + signal.SIGINT
    assert file.read_text() == "cleaned up, cancelled=True"
    assert not queue.reports
    assert "second signal" in str(worker.ended(events.Ending.LOST)[0].reason)


def test_a_third_stop_does_not_wait_for_the_grace(queue: SmallQueue, tmp_path: Path) -> None:
    file = tmp_path / "running"
    queue.put(what="ignores_term", file=str(file))
    with running(make_plan(tmp_path, shutdown_grace=LONG), queue) as worker:
        pid = running_pid(file)
        for _ in range(3):
            worker.supervisor.stop()
        assert worker.wait_until_down() == 128 + signal.SIGTERM
    assert has_ended(pid)()


def test_a_worker_that_stops_finishes_attempts_although_conductor_hangs(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "POLLS_LIMIT", 0.2)
    hangs, end, file = threading.Event(), threading.Event(), tmp_path / "running"

    def fault(operation: str) -> None:
        if operation == "poll":
            hangs.set()
            end.wait(10 * LIMIT)

    with contextlib.ExitStack() as ending, running(make_plan(tmp_path, slots=2), queue) as worker:
        ending.callback(end.set)
        task_id = queue.put(what="waits", file=str(file))
        running_pid(file)
        queue.fault = fault
        queue.end_polls()
        wait_for("a poll that hangs", hangs.is_set)
        worker.supervisor.stop()
        wait_for("the drain", lambda: worker.saw(events.Draining))
        time.sleep(0.3)  # more than the limit
        release(file)
        assert worker.wait_until_down() == 0
        assert result(queue.reports[task_id][0]) == "waited"


# ------------------------------------------------------------------ Conductor in trouble


def test_a_worker_whose_polls_failed_works_again(
    worker: RunningWorker, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "BACK_OFF", BackOff(0.02, 0.05))
    queue.fault = lambda operation: Unavailable("Conductor", "poll", "no") if operation == "poll" else None
    queue.end_polls()
    wait_for("the failure", lambda: worker.saw(events.ConductorUnreachable))
    queue.fault = lambda operation: None
    assert result(outcome(queue, queue.put(what="returns"))) == "fine"
    assert (len(worker.saw(events.ConductorUnreachable)), len(worker.saw(events.ConductorBack))) == (1, 1)


def test_a_slot_is_kept_for_the_next_step_while_a_report_is_on_its_way(
    worker: RunningWorker, queue: SmallQueue
) -> None:
    wait_for("a long poll", lambda: queue.polls and queue.polls[-1][1] > 0)
    through = hold_reports(queue)
    task_id = queue.put(what="returns")
    begun = len(queue.polls)
    wait_for(
        "more looks than a worker makes that expects work",
        lambda: len(queue.polls) > begun + len(poller.FIRST_QUICK_DELAYS) + 2,
    )
    assert {wait for _, wait in queue.polls[begun:]} == {0.0}
    through.set()
    assert result(outcome(queue, task_id)) == "fine"
    wait_for("a long poll again", lambda: queue.polls[-1][1] > 0)


def test_a_module_that_cannot_be_imported_ends_the_worker_before_it_polls(tmp_path: Path, queue: SmallQueue) -> None:
    worker = RunningWorker(make_plan(tmp_path, planned(f"{__package__}.tasks.missing"), slots=2), queue)
    assert worker.wait_until_down() == 3
    assert "missing" in worker.saw(events.SlotStartFailed)[0].reason
    assert not queue.polls


def test_a_module_that_hangs_while_it_is_imported_is_given_up(tmp_path: Path, queue: SmallQueue) -> None:
    worker = RunningWorker(make_plan(tmp_path, planned(f"{__package__}.tasks.hangs"), start_limit=0.5), queue)
    assert worker.wait_until_down() == 3
    assert worker.saw(events.SlotStartFailed)[0].reason == "the task module was not imported within 0.5 s"


def test_later_leftovers_of_a_neighbor_are_also_swept(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "SWEEP_INTERVAL", 0.05)
    plan = make_plan(tmp_path)
    with running(plan, queue) as worker:
        held = AttemptDirectory.create(plan.workspace_root, make_delivery(task_id="old", task_name="worker.behaves"))
        time.sleep(0.3)  # several sweeps
        assert held.path.exists()
        assert not worker.saw(events.DirectoriesSwept)
        held.close()
        swept = wait_for("the sweep", lambda: worker.saw(events.DirectoriesSwept))
    assert swept[0].paths == (held.path,)


# ------------------------------------------------------------------------------ defects


def test_a_defect_of_the_supervisor_ends_the_worker_loudly_and_completely(tmp_path: Path, queue: SmallQueue) -> None:
    pids: list[int] = []

    def listener(event: events.Event) -> None:
        if isinstance(event, events.SlotReady):
            pids.append(event.pid)
        if isinstance(event, events.AttemptReceived):
            raise RuntimeError("a defect")

    queue.put(what="returns")
    with pytest.raises(RuntimeError, match="a defect"):
        Supervisor(make_plan(tmp_path), queue, listener).run()
    assert len(pids) == 1
    wait_for("the slot's end", has_ended(pids[0]))


def test_listeners_get_every_event_in_order(tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[str, events.Event]] = []
    closed: list[str] = []

    @contextlib.contextmanager
    def counting(context: ExportContext) -> Iterator[events.Listener]:
        """An exporter as somebody would add it: opened with the plan, called with events, closed at the end."""
        yield lambda event: heard.append((context.plan.worker_prefix, event))
        closed.append(context.plan.worker_prefix)

    monkeypatch.setattr(exporters, "EXPORTERS", (*exporters.EXPORTERS, counting))

    def second(event: events.Event) -> None:
        heard.append(("second", event))
        if isinstance(event, events.AttemptEnded):
            supervised.stop()

    plan = make_plan(tmp_path)
    with exporters.exporting(ExportContext(plan=plan)) as exported:
        supervised = Supervisor(plan, queue, *exported, lambda event: heard.append(("first", event)), second)
        queue.put(what="returns")
        assert supervised.run() == 0
        assert closed == []
    assert closed == ["test"]
    names = ["test", "first", "second"]
    assert [name for name, _ in heard] == names * (len(heard) // 3)
    assert [event for _, event in heard[::3]] == [event for _, event in heard[2::3]]
    assert isinstance(heard[-1][1], events.Stopped)


def test_a_worker_that_is_stopped_before_it_runs_takes_nothing(tmp_path: Path, queue: SmallQueue) -> None:
    supervised = Supervisor(make_plan(tmp_path), queue, lambda event: None)
    task_id = queue.put(what="returns")
    supervised.stop()
    assert supervised.run() == 0
    assert queue.waiting() == [task_id]


# ----------------------------------------------------------------------------------------------------
# How a cancellation reaches what an attempt does, also when a signal comes at the wrong moment.


class Signals:
    """Those that are sent to the main thread; the first `lost` of them do not arrive."""

    def __init__(self) -> None:
        self.lost = 0
        self.sent = 0
        self._send = signal.pthread_kill

    def __call__(self, thread: int, number: int) -> None:
        self.sent += 1
        if self.sent > self.lost:
            self._send(thread, number)


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Signals:
    signals = Signals()
    monkeypatch.setattr(signal, "pthread_kill", signals)
    return signals


@pytest.fixture
def cancellation() -> Iterator[Cancellation]:
    """In charge of this process's signals, as in a slot."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    cancellation = Cancellation()
    cancellation.install()
    yield cancellation
    for number, handler in before.items():
        signal.signal(number, handler)


def cancelling(cancellation: Cancellation) -> threading.Thread:
    """What the thread that listens to the supervisor does, on a thread."""

    def cancel() -> None:
        cancellation.announce()
        cancellation.insist()

    return threading.Thread(target=cancel, daemon=True)


def sleep_with(thread: threading.Thread) -> None:
    """A function in the middle of which `thread` begins."""
    thread.start()
    time.sleep(LIMIT)


def test_a_signal_that_did_not_wake_the_function_is_sent_again(cancellation: Cancellation, signals: Signals) -> None:
    """As when it came right before the function went to sleep."""
    signals.lost = 2
    thread = cancelling(cancellation)
    with pytest.raises(AttemptCancelled), cancellation.interrupting():
        sleep_with(thread)
    thread.join()
    assert signals.sent > signals.lost


def test_an_attempt_is_interrupted_once(cancellation: Cancellation, signals: Signals) -> None:
    thread = cancelling(cancellation)
    with cancellation.interrupting():
        with pytest.raises(AttemptCancelled):
            sleep_with(thread)
        thread.join()  # the function goes on, and hears no more of it


def test_where_nothing_can_be_interrupted_one_signal_is_sent(cancellation: Cancellation, signals: Signals) -> None:
    cancellation.announce()
    cancellation.insist()
    assert signals.sent == 1
    with pytest.raises(AttemptCancelled), cancellation.interrupting():
        pytest.fail("the block must not begin")


def test_a_handler_that_the_function_has_set_is_called_once(cancellation: Cancellation, signals: Signals) -> None:
    heard: list[int] = []
    thread = cancelling(cancellation)
    with cancellation.interrupting():
        signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
        thread.start()
        thread.join()
    assert heard == [signal.SIGTERM]


def test_signals_to_a_function_that_does_not_take_them_end(cancellation: Cancellation, signals: Signals) -> None:
    signals.lost = 1000
    with cancellation.interrupting():
        thread = cancelling(cancellation)
        thread.start()
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert 1 < signals.sent < 20
