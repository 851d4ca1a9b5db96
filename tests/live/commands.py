"""The real command line in real processes, and the processes that are still alive."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import psutil

from .waiting import LIMIT, wait_for

CHECKOUT = Path(__file__).parents[2]
COMMAND_SECONDS = 60.0
TOKEN = "LIVE_TOKEN"
"""A variable of every process that a deployment starts, by which the suite recognizes them."""

_SETTINGS = ("PERAGO_", "CONDUCTOR_", "LAKECTL_", "COVERAGE_", "PYTEST_", "LIVE_")
"""Variables of the suite's own environment that a deployment must not inherit."""


class Environment:
    """The variables of one deployment, with directories of its own."""

    def __init__(self, directory: Path, variables: Mapping[str, str]) -> None:
        self.token = uuid.uuid4().hex[:10]
        self.workspaces = directory / "workspaces"
        self.logs = directory / "logs"
        self.variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)},
            "PERAGO_WORKSPACE_ROOT": str(self.workspaces),
            "PERAGO_LOG_ROOT": str(self.logs),
            "PERAGO_SHUTDOWN_GRACE": "3s",
            TOKEN: self.token,
            **variables,
        }

    def processes(self) -> list[psutil.Process]:
        """Return every living process that inherited this environment."""
        return [process for process in psutil.process_iter() if _token_of(process) == self.token]

    def attempt_directories(self) -> list[Path]:
        """Return the attempt directories that exist now. `os.walk` tolerates that others are removed during the
        search."""
        return [Path(place) for place, _, files in os.walk(self.workspaces) if ".perago-attempt.json" in files]

    def wait_for_removal_of_directories(self) -> None:
        """Wait until no attempt directory is left. A worker removes that of a publication while it reports."""
        wait_for("the removal of the attempt directories", lambda: not self.attempt_directories())


def _leads_a_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def _token_of(process: psutil.Process) -> str | None:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.environ().get(TOKEN)
    except (psutil.Error, OSError):
        return None


def described(process: psutil.Process) -> str:
    """Its ids, state, age, command, and where each of its threads waits in the kernel, for messages."""
    with contextlib.suppress(psutil.Error, OSError):
        age = time.time() - process.create_time()
        waits = [Path(f"/proc/{process.pid}/task/{thread.id}/wchan").read_text() for thread in process.threads()]
        ids = f"{process.pid} below {process.ppid()} in session {os.getsid(process.pid)}"
        return f"{ids}, {process.status()}, {age:.0f} s old, waits in {waits}: {' '.join(process.cmdline())}"
    return f"{process.pid} has ended"


def perago(environment: Environment, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "perago", *arguments],
        cwd=CHECKOUT,
        env={**environment.variables, **extra},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )


def advised(*texts: str) -> list[tuple[str, str]]:
    """The commands for a workflow that refusals name, each once, in order."""
    return list(dict.fromkeys(command for text in texts for command in _ADVICE.findall(text)))


_ADVICE = re.compile(r"perago (undo|retry|rerun) ([0-9a-f-]{36})")


class Worker:
    """`perago start` in a process of its own session. `python` may have another version of perago."""

    def __init__(self, environment: Environment, *arguments: str, python: str = sys.executable, **extra: str) -> None:
        self.environment = environment
        self._process = subprocess.Popen(
            [python, "-m", "perago", "start", *arguments],
            cwd=CHECKOUT,
            env={**environment.variables, **extra},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))

    def line(self, pattern: str, *, since: int = 0, limit: float = LIMIT) -> str:
        """Wait for a line of output that matches `pattern`, after the first `since` lines."""

        def matching_line() -> str | None:
            return next((line for line in self.lines[since:] if re.search(pattern, line)), None)

        return wait_for(f"a line like {pattern!r}", matching_line, limit=limit, context=self.output)

    def has_line(self, pattern: str) -> bool:
        """Whether a line matches already."""
        return any(re.search(pattern, line) for line in self.lines)

    def output(self) -> str:
        """Return all its output, for messages."""
        return "the worker said:\n" + "\n".join(f"  {line}" for line in self.lines)

    def ready(self) -> Worker:
        """Wait for the ready line."""
        self.line(r"^ready: ")
        return self

    def slots(self) -> list[psutil.Process]:
        """Return its slot processes. Each leads its own session."""
        try:
            below = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [process for process in below if _leads_a_session(process.pid)]

    def kill_slots(self) -> None:
        """Kill all slots."""
        for slot in self.slots():
            with contextlib.suppress(psutil.NoSuchProcess):
                slot.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor alone."""
        self._process.send_signal(number)

    def exit_code(self, limit: float = LIMIT) -> int:
        """Wait for its end, and return its exit status."""
        try:
            code = self._process.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end in {limit:g} s\n{self.output()}") from None
        self._reader.join(5)
        return code

    def gone(self) -> bool:
        """Whether none of its processes is alive any more."""
        return not self.environment.processes()

    def stop(self) -> None:
        """Kill the worker and its processes. A drain would wait five seconds for a poll."""
        self._process.kill()
        self._process.wait(10)
        for process in self.environment.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._reader.join(5)
        if self._process.stdout is not None:
            self._process.stdout.close()
