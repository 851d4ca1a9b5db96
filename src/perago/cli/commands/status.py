"""`perago status`."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli import messages
from perago.cli.messages import Colour, painted
from perago.cli.parameters import IMPORT_LIMIT, OptionalModules, Timeout
from perago.cli.progress import working
from perago.workspace.text import age, count, one_line

if TYPE_CHECKING:
    from perago.diagnosis.queues import QueueReport, TaskTypeStatus

EXAMPLES = """\b
waiting  attempts in the queue, those that wait for a delayed retry included
oldest   how long the first of them has been waiting
running  attempts that are with a worker, anywhere
here     of them, on this machine, and how many its workers take at a time
polled   how long ago any worker asked for one

\b
Examples:
  perago status                     every task type in use
  perago status my_tasks.features
  perago status my_tasks --json"""

_SILENT_SHOWN = 3
_COLUMNS = ("waiting", "oldest", "running", "here", "polled", "task")


def command(
    modules: OptionalModules = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Show what waits, what runs and who works, one row a task type. Nothing is changed.

    Without MODULE: every task type that the server knows and that has a queue, a worker here, or a poll of the last
    day. Workers here are those of PERAGO_WORKSPACE_ROOT.
    """
    names = None
    if modules:
        from perago.cli.loading import load_tasks

        names = [task.name for task in load_tasks(modules, timeout, packages=True)]
    from perago.settings import load_settings

    settings = load_settings()
    now = time.time()
    from perago.configuration import Servers
    from perago.diagnosis.queues import look_at_queues

    with Servers(settings) as servers, working("reading the queues") as tell:
        report = look_at_queues(servers.overview, settings.workspace_root, names, now, tell)
    if as_json:
        sys.stdout.write(json.dumps([_document(row, now) for row in report.rows], indent=2) + "\n")
    else:
        _print(report, now)
    if report.left_out:
        messages.note(f"{report.left_out:,} more task types are in use; name the MODULE")
    for problem in report.problems[:1]:
        messages.warning(f"what runs and what is oldest is not known: {messages.service_words(problem)}")


def _document(row: TaskTypeStatus, now: float) -> dict[str, Any]:
    return {**asdict(row), "unattended": row.is_unattended(now)}


def _print(report: QueueReport, now: float) -> None:
    lines = [_COLUMNS, *(_cells(row, now) for row in report.rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(_COLUMNS) - 1)]
    for line, row in zip(lines, [None, *report.rows], strict=True):
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=False)]
        sys.stdout.write("  ".join([*cells, line[-1]]) + "\n")
        if row is not None:
            _print_details(row, now)
    if not report.rows:
        sys.stdout.write("no task type has a queue, a worker here, or a poll of the last day\n")


def _cells(row: TaskTypeStatus, now: float) -> tuple[str, ...]:
    silence = row.silence(now)
    return (
        f"{row.waiting:,}",
        age(now - row.oldest.since / 1000) if row.oldest else "-",
        "?" if row.running is None else f"{row.running:,}{'' if row.all_read else '+'}",
        f"{row.running_here} of {row.slots_here}" if row.workers or row.running_here else "-",
        "never" if silence is None else age(silence),
        one_line(f"{row.domain}:{row.task_name}" if row.domain else row.task_name),
    )


def _print_details(row: TaskTypeStatus, now: float) -> None:
    if row.oldest is not None:
        sys.stdout.write(one_line(f"         oldest: task {row.oldest.task_id}") + "\n")
    for one in row.silent[:_SILENT_SHOWN]:
        text = f"silent for {age(now - one.since / 1000)}: task {one.task_id}"
        sys.stdout.write(f"         {painted(one_line(text), Colour.RED, sys.stdout)}\n")
    if row.is_unattended(now):
        who = f", last {row.last_poll.worker_id}" if row.last_poll and row.last_poll.worker_id else ""
        sys.stdout.write(f"         {painted(one_line(row.absence(now) + who), Colour.RED, sys.stdout)}\n")
    if not row.registered:
        sys.stdout.write("         the server has no TaskDef of this name\n")
    hosts = sorted({f"{worker.worker_id} on {worker.host}, {count(worker.slots, 'slot')}" for worker in row.workers})
    for text in hosts:
        sys.stdout.write(one_line(f"         worker {text}") + "\n")
