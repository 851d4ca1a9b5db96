"""What Conductor's task log gets of an attempt before it is over, and of one that is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from perago.worker import attempts

from .bench import RunningWorker, outcome, wait_for
from .small_queue import SmallQueue


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch, frequent_beats: None) -> None:
    """Nothing holds a log back that is there."""
    monkeypatch.setattr(attempts, "LOG_INTERVAL", 0.1)


@pytest.mark.usefixtures("soon")
def test_a_heartbeat_brings_what_was_said_so_far_and_the_report_the_rest(
    worker: RunningWorker, queue: SmallQueue, tmp_path: Path
) -> None:
    task_id = queue.put(what="says_and_waits", file=str(tmp_path / "file"))
    assert wait_for("the beginning", lambda: queue.logs.get(task_id)) == ["begun"]
    assert task_id in queue.held
    (tmp_path / "file.end").touch()
    outcome(queue, task_id)
    wait_for("the end", lambda: queue.logs[task_id] == ["begun", "ended"])


@pytest.mark.usefixtures("soon")
def test_a_heartbeat_brings_how_far_the_function_is_and_leaves_the_output_alone(
    worker: RunningWorker, queue: SmallQueue, tmp_path: Path
) -> None:
    task_id = queue.put(what="counts_and_waits", file=str(tmp_path / "file"))
    wait_for("how far it is", lambda: "progress 2 of 3" in _lines(queue, task_id))
    assert task_id in queue.held
    (tmp_path / "file.end").touch()
    assert outcome(queue, task_id).output == {"result": {"text": "waited"}}
    assert [line for line in _lines(queue, task_id) if line != "progress 1 of 3"] == ["two", "progress 2 of 3"]


def _lines(queue: SmallQueue, task_id: str) -> list[str]:
    return "\n".join(queue.logs.get(task_id, ())).split("\n")


@pytest.mark.usefixtures("frequent_beats")
def test_heartbeats_do_not_bring_it_more_often_than_every_few_seconds(
    worker: RunningWorker, queue: SmallQueue, tmp_path: Path
) -> None:
    assert attempts.LOG_INTERVAL >= 3
    task_id = queue.put(what="says_and_waits", file=str(tmp_path / "file"))
    wait_for("a few beats", lambda: queue.beats.count(task_id) >= 3)
    assert task_id not in queue.logs
    (tmp_path / "file.end").touch()
    assert wait_for("the log", lambda: queue.logs.get(task_id)) == ["begun\nended"]


def test_the_log_of_a_lost_attempt_is_kept_and_says_why_it_ends(
    frequent_beats: None, worker: RunningWorker, queue: SmallQueue, tmp_path: Path
) -> None:
    task_id = queue.put(what="says_and_waits", file=str(tmp_path / "file"))
    wait_for("the function", (tmp_path / "file").exists)
    queue.supersede(task_id)
    why = "[test0001 stopped this attempt: Conductor is no longer waiting for this delivery]"
    wait_for("the last entry", lambda: why in queue.logs.get(task_id, ()))
    *said, traceback, last = queue.logs[task_id]
    assert (said, last) == (["begun", "ended"], why)
    assert "in _waits" in traceback  # where it stood
    assert task_id not in queue.reports


def test_so_is_that_of_one_that_takes_too_long(worker: RunningWorker, queue: SmallQueue, tmp_path: Path) -> None:
    task_id = queue.put(what="says_and_waits", file=str(tmp_path / "file"), timeout=0.5)
    why = "[test0001 stopped this attempt: it ran longer than its time limit of 0.5 s]"
    wait_for("the last entry", lambda: why in queue.logs.get(task_id, ()))
    assert queue.logs[task_id][:2] == ["begun", "ended"]
