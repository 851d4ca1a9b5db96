"""What a function prints: where it goes, line by line, and that nothing it prints does harm."""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import loguru
import pytest

from perago.ports import TaskStatus
from perago.settings import LogFormat, Mask
from perago.text import log_zone
from perago.worker import logs
from perago.worker.attempt_log import (
    LINES_AT_ONCE,
    MAX_LINE_BYTES,
    NO_MASK,
    TAIL_BYTES,
    TAIL_LINES,
    TRACEBACK_BYTES,
    LineSplitter,
    Tail,
    cut,
)
from perago.worker.events import AttemptEnded, Ending, Event, LogsTrimmed
from perago.worker.logs import (
    JsonLog,
    PlainLines,
    QueuedLog,
    describe,
    journal_of,
    stream_omission,
    trim_logs,
    write_rendered,
)
from perago.worker.plan import LogPlan
from perago.worker.sending import MOST_WAITING, LineWriter, terminal_omission
from perago.worker.supervisor import Supervisor

from .bench import BEHAVES, LIMIT, RunningWorker, make_plan, outcome, planned, result, running, wait_for
from .outside import Reader, fill, line_writer
from .small_queue import SmallQueue

MARKER = b"<end 1234567890>"


def split(*chunks: bytes, mask: Mask = NO_MASK) -> tuple[list[str], bool]:
    """The lines of `chunks` and whether the end was seen."""
    lines: list[str] = []
    splitter = LineSplitter(MARKER, lines.append, mask)
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


def test_an_endless_line_is_cut_and_complete() -> None:
    lines, ended = split(*[b"x" * 10_000] * 50, MARKER)
    assert ended
    assert max(map(len, lines)) == MAX_LINE_BYTES
    assert "".join(lines) == "x" * 500_000


def test_a_secret_is_struck_out_wherever_chunks_and_lines_are_cut() -> None:
    secret = b"hunter2-hunter2"
    mask = Mask([secret.decode()])
    stream = b"a " + secret + b" b\n\xff" + secret + b"\n" + secret + MARKER
    for place in range(1, len(stream)):
        assert split(stream[:place], stream[place:], mask=mask) == (["a *** b", "\\xff***", "***"], True)
    for place in range(MAX_LINE_BYTES - 40, MAX_LINE_BYTES + 80):  # of an endless line, in chunks of any size
        stream = b"x" * place + secret + b"y" * 40_000 + MARKER
        for size in (len(stream), 16_384, 997):
            lines, _ = split(*(stream[start : start + size] for start in range(0, len(stream), size)), mask=mask)
            assert "".join(lines) == "x" * place + "***" + "y" * 40_000


@pytest.mark.parametrize("text", ["", "short", "é" * 100, "x" * 400, "x" * 401, "é" * 5000, "\udc80" * 300])
def test_a_text_is_cut_in_its_middle_with_a_note(text: str) -> None:
    shortened = cut(text, 400)
    whole = len(text.encode("utf-8", "backslashreplace")) <= 400
    assert (shortened == text) is whole
    assert ("bytes left out" in shortened) is not whole
    assert len(shortened.encode("utf-8", "backslashreplace")) <= 400


def test_the_tail_keeps_the_last_lines_and_bytes() -> None:
    tail = Tail()
    for number in range(1000):
        tail.add(f"line {number}")
    left_out, *lines = tail.take().splitlines()
    assert left_out == "[800 earlier lines left out]"
    assert lines == [f"line {number}" for number in range(1000 - TAIL_LINES, 1000)]
    assert tail.take() == ""
    for _ in range(TAIL_LINES):
        tail.add("é" * 1000)
    left_out, *lines = tail.take().splitlines()
    assert left_out == f"[{TAIL_LINES - len(lines)} earlier lines left out]"
    assert set(lines) == {"é" * 1000}
    assert TAIL_BYTES - 2002 < len("\n".join(lines).encode()) <= TAIL_BYTES


# ------------------------------------------------------------------------ in a worker


