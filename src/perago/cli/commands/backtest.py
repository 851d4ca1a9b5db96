"""`perago backtest`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli import messages
from perago.cli.configuration import valid_settings
from perago.cli.errors import ExitCode
from perago.cli.loading import load_task_to_run
from perago.cli.parameters import IMPORT_LIMIT, Module, Timeout, checked_branch, seconds_of_age
from perago.failure import Failure
from perago.signals import sigterm_unwinds

if TYPE_CHECKING:
    from perago.history.backtest import State
    from perago.probe import TaskSummary

LAST = 20

EXAMPLES = """\b
Examples:
  perago backtest my_tasks.features --last 20
  perago backtest my_tasks.features --since 7d -j 4 --resume backtest.json
  perago backtest my_tasks.features --workflow nightly --last 5 --json
  perago backtest my_tasks.features --workspace my-data/main

The table is printed to standard output, everything else to standard error.
Status 0 means that every attempt that could be read came out the same."""


def command(
    module: Module,
    last: Annotated[
        int | None,
        typer.Option(
            "--last",
            metavar="N",
            min=1,
            show_default=False,
            help=f"The last N attempts. Default: {LAST}, or all of --since.",
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="AGE", show_default=False, help="Not older than: 12h, 7d.")
    ] = None,
    workflow: Annotated[
        str | None, typer.Option("--workflow", metavar="NAME", show_default=False, help="Of workflows of this name.")
    ] = None,
    workspace: Annotated[
        str | None,
        typer.Option(
            "--workspace",
            "-w",
            metavar="REPO/BRANCH",
            show_default=False,
            help="Find the attempts by the publications of this branch, not by Conductor's search.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("-j", "--jobs", metavar="N", min=1, help="How many at a time.")] = 1,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="FILE",
            show_default=False,
            help="Keep the verdicts in FILE, and take from there what a run with the same code has found.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON (docs/cli.md).")] = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Run the code of today on the inputs of the last completed attempts, and compare with what came of them then.

    The attempts are looked up on the configured Conductor, their files on the configured lakeFS; both are only read.
    Nothing is published.
    """
    if workflow is not None and (not workflow.strip() or not workflow.isprintable() or "'" in workflow):
        raise typer.BadParameter("must be the name of a workflow.", param_hint="'--workflow'")
    place = _place(workspace)
    age = None if since is None else seconds_of_age(since, "--since")
    task, files = load_task_to_run(module, timeout)
    if place is not None and task.workspace is None:
        raise typer.BadParameter(f"task {task.name} has no workspace; leave --workspace out.")
    settings = valid_settings()
    from perago.cli.verdict_view import VerdictView
    from perago.configuration import Servers
    from perago.history.attempts import NotReplayable
    from perago.history.backtest import Backtest
    from perago.history.search import Choice, published_on, searched

    state = _state(resume, task, files)
    if last is None and age is None:
        last = LAST
    choice = Choice(task.name, last, None if age is None else time.time() - age, workflow)
    with sigterm_unwinds(), Servers(settings, cached=True) as servers:
        if place is None:
            ids = searched(servers.workflows, choice)
        else:
            ids = published_on(servers.store, servers.workflows, *place, choice)
        if not ids:
            raise NotReplayable(
                f"no completed attempt of {task.name} was found",
                "Conductor's search needs its index; `--workspace REPO/BRANCH` finds attempts by their publications",
            )
        view = VerdictView(sys.stderr, len(ids))
        with view, _going_on(resume):
            verdicts = Backtest(servers, settings, module, task, state, jobs, view.heard).run(ids)
    view.show(task.name, verdicts, sys.stdout, as_json=as_json)
    raise typer.Exit(ExitCode.OK if view.is_good(verdicts) else ExitCode.FAILURE)


@contextlib.contextmanager
def _going_on(resume: Path | None) -> Iterator[None]:
    """Where the run is stopped, say that it can go on."""
    try:
        yield
    except BaseException:
        if resume is not None and resume.exists():
            messages.note(f"what is known so far is in {resume}; the same command continues from there")
        raise


def _state(resume: Path | None, task: TaskSummary, files: tuple[str, ...]) -> State:
    from perago.history.backtest import State, code_digest

    try:
        state = State(resume, task.name, code_digest(files, task.definition))
    except (OSError, ValueError) as error:
        raise Failure(str(error), "give --resume another file, or remove this one") from error
    if state.is_outdated:
        messages.note(f"{resume} is of other code: all attempts are run again")
    return state


def _place(workspace: str | None) -> tuple[str, str] | None:
    if workspace is None:
        return None
    repository, slash, branch = workspace.partition("/")
    if not (repository and slash):
        raise typer.BadParameter("name a branch as REPO/BRANCH.", param_hint="'--workspace'")
    return repository, checked_branch(branch)
