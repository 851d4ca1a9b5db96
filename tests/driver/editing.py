"""The task of the matrix: what it does, and the tree that must come of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

from pydantic import BaseModel

from perago import RetryPolicy, TaskControls, WorkspaceSpec, task
from perago.authoring import Task
from perago.authoring.task import get_task
from perago.ports import Delivery
from perago.taskdef import build_task_definition


class Params(BaseModel):
    quiet: Literal["never", "later", "always", "alike"] = "never"
    """When nothing is changed. `later`: by every delivery but those that began with the workflow. `alike`: never, but
    every delivery makes the same change, which brings no new byte."""
    began: int
    """When the workflow began, in milliseconds."""


class Nothing(BaseModel):
    pass


@task(
    name="matrix.edit",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(),
    controls=TaskControls(retry=RetryPolicy(count=5, delay_seconds=1)),
)
def edit(workspace: Path, params: Params) -> Nothing:
    """Adds, changes and removes a file. What it adds is named after the delivery, as its directory is: two publications
    do not conflict, and no tree passes for that of another delivery."""
    if params.quiet == "alike":
        (workspace / "raw" / "b.csv").unlink()
    elif not _is_quiet(params.quiet, params.began, workspace.parent.name):
        (workspace / "raw" / "a.csv").write_text("changed")
        (workspace / "raw" / "b.csv").unlink()
        (workspace / workspace.parent.name).write_text("added")
    return Nothing()


def _is_quiet(quiet: str, began: int, directory: str) -> bool:
    return quiet == "always" or (quiet == "later" and not directory.endswith(f"poll=1,start={began}"))


def expected_tree(delivery: Delivery, start: Mapping[str, bytes]) -> dict[str, bytes]:
    """The input and exactly the changes of `edit`."""
    name = f"retry={delivery.retry_count},poll={delivery.poll_count},start={delivery.start_time}"
    if _is_quiet(**delivery.input["params"], directory=name):
        return dict(sorted(start.items()))
    kept = {key: content for key, content in start.items() if key != "raw/b.csv"}
    if delivery.input["params"]["quiet"] == "alike":
        return dict(sorted(kept.items()))
    return dict(sorted({**kept, "raw/a.csv": b"changed", name: b"added"}.items()))


TASK = cast("Task", get_task(edit))
DEFINITION = build_task_definition(TASK)
STEP = {"name": TASK.name, "taskReferenceName": "step", "type": "SIMPLE"}
STEP_INPUT = {"workspace": "${workflow.input.workspace}", "params": "${workflow.input.params}"}
WORKFLOW = {"name": "matrix", "version": 1, "schemaVersion": 2, "tasks": [{**STEP, "inputParameters": STEP_INPUT}]}