def test_files_in_the_current_directory_of_a_function_are_a_warning(worker: RunningWorker, queue: SmallQueue) -> None:
    report = outcome(queue, queue.put(what="writes_beside"))

    assert report.status is TaskStatus.COMPLETED
    assert worker.plan.workspace_root in Path(report.output["result"]["text"]).parents
    (event,) = wait_for("the line about it", lambda: worker.ended(Ending.REPORTED))
    assert event.remarks == ("wrote 'out/a.csv' to its current directory",)
    warning = "The function wrote 'out/a.csv' to its current directory; a task without a workspace publishes no files."
    assert [line["message"] for line in log_lines(worker, "test0001") if line["level"] == "WARNING"] == [warning]


def log_files(directory: Path, worker_id: str) -> list[Path]:
    """Return the log files of a worker id of `make_plan(directory)`."""
    plan = make_plan(directory)
    return sorted((plan.logs.root / plan.name / f"worker_id={worker_id}").glob("*"))


def log_lines(worker: RunningWorker, worker_id: str) -> list[dict[str, Any]]:
    """Everything in the JSONL logs of one worker id."""
    directory = worker.plan.logs.root / worker.plan.name / f"worker_id={worker_id}"
    return [json.loads(line) for path in sorted(directory.glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_output_goes_to_the_slots_log_with_ids_and_its_tail_to_conductor(
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


def test_all_lines_that_python_writes_come_in_the_order_of_the_calls(worker: RunningWorker, queue: SmallQueue) -> None:
    task_id = queue.put(what="prints_in_turn")
    outcome(queue, task_id)
    log = wait_for("the task log", lambda: queue.logs.get(task_id))
    expected = [f"{way} {number}" for number in range(30) for way in ("print", "log", "bytes", "logging", "stderr")]
    assert [line.removeprefix("INFO behaves: ") for line in log[0].splitlines()] == expected
    sources = ("output", "logging", "log")
    written = [line["message"] for line in log_lines(worker, "test0001") if line.get("source") in sources]
    assert [line.removeprefix("INFO behaves: ") for line in written] == expected


def test_ignored_params_are_a_warning_everywhere(worker: RunningWorker, queue: SmallQueue) -> None:
    task_id = queue.put(what="returns", sekonds=1)
    outcome(queue, task_id)
    warning = "Params ignores these params: /sekonds (did you mean seconds?)"
    assert wait_for("the task log", lambda: queue.logs.get(task_id)) == [f"WARNING {warning}"]
    assert [line["message"] for line in log_lines(worker, "test0001") if line["level"] == "WARNING"] == [warning]
    (reported,) = wait_for("the line of the terminal", lambda: worker.ended(Ending.REPORTED))
    assert describe(reported).endswith("(ignored params: /sekonds (did you mean seconds?))")


def test_the_last_line_is_never_too_late(worker: RunningWorker, queue: SmallQueue) -> None:
    task_ids = [queue.put(what="prints_a_line") for _ in range(30)]
    wait_for("all task logs", lambda: len(queue.logs) == 30)
    assert [queue.logs[task_id] for task_id in task_ids] == [["one line"]] * 30


def test_the_traceback_of_an_error_is_an_entry_of_its_own(worker: RunningWorker, queue: SmallQueue) -> None:
    failed, task_id = queue.put(what="fails"), queue.put(what="raises")
    outcome(queue, task_id)
    log = wait_for("the task log", lambda: queue.logs.get(task_id))
    assert len(log) == 1
    assert log[0].startswith("Traceback")
    assert 'raise KeyError("no such thing")' in log[0]
    assert log[0].endswith("KeyError: 'no such thing'\n")
    assert failed not in queue.logs, "a deliberate failure has no traceback"


def test_output_of_one_attempt_never_shows_up_in_the_next(worker: RunningWorker, queue: SmallQueue) -> None:
    outcome(queue, queue.put(what="prints_megabytes"))
    outcome(queue, queue.put(what="leaves_a_noisy_child"))
    task_id = queue.put(what="prints")
    outcome(queue, task_id)
    log = wait_for("the task log", lambda: queue.logs.get(task_id))
    assert "noise" not in log[0]
    assert "xxx" not in log[0]


# ------------------------------------------------------------------------------- logs


def test_the_supervisor_logs_the_start_and_end_of_attempts_without_values(
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
        ("AttemptEnded", good, "INFO"),
        ("AttemptEnded", bad, "WARNING"),
        ("AttemptReceived", good, "INFO"),
        ("AttemptReceived", bad, "INFO"),
    ]
    everything = json.dumps(lines) + json.dumps(log_lines(worker, "test0001"))
    assert "a-secret-parameter" not in everything
    assert '"fine"' not in everything


def test_a_slot_id_has_one_log_file_a_day_readable_by_its_owner_only(worker: RunningWorker, queue: SmallQueue) -> None:
    pids = set()
    for what in ("pid", "kills_itself", "pid"):
        report = outcome(queue, queue.put(what=what))
        pids.add(report.output["result"]["text"] if report.status is TaskStatus.COMPLETED else "")
    directory = worker.plan.logs.root / worker.plan.name / "worker_id=test0001"
    lines = log_lines(worker, "test0001")
    days = {line["time"][:10] for line in lines}
    files = list(directory.iterdir())
    assert {file.name for file in files} == {f"date={day}.jsonl" for day in days}
    assert {str(line["pid"]) for line in lines} == pids - {""}
    assert len(pids) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_new_day_begins_a_new_log_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = JsonLog(make_plan(tmp_path), "test0001")
    for time_of_line in ("2026-11-29T23:59:59.999+08:00", "2026-11-30T00:00:00.000+08:00"):
        monkeypatch.setattr(logs, "timestamp", lambda text=time_of_line: text)
        log.write("INFO", "one line")
    log.close()
    assert [path.name for path in log_files(tmp_path, "test0001")] == ["date=2026-11-29.jsonl", "date=2026-11-30.jsonl"]


def test_lines_and_the_days_in_paths_have_the_configured_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perago.text._log_zone", log_zone())  # the log changes it
    plan = make_plan(tmp_path, logs=LogPlan(root=tmp_path / "logs", time_zone="Pacific/Kiritimati"))
    log = JsonLog(plan, "test0001")
    log.write("INFO", "one line")
    log.close()
    (path,) = log_files(tmp_path, "test0001")
    line = json.loads(path.read_text())
    assert line["time"].endswith("+14:00")
    assert path.name == f"date={line['time'][:10]}.jsonl"


def test_a_line_that_cannot_be_written_does_not_end_the_log_of_a_worker(tmp_path: Path) -> None:
    thread = QueuedLog(JsonLog(make_plan(tmp_path), "test0001"))
    endless: list[Any] = []
    endless.append(endless)
    for value in (endless, float("nan"), 1):
        thread.write("INFO", "one line", value=value)
    thread.close()
    (path,) = log_files(tmp_path, "test0001")
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["value"] == 1


def test_the_log_of_a_process_and_the_logger_of_its_author_share_nothing(tmp_path: Path) -> None:
    heard: list[str] = []
    handler = loguru.logger.add(heard.append)
    log, other = (JsonLog(make_plan(tmp_path), f"test000{number}") for number in (1, 2))
    log.write("INFO", "mine")
    other.close()
    loguru.logger.remove(handler)
    log.write("INFO", "mine again")
    log.close()
    (path,) = log_files(tmp_path, "test0001")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["message"] for line in lines] == ["mine", "mine again"]
    assert not heard
    assert not log_files(tmp_path, "test0002")


def test_a_function_that_reconfigures_loguru_and_logging_keeps_the_log(
    worker: RunningWorker, queue: SmallQueue
) -> None:
    task_ids = [queue.put(what=what) for what in ("reconfigures_logging", "prints_a_line")]
    assert [result(outcome(queue, task_id)) for task_id in task_ids] == ["reconfigured", "printed"]
    assert wait_for("both task logs", lambda: len(queue.logs) == 2)
    lines = log_lines(worker, "test0001")
    assert [line["message"] for line in lines if line.get("source") == "output"] == ["printed", "one line"]
    assert [line["task_id"] for line in lines if line["message"].startswith("attempt over")] == task_ids


def test_a_log_disk_that_hangs_costs_no_attempt_and_the_worker_stops(tmp_path: Path, queue: SmallQueue) -> None:
    plan = make_plan(tmp_path)
    directory = plan.logs.root / plan.name / f"worker_id={plan.supervisor_id}"
    directory.mkdir(parents=True)
    now = datetime.now(log_zone())
    for day in (now, now + timedelta(days=1)):
        os.mkfifo(directory / f"date={day:%Y-%m-%d}.jsonl")  # opening it waits for a reader
    before = set(threading.enumerate())
    with running(plan, queue) as worker:
        assert result(outcome(queue, queue.put(what="returns"))) == "fine"
        worker.supervisor.stop()
        assert worker.wait_until_down() == 0
    hanging = set(threading.enumerate()) - before
    assert hanging, "the disk does not hang"
    readers = [os.open(path, os.O_RDONLY | os.O_NONBLOCK) for path in directory.iterdir()]
    for thread in hanging:
        thread.join(LIMIT)
        assert not thread.is_alive()
    for reader in readers:
        os.close(reader)


def test_logs_past_their_time_are_removed_at_the_start(tmp_path: Path, queue: SmallQueue) -> None:
    plan = make_plan(tmp_path)
    directory = plan.logs.root / plan.name / "worker_id=other0001"
    directory.mkdir(parents=True)
    old, recent, foreign = (
        directory / name for name in ("pid=1__started=1.jsonl", "pid=2__started=2.jsonl", "notes.jsonl")
    )
    for path in (old, recent, foreign):
        path.write_text("{}\n")
    for path in (old, foreign):
        os.utime(path, (0, 0))
    with running(plan, queue) as worker:
        wait_for("the report of it", lambda: worker.saw(LogsTrimmed) == [LogsTrimmed(1)])
    assert not old.exists()
    assert recent.exists()
    assert foreign.exists()


def test_an_unreadable_log_root_costs_no_attempt(tmp_path: Path, queue: SmallQueue) -> None:
    with running(make_plan(tmp_path, name="x" * 300), queue) as worker:  # too long for a name on disk
        assert outcome(queue, queue.put(what="returns")).status is TaskStatus.COMPLETED
        worker.supervisor.stop()
        assert worker.wait_until_down() == 0


def test_the_oldest_files_of_the_largest_log_are_removed_above_the_limit(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, logs=LogPlan(root=tmp_path / "logs", max_bytes=100))
    directory = plan.logs.root / plan.name / "worker_id=other0001"
    directory.mkdir(parents=True)
    now = time.time()
    for age in range(20):
        file = directory / f"pid={age}__started=1.jsonl"
        file.write_text("x" * 90)
        os.utime(file, (now - age, now - age))
    supervisor = directory.with_name("worker_id=other0000") / "date=2026-11-30.jsonl"
    supervisor.parent.mkdir()
    supervisor.write_text("x" * 10)
    os.utime(supervisor, (now - 60, now - 60))
    trim_logs(plan.logs, plan.name)
    assert supervisor.exists()
    assert {file.name for file in directory.iterdir()} == {f"pid={age}__started=1.jsonl" for age in range(11)}


def test_a_slot_whose_log_is_removed_begins_another_one(worker: RunningWorker, queue: SmallQueue) -> None:
    outcome(queue, queue.put(what="prints_a_line"))
    directory = worker.plan.logs.root / worker.plan.name / "worker_id=test0001"
    for file in directory.iterdir():
        file.unlink()
    outcome(queue, queue.put(what="prints_a_line"))
    assert [line["message"] for line in log_lines(worker, "test0001") if line.get("source") == "output"] == ["one line"]


def test_a_slot_that_fills_its_log_removes_the_oldest_files_itself(tmp_path: Path, queue: SmallQueue) -> None:
    plan = make_plan(tmp_path, logs=LogPlan(root=tmp_path / "logs", max_bytes=20_000))
    with running(plan, queue):
        for _ in range(3):
            outcome(queue, queue.put(what="prints_many_lines"))
        directory = plan.logs.root / plan.name / "worker_id=test0001"
        sizes = [file.stat().st_size for file in directory.iterdir()]
        assert len(sizes) > 3
        assert sum(sizes) <= plan.logs.max_total_bytes + plan.logs.max_bytes


# ------------------------------------------------------------------------- too much of it


def test_a_flood_of_lines_is_cut_and_reports_it(worker: RunningWorker, queue: SmallQueue) -> None:
    task_id = queue.put(what="prints_100_000_lines")
    seconds, kilobytes = map(float, result(outcome(queue, task_id)).split())
    assert seconds < 3  # on a quiet machine less than one
    assert kilobytes < 50_000
    log = wait_for("the task log", lambda: queue.logs.get(task_id))
    assert log[0].splitlines() == [
        "[99,800 earlier lines left out]",
        *(f"line {number}" for number in range(99_800, 100_000)),
    ]
    lines = [line for line in log_lines(worker, "test0001") if line.get("source") in ("output", "limit")]
    printed = [line["message"] for line in lines if line["source"] == "output"]
    missing = [int(line["message"].split()[0][1:].replace(",", "")) for line in lines if line["source"] == "limit"]
    assert len(printed) + sum(missing) == 100_000
    assert len(printed) < 40_000
    assert printed[:LINES_AT_ONCE] == [f"line {number}" for number in range(LINES_AT_ONCE)]
    assert printed[-TAIL_LINES:] == [f"line {number}" for number in range(99_800, 100_000)]


def test_lines_of_the_log_are_as_limited_as_printed_ones(worker: RunningWorker, queue: SmallQueue) -> None:
    task_id = queue.put(what="logs_without_end")
    outcome(queue, task_id)
    log = wait_for("the task log", lambda: queue.logs.get(task_id))
    assert log[0].splitlines()[0] == "[19,801 earlier lines left out]"
    *_, last, progress = log[0].splitlines()
    assert "bytes left out] xxx" in last
    assert progress == "progress 19,999 of 20,000"
    lines = log_lines(worker, "test0001")
    assert len([line for line in lines if line.get("source") == "log"]) < 20_000
    assert [line for line in lines if line.get("source") == "limit"]
    assert len([line for line in lines if line.get("source") == "progress"]) < 2000
    assert max(len(line["message"]) for line in lines) <= MAX_LINE_BYTES


def test_a_traceback_is_cut_in_its_middle(worker: RunningWorker, queue: SmallQueue) -> None:
    task_id = queue.put(what="raises_megabytes")
    report = outcome(queue, task_id)
    assert report.reason is not None
    assert len(report.reason) == 500
    log = wait_for("the task log", lambda: queue.logs.get(task_id))
    assert len(log[0].encode()) <= TRACEBACK_BYTES
    assert log[0].startswith("Traceback")
    assert " bytes left out] xxx" in log[0]
    assert [line["message"] for line in log_lines(worker, "test0001") if line.get("source") == "traceback"] == log


# ------------------------------------------------------------------------------- secrets


@pytest.mark.parametrize("how", ["raise", "", "x" * 490])
def test_no_secret_gets_into_logs_or_reasons(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    secret = "qT7/hunter2+'hunter2=="
    plan = make_plan(tmp_path, planned(environment={"SECRET_OF_THE_TEST": secret}), mask=Mask([secret]))
    with running(plan, queue) as worker:
        task_id = queue.put(what="prints_a_secret", file=how)
        report = outcome(queue, task_id)
        log = wait_for("the task log", lambda: queue.logs.get(task_id))
        worker.supervisor.stop()
        worker.wait_until_down()
        files = "".join(file.read_text() for file in plan.logs.root.rglob("*.jsonl"))
    everything = f"{report.reason} {log} {files} {worker.events}"
    assert "hunter2" not in everything
    assert base64.b64encode(secret.encode())[:12].decode() not in everything
    assert {"printed ***!", "logged ***!", 'WARNING behaves: recorded "***"'} <= set(log[0].splitlines())
    assert report.reason == ("ValueError: bad ***" if how == "raise" else f"{how}***")


def test_a_token_that_is_not_configured_gets_into_no_log_or_reason(tmp_path: Path, queue: SmallQueue) -> None:
    token = "gh" + "p_" + "Xq7Zp2Lm9Vt4Kc8RXq7Zp2Lm"
    plan = make_plan(tmp_path, planned(environment={"SECRET_OF_THE_TEST": token}), mask=Mask(by_form=True))
    with running(plan, queue) as worker:
        task_id = queue.put(what="prints_a_secret", file="raise")
        report = outcome(queue, task_id)
        log = wait_for("the task log", lambda: queue.logs.get(task_id))
        worker.supervisor.stop()
        worker.wait_until_down()
        files = "".join(file.read_text() for file in plan.logs.root.rglob("*.jsonl"))
    assert token not in f"{report.reason} {log} {files} {worker.events}"
    assert report.reason == "ValueError: bad ***"


# ----------------------------------------------------------------------------------------------------
# Output of a worker: its log on standard error (docs/workers.md#log-files), and lines for a terminal.


DOCUMENTED = (Path(__file__).parents[2] / "docs/workers.md").read_text(encoding="utf-8")
NOISY = BEHAVES.replace("behaves", "noisy")


def strict(data: bytes) -> list[dict[str, Any]]:
    """The lines, as the strictest reader of JSON takes them."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    assert data.endswith(b"\n")
    lines = [json.loads(line, parse_constant=refuse) for line in data.decode().removesuffix("\n").split("\n")]
    json.dumps(lines, ensure_ascii=False).encode()  # fails for half a surrogate pair
    return lines


@contextmanager
def streaming(reader: Reader, form: LogFormat = LogFormat.JSON) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    with line_writer(reader, functools.partial(stream_omission, form=form)) as writer:
        yield functools.partial(write_rendered, writer, form)


def run_noisy(directory: Path, queue: SmallQueue, form: LogFormat, logs: LogPlan, **more: Any) -> bytes:
    """What a worker writes in the course of one noisy attempt."""
    reader = Reader()
    reader.start()
    plan = make_plan(directory, planned(NOISY), logs=logs, **more)

    def stop(event: Event) -> None:
        if isinstance(event, AttemptEnded):
            supervisor.stop()

    queue.put(what="noise", task_name="worker.noisy")
    with streaming(reader, form) as stream, journal_of(plan, stream) as listener:
        supervisor = Supervisor(plan, queue, listener, stop)
        assert supervisor.run() == 0
    return reader.rest()


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    directory = tmp_path_factory.mktemp("noisy")
    plan = LogPlan(root=directory / "logs", forward=True)
    lines = strict(run_noisy(directory, SmallQueue(), LogFormat.JSON, plan, mask=Mask(["braces"])))
    written = b"".join(file.read_bytes() for file in (directory / "logs").rglob("*.jsonl"))

    def in_order(written_lines: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps(line | {"time": None}, sort_keys=True) for line in written_lines)

    assert in_order(strict(written)) == in_order(lines), "files and standard error have the same lines"
    return lines


def of(lines: list[dict[str, Any]], source: str) -> list[str]:
    return [line["message"] for line in lines if line.get("source") == source]


def test_any_output_of_a_function_is_a_line_of_valid_json(lines: list[dict[str, Any]]) -> None:
    assert of(lines, "start") == ["import \\xff"]
    first, second, *rest = of(lines, "output")
    assert first == "".join(map(chr, range(10)))
    assert second.startswith("\x0b\x0c\r\x0e")
    assert second.endswith("~\x7f" + "".join(f"\\x{byte:02x}" for byte in range(128, 256)))
    assert [set(text) for text in rest[:4]] == [{"x"}] * 4
    assert sum(map(len, rest[:4])) == 50_000
    assert rest[4].endswith('"quotes" \\')
    assert "braces" not in rest[4]
    assert rest[5:] == ["no end"]
    assert of(lines, "log") == ["half a pair \\ud800"]
    assert of(lines, "logging") == ["WARNING noisy: nan"]
    assert of(lines, "traceback")[0].endswith("ValueError: a\nb \\udc80\n")


def test_every_line_about_the_attempt_has_the_same_ids(lines: list[dict[str, Any]]) -> None:
    about = [line for line in lines if "task_id" in line]
    names = ("workflow_id", "task_id", "task_name", "reference_name", "iteration", "retry_count", "poll_count")
    assert len({tuple(line[name] for name in (*names, "start_time", "module")) for line in about}) == 1
    assert {line["worker_id"] for line in about} == {"test0000", "test0001"}
    pids = {(line["worker_id"], line["pid"]) for line in lines}
    assert len(pids) == 2
    (ready,) = (line for line in lines if line.get("event") == "SlotReady")
    assert f"process {dict(pids)['test0001']})" in ready["message"]


def test_the_page_explains_every_field_and_source(lines: list[dict[str, Any]]) -> None:
    explained = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (.*?) \|", DOCUMENTED, re.MULTILINE))))
    assert {name for line in lines for name in line} <= explained
    assert {line["source"] for line in lines if "source" in line} <= explained


def test_the_text_form_has_the_ids_in_front_of_each_line_of_a_message(tmp_path: Path, queue: SmallQueue) -> None:
    plan = LogPlan(root=tmp_path / "logs", files=False, forward=True)
    text = run_noisy(tmp_path, queue, LogFormat.TEXT, plan).decode()
    assert not (tmp_path / "logs").exists()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+08:00 (INFO   |WARNING|ERROR  ) test000[01] "
    assert all(re.match(stamp, line) for line in text.splitlines())
    assert re.search(r"WARNING test0001 worker.noisy task-1: WARNING noisy: nan\n", text)
    assert re.search(r"ERROR   test0001 worker.noisy task-1: ValueError: a\n.* task-1: b \\udc80\n", text)
    assert "\x1b" not in text


def test_a_forged_line_that_json_cannot_hold_is_left_out() -> None:
    reader = Reader()
    with streaming(reader) as write:
        write({"time": "t", "message": "x", "more": float("nan")})
        write({"message": "last"})
    limit, last = strict(reader.rest())
    assert limit["source"] == "limit"
    assert limit["message"] == "[1 lines left out: standard error did not keep up]"
    assert last["message"] == "last"


def test_a_forged_line_may_lack_any_field() -> None:
    reader = Reader()
    with streaming(reader, LogFormat.TEXT) as write:
        write({"message": "x", "more": "\udc80", "time": float("nan")})
        write({"task_id": "t", "message": "without the name of its task"})
        write({})
    assert reader.rest().decode().splitlines()[1].endswith("None t: without the name of its task")


def test_a_slow_reader_loses_lines_and_learns_how_many() -> None:
    reader = Reader()
    with line_writer(reader) as writer:
        line = "x" * 100_000
        for _ in range(200):
            writer.write(line)
        reader.start()
        wait_for("the reader to catch up", lambda: len(reader.data) > MOST_WAITING - 2 * len(line))
        wait_for("room", lambda: not writer.waiting)
        writer.write("last")
    *printed, limit, last = reader.rest().decode().splitlines()
    assert len(printed) * (len(line) + 1) <= MOST_WAITING
    assert limit == f"{200 - len(printed):,} lines left out: the terminal did not keep up"
    assert last == "last"


def test_without_a_reader_the_worker_works_on() -> None:
    end, write_end = os.pipe()
    os.close(end)
    with os.fdopen(write_end, "w", encoding="ascii") as stream:
        writer = LineWriter(stream, terminal_omission)
        writer.write("x")
        wait_for("the line to be tried", lambda: not writer.waiting)
        writer.close()


def test_a_character_that_the_terminal_does_not_have_is_spelled_out() -> None:
    reader = Reader()
    with os.fdopen(reader.write_end, "w", encoding="ascii", closefd=False) as stream:
        writer = LineWriter(stream, terminal_omission)
        writer.write("grün")
        writer.close()
    assert reader.rest() == b"gr\\xfcn\n"


def test_a_worker_whose_lines_are_not_read_runs_attempts_and_stops(tmp_path: Path, queue: SmallQueue) -> None:
    end, write_end = os.openpty()  # as a terminal that is stopped
    fill(write_end)
    with os.fdopen(write_end, "w", encoding="utf-8", closefd=False) as stream:
        writer = LineWriter(stream, terminal_omission)
        with running(make_plan(tmp_path), queue, PlainLines(writer.write)):
            assert result(outcome(queue, queue.put(what="prints"))) == "printed"
        os.close(end)
        writer.close()
    os.close(write_end)
