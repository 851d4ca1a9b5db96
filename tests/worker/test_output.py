"""What a function prints: where it goes, line by line, and that nothing it prints does harm."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from perago.worker.output import MAX_LINE_BYTES, TAIL_BYTES, TAIL_LINES, LineSplitter, Tail

from .bench import RunningWorker, make_plan, outcome, running, wait_for
from .small_queue import SmallQueue

MARKER = b"<end 1234567890>"


def split(*chunks: bytes) -> tuple[list[str], bool]:
    """The lines of `chunks` and whether the end was seen."""
    lines: list[str] = []
    splitter = LineSplitter(MARKER, lines.append)
    ended = [splitter.feed(chunk) for chunk in chunks]
    return lines, ended[-1]


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        pytest.param([b"a\nb\n" + MARKER], ["a", "b"], id="whole lines"),
        pytest.param([b"a\nb" + MARKER], ["a", "b"], id="an unfinished last line"),
        pytest.param([MARKER], [], id="nothing"),
        pytest.param([b"a\r\n\n" + MARKER], ["a", ""], id="carriage return and empty line"),
        pytest.param([b"a" + MARKER[:5], MARKER[5:]], ["a"], id="the marker in two pieces"),
        pytest.param([b"a" + MARKER + b"later\n"], ["a"], id="output after the end"),
        pytest.param([b"\xff\x00caf\xc3\xa9\n" + MARKER], ["\\xff\x00café"], id="bytes that are no UTF-8"),
    ],
)
def test_lines_end_at_the_marker(chunks: list[bytes], lines: list[str]) -> None:
    assert split(*chunks) == (lines, True)


def test_every_cut_of_the_stream_gives_the_same_lines() -> None:
    stream = b"one\ntwo\n\nthree" + MARKER
    for cut in range(1, len(stream)):
        assert split(stream[:cut], stream[cut:]) == (["one", "two", "", "three"], True)


def test_an_endless_line_is_cut_and_complete() -> None:
    lines, ended = split(*[b"x" * 10_000] * 50, MARKER)
    assert ended
    assert max(map(len, lines)) == MAX_LINE_BYTES
    assert "".join(lines) == "x" * 500_000


def test_the_tail_keeps_the_last_lines_and_bytes() -> None:
    tail = Tail()
    for number in range(1000):
        tail.add(f"line {number}")
    assert tail.take().splitlines() == [f"line {number}" for number in range(1000 - TAIL_LINES, 1000)]
    assert tail.take() == ""
    for _ in range(TAIL_LINES):
        tail.add("é" * 1000)
    text = tail.take()
    assert TAIL_BYTES - 4 < len(text.encode()) <= TAIL_BYTES


# ------------------------------------------------------------------------ in a worker


def log_lines(worker: RunningWorker, worker_id: str) -> list[dict[str, Any]]:
    """Everything in the JSONL logs of one worker id."""
    directory = worker.plan.logs.root / worker.plan.module / f"worker_id={worker_id}"
    return [json.loads(line) for path in sorted(directory.glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_all_output_goes_to_the_slots_log_with_ids_and_its_tail_to_conductor(
    worker: RunningWorker, queue: SmallQueue
) -> None:
    task_id = queue.put(what="prints")
    outcome(queue, task_id)
    log = wait_for("the task log", lambda: queue.logs.get(task_id))
    expected = ["from print", "from stderr", "from a child process", "without an end"]
    assert len(log) == 1
    printed = log[0].splitlines()
    assert [line for line in printed if line in expected] == expected
    assert {"INFO behaves: from logging", "from current"} < set(printed)

    lines = [line for line in log_lines(worker, "test0001") if line.get("source") in ("output", "logging", "log")]
    assert {line["message"] for line in lines} == set(printed)
    for line in lines:
        assert (line["task_id"], line["workflow_id"], line["worker_id"]) == (task_id, "workflow-1", "test0001")
        assert line["time"].endswith("+08:00")


def test_the_last_line_is_never_too_late(worker: RunningWorker, queue: SmallQueue) -> None:
    task_ids = [queue.put(what="prints_a_line") for _ in range(100)]
    wait_for("all task logs", lambda: len(queue.logs) == 100)
    assert [queue.logs[task_id] for task_id in task_ids] == [["one line"]] * 100


def test_a_long_output_is_whole_in_the_log_and_a_tail_in_conductor(worker: RunningWorker, queue: SmallQueue) -> None:
    task_id = queue.put(what="prints_many_lines")
    outcome(queue, task_id)
    log = wait_for("the task log", lambda: queue.logs.get(task_id))
    assert log[0].splitlines() == [f"line {number}" for number in range(800, 1000)]
    lines = [line["message"] for line in log_lines(worker, "test0001") if line.get("source") == "output"]
    assert lines == [f"line {number}" for number in range(1000)]


def test_the_traceback_of_an_error_is_an_entry_of_its_own(worker: RunningWorker, queue: SmallQueue) -> None:
    task_id = queue.put(what="raises")
    outcome(queue, task_id)
    log = wait_for("the task log", lambda: queue.logs.get(task_id))
    assert len(log) == 1
    assert log[0].startswith("Traceback")
    assert 'raise KeyError("no such thing")' in log[0]
    assert log[0].endswith("KeyError: 'no such thing'\n")


def test_a_deliberate_failure_has_no_traceback(worker: RunningWorker, queue: SmallQueue) -> None:
    failed, marker = queue.put(what="fails"), queue.put(what="prints")
    outcome(queue, failed)
    outcome(queue, marker)
    wait_for("the later attempt's log", lambda: queue.logs.get(marker))
    assert failed not in queue.logs


def test_output_of_one_attempt_never_shows_up_in_the_next(worker: RunningWorker, queue: SmallQueue) -> None:
    outcome(queue, queue.put(what="prints_megabytes"))
    outcome(queue, queue.put(what="leaves_a_noisy_child"))
    task_id = queue.put(what="prints")
    outcome(queue, task_id)
    log = wait_for("the task log", lambda: queue.logs.get(task_id))
    assert "noise" not in log[0]
    assert "xxx" not in log[0]


# ------------------------------------------------------------------------------- logs


def test_the_supervisor_logs_one_line_per_received_and_reported_attempt_without_its_values(
    worker: RunningWorker, queue: SmallQueue
) -> None:
    good, bad = queue.put(what="returns", file="a-secret-parameter"), queue.put(what="fails")
    outcome(queue, good)
    outcome(queue, bad)
    worker.supervisor.stop()
    worker.wait_until_down()
    lines = log_lines(worker, "test0000")
    events = [(line["event"], line["task_id"], line["level"]) for line in lines if "task_id" in line]
    assert sorted(events) == [
        ("AttemptReceived", good, "INFO"),
        ("AttemptReceived", bad, "INFO"),
        ("AttemptReported", good, "INFO"),
        ("AttemptReported", bad, "WARNING"),
    ]
    everything = json.dumps(lines) + json.dumps(log_lines(worker, "test0001"))
    assert "a-secret-parameter" not in everything
    assert '"fine"' not in everything


def test_log_files_are_named_by_process_and_readable_by_their_owner_only(
    worker: RunningWorker, queue: SmallQueue
) -> None:
    pid = outcome(queue, queue.put(what="pid")).output["result"]["text"]
    directory = worker.plan.logs.root / worker.plan.module / "worker_id=test0001"
    files = list(directory.iterdir())
    assert [file.name.partition("__started=")[0] for file in files] == [f"pid={pid}"]
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600


def test_logs_past_their_time_are_removed_at_the_start(tmp_path: Path, queue: SmallQueue) -> None:
    plan = make_plan(tmp_path)
    directory = plan.logs.root / plan.module / "worker_id=other0001"
    directory.mkdir(parents=True)
    old, recent, foreign = (
        directory / name for name in ("pid=1__started=1.jsonl", "pid=2__started=2.jsonl", "notes.jsonl")
    )
    for path in (old, recent, foreign):
        path.write_text("{}\n")
    for path in (old, foreign):
        os.utime(path, (0, 0))
    with running(plan, queue):
        wait_for("the old log to go", lambda: not old.exists())
    assert recent.exists()
    assert foreign.exists()
