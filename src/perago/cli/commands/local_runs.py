"""`perago run` and `perago demo`: run one attempt, or the sample workflow, without any server."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli import messages
from perago.cli.attempt_view import AttemptView, debugging_of, note_tree, show_line
from perago.cli.loading import load_task_to_run, load_tasks, valid_settings
from perago.cli.messages import ExitCode
from perago.cli.parameters import IMPORT_LIMIT, Module, Pdb, Timeout, check_output, option, output_option, read_object
from perago.failure import Failure
from perago.processes import raise_pending_signal, sigterm_unwinds
from perago.text import json_text

if TYPE_CHECKING:
    from perago.embedded.lakefs import InMemoryLakeFS
    from perago.probe import TaskSummary
    from perago.settings import Settings

EXAMPLES = {
    "run": """\b
Examples:
  perago run my_tasks.features --example minimal
  perago run my_tasks.features --params '{"min_rows": 1}' --workspace ./sample
  perago run my_tasks.features --params @params.json --workspace ./sample --output ./result
  perago run my_tasks.summary --params '{"day": "2026-01-31"}' | jq .total
  perago run my_tasks.features --workspace ./sample --pdb
  perago run my_tasks.features --from 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21 --pdb

The result goes to standard output, everything else to standard error.
Status 0 means that the task completed.""",
    "demo": """\b
Examples:
  perago demo
  perago demo --output ./penguins     keep the files that it made

The task modules are perago.samples.penguins.clean, .measure and .summary. Their
workflow is perago.samples.penguins.workflow. Read them as an example for your own.""",
}


def run(
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
    task, sources = load_task_to_run(module, timeout)
    shown = None if example is None else _declared(task, example)
    if shown is not None:
        task_params = dict(shown["params"])
    settings = valid_settings(local=from_task is None)
    _check_directories(task, workspace, output)

    from perago.history.running import run_locally, services_of, write_tree

    view = AttemptView(sys.stderr)
    debugging = debugging_of(sources, params, pdb=pdb)
    with sigterm_unwinds(), contextlib.ExitStack() as past:
        if from_task is not None:
            task_params, workspace = past.enter_context(_past_input(settings, from_task, module, task))
        with services_of(settings, view, debugging) as services:
            ref = _seed(services.lakefs, task, workspace, None if shown is None else shown["tree"])
            with contextlib.nullcontext() if debugging else view:
                row = run_locally(services, module, task, settings, task_params, ref, view)
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
    from perago.cli.commands.past_attempts import look_up
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


# ------------------------------------------------------------------------------------------------ the sample workflow

SAMPLE = "perago.samples.penguins"
MODULES = (f"{SAMPLE}.clean", f"{SAMPLE}.measure", f"{SAMPLE}.summary")
SLOTS = {f"{SAMPLE}.measure": 3}
"""Maximum number of concurrent attempts of a task, because the fork has three branches."""
PLACES = {
    "penguins-raw.csv": "raw/penguins-raw.csv",
    "penguins.csv": "reference/penguins.csv",
    "SOURCE.md": "SOURCE.md",
}
"""The place of each bundled file in the workspace."""


def demo(output: Annotated[Path | None, output_option("the final tree")] = None) -> None:
    """Run the bundled sample workflow on real data.

    The tables of the Palmer penguins go through three tasks in worker processes. `penguins.clean` makes one tidy table
    of the field records, `penguins.measure` runs for three islands at the same time, and `penguins.summary` continues
    their publications. Conductor and lakeFS are embedded and served over HTTP on this machine. Everything else is the
    same as in production.
    """
    from perago.embedded.services import EmbeddedServices, require_embedded

    require_embedded("demo")
    check_output(output)
    summaries = load_tasks(MODULES, IMPORT_LIMIT)
    settings = valid_settings(local=True)

    from perago.history.running import plan_for, write_tree
    from perago.local import BRANCH, REPOSITORY, LocalTask, RunFailed, run_workflow
    from perago.samples.penguins.workflow import penguins
    from perago.taskdef.payload import workspace_block

    view = AttemptView(sys.stdout, brief=True)
    services = EmbeddedServices.for_workers(over_http=True)
    with sigterm_unwinds(), services, as_file(files(SAMPLE) / "data") as data:
        steps = "clean, then three islands at the same time, then a summary"
        typer.echo(f"The tables of the Palmer penguins (CC0, Gorman et al. 2014): {steps}.\n")
        tables = {place: data / name for name, place in PLACES.items()}
        ref = services.lakefs.seed(REPOSITORY, BRANCH, tables, message="The penguins as recorded").id
        tasks = []
        for number, (module, summary) in enumerate(zip(MODULES, summaries, strict=True), start=1):
            plan = replace(plan_for(module, summary, settings, services, number), slots=SLOTS.get(module, 1))
            tasks.append(LocalTask(plan, json.loads(summary.definition)))
        payload = {"workspace": workspace_block(REPOSITORY, BRANCH, ref)}
        try:
            with view:
                ended = run_workflow(services, tasks, penguins.definition(), payload, view, raise_pending_signal)
        except RunFailed as error:
            raise Failure(f"{error}; see the messages above") from error
        rows = [row for row in ended["tasks"] if row["taskType"] not in ("FORK", "JOIN")]
        typer.echo("results")
        for row in rows:
            typer.echo(f"  {row['referenceTaskName']}: {json_text(row.get('outputData', {}).get('result'))}")
        published = services.lakefs.history(REPOSITORY, BRANCH, until=ref, limit=100)
        show_line((services.lakefs.get_commit(REPOSITORY, ref), *reversed(published)), sys.stdout)
        if output is not None and ended["status"] == "COMPLETED":
            commit = rows[-1]["outputData"]["workspace"]["ref"]
            write_tree(services.lakefs, commit, "", output)
            note_tree(output, commit)
    if ended["status"] != "COMPLETED":
        raise typer.Exit(ExitCode.FAILURE)
    typer.echo(f"\nNext: perago run {MODULES[0]} --help, and perago help write-a-task for tasks of your own.")
