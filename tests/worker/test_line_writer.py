"""What a worker prints, and a reader that does not take it."""

from __future__ import annotations

import os
from pathlib import Path

from perago.worker.logs import MOST_WAITING, LineWriter, PlainLines, terminal_missing

from .bench import make_plan, outcome, result, running, wait_for
from .outside import Reader, fill, line_writer
from .small_queue import SmallQueue


def test_a_reader_that_stands_still_costs_lines_and_is_told_how_many() -> None:
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
