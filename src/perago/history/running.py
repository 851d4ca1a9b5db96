"""Run one attempt on local services: in a worker process, or in this process under a debugger."""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perago.configuration import environment_of, limits_of, logs_of
from perago.failure import Failure
from perago.signals import end_if_told
from perago.text import listing, quoted

if TYPE_CHECKING:
    from perago.driver import Limits
    from perago.embedded.lakefs import InMemoryLakeFS
    from perago.local import LocalServices
    from perago.probe import TaskSummary
    from perago.settings import Settings
    from perago.testing.services import InMemoryServices
    from perago.worker import WorkerPlan
    from perago.worker.events import Listener


_GRACE = 2.0
"""Seconds between TERM and KILL when a person at a terminal has had enough."""


@dataclass(frozen=True, slots=True)
class Debugging:
    """Options for a function that runs in this process.

    `post_mortem` opens a debugger where it raises. `all_frames` shows the frames of perago in tracebacks, too.
    """

    post_mortem: bool
    all_frames: bool


def services_of(
    settings: Settings, listener: Listener, debugging: Debugging | None = None
) -> LocalServices | InMemoryServices:
    """Make the services that one attempt runs on.

    Args:
        settings: give limits and roots.
        listener: hears what a function says that runs in this process.
        debugging: how the function runs in this process; None: it runs in a worker process.
    """
    if debugging is None:
        from perago.local import LocalServices

        return LocalServices()
    from perago.history.debugger import services_for

    return services_for(_limits(settings), settings.workspace_root, listener, debugging)


def run_attempt(
    services: LocalServices | InMemoryServices,
    module: str,
    task: TaskSummary,
    settings: Settings,
    params: Mapping[str, Any],
    ref: str | None,
    listener: Listener,
) -> Mapping[str, Any]:
    """Run one attempt, as a worker does or in this process.

    Args:
        services: what `services_of` made, with the workspace committed.
        module: the import path of the task module.
        task: its task.
        settings: give roots, logs and limits.
        params: the task's parameters.
        ref: the commit of the workspace; None for a task without one.
        listener: hears the events of the attempt.

    Returns:
        Conductor's row of the attempt.

    Raises:
        Failure: the worker could not be started.
    """
    from perago.local import LocalServices, LocalTask, RunFailed, run_workflow, workflow_of, workspace_at

    if not isinstance(services, LocalServices):
        from perago.history.debugger import run_here

        return run_here(services, module, params, ref, listener)
    only = LocalTask(plan_for(module, task, settings, services), json.loads(task.definition))
    payload: dict[str, Any] = {"params": params}
    if ref is not None:
        payload["workspace"] = workspace_at(ref)
    try:
        row: Mapping[str, Any] = run_workflow(services, [only], workflow_of(only), payload, listener, end_if_told)[
            "tasks"
        ][0]
    except RunFailed as error:
        raise Failure(f"{error}; see the messages above") from error
    return row


def plan_for(
    module: str, task: TaskSummary, settings: Settings, services: LocalServices, number: int = 1
) -> WorkerPlan:
    """Plan a worker with one slot on local services, watched.

    Args:
        module: The import path of the task module.
        task: Its task.
        settings: Gives roots, logs and limits; the servers in it are not used.
        services: Where the worker finds lakeFS.
        number: Tells workers of one run apart; from 1.
    """
    from perago.settings import configured_mask
    from perago.worker import TaskPlan, WorkerPlan

    planned = TaskPlan(
        module=module, name=task.name, environment=environment_of(task), store_factory=services.store_factory
    )
    return WorkerPlan(
        name=module,
        tasks=(planned,),
        worker_prefix=f"local{number}",
        mask=configured_mask(),
        workspace_root=settings.workspace_root,
        logs=logs_of(settings),
        limits=_limits(settings),
        shutdown_grace=_GRACE,
        preload=services.preload,
        watch=True,
    )


def _limits(settings: Settings) -> Limits:
    """Return the limits on services that were made for this run, while the author watches."""
    return replace(limits_of(settings), allowed_workspaces=None, fail_on_left_files=True)


def breakpoint_in(files: Iterable[str]) -> str | None:
    """Return where one of these files calls `breakpoint()` or `set_trace()`, as `file:line`; None for nowhere."""
    for file in files:
        with contextlib.suppress(OSError, SyntaxError, ValueError):
            for node in ast.walk(ast.parse(Path(file).read_bytes())):
                if isinstance(node, ast.Call):
                    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                    if name in ("breakpoint", "set_trace"):
                        return f"{file}:{node.lineno}"
    return None


# ------------------------------------------------------------------------------- trees on this disk


def files_below(directory: Path, key_prefix: str) -> dict[str, str | bytes | Path | None]:
    """Return every file below `directory` by its key. Links are not followed: a workspace has none.

    The hooks in `_lakefs_actions/` are left out: they are never part of a workspace (docs/dev/contract.md 2).

    Raises:
        Failure: the directory is missing, or holds what no object store can.
        WorkspaceGone: it cannot be opened.
    """
    from perago.workspace.keys import is_reserved
    from perago.workspace.scan import scan_tree

    if not directory.is_dir():
        raise Failure(f"{directory} is not a directory; give one that holds the task's input files")
    tree = scan_tree(directory.resolve())
    wrong = [f"{quoted(entry.path)} ({entry.kind})" for entry in tree.irregular]
    wrong += [f"{quoted(entry.path)} ({entry.reason})" for entry in tree.unreadable]
    if wrong:
        raise Failure(
            f"{directory} cannot be a workspace: only readable files and directories can, but it holds "
            f"{listing(wrong)}; move them away or copy what they point at"
        )
    keys = {key_prefix + path: directory / path for path in tree.files}
    return {key: file for key, file in keys.items() if not is_reserved(key)}


def write_tree(lakefs: InMemoryLakeFS, ref: str, prefix: str, output: Path) -> None:
    """Write a published tree to a directory.

    Args:
        lakefs: Where the commit is.
        ref: The commit.
        prefix: What the keys begin with; the rest of a key is the path of its file.
        output: The directory; it is made where it is missing.

    Raises:
        Failure: the disk refused.
    """
    from perago.local import REPOSITORY

    try:
        lakefs.export(REPOSITORY, ref, output, prefix=prefix)
    except (OSError, ValueError) as error:
        raise Failure(f"cannot write the published tree to {output}: {error}") from error
