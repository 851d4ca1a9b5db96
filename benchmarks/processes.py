"""Processor time and memory of other processes, and measurements in a process of their own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import psutil

from benchmarks.harness import Cost

T = TypeVar("T")

_MEBIBYTE = 2**20


def run_command(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end, and count all processes that it starts and waits for.

    Raises:
        RuntimeError: it failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    errors = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stderr:
        process.stderr.close()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {errors.decode(errors='replace')}")
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def tree_of(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants that still run."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def tree_cpu(pid: int) -> float:
    """Return the processor seconds of a tree so far, including children that have ended and were waited for."""
    total = 0.0
    for process in tree_of(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def tree_memory(pid: int) -> float:
    """Return the memory of a tree in MiB. Shared pages count once (PSS); without PSS, once per process (RSS)."""
    total = 0
    for process in tree_of(pid):
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            rollup = Path(f"/proc/{process.pid}/smaps_rollup")
            total += _kilobytes(rollup, "Pss:") or process.memory_info().rss
    return total / _MEBIBYTE


def _kilobytes(file: Path, name: str) -> int:
    """Read a line such as `Pss: 12 kB` of a file in /proc; return bytes, or 0 if there is no such line."""
    lines = file.read_text().splitlines() if file.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


def end_tree(pid: int, patience: float = 10.0) -> None:
    """Send TERM to a process, then KILL to the remaining processes of its tree.

    Python's resource trackers are last, because they remove the semaphores of the processes that have ended.
    """
    processes = tree_of(pid)
    trackers = [process for process in processes if _is_tracker(process)]
    if processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes[0].terminate()
        psutil.wait_procs(processes[:1], timeout=patience)
    _kill([process for process in processes if process not in trackers])
    psutil.wait_procs(trackers, timeout=2)
    _kill(trackers)


def _is_tracker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "resource_tracker" in " ".join(process.cmdline())
    return False


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:  # psutil checks that the pid is still the same process
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@dataclass(frozen=True, slots=True)
class Apart(Generic[T]):
    """The result of a function in a process of its own, and the growth of that process in MiB, with shared pages."""

    value: T
    growth: float


def apart(function: Callable[..., T], *arguments: object) -> Apart[T]:
    """Call a module-level function in a fresh process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_with_growth, function, arguments).result(timeout=1800)


def _with_growth(function: Callable[..., T], arguments: tuple[object, ...]) -> Apart[T]:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from here
    before = _peak()
    value = function(*arguments)
    return Apart(value, (_peak() - before) / _MEBIBYTE)


def _peak() -> int:
    if peak := _kilobytes(Path("/proc/self/status"), "VmHWM:"):
        return peak
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
