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
from perago.cli.loading import load_task_to_run, valid_settings
from perago.cli.messages import ExitCode
from perago.cli.parameters import (
    IMPORT_LIMIT,
    Module,
    Since,
    Timeout,
    Utc,
    checked_branch,
    option,
    place_of,
    seconds_of_age,
)
from perago.cli.rendering import Renderer
from perago.failure import Failure
from perago.processes import sigterm_unwinds
from perago.text import clock, count, json_text, one_line, shortened, zone

if TYPE_CHECKING:
    from perago.history.replay import State, Verdict
    from perago.probe import TaskSummary

LAST = 20
_SHOWN_LINES = 5
_SHOWN_FILES = 20

EXAMPLES = """\b
Examples:
  perago backtest my_tasks.features --last 20
  perago backtest my_tasks.features --since 7d -j 4 --resume backtest.json
  perago backtest my_tasks.features --workflow nightly --last 5 --json
  perago backtest my_tasks.features --branch my-data/main

The table goes to standard output, everything else to standard error. Status 0
means that the outcome of every readable attempt is the same."""


def command(
    module: Module,
    last: Annotated[
        int | None, option("--last N", f"The last N attempts. Default: {LAST}, or all of --since.", min=1)
    ] = None,
    since: Since = None,
    workflow: Annotated[str | None, option("--workflow NAME", "Only attempts of workflows with this name.")] = None,
    branch: Annotated[
        str | None,
        option(
            "--branch -b REPO/BRANCH",
            "Find the attempts by the publications of this branch instead of Conductor's search.",
        ),
    ] = None,
    jobs: Annotated[int, option("-j --jobs N", "Attempts at a time.", min=1)] = 1,
    resume: Annotated[
        Path | None,
        option("--resume FILE", "Keep the verdicts in FILE, and reuse those of an earlier run with the same code."),
    ] = None,
    as_json: Annotated[bool, option("--json", "Print all results as JSON (perago help cli).")] = False,
    utc: Utc = False,  # noqa: ARG001 - its callback has the effect
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Run today's code on the inputs of the last completed attempts, and compare the outcomes.

    perago looks up the attempts on the configured Conductor and their files on the configured lakeFS, and only reads
    both. Nothing is published.
    """
    if workflow is not None and (not workflow.strip() or not workflow.isprintable() or "'" in workflow):
        raise typer.BadParameter("must be the name of a workflow.", param_hint="'--workflow'")
    place = None if branch is None else place_of(branch)
    if place is not None:
        checked_branch(place[1])
    age = None if since is None else seconds_of_age(since, "--since")
    task, files = load_task_to_run(module, timeout)
    if place is not None and task.workspace is None:
        raise typer.BadParameter(f"task {task.name} has no workspace; omit --branch.")
    settings = valid_settings()
    from perago.configuration import Servers
    from perago.history.attempts import Choice, NotReplayable, published_on, search_task_ids
    from perago.history.replay import Backtest, summary

    state = _state(resume, task, files)
    if last is None and age is None:
        last = LAST
    choice = Choice(task.name, last, None if age is None else time.time() - age, workflow)
    with sigterm_unwinds(), Servers(settings, cached=True) as servers:
        if place is None:
            ids = search_task_ids(servers.workflows, choice)
        else:
            ids = published_on(servers.store, servers.workflows, *place, choice)
        if not ids:
            fix = "find attempts by their publications with --branch REPO/BRANCH; Conductor's search needs its index"
            raise NotReplayable(f"no completed attempt of {task.name} was found", fix)
        with _progress(len(ids)) as hear, _resumable(resume):
            verdicts = Backtest(servers, settings, module, task, state, jobs, hear).run(ids)
    document = summary(task.name, verdicts)
    text = json_text(document, indent=2) if as_json else "\n".join(_lines(document, verdicts))
    sys.stdout.write(f"{text}\n")
    raise typer.Exit(ExitCode.OK if document["good"] else ExitCode.FAILURE)


@contextlib.contextmanager
def _resumable(resume: Path | None) -> Iterator[None]:
    """Report how to continue a run that was stopped."""
    try:
        yield
    except BaseException:
        if resume is not None and resume.exists():
            messages.note(f"the verdicts so far are in {resume}; run the same command to continue")
        raise


def _state(resume: Path | None, task: TaskSummary, files: tuple[str, ...]) -> State:
    from perago.history.replay import State, code_digest

    try:
        state = State(resume, task.name, code_digest(files, task.definition))
    except (OSError, ValueError) as error:
        raise Failure(str(error), "give --resume another file, or delete this one") from error
    if state.is_outdated:
        messages.note(f"{resume} is from different code, so all attempts run again")
    return state


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[Verdict], None]]:
    """Show the verdicts on standard error: a progress bar on a terminal, a line for each attempt elsewhere."""
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
            totals = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
            bar.update(task, advance=1, description=totals)

        yield show


def _lines(document: Mapping[str, Any], verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield f"{document['task']}: {count(len(verdicts), 'attempt')} with today's code"
    for kind in ("same", "different", "failed", "unreadable", "slower"):
        yield f"  {kind:<10} {document[kind]:>5}"
    for verdict in verdicts:
        if verdict.kind != "same" or verdict.is_slower:
            yield ""
            yield from _about(verdict)
    differing = document["by_file"]
    if differing:
        yield ""
        yield "what differs, by file and column"
    for row in differing[:_SHOWN_FILES]:
        where = f", column {one_line(row['column'])}" if row["column"] else ""
        yield f"  {one_line(row['path'])}{where}: in {count(row['attempts'], 'attempt')}"
    if len(differing) > _SHOWN_FILES:
        yield f"  and {len(differing) - _SHOWN_FILES:,} more"


def _about(verdict: Verdict) -> Iterator[str]:
    parts = [verdict.kind.value, verdict.task_id, f"{clock(verdict.started)[:16]} {zone()}" if verdict.started else ""]
    if verdict.then_seconds is not None and verdict.now_seconds is not None:
        slower = ", slower" if verdict.is_slower else ""
        parts.append(f"{verdict.then_seconds:.1f} s then, {verdict.now_seconds:.1f} s now{slower}")
    yield "  ".join(filter(None, parts))
    if not verdict.deterministic:
        yield "  not deterministic: two runs of today's code on this input also differ"
    for line in shortened(verdict.summary, _SHOWN_LINES):
        yield f"  {one_line(line)}"
