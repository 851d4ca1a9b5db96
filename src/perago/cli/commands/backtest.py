"""`perago backtest`."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli import messages
from perago.cli.errors import ExitCode
from perago.cli.loading import load_task_to_run, valid_settings
from perago.cli.parameters import IMPORT_LIMIT, Module, Timeout, checked_branch, seconds_of_age
from perago.cli.rendering import Renderer
from perago.failure import Failure
from perago.processes import sigterm_unwinds
from perago.text import count, json_text, one_line, utc

if TYPE_CHECKING:
    from perago.history.backtest import State, Verdict
    from perago.probe import TaskSummary

LAST = 20
_SHOWN_LINES = 5
_SHOWN_FILES = 20

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
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON (perago help cli).")] = False,
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
    from perago.configuration import Servers
    from perago.history.attempts import NotReplayable
    from perago.history.backtest import Backtest, summary
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
        with _progress(len(ids)) as hear, _resumable(resume):
            verdicts = Backtest(servers, settings, module, task, state, jobs, hear).run(ids)
    found = summary(task.name, verdicts)
    text = json_text(found, indent=2) if as_json else "\n".join(_lines(found, verdicts))
    sys.stdout.write(f"{text}\n")
    raise typer.Exit(ExitCode.OK if found["good"] else ExitCode.FAILURE)


@contextlib.contextmanager
def _resumable(resume: Path | None) -> Iterator[None]:
    """Report that the run can continue, if it is stopped."""
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


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[Verdict], None]]:
    """Show each verdict on standard error: with a bar on a terminal, elsewhere in a line for each attempt."""
    out, kinds = Renderer(sys.stderr), Counter[str]()
    if not out.is_terminal:
        done = itertools.count(1)
        yield lambda verdict: out.line(f"{next(done)} of {total}: {verdict.task_id} {verdict.kind}")
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr, highlight=False)) as bar:
        task = bar.add_task("replaying", total=total)

        def show(verdict: Verdict) -> None:
            kinds[verdict.kind] += 1
            words = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
            bar.update(task, advance=1, description=words)

        yield show


def _lines(found: Mapping[str, Any], verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield f"{found['task']}: {count(len(verdicts), 'attempt')} with today's code"
    for kind in ("same", "different", "failed", "unreadable", "slower"):
        yield f"  {kind:<10} {found[kind]:>5}"
    for verdict in verdicts:
        if verdict.kind != "same" or verdict.is_slower:
            yield ""
            yield from _about(verdict)
    differing = found["by_file"]
    if differing:
        yield ""
        yield "what differs, by file and column"
    for one in differing[:_SHOWN_FILES]:
        where = f", column {one_line(one['column'])}" if one["column"] else ""
        yield f"  {one_line(one['path'])}{where}: in {count(one['attempts'], 'attempt')}"
    if len(differing) > _SHOWN_FILES:
        yield f"  and {len(differing) - _SHOWN_FILES:,} more"


def _about(verdict: Verdict) -> Iterator[str]:
    words = [verdict.kind.value, verdict.task_id, utc(verdict.started)[:16] if verdict.started else ""]
    if verdict.then_seconds is not None and verdict.now_seconds is not None:
        slower = ", slower" if verdict.is_slower else ""
        words.append(f"{verdict.then_seconds:.1f} s then, {verdict.now_seconds:.1f} s now{slower}")
    yield "  ".join(filter(None, words))
    if not verdict.deterministic:
        yield "  not deterministic: two runs of today's code on this input differ, too"
    for line in verdict.summary[:_SHOWN_LINES]:
        yield f"  {one_line(line)}"
    if len(verdict.summary) > _SHOWN_LINES:
        yield f"  and {len(verdict.summary) - _SHOWN_LINES:,} more"
