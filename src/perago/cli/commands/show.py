"""`perago show`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated, Any

import typer

from perago.cli import messages
from perago.cli.parameters import Json, Utc
from perago.cli.rendering import Renderer, print_json, publication_words, working
from perago.text import age, clock, duration, lines_of, one_line, zoned

Facts = dict[str, Any]

FILES = 40
LOG_LINES = 40

EXAMPLES = """\b
One argument is the id of an attempt in Conductor. Two arguments are a repository
and a commit: its id, the beginning of its id, or a branch. Params and results are
not shown.

\b
Examples:
  perago show 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21
  perago show my-data 9d1c54aa2f00
  perago show my-data main            the head of a branch
  perago show my-data main --all      with all files and log lines"""


def command(
    first: Annotated[str, typer.Argument(metavar="TASK_ID|REPO", help="A task id, or a repository.")],
    second: Annotated[str | None, typer.Argument(metavar="COMMIT", help="With REPO: a commit, or a branch.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="List all changed files and lines of the log.")] = False,
    as_json: Json = False,
    utc: Utc = False,  # noqa: ARG001 - its callback has the effect
) -> None:
    """Show everything about one attempt: how it ended and why, its publication, its files and its log.

    perago only reads Conductor, lakeFS and the logs of the workers on this machine. It names the parts that a server
    does not answer for, and shows the rest.
    """
    from perago.history.attempt_facts import attempt_facts

    with working("asking the servers") as tell:
        found = attempt_facts(first, second, None if everything else FILES, messages.service_words, tell)
    if as_json:
        print_json(found)
    else:
        print_sheet(found, None if everything else LOG_LINES)


def print_sheet(found: Facts, log_lines: int | None) -> None:
    """Print the facts of an attempt with the last `log_lines` lines of its log. None prints all lines."""
    out = Renderer()
    task = found["task"]
    if task is not None:
        for label, lines in _about_task(task, found["workflow"], found["attempts"], out):
            out.entry(label, lines)
    if found["commit"] is not None:
        for label, lines in _about_commit(found):
            out.entry(label, lines)
    elif task is not None and task["input"]:
        out.entry("commit", ["none" if task["ended"] else "none yet"])
    if found["files"] is not None:
        out.entry("files", _files(found["files"], out))
    if task is not None:
        _print_log(found, log_lines, out)
    for text in found["problems"]:
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
        yield (
            "workflow",
            [one_line(f"{workflow['workflow_id']}"), one_line(f"{workflow['name']}: {workflow['status']}")],
        )
        if workflow["reason"]:
            yield "", lines_of(str(workflow["reason"]))
    if len(attempts) > 1:
        yield "attempts", [one_line(f"{one['task_id']} {one['status']}") for one in attempts]
    block = task["input"]
    if block is not None and block["refs"]:
        refs = ", ".join(ref[:12] for ref in block["refs"])
        yield "input", [one_line(f"{block['branch']} of {block['repository']} at {refs}")]


def _times(task: Facts) -> str:
    if not task["started"]:
        return f"scheduled {zoned(task['scheduled'])}, not yet with a worker"
    waited = age((task["started"] - task["scheduled"]) / 1000)
    if not task["ended"]:
        silent = age(time.time() - task["updated"] / 1000)
        return f"started {zoned(task['started'])} after waiting {waited}, last heartbeat {silent} ago"
    took = duration((task["ended"] - task["started"]) / 1000)
    return f"started {zoned(task['started'])} after waiting {waited}, took {took}"


def _about_commit(found: Facts) -> Iterator[tuple[str, Sequence[str]]]:
    commit, noted = found["commit"], found["commit"]["publication"]
    yield "commit", [one_line(commit["commit"]), one_line(f"of {commit['repository']}, {zoned(commit['created'])}")]
    yield "", lines_of(commit["message"])
    if noted is None or noted.get("task_id") is None:
        yield "", [one_line(f"by {commit['committer'] or 'lakeFS'}, not by perago")]
    if noted is not None:
        yield "published", list(_publication(noted, found))


def _publication(noted: Facts, found: Facts) -> Iterator[str]:
    def said(key: str) -> str:
        return noted.get(key) or "(not noted)"

    done = list(publication_words(noted))
    what = done.pop(0) if noted.get("phase") == "fence" else said("phase")
    yield one_line(f"{what}, by perago {said('version')}, to {said('branch')}")
    if found["task"] is None:
        yield one_line(f"by task {said('task_id')} of workflow {said('workflow_id')}")
        yield one_line(f"{said('task_name')} as {said('reference_name')}, retry {said('retry_count')}")
    if noted.get("worker"):
        yield one_line(f"by worker {noted['worker']}")
    if noted.get("input_ref"):
        yield one_line(f"read {noted['input_ref'][:12]}")
    if noted.get("expected_head") not in (None, noted.get("input_ref")):
        yield one_line(f"rebased onto {noted['expected_head'][:12]}, the head of the branch at that time")
    yield from map(one_line, done)
    undone = found["undone"]
    if undone is not None and undone["commit"]:
        yield one_line(f"undone by {undone['commit']}")
    elif undone is not None and not undone["all_seen"]:
        yield f"not undone by the last {undone['later_commits']} commits of the branch; earlier ones were not read"
    yield f"publish fence {found['fence'] or 'unknown'} in this commit"


def _files(files: Facts, out: Renderer) -> Iterator[str]:
    counts = ", ".join(f"{number:,} {one_line(kind)}" for kind, number in files["counts"].items())
    counts += f" and the publish fence {one_line(files['fence'])}" if files["fence"] else ""
    yield counts if files["all_counted"] else f"at least {counts}"
    for file in files["files"]:
        yield out.file(file["kind"], file["path"], file["size"])
    more = sum(files["counts"].values()) - len(files["files"])
    if more > 0:
        yield f"and {more:,} more (--all)" if files["all_counted"] else f"and at least {more:,} more (--all)"


def _print_log(found: Facts, log_lines: int | None, out: Renderer) -> None:
    """Print the worker's log with guardrails and steps if it is on this machine, otherwise Conductor's task log."""
    deliveries = found["worker_log"]
    for delivery in deliveries:
        broken = [one_line(each["message"]) for each in delivery["guardrails"] if not each["satisfied"]]
        out.entry("broken", broken)
        out.entry("remarks", map(one_line, delivery["remarks"]))
        slow = [one_line(f"{name} {seconds:.2f} s") for name, seconds in delivery["steps"].items() if seconds >= 1]
        out.entry("slow", [", ".join(slow)] if slow else [])
    lines = [
        f"{clock(line['time'])[11:19]} {text}"
        for delivery in deliveries
        for line in delivery["lines"]
        for text in line["text"].splitlines()
    ]
    missing = sum(delivery["left_out"] for delivery in deliveries)
    if not lines:
        lines, missing = [line for text in found["conductor_log"] or [] for line in text.splitlines()], 0
    shown = lines if log_lines is None else lines[-log_lines:]
    left_out = len(lines) - len(shown) + missing
    earlier = [f"({left_out:,} earlier lines omitted)"] if left_out else []
    out.entry("log file", map(one_line, found["log_files"]))
    out.entry("log", chain(earlier, map(one_line, shown)) if shown else ["empty"])
