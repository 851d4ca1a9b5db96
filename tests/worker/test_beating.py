"""The heartbeat of an attempt goes on whatever its function does, and bears a Conductor that does not answer."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from perago.ports import NotFound, ServiceError, Unavailable
from perago.worker.events import LeaseDoubtful

from .bench import RunningWorker, outcome, wait_for
from .small_queue import SmallQueue
from .test_behaviour import result
from .test_supervision import running_pid


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


@pytest.mark.parametrize("kind", [Unavailable, NotFound])
def test_a_silent_conductor_is_no_loss_and_said_once(
    worker: RunningWorker, queue: SmallQueue, tmp_path: Path, kind: type[ServiceError]
) -> None:
    silent = threading.Event()
    file = tmp_path / "running"

    def fault(operation: str) -> ServiceError | None:
        if silent.is_set() and operation in ("is_current", "extend_lease"):
            return kind("Conductor", "read the task", "no word of Conductor's own")
        return None

    queue.fault = fault
    silent.set()
    task_id = queue.put(what="sleeps", file=str(file), seconds=1.5, response_timeout=0.6)
    wait_for("doubt", lambda: worker.saw(LeaseDoubtful))
    silent.clear()
    assert result(outcome(queue, task_id)) == "slept"
    assert len(worker.saw(LeaseDoubtful)) == 1
