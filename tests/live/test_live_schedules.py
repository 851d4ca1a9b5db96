"""A schedule and a back-fill on a real Conductor: registered, started and ended by the commands that users have."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from .commands import Environment, Worker, perago
from .repositories import LakeFSServer, Repository
from .waiting import wait_for
from .workflows import Conductor

pytestmark = pytest.mark.live

DAYS = """
    from pydantic import BaseModel
    from perago import TaskTerminalError, task
    from perago.workflows import Cron, Flow, workflow

    class Day(BaseModel):
        day: int

    @task(name="{token}.count", owner_email="live@example.com")
    def count(params: Day) -> Day:
        if params.day == 7:
            raise TaskTerminalError("day 7 has no rows")
        return params

    @workflow(name="{token}.days", version=1, owner_email="live@example.com", {schedule})
    def days(flow: Flow, given: Day) -> Day:
        return flow.step("count", count, Day, day=given.day).result
"""
EVERY_MINUTE = 'schedule=Cron("* * * * *", time_zone="Europe/Berlin", input=Day(day=1))'
FIRST_RUN = 150.0
"""Seconds: a minute, and the start of a scheduler on a busy machine."""


class Days:
    """A module with a task and a workflow on the server."""

    def __init__(
        self, conductor: Conductor, directory: Path, schedule: str, module: str = DAYS, **variables: str
    ) -> None:
        self._conductor = conductor
        self._text = module
        self.environment = Environment(directory, {"CONDUCTOR_SERVER_URL": conductor.url, **variables})
        self.module = f"days{self.environment.token}"
        self.name = f"live.{self.environment.token}.days"
        self.paths = {"PYTHONPATH": str(directory)}
        self.write(directory, schedule)
        self.run("register", self.module)

    def write(self, directory: Path, schedule: str) -> None:
        """Write the module."""
        text = textwrap.dedent(self._text).format(token=f"live.{self.environment.token}", schedule=schedule)
        (directory / f"{self.module}.py").write_text(text)

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command; its output."""
        ran = perago(self.environment, *arguments, **self.paths)
        assert ran.returncode == code, ran.stderr
        return ran.stdout

    def rows(self) -> list[dict[str, Any]]:
        """The workflows on the server."""
        query = f"/workflow/search?size=500&query=workflowType%3D'{self.name}'"
        rows: list[dict[str, Any]] = self._conductor.call("GET", query)["results"]
        return rows


def test_a_schedule_starts_runs_until_it_is_removed(conductor: Conductor, tmp_path: Path) -> None:
    days = Days(conductor, tmp_path, EVERY_MINUTE)
    worker = Worker(days.environment, days.module, **days.paths)
    try:
        worker.ready()
        assert f"{days.name}  0 * * * * *  Europe/Berlin  2" in days.run("schedules")
        wait_for(
            "a run of the schedule", lambda: any(row["status"] == "COMPLETED" for row in days.rows()), limit=FIRST_RUN
        )
        run = conductor.workflow(days.rows()[-1]["workflowId"])
        assert run["input"]["_schedulerCron"] == "0 * * * * * Europe/Berlin"
        assert (run["input"]["day"], run["input"]["_scheduledTime"] % 60_000) == (1, 0)
        assert "paused" in days.run("schedules", "pause", days.name)
        assert "2" in days.run("schedules", "resume", days.name)
        days.write(tmp_path, "")
        days.run("diff", days.module, code=1)
        assert "1 removed schedule" in days.run("register", "--prune", days.module)
        assert days.name not in days.run("schedules")
    finally:
        worker.stop()


GROWN = """
    from pathlib import Path

    from pydantic import BaseModel
    from perago import WorkspaceSpec, task
    from perago.workflows import Cron, Flow, workflow

    class Text(BaseModel):
        text: str
        size: int | None = None

    @task(name="{token}.grow", owner_email="live@example.com", workspace=WorkspaceSpec())
    def grow(workspace: Path, params: Text) -> Text:
        file = workspace / "texts"
        file.write_text((file.read_text() if file.exists() else "") + params.text)
        return params

    @workflow(name="{token}.days", version=1, owner_email="live@example.com", {schedule})
    def days(flow: Flow, given: Text) -> Text:
        return flow.step("grow", grow, Text, text=given.text, size=given.size).result
"""


def test_each_run_on_a_branch_begins_with_its_newest_commit(
    conductor: Conductor, lakefs: LakeFSServer, seeded: tuple[Repository, str], tmp_path: Path
) -> None:
    """A parameter that looks like an expression and one that is null arrive unchanged."""
    repository, _ = seeded
    place = f"{repository.name}/main"
    schedule = f'schedule=Cron("* * * * *", input=Text(text="${{workflow.workflowId}} "), workspace="{place}")'
    days = Days(conductor, tmp_path, schedule, module=GROWN, **lakefs.environment())
    worker = Worker(days.environment, days.module, **days.paths)

    def completed() -> list[dict[str, Any]]:
        runs = [conductor.workflow(row["workflowId"]) for row in days.rows() if row["status"] == "COMPLETED"]
        return sorted(runs, key=lambda run: int(run["createTime"]))

    try:
        worker.ready()
        wait_for("two runs of the schedule", lambda: len(completed()) >= 2, limit=FIRST_RUN + 60)
        days.run("diff", days.module)
        days.write(tmp_path, "")
        assert "1 removed schedule" in days.run("register", "--prune", days.module)
        first, second = completed()[:2]
        assert first["input"]["workspace"]["ref"] == seeded[1]
        assert second["input"]["workspace"] == first["output"]["workspace"]
        assert repository.read("texts", second["output"]["workspace"]["ref"]) == b"${workflow.workflowId} " * 2
        conductor.restart(first["workflowId"])
        assert conductor.workflow(first["workflowId"])["input"]["workspace"] == first["input"]["workspace"]
    finally:
        worker.stop()


def test_a_back_fill_starts_each_line_once(conductor: Conductor, tmp_path: Path) -> None:
    days = Days(conductor, tmp_path, "")
    file = tmp_path / "days.jsonl"
    file.write_text("".join(f"{json.dumps({'day': day})}\n" for day in range(1, 31)))
    arguments = ("send", days.module, "--workflow", days.name, "--each", str(file), "--at-most", "6")
    worker = Worker(days.environment, days.module, **days.paths)
    try:
        worker.ready()
        first, again = days.run(*arguments, code=1), days.run(*arguments, code=1)
    finally:
        worker.stop()
    assert first == again
    assert first.startswith("30 lines: 29 completed, 1 failed\nline 7 FAILED: ")
    numbers = Counter(int(row["correlationId"].split(":")[1]) for row in days.rows())
    assert numbers == Counter(range(1, 31))
