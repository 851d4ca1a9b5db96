"""An in-memory lakeFS and Conductor in real time, the former served to slot processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from perago.driver import SystemClock
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.lakefs import InMemoryLakeFS
from perago.embedded.remote import StoreServer
from perago.ports import Delivery, TaskQueue
from perago.worker.plan import StoreFactory

REPOSITORY = "local"
BRANCH = "main"
LONGEST_POLL = 0.1
"""Seconds: a person who runs one workflow should not wait for the end of a poll."""


class _LocalConductor(InMemoryConductor):
    """Polls of this process cost nothing, so none is so long that the end of a run would have to wait for it."""

    def poll(self, task_name: str, worker_id: str, *, count: int, wait_seconds: float) -> Sequence[Delivery]:
        return super().poll(task_name, worker_id, count=count, wait_seconds=min(wait_seconds, LONGEST_POLL))


class LocalServices:
    """Both services, from entering the context to leaving it."""

    preload = ("perago.driver",)
    """What slot processes share from their birth."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.lakefs = InMemoryLakeFS(self.clock)
        self.conductor = _LocalConductor(self.clock, sweep_seconds=1)
        self.server = StoreServer(self.lakefs)

    def __enter__(self) -> LocalServices:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.server.close()
        self.lakefs.close()

    def queue(self) -> TaskQueue:
        """The queue of one worker, to be closed by the caller."""
        return self.conductor

    @property
    def store_factory(self) -> StoreFactory:
        """Makes a slot's connection to lakeFS."""
        return self.server.factory

    def seed(self, files: Mapping[str, str | bytes | Path | None], message: str) -> str:
        """Commit files to the workspace branch; returns the commit id."""
        return self.lakefs.seed(REPOSITORY, BRANCH, files, message=message).id
