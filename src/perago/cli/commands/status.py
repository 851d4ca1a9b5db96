"""`perago status`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from perago.cli import messages
from perago.cli.messages import Colour
from perago.cli.parameters import IMPORT_LIMIT, Json, OptionalModules, Timeout
from perago.cli.rendering import Column, Renderer, legend, print_json, working
from perago.text import ago, one_line

if TYPE_CHECKING:
    from perago.diagnosis.queues import TaskTypeStatus


COLUMNS: tuple[Column[TaskTypeStatus], ...] = (
    Column(
        "waiting", "attempts in the queue, with those that wait for a delayed retry", lambda row: f"{row.waiting:,}"
    ),
    Column(
        "oldest",
        "how long the first of these attempts has been waiting",
        lambda row: ago(row.oldest.since) if row.oldest else "-",
    ),
    Column(
        "running",
        "attempts that are with a worker, anywhere",
        lambda row: "?" if row.running is None else f"{row.running:,}{'' if row.all_read else '+'}",
    ),
    Column(
        "here",
        "running attempts on this machine, of the slots of its workers",
        lambda row: f"{row.running_here} of {row.slots_here}" if row.workers or row.running_here else "-",
    ),
    Column(
        "polled",
        "how long ago any worker asked for an attempt",
        lambda row: ago(row.last_poll.time) if row.last_poll else "never",
    ),
    Column("task", "", lambda row: one_line(f"{row.domain}:{row.task_name}" if row.domain else row.task_name)),
)
"""The table, from left to right, and the source of the command's help."""

EXAMPLES = f"""\b
{legend(COLUMNS)}

\b
Examples:
  perago status                     every task type in use
  perago status my_tasks.features
  perago status my_tasks --json"""

_RUNNING_SHOWN = 10


def command(modules: OptionalModules = None, as_json: Json = False, timeout: Timeout = IMPORT_LIMIT) -> None:
    """Show the waiting attempts, the running attempts and the workers of each task type. Changes nothing.

    Without MODULE, perago shows every task type with a worker here, and registered ones with a queue or a recent poll.
    Workers here are those of PERAGO_WORKSPACE_ROOT. It takes 30 s at most, also if no server answers.
    """
    names = None
    if modules:
        from perago.cli.loading import load_tasks

        names = [task.name for task in load_tasks(modules, timeout, packages=True)]
    from perago.settings import load_settings

    settings = load_settings()
    now = time.time()
    from perago.adapters.http import COMMAND_POLICY
    from perago.cli.services import lakefs_problem
    from perago.configuration import Servers
    from perago.diagnosis.queues import read_queues
    from perago.worker.presence import CLASH_FIX, CLASH_WHY, KILLED_FIX, KILLED_WHY, STOPPED_WHY, id_clashes
    from perago.workspace.layout import RESERVE, disk_problem

    with Servers(settings, policy=COMMAND_POLICY) as servers, working("reading the queues") as progress:
        report = read_queues(servers.overview, settings.workspace_root, names, now, progress)
    if as_json:
        print_json([{**asdict(row), "unattended": row.is_unattended(now)} for row in report.rows])
    else:
        out = Renderer()
        out.table(COLUMNS, report.rows, partial(_details, now=now))
        if not report.rows:
            out.line("no task type has a queue, a worker here, or a poll within the last day")
        for worker in report.workers:
            out.line(one_line(f"worker {worker}"))
            if worker.stopped:
                warning = f"{worker.stopped_words}; {STOPPED_WHY}; continue with: {worker.stopped_fix}"
                out.line(f"         {out.paint(one_line(warning), Colour.RED)}")
            for problem in worker.problems:
                out.line(f"         {out.paint(one_line(problem), Colour.RED)}")
        for worker_id in report.killed:
            out.line(out.paint(one_line(f"killed worker {worker_id}: {KILLED_WHY}; {KILLED_FIX}"), Colour.RED))
        roots = (settings.workspace_root, *([settings.log_root] if settings.log_files else []))
        for full in filter(None, (disk_problem(root, RESERVE) for root in roots if report.workers)):
            out.line(out.paint(one_line(f"workers here take no work: {full}"), Colour.RED))
    if report.left_out:
        messages.note(f"{report.left_out:,} more task types are in use; name a MODULE to see its task type")
    for clash in id_clashes(report.workers):
        messages.warning(f"{clash}: {CLASH_WHY}\n  fix: {CLASH_FIX}")
    for error in report.problems[:1]:
        messages.warning(f"the running and the oldest attempts are unknown: {messages.service_words(error)}")
    if settings.lakefs and (away := lakefs_problem(settings.lakefs)):
        messages.warning(f"{away}\n  fix: check LAKECTL_SERVER_ENDPOINT_URL, the server and the network")


def _details(row: TaskTypeStatus, now: float) -> Iterator[str]:
    """Yield the lines below the row."""
    if row.oldest is not None:
        yield one_line(f"oldest: task {row.oldest.task_id}")
    red = partial(Renderer().paint, colour=Colour.RED)
    first = sorted(row.attempts, key=lambda attempt: not attempt.silent)[:_RUNNING_SHOWN]
    for attempt in first:
        silent = f", silent for {ago(attempt.silent)}" if attempt.silent else ""
        text = one_line(f"running for {ago(attempt.started)}{silent}: task {attempt.task_id}, {attempt.worker_id}")
        yield red(text) if silent else text
    if len(row.attempts) > len(first):
        yield f"and {len(row.attempts) - len(first):,} more running attempts (--json lists them)"
    if row.is_unattended(now):
        who = f", last {row.last_poll.worker_id}" if row.last_poll and row.last_poll.worker_id else ""
        yield red(one_line(row.absence(now) + who))
    if not row.registered:
        yield "the server has no TaskDef of this name"
