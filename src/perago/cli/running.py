"""What `perago run` does: one attempt of one task, from directories and back to directories."""

from __future__ import annotations

import ast
import base64
import contextlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from perago.cli.boundary import CommandError
from perago.cli.configuration import look_at_configuration
from perago.cli.exit_codes import ExitCode
from perago.cli.json_input import read_object
from perago.cli.loading import load_tasks_and_files
from perago.cli.planning import environment_of, limits_of, logs_of, withhold_credentials
from perago.cli.render import messages
from perago.cli.signals import end_if_told, sigterm_unwinds
from perago.workspace.text import json_text

if TYPE_CHECKING:
    from perago.cli.probe import TaskSummary
    from perago.cli.render.attempt import AttemptView
    from perago.driver import Limits
    from perago.embedded.lakefs import InMemoryLakeFS
    from perago.local import LocalServices
    from perago.local.served import ServedServices
    from perago.settings import Settings
    from perago.testing.services import InMemoryServices
    from perago.worker import WorkerPlan

_GRACE = 2.0
"""Seconds between TERM and KILL when somebody at a terminal has had enough."""


def run_once(
    module: str,
    params: str | None,
    workspace: Path | None,
    output: Path | None,
    *,
    example: str | None,
    as_json: bool,
    pdb: bool,
    import_limit: float,
) -> int:
    """Run the task once; returns the exit code. `example` gives params and workspace; they must be None then.

    Raises:
        CommandError: module, configuration or directories are not valid; nothing was run.
    """
    if example is not None and (params is not None or workspace is not None):
        raise typer.BadParameter("--example brings params and workspace; leave --params and --workspace out.")
    given = read_object(params or "{}")
    ((task, files),) = load_tasks_and_files([module], import_limit)
    shown = None if example is None else _declared(task, example)
    if shown is not None:
        given = dict(shown["params"])
    settings = valid_settings()
    _check_directories(task, workspace, output)

    from perago.cli.render.attempt import AttemptView

    view = AttemptView(sys.stderr)
    here = _runs_here(files, params, pdb=pdb)
    with sigterm_unwinds(), _services(settings, view, here=here, post_mortem=pdb) as services:
        ref = _seed(services.lakefs, task, workspace, None if shown is None else shown["tree"])
        outcome = view.outcome(_attempt(services, module, task, settings, given, ref, view))
        if output is not None:
            write_tree(services.lakefs, outcome.ref, prefix_of(task), output)
    _print_result(outcome.as_json() if as_json else outcome.result, wanted=as_json or outcome.completed)
    return ExitCode.OK if outcome.completed else ExitCode.FAILURE


def _runs_here(files: Sequence[str], params: str | None, *, pdb: bool) -> bool:
    """Whether the function runs in this process, with the terminal.

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


def _services(
    settings: Settings, view: AttemptView, *, here: bool, post_mortem: bool
) -> LocalServices | InMemoryServices:
    from perago.local import LocalServices

    if not here:
        return LocalServices()
    from perago.cli.debugger import services_for

    return services_for(_limits(settings), settings.workspace_root, view, post_mortem=post_mortem)


def _attempt(
    services: LocalServices | InMemoryServices,
    module: str,
    task: TaskSummary,
    settings: Settings,
    params: dict[str, Any],
    ref: str | None,
    view: AttemptView,
) -> Mapping[str, Any]:
    """Run it, as a worker does or in this process; returns Conductor's row of the attempt."""
    from perago.local import LocalServices, LocalStep, RunFailed, run_workflow

    if not isinstance(services, LocalServices):
        from perago.cli.debugger import run_here

        return run_here(services, module, params, ref, view)
    plan = plan_for(module, task, settings, services, 1)
    step = LocalStep(plan, json.loads(task.definition), params, task.workspace is not None)
    try:
        with view:
            row: Mapping[str, Any] = run_workflow(services, [step], ref, view, end_if_told)["tasks"][0]
    except RunFailed as error:
        raise CommandError(ExitCode.FAILURE, f"{error}; see the messages above") from error
    return row


def valid_settings() -> Settings:
    """The configuration, with its roots made, and its credentials out of the environment of what is started from now
    on.

    Raises:
        CommandError: it is not valid, and everything that is wrong has been said.
    """
    from perago.settings import prepare_roots

    configuration = look_at_configuration()
    for text in configuration.warnings:
        messages.warning(text)
    if configuration.settings is None or configuration.problems:
        messages.configuration_errors(configuration.problems)
        raise CommandError(ExitCode.INVALID_CONFIGURATION)
    prepare_roots(configuration.settings)
    withhold_credentials()
    return configuration.settings


