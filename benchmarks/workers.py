"""Workers under measurement: `perago start`, a bare conductor-python worker, and the requests alone. Each is a tree of
processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.processes import end_tree

MODULE = "benchmarks.tasks.noop"
ROOT = Path(__file__).parent.parent

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind:
    """A worker for one task type with `slots` attempts at the same time."""

    name: str
    slots: int
    other: str = ""
    """The module of a worker that is not perago's, with its options."""

    def command(self, task: str) -> list[str]:
        """Return the command that starts it."""
        if self.other:
            return [sys.executable, "-m", *self.other.split(), task, str(self.slots)]
        return [sys.executable, "-m", "perago", "start", MODULE, "-j", str(self.slots)]


@dataclass(frozen=True, slots=True)
class Running:
    """A started worker; `started` is in seconds since the epoch."""

    pid: int
    started: float


_BARE, _REQUESTS = "benchmarks.tasks.bare_worker", "benchmarks.tasks.requests_alone"
BARE_ONE, BARE_FOUR = Kind("bare, 1 thread", 1, _BARE), Kind("bare, 4 threads", 4, _BARE)
PERAGO_ONE, PERAGO_FOUR = Kind("perago, 1 slot", 1), Kind("perago, 4 slots", 4)
_ALONE_ONE, _ALONE_FOUR = (Kind(f"requests alone, {number}", number, _REQUESTS) for number in (1, 4))
_SLOTS_ONE, _SLOTS_FOUR = (Kind(f"with hand-overs, {number}", number, f"{_REQUESTS} --slots") for number in (1, 4))
KINDS = (BARE_ONE, PERAGO_ONE, _ALONE_ONE, _SLOTS_ONE, BARE_FOUR, PERAGO_FOUR, _ALONE_FOUR, _SLOTS_FOUR)
"""The workers that are compared on empty tasks."""


def base_of(kind: Kind) -> str:
    """Return the name of the bare worker with as many threads."""
    return (BARE_ONE if kind.slots == 1 else BARE_FOUR).name


def running(kind: Kind, task: str, conductor: str, scratch: Path) -> contextlib.AbstractContextManager[Running]:
    """Run a worker for the empty task."""
    return process(kind.command(task), {"BENCHMARK_TASK": task, "CONDUCTOR_SERVER_URL": conductor}, scratch)


@contextlib.contextmanager
def process(command: Sequence[str], variables: Mapping[str, str], scratch: Path) -> Iterator[Running]:
    """Run the command of a worker for the block. Its files and its output are below `scratch`.

    Raises:
        RuntimeError: it ended before the block.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PERAGO_WORKSPACE_ROOT": str(scratch / "workspaces"),
        "PERAGO_LOG_ROOT": str(scratch / "logs"),
        "PYTHONPATH": str(ROOT),
        **variables,
    }
    with (scratch / "output").open("wb") as output:
        started = time.time()
        worker = subprocess.Popen(command, env=environment, cwd=scratch, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield Running(worker.pid, started)
            if worker.poll() is not None:
                raise RuntimeError(f"{command} ended early:\n{(scratch / 'output').read_text()[-2000:]}")
        finally:
            end_tree(worker.pid)
            worker.wait(10)


def wait_for(what: str, condition: Callable[[], T], limit: float, pause: float = 0.05) -> T:
    """Return the first true value of `condition`.

    Raises:
        TimeoutError: after `limit` seconds.
    """
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(pause)
    raise TimeoutError(f"waited {limit:g} s in vain for {what}")
