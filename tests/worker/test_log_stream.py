"""Output of a worker: its log on standard error (docs/workers.md#log-files), and lines for a terminal."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from perago.settings import LogFormat, Mask
from perago.worker.events import AttemptEnded, Event
from perago.worker.logs import (
    MOST_WAITING,
    LineWriter,
    PlainLines,
    journal_of,
    stream_missing,
    terminal_missing,
    write_rendered,
)
from perago.worker.plan import LogPlan
from perago.worker.supervisor import Supervisor

from .bench import BEHAVES, make_plan, outcome, planned, result, running, wait_for
from .outside import Reader, fill, line_writer
from .small_queue import SmallQueue

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
    with line_writer(reader, functools.partial(stream_missing, form=form)) as writer:
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

    def in_order(found: list[dict[str, Any]]) -> list[str]:
        return sorted(json.dumps(line | {"time": None}, sort_keys=True) for line in found)

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
    told, last = strict(reader.rest())
    assert told["source"] == "limit"
    assert told["message"] == "[1 lines left out: standard error did not keep up]"
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
    *kept, told, last = reader.rest().decode().splitlines()
    assert len(kept) * (len(line) + 1) <= MOST_WAITING
    assert told == f"{200 - len(kept):,} lines left out: the terminal did not keep up"
    assert last == "last"


def test_without_a_reader_the_worker_works_on() -> None:
    end, write_end = os.pipe()
    os.close(end)
    with os.fdopen(write_end, "w", encoding="ascii") as stream:
        writer = LineWriter(stream, terminal_missing)
        writer.write("x")
        wait_for("the line to be tried", lambda: not writer.waiting)
        writer.close()


def test_a_character_that_the_terminal_does_not_have_is_spelled_out() -> None:
    reader = Reader()
    with os.fdopen(reader.write_end, "w", encoding="ascii", closefd=False) as stream:
        writer = LineWriter(stream, terminal_missing)
        writer.write("grün")
        writer.close()
    assert reader.rest() == b"gr\\xfcn\n"


def test_a_worker_whose_lines_are_not_read_runs_attempts_and_stops(tmp_path: Path, queue: SmallQueue) -> None:
    end, write_end = os.openpty()  # as a terminal that is stopped
    fill(write_end)
    with os.fdopen(write_end, "w", encoding="utf-8", closefd=False) as stream:
        writer = LineWriter(stream, terminal_missing)
        with running(make_plan(tmp_path), queue, PlainLines(writer.write)):
            assert result(outcome(queue, queue.put(what="prints"))) == "printed"
        os.close(end)
        writer.close()
    os.close(write_end)
