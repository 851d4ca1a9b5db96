"""Embedded services for workers on versioned workspaces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perago.driver import SystemClock
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.faults import FaultScript
from perago.embedded.lakefs import InMemoryLakeFS
from perago.embedded.remote import StoreServer
from perago.worker.plan import WorkerPlan

from ..definitions import flow, simple
from .bench import make_plan, planned, wait_for

WRITES = f"{__package__}.tasks.writes"


@dataclass
class Site:
    """Both services in memory, with plans and workflows for any number of workers."""

    lakefs: InMemoryLakeFS
    conductor: InMemoryConductor
    server: StoreServer
    directory: Path

    def plan(self, prefix: str, root: Path | None = None, **more: Any) -> WorkerPlan:
        place = self.directory / prefix
        task = planned(WRITES, store_factory=self.server.factory)
        return make_plan(place, task, worker_prefix=prefix, workspace_root=root or place / "workspaces", **more)

    def start(self, number: int = 1, what: str = "writes", repository: str = "data") -> list[str]:
        """Start workflows of one step, each on a branch of its own; returns their ids."""
        return [self._start(what, repository) for _ in range(number)]

    def _start(self, what: str, repository: str) -> str:
        branch = f"b{len(self.lakefs.list_branches(repository, 'b'))}"
        self.lakefs.create_branch(repository, branch, "main")
        return self.start_on(repository, branch, self.lakefs.get_commit(repository, branch).id, what)

    def start_on(self, repository: str, branch: str, ref: str, what: str = "writes") -> str:
        """Start a workflow on a branch that need not exist."""
        workspace = {"repository": repository, "branch": branch, "ref_type": "commit", "ref": ref}
        params = {"what": what, "marker": str(self.directory / "marker")}
        return self.conductor.start_workflow("w", {"workspace": workspace, "params": params})

    def start_on_head(self, what: str = "writes", branch: str = "main") -> str:
        """Start a workflow on the head of a branch of `data`."""
        return self.start_on("data", branch, self.lakefs.get_commit("data", branch).id, what)

    def finish_one(self, workflow_id: str) -> dict[str, Any]:
        """The workflow once it is over."""
        return self.finish([workflow_id])[0]

    def tree(self) -> dict[str, bytes]:
        """What is on `main`, without hooks."""
        tree = self.lakefs.tree("data", "main")
        return {key: content for key, content in tree.items() if not key.startswith("_lakefs_actions/")}

    def finish(self, workflow_ids: list[str]) -> list[dict[str, Any]]:
        """The workflows once all are over."""

        def over() -> list[dict[str, Any]] | None:
            for workflow_id in workflow_ids:
                self.conductor.decide(workflow_id)
            workflows = [self.conductor.workflow(workflow_id) for workflow_id in workflow_ids]
            return None if any(workflow["status"] == "RUNNING" for workflow in workflows) else workflows

        return wait_for("the workflows' end", over)

    def runs(self) -> int:
        """How often the function was called."""
        marker = self.directory / "marker"
        return marker.read_text().count("run") if marker.exists() else 0


@contextlib.contextmanager
def opened(
    directory: Path,
    retries: int = 1,
    task: str = "worker.writes",
    faults: FaultScript | None = None,
    conductor_faults: FaultScript | None = None,
) -> Iterator[Site]:
    """A site whose repository `data` has one file. `faults` are those of lakeFS."""
    conductor = InMemoryConductor(SystemClock(), conductor_faults)
    conductor.register_task_definitions(
        [{"name": task, "retryCount": retries, "retryDelaySeconds": 0, "responseTimeoutSeconds": 600}]
    )
    step = simple(task, workspace="${workflow.input.workspace}", params="${workflow.input.params}")
    conductor.create_workflow_definition(flow(step))
    with InMemoryLakeFS(SystemClock(), faults) as lakefs, StoreServer(lakefs) as server:
        lakefs.seed("data", "main", {"raw/a.csv": "x\n1\n"})
        yield Site(lakefs, conductor, server, directory)
