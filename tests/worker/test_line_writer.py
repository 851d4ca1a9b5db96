"""What a worker prints, and a reader that does not take it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perago.worker.line_writer import MOST_WAITING, LineWriter
from perago.worker.lines import missing

from .bench import LIMIT, release, wait_for
from .test_processes import IMPORT_ROOT


class Reader:
    """The other end of a pipe, and what came out of it."""

    def __init__(self) -> None:
        self._end, self.write_end = os.pipe()
        self.data = b""
        self._thread = threading.Thread(target=self._read)

    def start(self) -> None:
        self._thread.start()

    def _read(self) -> None:
        while chunk := os.read(self._end, 65_536):
            self.data += chunk

    def rest(self) -> bytes:
        """Everything, once the writer is done."""
        os.close(self.write_end)
        if not self._thread.ident:
            self.start()
        self._thread.join()
        os.close(self._end)
        return self.data


@contextmanager
def line_writer(reader: Reader, missing: Callable[[int], str] = missing) -> Iterator[LineWriter]:
    with os.fdopen(reader.write_end, "w", encoding="utf-8", closefd=False) as stream:
        writer = LineWriter(stream, missing)
        yield writer
        writer.close()


def fill(descriptor: int) -> None:
    """Write to a pipe or a terminal until it takes no more."""
    os.set_blocking(descriptor, False)
    for size in (65_536, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(descriptor, b"x" * size)
    os.set_blocking(descriptor, True)


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
        writer = LineWriter(stream, missing)
        writer.write("x")
        wait_for("the line to be tried", lambda: not writer.waiting)
        writer.close()


def test_a_character_that_the_terminal_does_not_have_is_spelled_out() -> None:
    reader = Reader()
    with os.fdopen(reader.write_end, "w", encoding="ascii", closefd=False) as stream:
        writer = LineWriter(stream, missing)
        writer.write("grün")
        writer.close()
    assert reader.rest() == b"gr\\xfcn\n"


@pytest.mark.parametrize("make_pair", [os.pipe, os.openpty], ids=["a pipe that is full", "a terminal that is stopped"])
def test_a_worker_whose_lines_are_not_read_runs_attempts_and_stops(
    tmp_path: Path, make_pair: Callable[[], tuple[int, int]]
) -> None:
    end, write_end = make_pair()
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
