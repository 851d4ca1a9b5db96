"""The markers of the workers of a workspace root, and the workers that they name.

`<root>/.workers/<hex>.json` is a marker, locked while its worker lives (`perago.workspace.sweep`). Process ids are not
enough, because they mean nothing across containers that share a root.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from perago.failure import Finding, Level
from perago.processes import Process, descendants, running_processes
from perago.text import count
from perago.worker.events import Event, Listener, Pulse, WorkerReady
from perago.worker.health import Health
from perago.worker.plan import ExportContext
from perago.workspace.directory import check_root
from perago.workspace.scan import Descent
from perago.workspace.sweep import claim_marker, held_fields, place_marker, read_fields, unlink_if_there, write_fields

DIRECTORY = ".workers"
_TRIES = 3
"""Number of tries to create a marker, because a worker that ends at the same time can remove the empty directory."""
CHECK_INTERVAL = 5.0
"""Seconds between two checks whether the markers of a worker are still in its root."""
MOST_PROBLEMS, LONGEST_PROBLEM = 20, 500
"""Maximum number of problems in a marker, and characters of each, because readers limit the size of a marker."""
CLOSE_LIMIT = 2.0
"""Seconds that a disk gets to answer at the end. The locks end with the process in any case."""


@dataclass(frozen=True, slots=True)
class WorkerHere:
    """A living worker and one of its tasks. `started` in milliseconds since the epoch."""

    worker_id: str
    module: str
    task_name: str
    slots: int
    """The number of attempts of this task that may run at a time."""
    pid: int
    host: str
    started: int
    total: int = 0
    """The slots of the worker. 0: its version does not report them."""
    busy: int = -1
    """The slots that have an attempt. -1: unknown, or another marker of the worker has it."""
    problems: tuple[str, ...] = ()
    """The problems and warnings of `/readyz`. Only the first marker of a worker has them."""


@contextlib.contextmanager
def presence(context: ExportContext) -> Iterator[Listener]:
    """Hold a marker for each task of a worker, from the moment that it is ready for the task until it is down.

    Errors of the disk never disturb the worker.
    """
    markers = _Markers(context)
    try:
        yield markers
    finally:
        markers.close()


class _Markers:
    """The markers of one worker. A separate thread updates them, because the disk can stop answering."""

    def __init__(self, context: ExportContext) -> None:
        self._plan = context.plan
        self._workers: list[WorkerHere] = []
        self._health = Health(context.plan.mask, context.incidents)
        self._state: dict[str, Any] = {"busy": 0, "problems": ()}
        """The fields of the first marker that change."""
        self._held: dict[str, int] = {}
        """The names of the marker files with their descriptors. The first file has the state of the worker."""
        self._lock = threading.Lock()
        """Held while markers are placed or written."""
        self._changed = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="perago-presence", daemon=True)

    def __call__(self, event: Event) -> None:
        """Place the marker of a task that is ready, and record the state of the worker."""
        self._health(event)
        if isinstance(event, WorkerReady):
            started, host = int(time.time() * 1000), socket.gethostname()
            about = event.worker_id, event.module, event.task_name, event.slots, os.getpid(), host, started
            with self._lock:
                self._workers.append(WorkerHere(*about, total=self._plan.slots, busy=-1 if self._workers else 0))
                self._place(self._workers[-1])
            if not self._thread.ident:
                self._thread.start()
        elif isinstance(event, Pulse):
            verdict = self._health.ready()
            shown = verdict.problems + verdict.warnings
            state = {"busy": event.busy, "problems": tuple(text[:LONGEST_PROBLEM] for text in shown[:MOST_PROBLEMS])}
            if state != self._state:
                self._state = state
                self._changed.set()

    def close(self) -> None:
        """Remove the markers, unless the disk does not answer."""
        self._closed = True
        self._changed.set()
        if self._thread.ident:
            self._thread.join(CLOSE_LIMIT)
        if self._lock.acquire(timeout=CLOSE_LIMIT):
            self._remove()

    def _run(self) -> None:
        while not self._closed:
            self._changed.wait(CHECK_INTERVAL)
            self._changed.clear()
            if not self._closed:
                with self._lock, contextlib.suppress(OSError):
                    self._update()

    def _update(self) -> None:
        """Write the state of the worker. Place all markers again if the root or the directory was removed."""
        if not self._workers:
            return
        self._workers[0] = replace(self._workers[0], **self._state)
        if self._are_there():
            write_fields(next(iter(self._held.values())), asdict(self._workers[0]))
            return
        self._remove()
        if not check_root(self._plan.workspace_root):
            self._plan.workspace_root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for worker in self._workers:
            self._place(worker)

    def _are_there(self) -> bool:
        """Whether every marker of this worker still has its name in the root."""
        directory = self._plan.workspace_root / DIRECTORY
        try:
            same = (
                os.path.samestat(os.fstat(marker), (directory / name).lstat()) for name, marker in self._held.items()
            )
            return len(self._held) == len(self._workers) and all(same)
        except OSError:
            return False

    def _place(self, worker: WorkerHere) -> None:
        for _ in range(_TRIES):
            with contextlib.suppress(OSError), Descent(self._plan.workspace_root, root_may_be_symlink=True) as descent:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(DIRECTORY, 0o700, dir_fd=descent.root)
                directory = descent.enter(DIRECTORY)
                _sweep(directory)
                name = f"{secrets.token_hex(8)}.json"
                self._held[name] = place_marker(descent.root, directory, asdict(worker), name)
                return

    def _remove(self) -> None:
        with contextlib.suppress(OSError), Descent(self._plan.workspace_root, root_may_be_symlink=True) as descent:
            for name in self._held:
                unlink_if_there(name, descent.enter(DIRECTORY))
            os.rmdir(DIRECTORY, dir_fd=descent.root)  # refused while another worker has a file there
        for marker in self._held.values():
            os.close(marker)
        self._held.clear()


def _names(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]


def _sweep(directory: int) -> None:
    """Remove the files of workers that were killed."""
    for name in _names(directory):
        with contextlib.suppress(OSError):
            marker = claim_marker(directory, name)
            if marker is not None:
                unlink_if_there(name, directory)
                os.close(marker)


_MARKER = TypeAdapter(WorkerHere)


def workers_here(root: Path) -> tuple[WorkerHere, ...]:
    """The living workers of a workspace root, by the names of their tasks. A root that is missing has none."""
    return tuple(sorted(_living(root), key=lambda worker: (worker.task_name, worker.started)))


def _living(root: Path) -> Iterator[WorkerHere]:
    with contextlib.suppress(OSError), Descent(root, root_may_be_symlink=True) as descent:
        directory = descent.enter(DIRECTORY)
        for name in _names(directory):
            with contextlib.suppress(ValueError):  # of another version
                if (fields := held_fields(directory, name)) is not None:
                    yield _MARKER.validate_python(fields)


def dead_workers(root: Path) -> set[str]:
    """Return the killed workers of a workspace root, as Conductor names them. The next worker that starts removes their
    markers."""
    dead = set()
    with contextlib.suppress(OSError), Descent(root, root_may_be_symlink=True) as descent:
        directory = descent.enter(DIRECTORY)
        for name in _names(directory):
            with contextlib.suppress(OSError, KeyError):
                if (marker := claim_marker(directory, name)) is not None:
                    fields = read_fields(marker) or {}
                    os.close(marker)
                    dead.add(f"{fields['worker_id']}@{fields['host']}:{fields['pid']}")
    return dead


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A living worker with all its tasks. `slots`: the attempts that it runs at a time. `busy`: None if unknown."""

    worker_id: str
    host: str
    pid: int
    tasks: tuple[str, ...]
    slots: int
    busy: int | None
    shared: bool
    stopped: tuple[Process, ...] = ()
    """Its processes that a signal stopped."""
    problems: tuple[str, ...] = ()
    """The problems and warnings of its `/readyz`."""

    @property
    def stopped_words(self) -> str:
        """The stopped processes, in words."""
        return f"stopped (state T): {', '.join(f'process {process.pid} ({process.name})' for process in self.stopped)}"

    @property
    def stopped_fix(self) -> str:
        """The command that lets the stopped processes continue."""
        return f"kill -CONT {' '.join(str(process.pid) for process in self.stopped)}"

    def __str__(self) -> str:
        """The worker in a few words."""
        free = "" if self.busy is None else f", {self.busy} busy, {max(0, self.slots - self.busy)} free"
        of = f"{count(len(self.tasks), 'task type')}" if len(self.tasks) > 1 else self.tasks[0]
        slots = f"{count(self.slots, 'slot')}{' shared' if self.shared else ''}"
        return f"{self.worker_id} on {self.host} (process {self.pid}): {slots}{free}; {of}"


