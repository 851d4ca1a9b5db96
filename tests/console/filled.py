"""Models that hold something of everything that the page shows, made by real attempts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from perago import RetryPolicy, TaskControls, TaskFailed, TaskTerminalError, WorkspaceSpec, current, require_glob, task
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.lakefs import objects, references
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of

from ..definitions import flow


class Params(BaseModel):
    do: str = "publish"
    label: str


class Result(BaseModel):
    rows: int


@task(
    name="table.summarise",
    description="Count the rows of every table.",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(pre=[require_glob("raw/*.csv")]),
    controls=TaskControls(retry=RetryPolicy(count=2, delay_seconds=5)),
)
def summarise(workspace: Path, params: Params) -> Result:
    if params.do == "fail once" and current().retry_count == 0:
        raise TaskFailed("raw/orders.csv: row 17 has 3 columns, the header has 4")
    if params.do == "refuse":
        raise TaskTerminalError("raw/orders.csv has no column 'price'")
    rows = sum(len(table.read_text().splitlines()) - 1 for table in workspace.glob("raw/*.csv"))
    (workspace / "summary").mkdir(exist_ok=True)
    (workspace / "summary" / "rows.txt").write_text(f"{params.label}: {rows}\n")
    (workspace / "raw" / "orders.csv").write_text("id,price\n1,10\n")
    (workspace / "raw" / "scratch.csv").unlink(missing_ok=True)
    return Result(rows=rows)


@task(name="message.send", owner_email="data@example.com")
def send(params: Params) -> Result:
    return Result(rows=len(params.label))


# ------------------------------------------------------------------------------------------ the models


REPOSITORY = "workspace"
STAGING = "perago-0123456789abcdef-000000000000"
TREE: dict[str, str | bytes | None] = {
    "raw/orders.csv": "id,price\n1,10\n2,20\n",
    "raw/scratch.csv": "id\n",
    "raw/logo.bin": b"\x7fELF\r\n\x1a\n\0\0",
    "notes/empty.txt": "",
    "notes/long.txt": "0123456789abcde\n" * 5000,
}


@dataclass(frozen=True)
class Filled:
    """The models and the ids of what is in them."""

    services: InMemoryServices
    published: str
    """A workflow whose first attempt failed and whose retry published."""
    refused: str
    """A workflow that failed for good."""
    terminated: str
    """A workflow that was terminated; its late result was ignored."""
    waiting: str
    """A workflow whose attempt waits in the queue."""
    commit: str
    """What `published` published."""
    root: str
    """The commit that all attempts read."""

    def tasks(self, workflow_id: str) -> list[dict[str, Any]]:
        """The attempts of a workflow, as Conductor shows them."""
        tasks: list[dict[str, Any]] = self.services.conductor.workflow(workflow_id)["tasks"]
        return tasks


def define(conductor: InMemoryConductor, name: str, *steps: dict[str, Any]) -> None:
    """Register a workflow of these steps."""
    conductor.create_workflow_definition(flow(*steps, name=name))


def start(services: InMemoryServices, params: Mapping[str, Any], ref: str | None = None) -> str:
    """Start a workflow of `summarise` on a commit, or of `send` without one."""
    return services.start(task_of(summarise if ref else send), {"label": "orders", **params}, ref=ref)


def fill(services: InMemoryServices) -> Filled:
    """Fill empty models."""
    root = services.seed(TREE)
    refused = start(services, {"do": "refuse"}, root)
    services.attempt(summarise)
    published, commit = _published_by_a_retry(services, root)
    terminated = _terminated_too_early(services)
    waiting = start(services, {}, commit)
    start(services, {})
    services.attempt(send)
    references.create_tag(services.lakefs.server.repository(REPOSITORY), "v1", root)
    services.lakefs.create_branch(REPOSITORY, STAGING, commit)
    objects.put_object(services.lakefs.server.repository(REPOSITORY), STAGING, "summary/draft.txt", b"draft")
    return Filled(services, published, refused, terminated, waiting, commit, root)


def _published_by_a_retry(services: InMemoryServices, root: str) -> tuple[str, str]:
    workflow = start(services, {"do": "fail once"}, root)
    services.attempt(summarise)
    services.clock.advance(6)
    outcome = services.attempt(summarise)
    services.conductor.add_log(outcome.delivery.task_id, "2 rows\nwrote summary/rows.txt")
    assert outcome.commit is not None
    return workflow, outcome.commit


def _terminated_too_early(services: InMemoryServices) -> str:
    workflow = start(services, {"label": "late"})
    delivery = services.take(task_of(send))
    services.conductor.terminate_workflow(workflow, "stopped by hand")
    services.conductor.update_task(
        {"taskId": delivery.task_id, "workflowInstanceId": workflow, "status": "COMPLETED", "outputData": {}}
    )
    return workflow
