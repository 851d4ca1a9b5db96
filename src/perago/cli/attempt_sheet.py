"""One attempt on a terminal: who, how it ended, what it published, its files and its log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from perago.cli import messages
from perago.cli.messages import Colour, painted
from perago.cli.sheet import write_entry
from perago.workspace.text import age, one_line, size

Facts = dict[str, Any]

_SIGNS = {"added": "+", "changed": "~", "removed": "-"}
_COLOURS = {"COMPLETED": Colour.GREEN, "FAILED": Colour.RED, "FAILED_WITH_TERMINAL_ERROR": Colour.RED}


def print_sheet(found: Facts, log_lines: int | None) -> None:
    """Print the document of `perago.cli.looking`. `log_lines`: how many of the log's last; None: all."""
    task = found["task"]
    if task is not None:
        _entries(_about_task(task, found["workflow"], found["attempts"]))
    if found["commit"] is not None:
        _entries(_about_commit(found))
    elif task is not None and task["input"]:
        write_entry("commit", ["none of its own" if task["ended"] else "none yet"])
    if found["files"] is not None:
        write_entry("files", _files(found["files"]))
    if task is not None:
        _print_log(found, log_lines)
    for text in found["problems"]:
        messages.warning(text)


def _entries(entries: Iterator[tuple[str, Sequence[str]]]) -> None:
    for label, lines in entries:
        write_entry(label, lines)


def _about_task(task: Facts, workflow: Facts | None, attempts: Sequence[Facts]) -> Iterator[tuple[str, Sequence[str]]]:
    yield "task", [one_line(task["task_id"]), one_line(f"{task['task_name']} as {task['reference_name']}")]
    allowed = "" if task["retries_allowed"] is None else f" of {task['retries_allowed'] + 1}"
    delivered = f", delivered {task['poll_count']} times" if task["poll_count"] > 1 else ""
    status = painted(one_line(task["status"]), _COLOURS.get(task["status"], Colour.YELLOW), sys.stdout)
    yield "status", [f"{status}, attempt {task['retry_count'] + 1}{allowed}{delivered}"]
    if task["reason"]:
        yield "reason", [one_line(str(task["reason"]))]
    yield "times", [_times(task)]
    if task["worker_id"]:
        yield "worker", [one_line(str(task["worker_id"]))]
    if workflow is not None:
        yield (
            "workflow",
            [one_line(f"{workflow['workflow_id']}"), one_line(f"{workflow['name']}: {workflow['status']}")],
        )
        if workflow["reason"]:
            yield "", [one_line(str(workflow["reason"]))]
    if len(attempts) > 1:
        yield "attempts", [one_line(f"{one['task_id']} {one['status']}") for one in attempts]
    block = task["input"]
    if block is not None and block["refs"]:
        refs = ", ".join(ref[:12] for ref in block["refs"])
        yield "input", [one_line(f"{block['branch']} of {block['repository']} at {refs}")]


def _times(task: Facts) -> str:
    if not task["started"]:
        return f"scheduled {_moment(task['scheduled'])}, not yet with a worker"
    waited = age((task["started"] - task["scheduled"]) / 1000)
    if not task["ended"]:
        silent = age(time.time() - task["updated"] / 1000)
        return f"started {_moment(task['started'])} after waiting {waited}, its worker was heard of {silent} ago"
    return f"started {_moment(task['started'])} after waiting {waited}, took {_took(task['ended'] - task['started'])}"


def _about_commit(found: Facts) -> Iterator[tuple[str, Sequence[str]]]:
    commit, noted = found["commit"], found["commit"]["publication"]
    yield "commit", [one_line(commit["commit"]), one_line(f"of {commit['repository']}, {_moment(commit['created'])}")]
    yield "", [one_line(commit["message"])]
    if noted is None or noted.get("task_id") is None:
        yield "", [one_line(f"by {commit['committer'] or 'lakeFS'}, not by perago")]
    if noted is not None:
        yield "published", list(_publication(noted, found))


def _publication(noted: Facts, found: Facts) -> Iterator[str]:
    def said(key: str) -> str:
        return noted.get(key) or "(not noted)"

    what = "an empty fence commit" if noted.get("phase") == "fence" else said("phase")
    yield one_line(f"{what}, by perago {said('version')}, to {said('branch')}")
    if found["task"] is None:
        yield one_line(f"by task {said('task_id')} of workflow {said('workflow_id')}")
        yield one_line(f"{said('task_name')} as {said('reference_name')}, retry {said('retry_count')}")
    if noted.get("input_ref"):
        yield one_line(f"read {noted['input_ref'][:12]}")
    if noted.get("expected_head") not in (None, noted.get("input_ref")):
        yield one_line(f"put on {noted['expected_head'][:12]}, where the branch was by then")
    for verb in ("adopts", "supersedes"):
        if noted.get(verb):
            yield one_line(f"{verb} {noted[verb]}")
    undone = found["undone"]
    if undone is not None and undone["commit"]:
        yield one_line(f"undone by {undone['commit']}")
    elif undone is not None and not undone["all_seen"]:
        yield f"whether it was undone is known for the last {undone['later_commits']} commits of the branch: it was not"
    yield f"publish fence {found['fence'] or 'unknown'} in this commit"


def _files(files: Facts) -> Iterator[str]:
    counts = ", ".join(f"{number:,} {one_line(kind)}" for kind, number in files["counts"].items())
    yield counts if files["all_counted"] else f"at least {counts}"
    for file in files["files"]:
        amount = "" if file["size"] is None else f"  {size(file['size'])}"
        yield f"{_SIGNS.get(file['kind'], '?')} {one_line(file['path'])}{amount}"
    more = sum(files["counts"].values()) - len(files["files"])
    if more > 0:
        yield f"and {more:,} more (--all)" if files["all_counted"] else f"and at least {more:,} more (--all)"


def _print_log(found: Facts, log_lines: int | None) -> None:
    """The worker's own log if it is here, with guardrails and steps; otherwise what Conductor was told."""
    deliveries = found["worker_log"]
    for delivery in deliveries:
        broken = [one_line(each["message"]) for each in delivery["guardrails"] if not each["satisfied"]]
        write_entry("broken", broken)
        write_entry("remarks", map(one_line, delivery["remarks"]))
        slow = [one_line(f"{name} {seconds:.2f} s") for name, seconds in delivery["steps"].items() if seconds >= 1]
        write_entry("slow", [", ".join(slow)] if slow else [])
    lines = [
        f"{_clock(line['time'])} {text}"
        for delivery in deliveries
        for line in delivery["lines"]
        for text in line["text"].splitlines()
    ]
    missing = sum(delivery["left_out"] for delivery in deliveries)
    if not lines:
        lines, missing = found["conductor_log"] or [], 0
    shown = lines if log_lines is None else lines[-log_lines:]
    left_out = len(lines) - len(shown) + missing
    earlier = [f"({left_out:,} earlier lines are left out)"] if left_out else []
    write_entry("log", chain(earlier, map(one_line, shown)) if shown else ["empty"])


def _moment(milliseconds: int) -> str:
    """UTC, as `perago log` has it."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{milliseconds} ms"


def _clock(milliseconds: int) -> str:
    return _moment(milliseconds)[11:19]


def _took(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.1f} s" if milliseconds < 60_000 else age(milliseconds / 1000)