def plan_for(
    module: str, task: TaskSummary, settings: Settings, services: LocalServices | ServedServices, number: int
) -> WorkerPlan:
    """A worker with one slot on these services, watched. `number` tells workers of one module apart."""
    from perago.settings import configured_mask
    from perago.worker import WorkerPlan

    return WorkerPlan(
        module=module,
        worker_prefix=f"local{number}",
        environment=environment_of(task),
        mask=configured_mask(),
        workspace_root=settings.workspace_root,
        logs=logs_of(settings),
        store_factory=services.store_factory,
        limits=_limits(settings),
        shutdown_grace=_GRACE,
        preload=services.preload,
        watch=True,
    )


def _limits(settings: Settings) -> Limits:
    # the workspace that there is was made for this run, and the author looks on
    return replace(limits_of(settings), allowed_workspaces=None, fail_on_left_files=True)


def prefix_of(task: TaskSummary) -> str:
    """What every key of the task's workspace begins with."""
    prefix = (task.workspace or "").strip("/")
    return f"{prefix}/" if prefix else ""


def _check_directories(task: TaskSummary, workspace: Path | None, output: Path | None) -> None:
    if task.workspace is None:
        for option, value in (("--workspace", workspace), ("--output", output)):
            if value is not None:
                raise typer.BadParameter(f"task {task.name} has no workspace; leave {option} out.")
    if workspace is not None and not workspace.is_dir():
        raise typer.BadParameter(f"--workspace {workspace} is not a directory.")
    check_output(output)


def check_output(output: Path | None) -> None:
    """Refuse a directory that has something in it.

    Raises:
        typer.BadParameter: nothing may be overwritten.
    """
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise typer.BadParameter(f"--output {output} exists and is not an empty directory; nothing was run.")


def _declared(task: TaskSummary, example: str) -> Mapping[str, Any]:
    """One of the task's examples, by its id."""
    for one in task.declared:
        if one["id"] == example:
            return one
    known = ", ".join(one["id"] for one in task.declared) or "none"
    raise typer.BadParameter(f"task {task.name} declares no example {example!r}; there are: {known}.")


def _seed(
    lakefs: InMemoryLakeFS, task: TaskSummary, workspace: Path | None, tree: str | Mapping[str, Any] | None
) -> str | None:
    from perago.cli.trees import TreeRefused, files_below
    from perago.local.services import BRANCH, REPOSITORY
    from perago.workspace.errors import WorkspaceError

    if task.workspace is None:
        return None
    if isinstance(tree, Mapping):
        prefix = prefix_of(task)
        files = {prefix + path: _content(value) for path, value in tree.items()}
        return lakefs.seed(REPOSITORY, BRANCH, files, message="the example's files").id
    if tree is not None:
        workspace = Path(tree)
    if workspace is None:
        messages.note("no --workspace was given: the task gets an empty one")
        return lakefs.seed(REPOSITORY, BRANCH, {}, message="an empty workspace").id
    try:
        return lakefs.seed(
            REPOSITORY, BRANCH, files_below(workspace, prefix_of(task)), message=f"the files of {workspace}"
        ).id
    except (TreeRefused, WorkspaceError, OSError) as error:
        raise CommandError(ExitCode.FAILURE, str(error)) from error


def _content(value: Any) -> str | bytes | None:
    return base64.b64decode(value["base64"]) if isinstance(value, Mapping) else value


def write_tree(lakefs: InMemoryLakeFS, ref: str | None, prefix: str, output: Path) -> None:
    """Write the objects of commit `ref` below `prefix` to a directory.

    Raises:
        CommandError: the disk refused.
    """
    from perago.local.services import REPOSITORY

    if ref is None:
        messages.note(f"nothing was published, so {output} was not written")
        return
    try:
        lakefs.export(REPOSITORY, ref, output, prefix=prefix)
    except (OSError, ValueError) as error:
        raise CommandError(ExitCode.FAILURE, f"cannot write the published tree to {output}: {error}") from error
    messages.note(f"wrote the published tree to {output}")


def _print_result(value: Any, *, wanted: bool) -> None:
    if wanted:
        sys.stdout.write(json_text(value, indent=2) + "\n")
