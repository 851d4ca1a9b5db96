"""The function of every task of the simulation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel

from perago.authoring import Task
from perago.driver import Raised, Returned

from .attempts import Attempt
from .editing import Params, Result, applied, difference, read, write

if TYPE_CHECKING:
    from .world import World


def run_function(
    world: World, attempt: Attempt, task: Task, workspace: Path | None, params: BaseModel
) -> Returned | Raised:
    """Change the workspace as the step of the plot says, and remember that as the attempt's plan."""
    if workspace is None or task.workspace is None:
        raise TypeError("the tasks of the simulation have workspaces")
    attempt.calls["function"] += 1
    step, prefix = world.steps[cast("Params", params).step], task.workspace.key_prefix
    files = read(workspace)
    tree = world.tree(attempt.ref)
    whole = {path[len(prefix) :]: text for path, text in tree.items() if path.startswith(prefix)}
    if files != whole:
        world.problems.append(f"#{attempt.index} got another workspace than its input: {files} for {whole}")
    try:
        world.happen(attempt, "function", "before", None)
    except RuntimeError as error:
        return Raised("failed", str(error))
    key = (world.root_workflow(attempt), attempt.delivery.reference_name)
    world.runs[key] += 1
    is_quiet = step.quiet == "first" if world.runs[key] == 1 else step.quiet == "again"
    changes = difference(files, applied(() if is_quiet else step.edits, files, attempt.stamp))
    if attempt.wipes and files:
        shutil.rmtree(workspace)
        workspace.mkdir()
        write(workspace, {path: text for path, text in changes.items() if text is not None})
    else:
        write(workspace, changes)
    attempt.plan = {prefix + path: text for path, text in changes.items()}
    world.tell(f"#{attempt.index} changes {attempt.plan}")
    return Returned(Result(stamp=attempt.stamp))
