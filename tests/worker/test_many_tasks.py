"""Several task modules in one worker, with real processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from perago.ports import TaskStatus
from perago.retry import BackOff
from perago.worker import events
from perago.worker import slots as slot_pool
from perago.worker.plan import TaskPlan, WorkerPlan

from .bench import LIMIT, RunningWorker, has_ended, make_plan, outcome, release, result, running, wait_for
from .small_queue import SmallQueue

MODULE = """
import os
import time
from pathlib import Path

from pydantic import BaseModel

from perago import task

{top}


class Params(BaseModel):
    what: str = ""
    file: str = ""


class Result(BaseModel):
    text: str


@task(name="{name}", owner_email="tests@example.com")
def work(params: Params) -> Result:
    if params.what == "crash":
        os._exit(7)
    if params.what == "variables":
        return Result(text=" ".join(sorted(name for name in os.environ if name.startswith("OF_"))))
    if params.file:
        Path(params.file).touch()
        while not Path(params.file).with_suffix(".end").exists():
            time.sleep(0.005)
    return Result(text="{name}")
"""

Write = Callable[..., TaskPlan]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a task module and plans it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(letter: str, top: str = "", **more: object) -> TaskPlan:
        module = f"many_{letter}_{tmp_path.name}"
        (tmp_path / f"{module}.py").write_text(MODULE.format(name=f"many.{letter}", top=top))
        return TaskPlan(module=module, name=f"many.{letter}", **more)  # type: ignore[arg-type]

    return write


def put(queue: SmallQueue, letter: str, what: str = "", file: Path | None = None) -> str:
    return queue.put(task_name=f"many.{letter}", what=what, file=str(file or ""))


def start_work(queue: SmallQueue, letter: str, file: Path) -> str:
    """An attempt that runs until `file` is released."""
    task_id = put(queue, letter, file=file)
    wait_for(f"an attempt of {letter} to run", file.exists)
    return task_id


def slots_used(worker: RunningWorker) -> set[str]:
    return {event.worker_id for event in worker.saw(events.AttemptReceived)}


def shared(tmp_path: Path, *tasks: TaskPlan, slots: int) -> WorkerPlan:
    return make_plan(tmp_path, *tasks, slots=slots, preload=("perago.driver",))


# ----------------------------------------------------------------------------- sharing


def test_many_tasks_share_two_slots_that_are_made_when_there_is_work(
    tmp_path: Path, queue: SmallQueue, write: Write
) -> None:
    tasks = [write(chr(ord("a") + number)) for number in range(4)]
    with running(shared(tmp_path, *tasks, slots=2), queue) as worker:
        wait_for("a look for each task", lambda: queue.looks > 2 and len(worker.saw(events.WorkerReady)) == len(tasks))
        assert [event.task_name for event in worker.saw(events.WorkerReady)] == [task.name for task in tasks]
        assert not worker.saw(events.SlotReady)
        ids = [put(queue, task.name.removeprefix("many.")) for task in tasks]
        assert [result(outcome(queue, task_id)) for task_id in ids] == [task.name for task in tasks]
    assert slots_used(worker) <= {"test0001", "test0002"}
    assert not worker.saw(events.HandedBack)
    assert {event.reason for event in worker.saw(events.SlotEnded)} == {"another task needs its place"}


def test_a_limit_is_never_exceeded(tmp_path: Path, queue: SmallQueue, write: Write) -> None:
    with running(shared(tmp_path, write("a", limit=1), write("b"), slots=3), queue) as worker:
        first = start_work(queue, "a", tmp_path / "first")
        second = put(queue, "a", file=tmp_path / "second")
        assert result(outcome(queue, put(queue, "b"))) == "many.b"
        requests = queue.looks + len(queue.polls)
        wait_for("two further requests", lambda: queue.looks + len(queue.polls) > requests + 2)
        assert len(worker.saw(events.AttemptReceived)) == 2
        release(tmp_path / "first")
        release(tmp_path / "second")
        assert result(outcome(queue, first)) == result(outcome(queue, second)) == "many.a"


def test_tasks_whose_limits_fit_have_their_slots_from_the_start(
    tmp_path: Path, queue: SmallQueue, write: Write
) -> None:
    tasks = write("a", limit=1), write("b", limit=2)
    with running(shared(tmp_path, *tasks, slots=3), queue) as worker:
        wait_for("all slots", lambda: len(worker.saw(events.SlotReady)) == 3)
        wait_for("a long poll for each", lambda: queue.polls.count((1, 0.5)) >= 3)
        wait_for("both tasks", lambda: len(worker.saw(events.WorkerReady)) == 2)
        assert result(outcome(queue, put(queue, "a"))) == "many.a"
        assert result(outcome(queue, put(queue, "b"))) == "many.b"


def test_idle_shared_slots_end_after_a_while(
    tmp_path: Path, queue: SmallQueue, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_pool, "IDLE_LIMIT", 0.2)
    monkeypatch.setattr("perago.worker.poller.LONG_POLLS", 0)
    with running(shared(tmp_path, write("a"), write("b"), slots=2), queue) as worker:
        outcome(queue, put(queue, "a"))
        wait_for("its end", lambda: worker.saw(events.SlotEnded))
        wait_for("its process's end", has_ended(worker.saw(events.SlotReady)[0].pid))
        assert result(outcome(queue, put(queue, "a"))) == "many.a"


def test_a_slot_has_the_variables_of_its_own_task_only(tmp_path: Path, queue: SmallQueue, write: Write) -> None:
    tasks = (write("a", environment={"OF_A": "1"}), write("b", environment={"OF_B": "2"}), write("c"))
    with running(shared(tmp_path, *tasks, slots=2), queue):
        variables = [result(outcome(queue, put(queue, letter, "variables"))) for letter in "abc"]
    assert variables == ["OF_A", "OF_B", ""]


# ------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('broken')", "RuntimeError: broken"),
        (MODULE.format(name="many.other", top=""), " declares many.other now, not many.a; restart the worker"),
    ],
    ids=["broken", "renamed"],
)
def test_an_edited_module_does_not_harm_other_tasks_and_is_retried(
    tmp_path: Path, queue: SmallQueue, write: Write, text: str, reason: str
) -> None:
    edited = write("a")
    with running(shared(tmp_path, edited, write("b"), slots=1), queue) as worker:
        (tmp_path / f"{edited.module}.py").write_text(text)
        waiting = put(queue, "a")
        wait_for("the failed start", lambda: worker.saw(events.SlotStartFailed))
        assert result(outcome(queue, put(queue, "b"))) == "many.b"
        assert queue.waiting() == [waiting]
        write("a")
        assert result(outcome(queue, waiting)) == "many.a"
    failed = worker.saw(events.SlotStartFailed)[0]
    assert reason in failed.reason
    assert failed.task_name == "many.a"


def test_a_module_that_is_slow_to_import_delays_no_attempt(tmp_path: Path, queue: SmallQueue, write: Write) -> None:
    gate = tmp_path / "gate"
    slow = f"while not Path({str(gate)!r}).exists(): time.sleep(0.01)"
    with running(shared(tmp_path, write("a", slow), write("b"), slots=2), queue) as worker:
        waiting = put(queue, "a")
        assert result(outcome(queue, put(queue, "b"))) == "many.b"
        assert queue.waiting() == [waiting]
        gate.touch()
        assert result(outcome(queue, waiting)) == "many.a"
        assert not worker.saw(events.SlotDied)


def test_a_task_that_crashes_leaves_its_place_to_others(tmp_path: Path, queue: SmallQueue, write: Write) -> None:
    with running(shared(tmp_path, write("a"), write("b"), slots=1), queue) as worker:
        crashed = put(queue, "a", "crash")
        assert outcome(queue, crashed).status is TaskStatus.FAILED
        assert result(outcome(queue, put(queue, "b"), limit=LIMIT)) == "many.b"
        assert len(worker.saw(events.SlotDied)) == 1


def test_modules_that_hang_while_they_are_imported_take_turns_with_others(
    tmp_path: Path, queue: SmallQueue, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perago.worker.poller.QUICK_DELAYS", BackOff(0.005, 0.1))
    monkeypatch.setattr("perago.retry.RESTARTS", BackOff(0.1, 0.1))  # shorter than a start may take
    tasks = [write("a", "time.sleep(1000)"), write("b", "time.sleep(1000)"), write("c")]
    with running(replace(shared(tmp_path, *tasks, slots=1), start_limit=1.0), queue) as worker:
        for letter in "ab":
            put(queue, letter)
        wait_for("the first failed start", lambda: worker.saw(events.SlotStartFailed))
        assert result(outcome(queue, put(queue, "c"))) == "many.c"


def test_polls_that_are_refused_for_one_task_hold_back_no_other(
    tmp_path: Path, queue: SmallQueue, write: Write
) -> None:
    queue.refused = {"many.a"}
    with running(shared(tmp_path, write("a"), write("b"), slots=2), queue) as worker:
        put(queue, "a")
        wait_for("the refusal", lambda: worker.saw(events.ConductorUnreachable))
        assert result(outcome(queue, put(queue, "b"))) == "many.b"
        assert not worker.saw(events.ConductorBack)
        queue.refused.clear()
        wait_for("its end", lambda: worker.saw(events.ConductorBack))
    assert [(event.denied, event.task_name) for event in worker.saw(events.ConductorUnreachable)] == [(True, "many.a")]


# --------------------------------------------------------------------------- stopping


def test_a_drain_finishes_running_attempts_and_ends_starting_slots(
    tmp_path: Path, queue: SmallQueue, write: Write
) -> None:
    started = tmp_path / "started"
    slow = write("a", f"Path({str(started)!r}).touch(); time.sleep(600)")
    with running(shared(tmp_path, slow, write("b"), slots=2), queue) as worker:
        put(queue, "a")
        wait_for("the slow import", started.exists)
        task_id = start_work(queue, "b", tmp_path / "running")
        worker.supervisor.stop()
        release(tmp_path / "running")
        assert worker.wait_until_down() == 0
    assert result(outcome(queue, task_id)) == "many.b"
    assert len(queue.waiting()) == 1
