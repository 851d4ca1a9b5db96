"""A worker that dies or is overtaken at its merge, and what the branch then says about its publications."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .commands import Worker
from .deploying import Deployment, Gate, input_of
from .proxy import Cut, Proxy
from .repositories import Repository

MERGE = "POST .*/merge/main"
ORIGINAL = {"raw/a.txt", "raw/b.txt", "doc/readme.txt"}
"""The files of the `seeded` fixture."""

Seeded = tuple[Repository, str]


@dataclass(frozen=True)
class Line:
    """A worker with one slot, whose way to lakeFS can be disturbed."""

    deployment: Deployment
    worker: Worker
    lakefs: Proxy
    lakefs_url: str
    """The way round the proxy."""

    def kill_after_merge(self, times: int = 1) -> None:
        """The slot dies between the effect of its next merge and the answer, this often."""
        for _ in range(times):
            self.lakefs.trap(MERGE, Cut.ANSWER, first=self.worker.kill_slots)

    def at_its_merge(self, cut: Cut, seeded: Seeded, gate: Gate, happen: Callable[[str, str], object]) -> str:
        """Start a workflow, and let something happen (given its id and its task's) while the merge of its first
        delivery is on the way there, or back; returns the workflow's id."""
        orders = {"write_first": {"first.txt": "1"}, "gate": str(gate)}
        workflow_id = self.deployment.start(input_of(*seeded, orders))
        (announced,) = gate.entered()
        trap = self.lakefs.trap(MERGE, cut, first=lambda: happen(workflow_id, announced.task_id))
        gate.open()
        trap.wait()
        return workflow_id

    def second_worker(self) -> Worker:
        """Another worker for the same task, which nothing disturbs."""
        return self.deployment.worker(LAKECTL_SERVER_ENDPOINT_URL=self.lakefs_url)


def files(repository: Repository) -> set[str]:
    """What a task sees of the branch."""
    return set(repository.tree())


def told_by(commit: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    """Entries of a publication's metadata."""
    return tuple(str(commit["metadata"][f"perago.{name}"]) for name in names)
