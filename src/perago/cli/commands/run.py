"""`perago run`."""

from __future__ import annotations

import base64
import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli import messages
from perago.cli.attempt_view import debugging_of, note_tree
from perago.cli.loading import load_task_to_run, valid_settings
from perago.cli.messages import ExitCode
from perago.cli.parameters import IMPORT_LIMIT, Module, Pdb, Timeout, check_output, option, output_option, read_object
from perago.failure import Failure
from perago.processes import sigterm_unwinds
from perago.text import json_text

if TYPE_CHECKING:
    from perago.embedded.lakefs import InMemoryLakeFS
    from perago.probe import TaskSummary
    from perago.settings import Settings

EXAMPLES = """\b
Examples:
  perago run my_tasks.features --example minimal
  perago run my_tasks.features --params '{"min_rows": 1}' --workspace ./sample
  perago run my_tasks.features --params @params.json --workspace ./sample --output ./result
  perago run my_tasks.summary --params '{"day": "2026-01-31"}' | jq .total
  perago run my_tasks.features --workspace ./sample --pdb
  perago run my_tasks.features --from 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21 --pdb

The result goes to standard output, everything else to standard error.
Status 0 means that the task completed."""


def command(
    module: Module,
    params: Annotated[
        str | None, option("--params -p JSON|@FILE|-", "The task's parameters, a JSON object. Default: {}")
    ] = None,
    workspace: Annotated[Path | None, option("--workspace -w DIR", "The task's input files; DIR is only read.")] = None,
    example: Annotated[
        str | None, option("--example -e ID", "Take params and input files from the task's Example of this id.")
    ] = None,
    from_task: Annotated[
        str | None,
        option(
            "--from TASK_ID",
            "Take params and input files from an attempt on the configured servers. perago only reads them.",
        ),
    ] = None,
    output: Annotated[Path | None, output_option("the published tree")] = None,
    as_json: Annotated[bool, option("--json", "Print the full outcome as JSON (perago help cli).")] = False,
    pdb: Pdb = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Run one attempt of a task on in-memory services, without any server.

    The attempt is a real one. perago validates the input, commits the files to an in-memory lakeFS and downloads them
    to a private directory. It checks the guardrails, runs the function in a worker process, and publishes and verifies
    the changes. It writes only to its own directories and to --output.

    With --pdb, or if the module has a breakpoint(), the function runs in this process instead, so that the debugger
    has the terminal.
    """
    for source, value in (("--example", example), ("--from", from_task)):
        if value is not None and (params is not None or workspace is not None):
            raise typer.BadParameter(f"{source} brings params and workspace; omit --params and --workspace.")
    if example is not None and from_task is not None:
        raise typer.BadParameter("--example and --from both bring params and workspace; give one of them.")
    task_params = read_object(params or "{}")
    task, files = load_task_to_run(module, timeout)
    shown = None if example is None else _declared(task, example)
    if shown is not None:
        task_params = dict(shown["params"])
    settings = valid_settings(local=from_task is None)
    _check_directories(task, workspace, output)

    from perago.cli.attempt_view import AttemptView
    from perago.history.running import run_attempt, services_of, write_tree

    view = AttemptView(sys.stderr)
    debugging = debugging_of(files, params, pdb=pdb)
    with sigterm_unwinds(), contextlib.ExitStack() as past:
        if from_task is not None:
            task_params, workspace = past.enter_context(_past_input(settings, from_task, module, task))
        with services_of(settings, view, debugging) as services:
            ref = _seed(services.lakefs, task, workspace, None if shown is None else shown["tree"])
            with contextlib.nullcontext() if debugging else view:
                row = run_attempt(services, module, task, settings, task_params, ref, view)
            outcome = view.outcome(row)
            if output is not None and outcome.ref is not None:
                write_tree(services.lakefs, outcome.ref, task.key_prefix, output)
    note_tree(output, outcome.ref)
    if as_json or outcome.completed:
        sys.stdout.write(json_text(outcome.as_json() if as_json else outcome.result, indent=2) + "\n")
    raise typer.Exit(ExitCode.OK if outcome.completed else ExitCode.FAILURE)


@contextlib.contextmanager
def _past_input(
    settings: Settings, task_id: str, module: str, task: TaskSummary
) -> Iterator[tuple[dict[str, Any], Path | None]]:
    """Provide params and input files of a past attempt during the block."""
    from perago.cli.past_attempt import look_up
    from perago.configuration import Servers
    from perago.history.attempts import find_attempt
    from perago.history.replay import scratch_directory

    with Servers(settings, cached=True) as servers, scratch_directory(settings) as scratch:
        replayable, past = look_up(servers, find_attempt(servers.workflows, task_id), module, task)
        params = replayable.input(past, servers, scratch, settings).params
        yield dict(params), None if task.workspace is None else scratch


def _check_directories(task: TaskSummary, workspace: Path | None, output: Path | None) -> None:
    if task.workspace is None:
        for name, value in (("--workspace", workspace), ("--output", output)):
            if value is not None:
                raise typer.BadParameter(f"task {task.name} has no workspace; omit {name}.")
    if workspace is not None and not workspace.is_dir():
        raise typer.BadParameter(f"--workspace {workspace} is not a directory.")
    check_output(output)


def _declared(task: TaskSummary, example: str) -> Mapping[str, Any]:
    """Return the example of the task with this id."""
    for declaration in task.declared:
        if declaration["id"] == example:
            return declaration
    known = ", ".join(declaration["id"] for declaration in task.declared) or "none"
    raise typer.BadParameter(f"task {task.name} declares no example {example!r}; it declares {known}.")


def _seed(
    lakefs: InMemoryLakeFS, task: TaskSummary, workspace: Path | None, tree: str | Mapping[str, Any] | None
) -> str | None:
    from perago.history.running import files_below
    from perago.local import BRANCH, REPOSITORY
    from perago.workspace.scan import WorkspaceError

    if task.workspace is None:
        return None
    if isinstance(tree, Mapping):
        files = {
            task.key_prefix + path: base64.b64decode(content["base64"]) if isinstance(content, Mapping) else content
            for path, content in tree.items()
        }
        return lakefs.seed(REPOSITORY, BRANCH, files, message="the example's files").id
    if tree is not None:
        workspace = Path(tree)
    if workspace is None:
        messages.note("without --workspace, the task gets an empty workspace")
        return lakefs.seed(REPOSITORY, BRANCH, {}, message="an empty workspace").id
    try:
        files = files_below(workspace, task.key_prefix)
        return lakefs.seed(REPOSITORY, BRANCH, files, message=f"the files of {workspace}").id
    except (WorkspaceError, OSError) as error:
        raise Failure(str(error)) from error
