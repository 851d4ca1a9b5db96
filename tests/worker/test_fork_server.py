"""A fork server that hangs costs its slots after a while. One that is slow, or cannot fork, costs nothing else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest

from perago.ports import TaskStatus
from perago.worker import fork_server, slots
from perago.worker.events import Pulse, SlotDied, SlotReady, SlotStartFailed

from .bench import RunningWorker, has_ended, make_plan, outcome, result, running, running_pid, wait_for
from .outside import room_for_files
from .small_queue import SmallQueue

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the fork server")

SLOW, REFUSES = (f"{__package__}.tasks.{name}" for name in ("loads_slowly", "refuses_forks"))

LIMIT = 3
"""Seconds: as few as a fork server needs to start on a busy machine, which must not count as standing still."""


@pytest.fixture(autouse=True)
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_server, "LIMIT", LIMIT)


@pytest.fixture
def own_fork_server() -> Iterator[None]:
    """A test with modules of its own to preload gets a new fork server, and the next test, too."""
    fork_server.discard_fork_server()
    yield
    fork_server.discard_fork_server()


@pytest.fixture
def two_slots(tmp_path: Path, queue: SmallQueue) -> Iterator[RunningWorker]:
    with running(make_plan(tmp_path, slots=2), queue) as worker:
        wait_for("both slots", lambda: len(worker.saw(SlotReady)) == 2)
        yield worker


def stop_fork_server(slot: int) -> int:
    """Have the parent of this process stand still; returns its process id."""
    server = psutil.Process(slot).parent()
    assert server is not None
    server.suspend()
    return server.pid


def turns(worker: RunningWorker, more: int = 2) -> None:
    """Wait until the event loop has turned a few times from now on."""
    before = len(worker.saw(Pulse))
    wait_for("the loop to turn", lambda: len(worker.saw(Pulse)) >= before + more)


def test_an_unanswered_start_neither_blocks_the_loop_nor_hangs(two_slots: RunningWorker, queue: SmallQueue) -> None:
    slot = two_slots.saw(SlotReady)[0].pid
    server = psutil.Process(slot).ppid()
    os.kill(slot, signal.SIGKILL)
    wait_for("the slot's death", lambda: two_slots.saw(SlotDied))
    os.kill(server, signal.SIGSTOP)  # the slot's next process starts a second later
    turns(two_slots)
    assert result(outcome(queue, queue.put(what="returns"))) == "fine"
    (failed,) = wait_for("the start to be given up", lambda: two_slots.saw(SlotStartFailed))
    wait_for("two new processes", lambda: len(two_slots.saw(SlotReady)) == 4)
    why = f"fork server made no progress for {LIMIT} s (state T (stopped), "
    assert failed.reason.startswith(f"the slot's process could not be started: the {why}")
    (died,) = two_slots.saw(SlotDied)[1:]
    assert died.reason.startswith(f"the slot's process was ended because its {why}")
    assert result(outcome(queue, queue.put(what="returns"))) == "fine"


def test_a_start_without_free_descriptors_costs_no_other_slot(two_slots: RunningWorker) -> None:
    slot, other = (ready.pid for ready in two_slots.saw(SlotReady))
    server = psutil.Process(other).ppid()
    with room_for_files(2):  # and for those of the slot
        os.kill(slot, signal.SIGKILL)
        wait_for("a start that fails", lambda: two_slots.saw(SlotStartFailed))
    wait_for("a new process", lambda: len(two_slots.saw(SlotReady)) == 3)
    assert psutil.Process(two_slots.saw(SlotReady)[2].pid).ppid() == server
    assert len(two_slots.saw(SlotDied)) == 1


def test_a_fork_server_that_starts_nothing_more_is_replaced(two_slots: RunningWorker, queue: SmallQueue) -> None:
    """It ends with the first request that breaks off, as one of a process does that may open no further file."""
    os.kill(two_slots.saw(SlotReady)[0].pid, signal.SIGKILL)
    wait_for("the slot's death", lambda: two_slots.saw(SlotDied))
    with socket.socket(socket.AF_UNIX) as request:
        request.connect(forkserver._forkserver._forkserver_address)  # type: ignore[attr-defined]
    wait_for("two new processes", lambda: len(two_slots.saw(SlotReady)) == 4)
    assert result(outcome(queue, queue.put(what="returns"))) == "fine"


def test_an_unreported_death_is_reported(two_slots: RunningWorker, queue: SmallQueue, tmp_path: Path) -> None:
    file = tmp_path / "running"
    task_id = queue.put(what="sleeps", file=str(file), seconds=600)
    slot = running_pid(file)
    server = stop_fork_server(slot)
    os.kill(slot, signal.SIGKILL)
    turns(two_slots)
    report = outcome(queue, task_id)
    assert report.status is TaskStatus.FAILED
    why = f"the slot's process was ended because its fork server made no progress for {LIMIT} s (state T (stopped), "
    assert (report.reason or "").startswith(why)
    wait_for("the fork server's end", has_ended(server))
    assert result(outcome(queue, queue.put(what="returns"))) == "fine"


@pytest.mark.usefixtures("own_fork_server")
def test_one_that_takes_long_to_load_is_waited_for(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "LIMIT", 1)
    loaded = tmp_path / "loaded"
    monkeypatch.setenv("TEST_LOADED", str(loaded))
    worker = RunningWorker(make_plan(tmp_path, preload=("perago.driver", SLOW)), queue)
    try:
        wait_for("many times the limit", lambda: len(worker.saw(Pulse)) > 25)
        assert not worker.saw(SlotDied)
        loaded.touch()
        wait_for("the slot", lambda: worker.saw(SlotReady))
        assert not worker.saw(SlotDied)
    finally:
        loaded.touch()
        worker.end()


@pytest.mark.parametrize(
    ("program", "state", "hangs"),
    [
        ("while True: pass", "running", ""),
        ("import signal; signal.pause()", "sleeping", "(state S (sleeping), "),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", "stopped", "(state T (stopped), "),
    ],
    ids=["computes", "sleeps", "is stopped"],
)
def test_a_stall_is_judged_by_state_and_cpu_time(program: str, state: str, hangs: str) -> None:
    with psutil.Popen([sys.executable, "-c", f"print(flush=True)\n{program}"], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        wait_for("its state", lambda: process.status() == state)
        stall = fork_server.Stall(process.pid)
        verdicts = [stall.check() or "" for _ in range(3 * LIMIT)]
        process.kill()
    assert verdicts[:LIMIT] == [""] * LIMIT
    assert verdicts[-1].startswith(hangs and f"made no progress for {LIMIT} s {hangs}")
    assert bool(verdicts[-1]) is bool(hangs)


@pytest.mark.usefixtures("own_fork_server")
def test_a_refused_fork_costs_no_other_slot(tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = tmp_path / "refused"
    monkeypatch.setenv("TEST_REFUSED", str(refused))
    with running(make_plan(tmp_path, slots=2, preload=("perago.driver", REFUSES)), queue) as worker:
        wait_for("both slots", lambda: len(worker.saw(SlotReady)) == 2)
        slot, other = (ready.pid for ready in worker.saw(SlotReady))
        server = psutil.Process(other).parent()
        assert server is not None
        descriptors = server.num_fds()
        refused.touch()
        os.kill(slot, signal.SIGKILL)
        wait_for("two starts that fail", lambda: len(worker.saw(SlotStartFailed)) == 2)
        assert server.num_fds() <= descriptors
        refused.unlink()
        wait_for("a new process", lambda: len(worker.saw(SlotReady)) == 3)
        assert psutil.Process(worker.saw(SlotReady)[2].pid).ppid() == server.pid
        assert [died.pid for died in worker.saw(SlotDied)] == [slot]
        failed = worker.saw(SlotStartFailed)[0]
        assert "the fork server cannot fork, because of the limit of processes" in failed.reason
        assert result(outcome(queue, queue.put(what="forks_and_leaves_the_child"))).isdecimal()


def test_a_worker_stops_without_it(
    two_slots: RunningWorker, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "LIMIT", 600)
    monkeypatch.setattr(slots, "CLOSE_LIMIT", 1.0)
    stop_fork_server(two_slots.saw(SlotReady)[0].pid)
    two_slots.supervisor.stop()
    queue.end_polls()
    assert two_slots.wait_until_down() == 0
    assert not [child for child in multiprocessing.active_children() if child.name.startswith("test000")]
