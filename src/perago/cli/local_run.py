"""One attempt on in-memory services, in a worker process or in this one: what `run`, `replay` and `backtest` share."""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from perago.cli import messages
from perago.cli.configuration import environment_of, limits_of, logs_of
from perago.cli.errors import CommandError, ExitCode
from perago.cli.signals import end_if_told

if TYPE_CHECKING:
    from perago.cli.probe import TaskSummary
    from perago.driver import Limits
    from perago.local import LocalServices
    from perago.local.served import ServedServices
    from perago.settings import Settings
    from perago.testing.services import InMemoryServices
    from perago.worker import WorkerPlan
    from perago.worker.events import Listener


_GRACE = 2.0
"""Seconds between TERM and KILL when a person at a terminal has had enough."""


def runs_here(files: Sequence[str], params: str | None, *, pdb: bool) -> bool:
    """Whether the function runs in this process, with the terminal.

    Args:
        files: the module's source files, which may have a breakpoint.
        params: as `--params` takes them.
        pdb: a debugger was asked for.

    Raises:
        typer.BadParameter: it should, and standard input had the params.
    """
    place = _breakpoint_in(files)
    if not pdb and place is None:
        return False
    if params == "-":
        raise typer.BadParameter("the debugger needs standard input; use @FILE.", param_hint="'--params'")
    if not pdb:
        messages.note(f"the task runs in this process, because of the breakpoint at {place}")
    return True


def _breakpoint_in(files: Iterable[str]) -> str | None:
    """Where one of these source files calls `breakpoint()` or `set_trace()`, as `file:line`; None for nowhere."""
    for file in files:
        with contextlib.suppress(OSError, SyntaxError, ValueError):
            for node in ast.walk(ast.parse(Path(file).read_bytes())):
                if isinstance(node, ast.Call) and _last_name(node.func) in ("breakpoint", "set_trace"):
                    return f"{file}:{node.lineno}"
    return None


def _last_name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def services_of(
    settings: Settings, listener: Listener, *, here: bool, post_mortem: bool
) -> LocalServices | InMemoryServices:
    """Where one attempt runs.

    Args:
        settings: give limits and roots.
        listener: hears what a function says that runs here.
        here: the function runs in this process.
        post_mortem: a debugger opens where it raises.
    """
    from perago.local import LocalServices

    if not here:
        return LocalServices()
    from perago.cli.debugger import services_for

    return services_for(_limits(settings), settings.workspace_root, listener, post_mortem=post_mortem)


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
        CommandError: the worker could not be started.
    """
    from perago.local import LocalServices, LocalTask, RunFailed, run_workflow, workflow_of, workspace_at

    if not isinstance(services, LocalServices):
        from perago.cli.debugger import run_here

        return run_here(services, module, params, ref, listener)
    plan = plan_for(module, task, settings, services, 1)
    only = LocalTask(plan, json.loads(task.definition))
    payload: dict[str, Any] = {"params": params}
    if ref is not None:
        payload["workspace"] = workspace_at(ref)
    try:
        found = run_workflow(services, [only], workflow_of(only), payload, listener, end_if_told)
        row: Mapping[str, Any] = found["tasks"][0]
    except RunFailed as error:
        raise CommandError(ExitCode.FAILURE, f"{error}; see the messages above") from error
    return row


def plan_for(
    module: str, task: TaskSummary, settings: Settings, services: LocalServices | ServedServices, number: int
) -> WorkerPlan:
    """A worker with one slot on local services, watched.

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
    """What attempts are allowed on services that were made for this run, while their author looks on."""
    return replace(limits_of(settings), allowed_workspaces=None, fail_on_left_files=True)
