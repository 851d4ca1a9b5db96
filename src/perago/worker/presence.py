"""Which workers share a workspace root: each holds a small file there for each of its tasks while it works (`perago
status` reads them).

    <root>/.workers/<hex>.json    a marker, locked while its worker lives (`perago.workspace.marker`)

Process ids would not do: they mean nothing across containers that share a root.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from perago.worker.events import Event, Stopped, WorkerReady
from perago.worker.plan import WorkerPlan
from perago.workspace.descent import Descent
from perago.workspace.marker import claim_marker, held_fields, place_marker, unlink_if_there

DIRECTORY = ".workers"
_TRIES = 3
"""A worker that ends at the same time may remove the directory, once it is empty."""


class Presence:
    """A `Listener` that holds the files of one worker, each from the moment that the worker is ready for a task until
    it has stopped. A disk that refuses never disturbs the worker."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._root = plan.workspace_root
        self._held: dict[str, int] = {}
        """Names of files, and their descriptors."""

    def __call__(self, event: Event) -> None:
        """Place a file, or remove them."""
        if isinstance(event, WorkerReady):
            self._place(event)
        elif isinstance(event, Stopped):
            self._remove()

    def _place(self, ready: WorkerReady) -> None:
        fields = {
            "worker_id": ready.worker_id,
            "module": ready.module,
            "task_name": ready.task_name,
            "slots": ready.slots,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": int(time.time() * 1000),
        }
        for _ in range(_TRIES):
            with contextlib.suppress(OSError), Descent(self._root, root_may_be_symlink=True) as descent:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(DIRECTORY, 0o700, dir_fd=descent.root)
                directory = descent.enter(DIRECTORY)
                _sweep(directory)
                name = f"{secrets.token_hex(8)}.json"
                self._held[name] = place_marker(descent.root, directory, fields, name)
                return

    def _remove(self) -> None:
        with contextlib.suppress(OSError), Descent(self._root, root_may_be_symlink=True) as descent:
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


@dataclass(frozen=True, slots=True)
class WorkerHere:
    """A living worker. `started` in milliseconds since the epoch."""

    worker_id: str
    module: str
    task_name: str
    slots: int
    pid: int
    host: str
    started: int


def workers_here(root: Path) -> tuple[WorkerHere, ...]:
    """The living workers of a workspace root, by the names of their tasks. A root that is missing has none."""
    return tuple(sorted(_living(root), key=lambda worker: (worker.task_name, worker.started)))


def _living(root: Path) -> Iterator[WorkerHere]:
    with contextlib.suppress(OSError), Descent(root, root_may_be_symlink=True) as descent:
        directory = descent.enter(DIRECTORY)
        for name in _names(directory):
            with contextlib.suppress(KeyError, TypeError, ValueError):  # of another version
                if (fields := held_fields(directory, name)) is not None:
                    yield WorkerHere(
                        str(fields["worker_id"]),
                        str(fields["module"]),
                        str(fields["task_name"]),
                        int(fields["slots"]),
                        int(fields["pid"]),
                        str(fields["host"]),
                        int(fields["started"]),
                    )
