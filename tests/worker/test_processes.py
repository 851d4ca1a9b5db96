"""A worker as a process among others: signals, sudden death, service managers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from perago.processes import Process, end_processes, is_running, running_processes

from .bench import LIMIT, has_ended, release, wait_for
from .outside import IMPORT_ROOT, PID_1, can_unshare

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere daemons cannot be found, and there is no fork server"
)


class Standalone:
    """`standalone` in a process of its own."""

    def __init__(self, directory: Path, what: str, shutdown_grace: float) -> None:
        self.file = directory / "running"
        command = [sys.executable, "-m", f"{__package__}.standalone", str(directory), what, str(shutdown_grace)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=IMPORT_ROOT, env={**os.environ, "LANG": "C"}
        )
        self._lines: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        try:
            self.line_with("ready: ")
            wait_for("the function to run", lambda: self.file.exists() and self.file.read_text())
        except BaseException:
            self.process.kill()
            raise
        self.slot = int((directory / "slot").read_text())

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.append(line)

    def line_with(self, start: str) -> str:
        """Wait for a line that begins like this."""

        def matching() -> list[str]:
            return [line for line in self._lines if line.startswith(start)]

        wait_for(f"a line with {start!r}", lambda: matching() or not self._reading.is_alive())
        assert matching(), f"the worker ended with {self.process.wait(LIMIT)} before it said {start!r}"
        return matching()[0]

    def output(self) -> str:
        """Wait for the end and return all that it printed."""
        self.process.wait(LIMIT)
        self._reading.join(LIMIT)
        assert not self._reading.is_alive(), "somebody still holds the worker's output"
        return "".join(self._lines)


@contextlib.contextmanager
def standalone(directory: Path, what: str = "sleeps", shutdown_grace: float = LIMIT) -> Iterator[Standalone]:
    worker = Standalone(directory, what, shutdown_grace)
    try:
        yield worker
    finally:
        worker.process.kill()
        worker.output()
        wait_for("the slot's end", has_ended(worker.slot))


def test_the_death_of_the_supervisor_interrupts_the_function(tmp_path: Path) -> None:
    with standalone(tmp_path, "cleans_up_when_cancelled") as worker:
        worker.process.kill()
        wait_for("the slot's end", has_ended(worker.slot))
        assert worker.file.read_text() == "cleaned up, cancelled=True"


@linux
@pytest.mark.parametrize("slot_too", [False, True])
def test_the_death_of_the_supervisor_kills_a_function_that_ignores_term(tmp_path: Path, *, slot_too: bool) -> None:
    with standalone(tmp_path, "leaves_a_daemon_and_ignores_term", shutdown_grace=0.5) as worker:
        daemon = int((tmp_path / "running.daemon").read_text())
        worker.process.kill()
        if slot_too:
            os.kill(worker.slot, signal.SIGKILL)
        wait_for("the daemon's end", has_ended(daemon))


@linux
def test_a_signal_to_every_process_does_not_cost_the_attempt(tmp_path: Path) -> None:
    with standalone(tmp_path, "waits") as worker:
        supervisor = psutil.Process(worker.process.pid)
        for process in [*supervisor.children(recursive=True), supervisor]:
            process.send_signal(signal.SIGHUP)
        worker.line_with("stopping")
        release(worker.file)
        output = worker.output()
    assert worker.process.returncode == 0
    assert "test0001: completed worker.behaves task-1 in" in output


@pytest.mark.skipif(not can_unshare(), reason="needs the right to make a process namespace")
def test_a_worker_that_is_process_1_drains_on_a_signal(tmp_path: Path) -> None:
    """A container's first process gets no default signal handling, and everybody's orphans."""
    command = [*PID_1, sys.executable, "-m", f"{__package__}.standalone", str(tmp_path), "waits", str(LIMIT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=IMPORT_ROOT) as process:
        try:
            wait_for("the function to run", (tmp_path / "running").exists)
            worker = psutil.Process(process.pid).children()[0]
            worker.terminate()
            release(tmp_path / "running")
            output = process.communicate(timeout=LIMIT)[0]
        finally:
            process.kill()
    assert process.returncode == 0
    assert "test0001: completed worker.behaves task-1 in" in output


# ----------------------------------------------------------- The end of what a function leaves running


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


@linux
def test_a_process_that_one_search_misses_is_ended(sleeper: subprocess.Popen[bytes]) -> None:
    """One that forks all the time is another one whenever the look comes to it."""
    looks = 0

    def find() -> list[Process]:
        nonlocal looks
        looks += 1
        return [running_processes()[sleeper.pid]] if looks == 2 else []

    assert end_processes(find) == []
    assert sleeper.wait(30) == -9


@linux
def test_only_attempts_that_have_not_ended_are_running(sleeper: subprocess.Popen[bytes]) -> None:
    assert is_running(sleeper.pid)
    sleeper.kill()
    sleeper.wait(30)
    assert not is_running(sleeper.pid)
