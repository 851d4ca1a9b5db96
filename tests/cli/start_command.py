"""Commands that run until they are stopped, and what they print in the meantime; `perago start` among them."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import IO

from .conftest import Project

LIMIT = 60.0
"""Seconds for anything that is waited for: the machine may be busy with something else."""


class Watched:
    """A running command and what it has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.text = ""
        self._changed = threading.Condition()
        streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
        self._threads = [threading.Thread(target=self._read, args=(stream,)) for stream in streams]
        for thread in self._threads:
            thread.start()

    def wait_for(self, pattern: str, *, times: int = 1) -> None:
        """Until `pattern` has been printed so many times, or the command has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over() or len(re.findall(pattern, self.text)) >= times, LIMIT)
            assert len(re.findall(pattern, self.text)) >= times, f"{pattern} is missing in:\n{self.text}"

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """The exit status, once it has one."""
        code = self.process.wait(LIMIT)
        for thread in self._threads:
            thread.join(LIMIT)
        return code

    def _is_over(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            with self._changed:
                self.text += line.decode()
                self._changed.notify_all()


class Started(Watched):
    """A worker of `perago start`."""

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Until `text` has been printed."""
        super().wait_for(re.escape(text), times=times)


@contextmanager
def started(project: Project, *arguments: str, within: Sequence[str] = (), **variables: str) -> Iterator[Started]:
    running = replace(project, environment=project.environment | variables)
    with running.start("start", *arguments, within=within) as process:
        worker = Started(process)
        try:
            yield worker
        finally:
            process.kill()
            worker.ended()


def shown_on_a_terminal(project: Project, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run a command with a terminal for all its streams. Return its exit status and everything that was shown."""
    terminal, side = os.openpty()
    running = replace(project, environment=project.environment | {"TERM": "xterm"} | variables)
    shown = b""
    with running.start(*arguments, stdin=side, stdout=side, stderr=side) as process:
        os.close(side)
        with suppress(OSError):  # Linux's way to say that nobody holds the other end
            while chunk := os.read(terminal, 65536):
                shown += chunk
    os.close(terminal)
    return process.returncode, shown.decode()


@contextmanager
def on_a_terminal(project: Project, *arguments: str, **variables: str) -> Iterator[Callable[[str], None]]:
    """Run a command on a terminal; yields a function that waits until the terminal has shown a text."""
    terminal, slave = os.openpty()
    running = replace(project, environment=project.environment | {"TERM": "xterm"} | variables)
    shown = b""

    def wait_for(text: str) -> None:
        nonlocal shown
        deadline = time.monotonic() + LIMIT
        while text.encode() not in shown:
            assert time.monotonic() < deadline, shown
            assert select.select([terminal], [], [], LIMIT)[0], shown
            shown += os.read(terminal, 65536)

    with running.start(*arguments, stdout=slave, stderr=slave) as process:
        os.close(slave)
        try:
            yield wait_for
        finally:
            process.terminate()
            os.close(terminal)
