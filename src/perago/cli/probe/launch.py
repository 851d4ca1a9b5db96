"""Starting the child process and following what it prints."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Protocol

from perago.cli.probe.child import run_forked

FORKS = sys.platform == "linux"
"""A forked child has pydantic already, which halves the time of `perago check`. Elsewhere forking is not dependable."""

_FRESH = "from perago.cli.probe.child import run_fresh; run_fresh()"
_KEPT = 32 * 1024
"""Bytes of the output that are kept."""
_LAST_OUTPUT = 1.0
"""Seconds to wait for output that is on its way; a stray process may hold the pipe open for ever."""


class Running(Protocol):
    """The part of `subprocess.Popen` that is needed here."""

    @property
    def pid(self) -> int:
        """The process id, which is its process group, too."""
        ...

    def poll(self) -> int | None:
        """The exit status, negative for a signal, or None while the child runs."""
        ...

    def wait(self, timeout: float) -> int:
        """The exit status.

        Raises:
            subprocess.TimeoutExpired: the child is still running after `timeout` seconds.
        """
        ...

    def kill(self) -> None:
        """Send SIGKILL."""
        ...


def launch(module: str, directory: str, seconds: float, examine: str, output: int, *, beside_threads: bool) -> Running:
    """Start a child that imports `module` and leaves its report in `directory`; it prints to the pipe `output`.

    A process with threads (`beside_threads`) must not fork: whatever they hold at that moment stays held in the child.
    """
    start = _Fork if FORKS and not beside_threads else _fresh_interpreter
    return start(module, directory, seconds, examine, output)


class _Fork:
    """A forked child, with the part of `subprocess.Popen` that is needed here."""

    def __init__(self, module: str, directory: str, seconds: float, examine: str, output: int) -> None:
        for stream in (sys.stdout, sys.stderr):  # what waits in their buffers must not come out twice
            stream.flush()
        import perago.taskdef  # noqa: F401 - loaded once, here, instead of in every child

        self._status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            run_forked(module, directory, seconds, examine, output)

    def poll(self) -> int | None:
        """The exit status, negative for a signal, or None while the child runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def wait(self, timeout: float) -> int:
        """The exit status.

        Raises:
            subprocess.TimeoutExpired: the child is still running after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        pause = 0.001
        while (status := self.poll()) is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired("fork", timeout)
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        return status

    def kill(self) -> None:
        """Send SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def _fresh_interpreter(
    module: str, directory: str, seconds: float, examine: str, output: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _FRESH, module, directory, str(seconds), examine],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


class Output:
    """Counts everything, keeps the end: a module may print without limit."""

    def __init__(self, descriptor: int) -> None:
        self.size = 0
        self._tail = b""
        self._thread = threading.Thread(target=self._read, args=(descriptor,), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Let what was printed arrive."""
        self._thread.join(_LAST_OUTPUT)

    def text(self) -> str:
        """The end of the output."""
        return self._tail.decode("utf-8", "replace").replace("\r\n", "\n")

    def _read(self, descriptor: int) -> None:
        while chunk := os.read(descriptor, _KEPT):
            self.size += len(chunk)
            self._tail = (self._tail + chunk)[-_KEPT:]
        os.close(descriptor)
