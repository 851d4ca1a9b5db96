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
from perago.cli.configuration import valid_settings
from perago.cli.errors import CommandError, ExitCode
from perago.cli.files import check_output, prefix_of, write_tree
from perago.cli.loading import load_task_to_run
from perago.cli.local_run import run_attempt, runs_here, services_of
from perago.cli.parameters import IMPORT_LIMIT, Module, Pdb, Timeout, read_object
from perago.cli.signals import sigterm_unwinds
from perago.workspace.text import json_text

if TYPE_CHECKING:
    from perago.cli.probe import TaskSummary
    from perago.embedded.lakefs import InMemoryLakeFS
    from perago.settings import Settings

EXAMPLES = """\b
Examples:
  perago run my_tasks.features --example minimal
  perago run my_tasks.features --params '{"min_rows": 1}' --workspace ./sample
  perago run my_tasks.features --params @params.json --workspace ./sample --output ./result
  perago run my_tasks.summary --params '{"day": "2026-01-31"}' | jq .total
  perago run my_tasks.features --workspace ./sample --pdb
  perago run my_tasks.features --from 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21 --pdb

The result is printed to standard output, everything else to standard error.
Status 0 means that the task completed."""


def command(
    module: Module,
    params: Annotated[
        str | None,
        typer.Option(
            "--params",
            "-p",
            metavar="JSON|@FILE|-",
            show_default=False,
            help="The task's parameters, a JSON object. Default: {}",
        ),
    ] = None,
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace", "-w", metavar="DIR", show_default=False, help="The task's input files; DIR is only read."
        ),
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(
            "--example",
            "-e",
            metavar="ID",
            show_default=False,
            help="Take params and input files from the task's Example of this id.",
        ),
    ] = None,
    from_task: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TASK_ID",
            show_default=False,
            help="Take params and input files from an attempt on the configured servers, which are only read.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            show_default=False,
            help="Write the published tree to DIR, which must be new or empty.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole outcome as JSON (docs/cli.md).")] = False,
    pdb: Pdb = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Run one attempt of a task on in-memory services: no server is needed.

    The attempt is the real one: the input is validated, the files are committed to an in-memory lakeFS and downloaded
    into a private directory, guardrails are checked, the function runs in a worker process, and what it changed is
    published and verified. Nothing is written outside perago's own directories and --output.

    With --pdb, or where the module has a breakpoint(), the function runs in this process instead, so that the debugger
    has the terminal.
    """
    status = run_once(
        module,
        params,
        workspace,
        output,
        example=example,
        from_task=from_task,
        as_json=as_json,
        pdb=pdb,
        import_limit=timeout,
    )
    raise typer.Exit(status)


def run_once(
    module: str,
    params: str | None,
    workspace: Path | None,
    output: Path | None,
    *,
    example: str | None,
    from_task: str | None = None,
    as_json: bool,
    pdb: bool,
    import_limit: float,
) -> int:
    """Run the task once.

    Args:
        module: The import path of the task module.
        params: The task's parameters as `--params` takes them; None for none.
        workspace: The directory of the input files; None for an empty workspace.
        output: A new or empty directory for the published tree; None writes nothing.
        example: The id of an `Example` that gives parameters and workspace; these must be None then.
        from_task: The id of an attempt in Conductor that does the same.
        as_json: Print the whole outcome instead of the result.
        pdb: Run the function in this terminal, and open a debugger where it raises.
        import_limit: Seconds that importing the module may take.

    Returns:
        The exit code.

    Raises:
        CommandError: module, configuration or directories are not valid; nothing was run.
    """
    for option, value in (("--example", example), ("--from", from_task)):
        if value is not None and (params is not None or workspace is not None):
            raise typer.BadParameter(f"{option} brings params and workspace; leave --params and --workspace out.")
    if example is not None and from_task is not None:
        raise typer.BadParameter("--example and --from both bring params and workspace; give one of them.")
    given = read_object(params or "{}")
    task, files = load_task_to_run(module, import_limit)
    shown = None if example is None else _declared(task, example)
    if shown is not None:
        given = dict(shown["params"])
    settings = valid_settings()
    _check_directories(task, workspace, output)

    from perago.cli.attempt_view import AttemptView

    view = AttemptView(sys.stderr)
    here = runs_here(files, params, pdb=pdb)
    with sigterm_unwinds(), contextlib.ExitStack() as past:
        if from_task is not None:
            given, workspace = past.enter_context(_past_input(settings, from_task, module, task, files))
        with services_of(settings, view, here=here, post_mortem=pdb) as services:
            ref = _seed(services.lakefs, task, workspace, None if shown is None else shown["tree"])
            with contextlib.nullcontext() if here else view:
                row = run_attempt(services, module, task, settings, given, ref, view)
            outcome = view.outcome(row)
            if output is not None:
                write_tree(services.lakefs, outcome.ref, prefix_of(task), output)
    _print_result(outcome.as_json() if as_json else outcome.result, wanted=as_json or outcome.completed)
    return ExitCode.OK if outcome.completed else ExitCode.FAILURE


@contextlib.contextmanager
def _past_input(
    settings: Settings, task_id: str, module: str, task: TaskSummary, files: tuple[str, ...]
) -> Iterator[tuple[dict[str, Any], Path | None]]:
    """Params and input files of an attempt of the past, until the end of the block."""
    from perago.cli.past_attempts import Servers, look_up_in_lakefs, matched, refusals_are_told, scratch_directory
    from perago.cli.replays import fetched
    from perago.replay.attempts import find_attempt

    with refusals_are_told(), Servers(settings) as servers, scratch_directory(settings) as scratch:
        found = matched(find_attempt(servers.conductor, task_id), module, task, files)
        past = look_up_in_lakefs(servers, found)
        params = fetched(found, past, servers.store_for(task), scratch, settings).params
        yield dict(params), None if task.workspace is None else scratch


def _check_directories(task: TaskSummary, workspace: Path | None, output: Path | None) -> None:
    if task.workspace is None:
        for option, value in (("--workspace", workspace), ("--output", output)):
            if value is not None:
                raise typer.BadParameter(f"task {task.name} has no workspace; leave {option} out.")
    if workspace is not None and not workspace.is_dir():
        raise typer.BadParameter(f"--workspace {workspace} is not a directory.")
    check_output(output)


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
    from perago.cli.files import TreeRefused, files_below
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


def _print_result(value: Any, *, wanted: bool) -> None:
    if wanted:
        sys.stdout.write(json_text(value, indent=2) + "\n")
