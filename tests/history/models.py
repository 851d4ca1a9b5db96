"""A task whose attempts are run again, and a Conductor that is asked for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from perago import WorkspaceSpec, require_glob, task
from perago.embedded.conductor import InMemoryConductor
from perago.history.attempts import PastAttempt, find_attempt
from perago.testing import Outcome, TaskRunner


class Params(BaseModel, extra="forbid"):
    scale: int = 2
    api_key: SecretStr | None = None


class Result(BaseModel):
    rows: int


@task(
    name="replay.scale",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(prefix="/audio", pre=[require_glob("raw/*.csv")]),
)
def scale(workspace: Path, params: Params) -> Result:
    rows = 0
    (workspace / "out").mkdir(exist_ok=True)
    for table in sorted(workspace.glob("raw/*.csv")):
        values = [int(line) for line in table.read_text().splitlines()[1:]]
        rows += len(values)
        text = "".join(f"{value},{value * params.scale}\n" for value in values)
        (workspace / "out" / table.name).write_text(f"x,scaled\n{text}")
    (workspace / "old.txt").unlink(missing_ok=True)
    return Result(rows=rows)


TREE = {"raw/a.csv": "x\n1\n2\n", "old.txt": "old\n"}


class EmbeddedRecords:
    """The embedded Conductor, asked as a real one is."""

    def __init__(self, conductor: InMemoryConductor) -> None:
        self._conductor = conductor

    def task(self, task_id: str) -> Mapping[str, Any]:
        return self._conductor.get_task(task_id)

    def workflow(self, workflow_id: str) -> Mapping[str, Any]:
        return self._conductor.workflow(workflow_id)

    def search_tasks(self, query: str, *, start: int, size: int) -> Sequence[Mapping[str, Any]]:
        page = self._conductor.search_tasks(query, start=start, size=size, sort="updateTime:DESC")
        results: list[Mapping[str, Any]] = page["results"]
        return results


def past(run: TaskRunner, outcome: Outcome) -> PastAttempt:
    """The attempt as Conductor has it now."""
    return find_attempt(EmbeddedRecords(run._services.conductor), outcome.delivery.task_id)


class Nothing(BaseModel):
    pass


@task(name="replay.same", owner_email="data@example.com", workspace=WorkspaceSpec(on_moved_head="rebase"))
def same_for_all(workspace: Path, params: Nothing) -> Nothing:
    (workspace / "same.txt").write_text("the same bytes")
    return Nothing()
