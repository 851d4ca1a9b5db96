"""The task of the driver's world, and the tree that it must produce."""

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
from perago.workspace.directory import directory_name


class Params(BaseModel):
    quiet: Literal["never", "always"] = "never"
    """When nothing is changed."""
    began: int
    """When the workflow began, in milliseconds. Recorded digests of the params have it."""
    part: Literal["raw", "side"] = "raw"
    """The directory that is changed."""


class Nothing(BaseModel):
    pass


CONTROLS = TaskControls(retry=RetryPolicy(count=5, delay_seconds=1))


def _edit(workspace: Path, params: Params) -> Nothing:
    """Add, change and remove a file. The added file has the name of the delivery's directory, so two publications do
    not conflict, and no tree passes for that of another delivery."""
    part = workspace / params.part
    if params.quiet == "never":
        (part / "a.csv").write_text("changed")
        (part / "b.csv").unlink()
        (workspace / _added(params.part, workspace.parent.name)).write_text("added")
    return Nothing()


@task(name="matrix.edit", owner_email="data@example.com", workspace=WorkspaceSpec(), controls=CONTROLS)
def edit(workspace: Path, params: Params) -> Nothing:
    """The step of a workflow that has its branch for itself."""
    return _edit(workspace, params)


@task(
    name="matrix.share",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(on_moved_head="rebase"),
    controls=CONTROLS,
)
def share(workspace: Path, params: Params) -> Nothing:
    """A step that publishes beside others."""
    return _edit(workspace, params)


def _added(part: str, directory: str) -> str:
    return directory if part == "raw" else f"{part}/{directory}"


def expected_tree(delivery: Delivery, start: Mapping[str, bytes]) -> dict[str, bytes]:
    """`start` and exactly the changes of the delivery's function."""
    name = directory_name(delivery)
    params = Params.model_validate(delivery.input["params"])
    if params.quiet == "always":
        return dict(start)
    kept = {key: content for key, content in start.items() if key != f"{params.part}/b.csv"}
    added = {f"{params.part}/a.csv": b"changed", _added(params.part, name): b"added"}
    return {**kept, **added}


TASK = cast("Task", get_task(edit))
SHARING = cast("Task", get_task(share))
DEFINITION = build_task_definition(TASK)
STEP = {"name": TASK.name, "taskReferenceName": "step", "type": "SIMPLE"}
STEP_INPUT = {"workspace": "${workflow.input.workspace}", "params": "${workflow.input.params}"}
WORKFLOW = {"name": "matrix", "version": 1, "schemaVersion": 2, "tasks": [{**STEP, "inputParameters": STEP_INPUT}]}
