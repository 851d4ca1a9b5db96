"""`perago show` and `perago log`: one past attempt or commit, and the publications to a branch."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice, takewhile
from typing import TYPE_CHECKING, Annotated, Any

from perago.cli import messages
from perago.cli.messages import Colour
from perago.cli.parameters import FormerPart, Json, Place, Since, Utc, argument, option, parts_of_place, seconds_of_age
from perago.cli.rendering import Renderer, in_batches, print_json, working
from perago.text import age, ago, count, duration, lines_of, one_line, plain_reason, short, time_of_day, zoned

if TYPE_CHECKING:
    from perago.ports import Commit

Facts = dict[str, Any]

FILES = 40
LOG_LINES = 40
LAST = 20

EXAMPLES = {
    "show": """\b
The argument is the id of an attempt in Conductor, or a repository and a commit:
its id, the beginning of its id, or a branch. Params and results are not shown.

\b
Examples:
  perago show 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21
  perago show my-data/9d1c54aa2f00
  perago show my-data/main            the head of a branch
  perago show my-data/main --all      with all files and log lines""",
    "log": """\b
A publication is one commit. The newest comes first. Commits of people and of
other programs are shown, too, unless --task or --workflow selects publications.

\b
Examples:
  perago log my-data/main
  perago log my-data/main --task features.build --since 7d
  perago log my-data/main --workflow ID --json""",
}


def show(
    first: Annotated[str, argument("TASK_ID|REPO/COMMIT", "A task id, or a repository with a commit or a branch.")],
    former: FormerPart = None,
    everything: Annotated[bool, option("--all", "List all changed files and lines of the log.")] = False,
    as_json: Json = False,
    utc: Utc = False,  # noqa: ARG001 - its callback has the effect
) -> None:
    """Show everything about one attempt: how it ended and why, its publication, its files and its log.

    perago only reads Conductor, lakeFS and the logs of the workers on this machine. It names the parts that a server
    does not answer for, and shows the rest.
    """
    from perago.history.attempt_facts import attempt_facts

    second = None
    if former is not None or "/" in first:
        first, second = parts_of_place(first, former)
    with working("asking the servers") as progress:
        facts = attempt_facts(first, second, None if everything else FILES, messages.service_words, progress)
    if as_json:
        print_json(facts)
    else:
        print_sheet(facts, None if everything else LOG_LINES)


def print_sheet(facts: Facts, log_lines: int | None) -> None:
    """Print the facts of an attempt with the last `log_lines` lines of its log. None prints all lines."""
    out = Renderer()
    task = facts["task"]
    if task is not None:
        for label, lines in _about_task(task, facts["workflow"], facts["attempts"], out):
            out.entry(label, lines)
    if facts["commit"] is not None:
        for label, lines in _about_commit(facts):
            out.entry(label, lines)
    elif task is not None and task["input"]:
        out.entry("commit", ["none" if task["ended"] else "none yet"])
    if facts["files"] is not None:
        out.entry("files", _files(facts["files"], out, facts))
    if task is not None:
        _print_log(facts, log_lines, out)
    for text in facts["problems"]:
        messages.warning(text)


def _about_task(
    task: Facts, workflow: Facts | None, attempts: Sequence[Facts], out: Renderer
) -> Iterator[tuple[str, Sequence[str]]]:
    yield "task", [one_line(task["task_id"]), one_line(f"{task['task_name']} as {task['reference_name']}")]
    allowed = "" if task["retries_allowed"] is None else f" of {task['retries_allowed'] + 1}"
    delivered = f", delivered {task['poll_count']} times" if task["poll_count"] > 1 else ""
    yield "status", [f"{out.status(task['status'])}, attempt {task['retry_count'] + 1}{allowed}{delivered}"]
    if task["reason"]:
        yield "reason", lines_of(str(task["reason"]))
    yield "times", [_times(task)]
    if task["worker_id"]:
        yield "worker", [one_line(str(task["worker_id"]))]
    if workflow is not None:
        what = f"{workflow['name']}: {workflow['status']}"
        yield "workflow", [one_line(str(workflow["workflow_id"])), one_line(what)]
        if (reason := plain_reason(workflow["reason"])) != (task["reason"] or ""):
            yield "", lines_of(reason)
    if len(attempts) > 1:
        yield "attempts", [one_line(f"{attempt['task_id']} {attempt['status']}") for attempt in attempts]
    block = task["input"]
    if block is not None and block["refs"]:
        refs = ", ".join(map(short, block["refs"]))
        yield "input", [one_line(f"{block['branch']} of {block['repository']} at {refs}")]


def _times(task: Facts) -> str:
    if not task["started"]:
        return f"scheduled {zoned(task['scheduled'])}, not yet with a worker"
    waited = age((task["started"] - task["scheduled"]) / 1000)
    if not task["ended"]:
        silent = ago(task["updated"])
        return f"started {zoned(task['started'])} after waiting {waited}, last heartbeat {silent} ago"
    took = duration((task["ended"] - task["started"]) / 1000)
    return f"started {zoned(task['started'])} after waiting {waited}, took {took}"


def _about_commit(facts: Facts) -> Iterator[tuple[str, Sequence[str]]]:
    commit, noted = facts["commit"], facts["commit"]["publication"]
    yield "commit", [one_line(commit["commit"]), one_line(f"of {commit['repository']}, {zoned(commit['created'])}")]
    yield "", lines_of(commit["message"])
    if noted is None or noted.get("task_id") is None:
        yield "", [one_line(f"by {commit['committer'] or 'lakeFS'}, not by perago")]
    if noted is not None:
        yield "published", list(_publication(noted, facts))


_FENCES = {
    "absent": "the branch had no publish fence then",
    "altered": "the branch had an altered publish fence then",
    "installed": "the branch had the publish fence then",
}
"""The tree of a commit, in words. It does not tell which commit installed the fence."""


def _publication(noted: Facts, facts: Facts) -> Iterator[str]:
    def noted_text(key: str) -> str:
        return noted.get(key) or "(not noted)"

    done = list(publication_words(noted))
    what = done.pop(0) if noted.get("phase") == "fence" else noted_text("phase")
    yield one_line(f"{what}, by perago {noted_text('version')}, to {noted_text('branch')}")
    if facts["task"] is None:
        yield one_line(f"by task {noted_text('task_id')} of workflow {noted_text('workflow_id')}")
        yield one_line(
            f"{noted_text('task_name')} as {noted_text('reference_name')}, retry {noted_text('retry_count')}"
        )
    if noted.get("worker"):
        yield one_line(f"by worker {noted['worker']}")
    if noted.get("input_ref"):
        yield one_line(f"read {short(noted['input_ref'])}")
    if noted.get("expected_head") not in (None, noted.get("input_ref")):
        yield one_line(f"rebased onto {short(noted['expected_head'])}, the head of the branch at that time")
    yield from map(one_line, done)
    undone = facts["undone"]
    if undone is not None and undone["commit"]:
        yield one_line(f"undone by {undone['commit']}")
    elif undone is not None and not undone["all_seen"]:
        yield f"not undone by the last {undone['later_commits']} commits of the branch; earlier ones were not read"
    yield _FENCES.get(facts["fence"], "publish fence unknown")


def _files(files: Facts, out: Renderer, facts: Facts) -> Iterator[str]:
    counts = ", ".join(f"{number:,} {one_line(kind)}" for kind, number in files["counts"].items())
    counts += f" and the publish fence {one_line(files['fence'])}" if files["fence"] else ""
    counts += f", by {one_line(facts['files_from'])}" if facts["files_from"] != facts["commit"]["commit"] else ""
    yield counts if files["all_counted"] else f"at least {counts}"
    for file in files["files"]:
        yield out.file(file["kind"], file["path"], file["size"])
    more = sum(files["counts"].values()) - len(files["files"])
    if more > 0:
        yield f"and {more:,} more (--all)" if files["all_counted"] else f"and at least {more:,} more (--all)"


def _print_log(facts: Facts, log_lines: int | None, out: Renderer) -> None:
    """Print the worker's log with guardrails and steps if it is on this machine, otherwise Conductor's task log."""
    deliveries = facts["worker_log"]
    for delivery in deliveries:
        broken = [one_line(guardrail["message"]) for guardrail in delivery["guardrails"] if not guardrail["satisfied"]]
        out.entry("broken", broken)
        out.entry("remarks", map(one_line, delivery["remarks"]))
        slow = [one_line(f"{name} {duration(seconds)}") for name, seconds in delivery["steps"].items() if seconds >= 1]
        out.entry("slow", [", ".join(slow)] if slow else [])
    lines = [
        f"{time_of_day(line['time'])} {text}"
        for delivery in deliveries
        for line in delivery["lines"]
        for text in line["text"].splitlines()
    ]
    missing = sum(delivery["left_out"] for delivery in deliveries)
    if not lines:
        lines, missing = [line for text in facts["conductor_log"] or [] for line in text.splitlines()], 0
    shown = lines if log_lines is None else lines[-log_lines:]
    left_out = len(lines) - len(shown) + missing
    earlier = [f"({left_out:,} earlier lines omitted)"] if left_out else []
    if shown:
        out.entry("log file", map(one_line, facts["log_files"]))
        out.entry("log", chain(earlier, map(one_line, shown)))
        return
    elsewhere = [file for file in facts["log_files"] if file.startswith("on ")]
    files = len(facts["log_files"]) - len(elsewhere)
    searched = f" in {count(files, 'log file')} of this machine" if files else ""
    out.entry("log", [f"no line about this attempt{searched}"])
    out.entry("log file", map(one_line, elsewhere))


# -------------------------------------------------------------------------------------- publications

_NOTES = ("phase", "task_name", "reference_name", "workflow_id", "task_id", "retry_count", "input_ref")
_MORE_NOTES = ("worker", "params_sha256", "adopts", "supersedes", "traceparent", "version")


def log(
    place: Place,
    former: FormerPart = None,
    task: Annotated[str | None, option("--task NAME", "Publications of this task only.")] = None,
    workflow: Annotated[str | None, option("--workflow ID", "Publications of this workflow only.")] = None,
    since: Since = None,
    last: Annotated[int, option("--last -n N", "At most N commits.", min=1)] = LAST,
    as_json: Json = False,
    utc: Utc = False,  # noqa: ARG001 - its callback has the effect
) -> None:
    """Show the publications to a branch: task, attempt, and the publications that each adopted or undid."""
    repository, branch = parts_of_place(place, former)
    oldest = None if since is None else time.time() - seconds_of_age(since, "--since")
    from perago.attempt import publication
    from perago.cli.services import store_of
    from perago.history.attempts import first_parents

    rows: list[dict[str, Any]] = []
    with store_of(repository, branch) as store:
        head = store.get_commit(repository, branch)
        every = first_parents(store, repository, head.id)
        recent = takewhile(lambda commit: oldest is None or commit.created >= oldest, every)
        chosen = {publication.TASK_NAME: task, publication.WORKFLOW_ID: workflow}
        required = {key: value for key, value in chosen.items() if value}
        meant = (commit for commit in recent if required.items() <= commit.metadata.items())
        for batch in in_batches(islice(meant, last), f"reading the history of {branch}"):
            rows += map(_commit_row, batch)
            if not as_json:
                for commit in batch:
                    _print_commit(commit)
    if as_json:
        print_json(rows)
    elif not rows:
        sys.stdout.write(f"no such publication on branch {branch} of {repository}\n")


def _commit_row(commit: Commit) -> dict[str, Any]:
    """Describe one commit. Missing metadata are null; a commit below the head may lack long ones."""
    noted = {name: commit.metadata.get(f"perago.{name}") or None for name in (*_NOTES, *_MORE_NOTES)}
    created = _date(commit.created)
    return {"commit": commit.id, "created": created, "committer": commit.committer, "message": commit.message, **noted}


def _date(seconds: int) -> str:
    """Return a time in ISO form, in UTC. A number that is not in any calendar stays a number."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"


def _print_commit(commit: Commit) -> None:
    out, row = Renderer(), _commit_row(commit)
    when = zoned(commit.created * 1000)
    out.line(f"{out.paint(short(row['commit']), Colour.YELLOW)}  {when}  {one_line(row['message'])}")
    if row["task_id"] is None:
        out.line(f"              by {one_line(row['committer'] or 'lakeFS')}, not by perago")
        return
    parts = [f"task {row['task_id']}"]
    if row["retry_count"] not in (None, "0"):
        parts.append(f"retry {row['retry_count']}")
    out.line(f"              {one_line(', '.join([*parts, *publication_words(row)]))}")


def publication_words(noted: Mapping[str, Any]) -> Iterator[str]:
    """Describe what a commit of perago did, from its metadata without their prefix."""
    if noted.get("phase") == "fence":
        yield "an empty fence commit"
    for verb in ("adopts", "supersedes"):
        if noted.get(verb):
            yield f"{verb} {noted[verb]}"