def worker_processes(markers: Iterable[WorkerHere]) -> tuple[WorkerProcess, ...]:
    """Return the workers of these markers, each once. Processes are looked up on this host only."""
    by_worker: dict[tuple[str, str, int], list[WorkerHere]] = {}
    for marker in markers:
        by_worker.setdefault((marker.worker_id, marker.host, marker.pid), []).append(marker)
    running, here = running_processes() if by_worker else {}, socket.gethostname()
    processes = []
    for (worker_id, host, pid), its in sorted(by_worker.items()):
        slots_of_tasks = sum(marker.slots for marker in its)
        slots = max(marker.total for marker in its) or slots_of_tasks
        busy = max(marker.busy for marker in its)
        family = [running[pid], *descendants(pid, running)] if host == here and pid in running else []
        tasks = tuple(marker.task_name for marker in its)
        stopped = tuple(process for process in family if process.stopped)
        known = None if busy < 0 else busy
        shared, problems = slots_of_tasks > slots, tuple(text for marker in its for text in marker.problems)
        processes.append(WorkerProcess(worker_id, host, pid, tasks, slots, known, shared, stopped, problems))
    return tuple(processes)


def id_clashes(workers: Iterable[WorkerProcess]) -> list[str]:
    """Describe each worker id that several workers of one root use."""
    by_id: dict[str, list[str]] = {}
    for worker in workers:
        by_id.setdefault(worker.worker_id, []).append(f"process {worker.pid} on {worker.host}")
    return [
        f"{len(places)} workers of this workspace root use the worker id {worker_id}: {', '.join(places)}"
        for worker_id, places in by_id.items()
        if len(places) > 1
    ]


