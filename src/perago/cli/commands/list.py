"""`perago list`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli import messages
from perago.cli.parameters import Json, Since, option, seconds_of_age
from perago.cli.rendering import Column, Renderer, legend, print_json, working
from perago.text import ago, count, duration, one_line, plain_reason

if TYPE_CHECKING:
    from perago.adapters.conductor.overview import WorkflowSummary


COLUMNS: tuple[Column[WorkflowSummary], ...] = (
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
"""The table, from left to right, and the source of the command's help."""

EXAMPLES = f"""\b
{legend(COLUMNS)}

\b
Examples:
  perago list                              the newest workflows
  perago list --status failed --since 12h  failed since last night
  perago list --name 'orders.*'            all whose name begins so
  perago list --correlation order-17 --json"""


def command(
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
        out.table(COLUMNS, summaries, _details)
    else:
        out.line("no workflow was found")
    if total > len(summaries):
        messages.note(f"not shown: {count(total - len(summaries), 'older workflow')}; --limit shows more")


def _details(row: WorkflowSummary) -> Iterator[str]:
    """Yield the line below an unsuccessful workflow."""
    failure = ": ".join(filter(None, (", ".join(row.failed_references), plain_reason(row.reason))))
    if failure and row.status != "COMPLETED":
        yield one_line(failure, 400)
