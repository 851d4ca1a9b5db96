"""What a worker prints, and a reader that does not take it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from perago.worker.logs import MOST_WAITING, LineWriter, terminal_missing

from .bench import LIMIT, release, wait_for
from .outside import IMPORT_ROOT, Reader, fill, line_writer


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
    assert told == f"{200 - len(kept):,} lines left out: the terminal took no more"
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


def test_a_worker_whose_lines_are_not_read_runs_attempts_and_stops(tmp_path: Path) -> None:
    end, write_end = os.openpty()  # as a terminal that is stopped
    fill(write_end)
    command = [sys.executable, "-m", f"{__package__}.standalone", str(tmp_path), "waits", str(LIMIT)]
    with subprocess.Popen(command, stdout=write_end, stderr=subprocess.PIPE, cwd=IMPORT_ROOT) as process:
        try:
            wait_for("the function to run", (tmp_path / "running").exists)
            process.send_signal(signal.SIGTERM)
            release(tmp_path / "running")
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()
    for descriptor in (end, write_end):
        os.close(descriptor)