STOPPED_WHY = "they do nothing, and their attempts do not end, until they continue"
KILLED_WHY = "it ended without a stop: killed, out of memory, or a restart of the machine"
KILLED_FIX = "look for the reason in dmesg and in the service manager, and start the worker again"
CLASH_WHY = "their log lines go to the same files, and their ids differ only by host and process"
CLASH_FIX = "set PERAGO_WORKER_ID_PREFIX to another value for each of them, such as the name of the pod"


def check_workers(root: Path) -> Iterator[Finding]:
    """List the workers of a workspace root, their stopped processes, and worker ids that several of them use."""
    processes = worker_processes(workers_here(root))
    for line in [f"here: {worker}" for worker in processes] or ["no worker runs here"]:
        yield Finding("workers", Level.OK, line)
    for worker in processes:
        if worker.stopped:
            what = f"worker {worker.worker_id}: {worker.stopped_words}"
            yield Finding("workers", Level.PROBLEM, what, STOPPED_WHY, worker.stopped_fix)
    for worker_id in sorted(dead_workers(root)):
        yield Finding("workers", Level.WARNING, f"killed worker {worker_id}", KILLED_WHY, KILLED_FIX)
    for clash in id_clashes(processes):
        yield Finding("workers", Level.WARNING, clash, CLASH_WHY, CLASH_FIX)
