"""`perago list`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli import messages
from perago.cli.parameters import Json, Since, seconds_of_age
from perago.cli.rendering import Column, Renderer, legend, print_json, working
from perago.text import age, duration, one_line

if TYPE_CHECKING:
    from perago.adapters.conductor import WorkflowSummary


@dataclass(frozen=True, slots=True)
class Row:
    """A workflow at the time of reading."""

    of: WorkflowSummary
    now: float

    @property
    def took(self) -> str:
        """The time from its start to its end, or until now."""
        return duration(((self.of.end_time or self.now * 1000) - self.of.start_time) / 1000)

    @property
    def details(self) -> Iterator[str]:
        """The lines below the row."""
        if self.of.status == "COMPLETED":
            return
        failed = ", ".join(self.of.failed_references)
        words = ": ".join(part for part in (failed, self.of.reason) if part)
        if words:
            yield one_line(words, 200)


COLUMNS: tuple[Column[Row], ...] = (
    Column("status", "its status in Conductor", lambda row: one_line(row.of.status)),
    Column("started", "how long ago it started", lambda row: age(row.now - row.of.start_time / 1000)),
    Column("took", "from its start to its end, or until now", lambda row: row.took),
    Column("id", "the workflow id, for show, terminate, retry and rerun", lambda row: one_line(row.of.workflow_id)),
    Column("workflow", "", lambda row: one_line(f"{row.of.name} v{row.of.version}")),
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
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="Only of one status, such as running or failed.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Only of one name; * is any text.")] = None,
    correlation: Annotated[
        str | None, typer.Option("--correlation", metavar="ID", help="Only with one correlation id; * is any text.")
    ] = None,
    since: Since = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=5000, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List the workflows of the configured Conductor, newest first.

    Conductor's index has a workflow a moment after its start or its end.
    """
    from perago.adapters.conductor import STATUSES, WorkflowQuery
    from perago.configuration import Servers
    from perago.ports import Refused
    from perago.settings import load_settings

    if status is not None and status.upper() not in STATUSES:
        known = ", ".join(each.lower() for each in STATUSES)
        raise typer.BadParameter(f"{status!r} is not a status; the statuses are {known}.", param_hint="'--status'")
    now = time.time()
    after = None if since is None else round((now - seconds_of_age(since, "'--since'")) * 1000)
    query = WorkflowQuery(None if status is None else status.upper(), name, correlation, since=after)
    try:
        query.text()
    except Refused as error:
        raise typer.BadParameter(f"Conductor cannot search for this text: {error.detail}.") from None
    with Servers(load_settings()) as servers, working("searching for workflows"):
        total, found = servers.workflows.find_workflows(query, start=0, size=limit)
    if as_json:
        print_json({"total": total, "workflows": [asdict(one) for one in found]})
        return
    out = Renderer()
    if found:
        out.table(COLUMNS, [Row(one, now) for one in found], lambda row: row.details)
    else:
        out.line("no workflow was found")
    if total > len(found):
        messages.note(f"{total - len(found):,} older ones are not shown; --limit shows more")
