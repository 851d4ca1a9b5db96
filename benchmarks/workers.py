"""Workers under measurement: `perago start`, a bare conductor-python worker, and the requests alone. Each is a tree of
processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.processes import end_tree

MODULE = "benchmarks.tasks.noop"
BARE_MODULE, REQUESTS_MODULE = "benchmarks.tasks.bare_worker", "benchmarks.tasks.requests_alone"
"""Workers that are not perago's."""
ROOT = Path(__file__).parent.parent

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind:
    """A worker for one task type with as many attempts at a time as `slots`."""

    name: str
    slots: int
    other: str = ""
    """The module of a worker that is not perago's."""

    def command(self, task: str) -> list[str]:
        """How it is started."""
        if self.other:
            return [sys.executable, "-m", self.other, task, str(self.slots)]
        return [sys.executable, "-m", "perago", "start", MODULE, "-j", str(self.slots)]


@dataclass(frozen=True, slots=True)
class Running:
    """A worker that has been started; `started` is when, in seconds since the epoch."""

    pid: int
    started: float


@contextlib.contextmanager
def running(kind: Kind, task: str, conductor: str, scratch: Path) -> Iterator[Running]:
    """A worker for the length of the block. What it prints goes to a file below `scratch`."""
    scratch.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "BENCHMARK_TASK": task,
        "CONDUCTOR_SERVER_URL": conductor,
        "PERAGO_WORKSPACE_ROOT": str(scratch / "workspaces"),
        "PERAGO_LOG_ROOT": str(scratch / "logs"),
        "PYTHONPATH": str(ROOT),
    }
    with (scratch / "output").open("wb") as output:
        started = time.time()
        process = subprocess.Popen(
            kind.command(task), env=environment, cwd=scratch, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield Running(process.pid, started)
            if process.poll() is not None:
                raise RuntimeError(f"{kind.name} ended early:\n{(scratch / 'output').read_text()[-2000:]}")
        finally:
            end_tree(process.pid)
            process.wait(10)


def wait_for(what: str, condition: Callable[[], T], limit: float, pause: float = 0.05) -> T:
    """What `condition` returns once that is true.

    Raises:
        TimeoutError: after `limit` seconds.
    """
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(pause)
    raise TimeoutError(f"waited {limit:g} s in vain for {what}")
