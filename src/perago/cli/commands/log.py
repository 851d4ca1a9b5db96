"""`perago log`."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perago.cli.messages import Colour
from perago.cli.parameters import Branch, Json, Repository, Since, Utc, seconds_of_age
from perago.cli.rendering import Renderer, in_batches, print_json, publication_words
from perago.text import one_line, zoned

if TYPE_CHECKING:
    from perago.ports import Commit

LAST = 20
EXAMPLES = """\b
A publication is one commit. The newest comes first. Commits of people and of
other programs are shown, too, unless --task or --workflow selects publications.

\b
Examples:
  perago log my-data main
  perago log my-data main --task features.build --since 7d
  perago log my-data main --workflow ID --json"""

_NOTES = ("phase", "task_name", "reference_name", "workflow_id", "task_id", "retry_count", "input_ref")
_MORE_NOTES = ("worker", "params_sha256", "adopts", "supersedes", "traceparent", "version")


def command(
    repository: Repository,
    branch: Branch,
    task: Annotated[str | None, typer.Option("--task", metavar="NAME", help="Publications of this task only.")] = None,
    workflow: Annotated[
        str | None, typer.Option("--workflow", metavar="ID", help="Publications of this workflow only.")
    ] = None,
    since: Since = None,
    last: Annotated[int, typer.Option("--last", "-n", metavar="N", min=1, help="At most N commits.")] = LAST,
    as_json: Json = False,
    utc: Utc = False,  # noqa: ARG001 - its callback has the effect
) -> None:
    """Show the publications to a branch: task, attempt, and the publications that each adopted or undid."""
    oldest = None if since is None else time.time() - seconds_of_age(since, "--since")
    from perago.cli.services import store_of
    from perago.history.attempts import first_parents

    rows: list[dict[str, Any]] = []
    with store_of(repository, branch) as store:
        head = store.get_commit(repository, branch)
        recent = takewhile(
            lambda commit: oldest is None or commit.created >= oldest, first_parents(store, repository, head.id)
        )
        wanted = {key: value for key, value in (("perago.task_name", task), ("perago.workflow_id", workflow)) if value}
        meant = (commit for commit in recent if wanted.items() <= commit.metadata.items())
        for batch in in_batches(islice(meant, last), f"reading the history of {branch}"):
            rows += map(_row, batch)
            if not as_json:
                for commit in batch:
                    _print(commit)
    if as_json:
        print_json(rows)
    elif not rows:
        sys.stdout.write(f"no such publication on branch {branch} of {repository}\n")


def _row(commit: Commit) -> dict[str, Any]:
    """Describe one commit. Missing metadata are null; a commit below the head may lack long ones."""
    noted = {name: commit.metadata.get(f"perago.{name}") or None for name in (*_NOTES, *_MORE_NOTES)}
    return {
        "commit": commit.id,
        "created": _date(commit.created),
        "committer": commit.committer,
        "message": commit.message,
        **noted,
    }


def _date(seconds: int) -> str:
    """Return a time in ISO form, in UTC. A number that is not in any calendar stays a number."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"


def _print(commit: Commit) -> None:
    out, row = Renderer(), _row(commit)
    when = zoned(commit.created * 1000)
    out.line(f"{out.paint(row['commit'][:12], Colour.YELLOW)}  {when}  {one_line(row['message'])}")
    if row["task_id"] is None:
        out.line(f"              by {one_line(row['committer'] or 'lakeFS')}, not by perago")
        return
    parts = [f"task {row['task_id']}"]
    if row["retry_count"] not in (None, "0"):
        parts.append(f"retry {row['retry_count']}")
    out.line(f"              {one_line(', '.join([*parts, *publication_words(row)]))}")
