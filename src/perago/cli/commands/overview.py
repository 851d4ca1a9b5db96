"""`perago status` and `perago list`: the task types and the workflows of the configured Conductor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli import messages
from perago.cli.messages import Colour
from perago.cli.parameters import IMPORT_LIMIT, Json, OptionalModules, Since, Timeout, option, seconds_of_age
from perago.cli.rendering import Column, Renderer, legend, print_json, working
from perago.text import ago, count, duration, one_line, plain_reason

if TYPE_CHECKING:
    from perago.adapters.conductor.overview import WorkflowSummary
    from perago.diagnosis.queues import TaskTypeStatus


TASK_TYPE_COLUMNS: tuple[Column[TaskTypeStatus], ...] = (
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
"""The table of `perago status`, from left to right, and the source of the command's help."""

WORKFLOW_COLUMNS: tuple[Column[WorkflowSummary], ...] = (
    Column("status", "its status in Conductor", lambda row: one_line(row.status)),
    Column("started", "how long ago it started", lambda row: ago(row.start_time)),
    Column(
        "took",
        "from its start to its end, or until now",
        lambda row: duration((row.end_time or time.time() * 1000) / 1000 - row.start_time / 1000),
    ),
    Column("id", "the workflow id, for show, terminate, retry and rerun", lambda row: one_line(row.workflow_id)),
    Column("workflow", "", lambda row: one_line(f"{row.name} v{row.version}")),
)
"""The table of `perago list`."""

EXAMPLES = {
    "status": f"""\b
{legend(TASK_TYPE_COLUMNS)}

\b
Examples:
  perago status                     every task type in use
  perago status my_tasks.features
  perago status my_tasks --json""",
    "list": f"""\b
{legend(WORKFLOW_COLUMNS)}

\b
Examples:
  perago list                              the newest workflows
  perago list --status failed --since 12h  failed since last night
  perago list --name 'orders.*'            all whose name begins so
  perago list --correlation order-17 --json""",
}

_RUNNING_SHOWN = 10


def status(modules: OptionalModules = None, as_json: Json = False, timeout: Timeout = IMPORT_LIMIT) -> None:
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
        out.table(TASK_TYPE_COLUMNS, report.rows, partial(_details_of_task_type, now=now))
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


def _details_of_task_type(row: TaskTypeStatus, now: float) -> Iterator[str]:
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


def list(  # noqa: A001 - the name of the command
    status: Annotated[str | None, option("--status STATUS", "Only of one status, such as running or failed.")] = None,
    name: Annotated[str | None, option("--name NAME", "Only of one name; * is any text.")] = None,
    correlation: Annotated[
        str | None, option("--correlation ID", "Only with one correlation id; * is any text.")
    ] = None,
    since: Since = None,
    limit: Annotated[int, option("--limit N", "How many at most.", min=1, max=5000)] = 20,
    as_json: Json = False,
) -> None:
    """List the workflows of the configured Conductor, newest first.

    Conductor's index has a workflow a moment after its start or its end.
    """
    from perago.adapters.conductor.overview import STATUSES, WorkflowQuery
    from perago.adapters.http import COMMAND_POLICY
    from perago.configuration import Servers
    from perago.ports import Refused

    if status is not None and status.upper() not in STATUSES:
        known = ", ".join(status.lower() for status in STATUSES)
        raise typer.BadParameter(f"{status!r} is not a status; the statuses are {known}.", param_hint="'--status'")
    after = None if since is None else round((time.time() - seconds_of_age(since, "'--since'")) * 1000)
    query = WorkflowQuery(None if status is None else status.upper(), name, correlation, since=after)
    try:
        query.text()
    except Refused as error:
        raise typer.BadParameter(f"Conductor cannot search for this text: {error.detail}.") from None
    with Servers(policy=COMMAND_POLICY) as servers, working("searching for workflows"):
        total, summaries = servers.workflows.find_workflows(query, start=0, size=limit)
    if as_json:
        print_json({"total": total, "workflows": [asdict(summary) for summary in summaries]})
        return
    out = Renderer()
    if summaries:
        out.table(WORKFLOW_COLUMNS, summaries, _details_of_workflow)
    else:
        out.line("no workflow was found")
    if total > len(summaries):
        messages.note(f"not shown: {count(total - len(summaries), 'older workflow')}; --limit shows more")


def _details_of_workflow(row: WorkflowSummary) -> Iterator[str]:
    """Yield the line below an unsuccessful workflow."""
    failure = ": ".join(filter(None, (", ".join(row.failed_references), plain_reason(row.reason))))
    if failure and row.status != "COMPLETED":
        yield one_line(failure, 400)
