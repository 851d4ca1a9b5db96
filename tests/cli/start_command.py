"""Commands that run until they are stopped, and what they print in the meantime; `perago start` among them."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
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


class Terminal:
    """A command with a pseudo-terminal for all its streams."""

    def __init__(self, project: Project, *arguments: str, **variables: str) -> None:
        self._ours, theirs = pty.openpty()
        running = replace(project, environment=project.environment | {"TERM": "xterm"} | variables)
        self.process = running.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        self.shown = b""

    @property
    def text(self) -> str:
        """What was shown since the last line was typed, without colors."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown.decode(errors="replace"))

    def wait_for(self, pattern: str) -> None:
        """Until it has been shown."""
        deadline = time.monotonic() + LIMIT
        while not re.search(pattern, self.text):
            assert select.select([self._ours], [], [], max(0, deadline - time.monotonic()))[0], self.text
            try:
                self.shown += os.read(self._ours, 65_536)
            except OSError:  # the other end is closed
                raise AssertionError(f"{pattern} is missing in:\n{self.text}") from None

    def type(self, line: str) -> None:
        """Enter a line; what was shown before is forgotten."""
        self.shown = b""
        os.write(self._ours, f"{line}\n".encode())

    def ended(self) -> int:
        """The exit status, once everything has been shown."""
        with suppress(OSError):  # Linux's way to say that nobody holds the other end
            while select.select([self._ours], [], [], LIMIT)[0] and (shown := os.read(self._ours, 65_536)):
                self.shown += shown
        return self.process.wait(LIMIT)

    def close(self) -> None:
        """End it, with whatever it has started."""
        self.process.terminate()
        os.close(self._ours)
        self.process.wait(LIMIT)


@contextmanager
def terminal(project: Project, *arguments: str, **variables: str) -> Iterator[Terminal]:
    opened = Terminal(project, *arguments, **variables)
    try:
        yield opened
    finally:
        opened.close()
