"""`perago send --each`: a back-fill on the services of a running `perago dev`, which is killed and continued."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from .conftest import Project
from .dev_command import Dev, ready
from .start_command import LIMIT

DAYS = """
from pydantic import BaseModel
from perago import TaskTerminalError, task
from perago.workflows import Flow, workflow

class Day(BaseModel):
    day: int
    fails: bool = False

@task(name="days.count", owner_email="data@example.com")
def count(params: Day) -> Day:
    if params.fails:
        raise TaskTerminalError(f"day {params.day} has no rows")
    return params

@workflow(name="days", version=1, owner_email="data@example.com")
def days(flow: Flow, given: Day) -> Day:
    counted = flow.step("count", count, Day, day=given.day, fails=given.fails)
    with flow.when("late", given.day > 500) as late, late.then():
        flow.fail("too_late", "the day is too late")
    return counted.result
"""
LINES = 120
FAILING = (17, 70)

pytestmark = pytest.mark.xdist_group("backfill")


@pytest.fixture(scope="module")
def dev(shared_project: Project) -> Iterator[Dev]:
    shared_project.module("days", DAYS)
    lines = [json.dumps({"day": number, "fails": number in FAILING}) for number in range(1, LINES + 1)]
    (shared_project.directory / "days.jsonl").write_text("\n".join(lines) + "\n")
    with ready(shared_project, "days") as running:
        yield running


def workflows(dev: Dev, name: str = "days.jsonl") -> list[dict[str, Any]]:
    """The workflows of a back-fill."""
    rows = dev.get("/workflow/search?size=1000&sort=startTime:DESC&query=workflowType%3D'days'")["results"]
    return [row for row in rows if row["correlationId"].startswith(f"{name}:")]


def most_open(rows: list[dict[str, Any]]) -> int:
    """The number of workflows that ran at the same time, at most."""
    times = [
        (datetime.fromisoformat(row[key]), change)
        for row in rows
        for key, change in (("startTime", 1), ("endTime", -1))
    ]
    running = most = 0
    for _, change in sorted(times):
        running += change
        most = max(most, running)
    return most


def send(*arguments: str) -> list[str]:
    return ["send", "days", "--workflow", "days", "--each", "days.jsonl", "--at-most", "20", *arguments]


def test_a_back_fill_that_is_killed_twice_starts_each_line_once(dev: Dev) -> None:
    project = replace(dev.project, environment={**dev.project.environment, **dev.variables()})
    for number in (25, 65):
        with project.start(*send()) as sender:
            assert sender.stderr is not None
            for line in sender.stderr:
                if len(workflows(dev)) >= number or not line:
                    break
            sender.kill()
        assert number <= len(workflows(dev)) < LINES
    ended = project.run(*send())
    assert ended.code == 1, ended.err
    rows = workflows(dev)
    numbers = Counter(int(row["correlationId"].split(":")[1]) for row in rows)
    assert numbers == Counter(range(1, LINES + 1))
    assert most_open(rows) <= 20
    first, *failures = ended.out.splitlines()
    assert first == "120 lines: 118 completed, 2 failed"
    assert failures[0].startswith("line 17 FAILED: ")
    assert "day 17 has no rows" in failures[0]
    (failed,) = [row["workflowId"] for row in rows if row["correlationId"].startswith("days.jsonl:17:")]
    assert failures[1] == f"  perago retry {failed}"
    assert len(failures) == 4

    again = project.run(*send())
    assert (again.code, again.out) == (1, ended.out)
    assert len(workflows(dev)) == LINES


def test_a_line_that_failed_on_purpose_is_not_retried_but_run_again(dev: Dev) -> None:
    (dev.project.directory / "late.jsonl").write_text('{"day": 501}\n')
    ran = dev.project.run("send", "days", "--workflow", "days", "--each", "late.jsonl", **dev.variables())
    (late,) = workflows(dev, "late.jsonl")
    assert (ran.code, ran.out.splitlines()[1:]) == (
        1,
        ["line 1 FAILED: the day is too late", f"  perago rerun {late['workflowId']}"],
    )


def test_two_senders_of_one_back_fill_are_refused_on_one_machine(dev: Dev) -> None:
    project = replace(dev.project, environment={**dev.project.environment, **dev.variables()})
    with project.start(*send("--back-fill", "second", "--at-most", "2")) as sender:
        assert sender.stderr is not None
        assert sender.stderr.readline()
        project.run(*send("--back-fill", "second", "--at-most", "2")).ends(
            1, "another perago send runs this back-fill on this machine"
        )
        sender.send_signal(signal.SIGINT)
        assert (
            "of the back-fill may still run; the same command continues it"
            in sender.communicate(timeout=LIMIT)[1].decode()
        )
    assert len(workflows(dev, "second")) < LINES


def test_lines_that_are_not_valid_start_nothing(dev: Dev) -> None:
    file = dev.project.directory / "wrong.jsonl"
    file.write_text('{"day": 1}\n\n{"day": "x"}\n[1]\n{"dy": 1}\n{\n')
    ran = dev.project.run("send", "days", "--workflow", "days", "--each", "wrong.jsonl", **dev.variables()).ends(
        1, out=""
    )
    for text in (
        "nothing was started: wrong.jsonl",
        "line 3: workflow days: /day: must be integer, but is string.",
        "line 4: it is not a JSON object.",
        "line 5: workflow days has no parameter 'dy'; it takes day, fails.",
        "line 6: ",
    ):
        assert text in ran.err
    assert workflows(dev, "wrong.jsonl") == []
    dev.project.run("send", "days", "--workflow", "days", "--at-most", "4").ends(2, "add --each FILE")
    both = ("--each", "wrong.jsonl", "--params", '{"day": 1}')
    dev.project.run("send", "days", "--workflow", "days", *both, **dev.variables()).ends(2, "omit the other option")
