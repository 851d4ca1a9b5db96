"""Attempts a second on the services in memory: what an author's test costs.

A workspace of ten files of which the function changes one. The base is the file work alone, without any perago: write
the ten files to a new directory, call the function, read them all and remove the directory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import (
    Cost,
    Row,
    Target,
    arguments,
    interleave,
    median,
    print_table,
    ratio,
    seconds,
    timed,
    under,
)
from benchmarks.tasks.editing import Params, edit
from perago.authoring import Task
from perago.authoring.task import get_task
from perago.ports import TaskStatus
from perago.testing import Outcome
from perago.testing.services import InMemoryServices

ATTEMPTS = 100
"""In a row in one pair of services, as in a long test; a measurement is their mean."""
LIMIT = 0.003
TREE: dict[str, str | bytes | None] = {f"part{number % 3}/file{number}": os.urandom(4096) for number in range(10)}
PARAMS = Params(paths=["part0/file0"])

BASE = "the file work alone"
ATTEMPT = "attempt: take, run, report"
WITH_START = "start of the workflow and attempt"
WHOLE = "new services, seed, start, attempt, close"


def main() -> None:
    """Run and print."""
    rounds = arguments(__doc__, rounds=15).rounds
    contestants: dict[str, Callable[[], Cost]] = {
        BASE: file_work,
        ATTEMPT: lambda: many_attempts(with_start=False),
        WITH_START: lambda: many_attempts(with_start=True),
        WHOLE: whole_tests,
    }
    interleave(contestants, 1)
    costs = {name: median(found) for name, found in interleave(contestants, rounds).items()}
    base, rows = costs[BASE], []
    for name, cost in costs.items():
        target: Target | None = under(LIMIT, cost.wall, "under 3 ms") if name == ATTEMPT else None
        values = [seconds(cost.wall), seconds(cost.cpu), f"{1 / cost.wall:.0f}", ratio(cost.wall, base.wall)]
        rows.append(Row(name, values, target))
    print_table(
        f"in_process, ten files of 4 KiB, one changed; median of {rounds} means over {ATTEMPTS}",
        ["wall", "cpu", "a second", "wall / base"],
        rows,
        depends_on="the speed of one core, and of small files in memory (/dev/shm where there is one)",
    )


def many_attempts(*, with_start: bool) -> Cost:
    """The mean over a chain of attempts, each on what the one before has published."""
    task = task_of_edit()
    wall = cpu = 0.0
    with InMemoryServices() as services:
        ref = services.seed(TREE)
        for _ in range(ATTEMPTS):
            outcomes: list[Outcome] = []
            start = timed(lambda ref=ref: services.start(task, PARAMS, ref=ref))  # type: ignore[misc]
            attempt = timed(lambda found=outcomes: found.append(services.attempt(edit)))  # type: ignore[misc]
            wall += attempt.wall + (start.wall if with_start else 0)
            cpu += attempt.cpu + (start.cpu if with_start else 0)
            ref = published(outcomes[0])
    return Cost(wall / ATTEMPTS, cpu / ATTEMPTS)


def whole_tests() -> Cost:
    """The mean over tests that share nothing."""

    def test() -> None:
        with InMemoryServices() as services:
            published(services.run(edit, PARAMS, TREE))

    return per_attempt(test)


def file_work() -> Cost:
    """The mean over what no implementation can do without: the files."""

    def work() -> None:
        directory = Path(tempfile.mkdtemp(dir=shared))
        for name, content in TREE.items():
            path = directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else b"")
        edit(workspace=directory, params=PARAMS)
        for name in TREE:
            (directory / name).read_bytes()
        shutil.rmtree(directory)

    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    return per_attempt(work)


def per_attempt(action: Callable[[], None]) -> Cost:
    """The mean of many calls."""

    def all_of_them() -> None:
        for _ in range(ATTEMPTS):
            action()

    cost = timed(all_of_them)
    return Cost(cost.wall / ATTEMPTS, cost.cpu / ATTEMPTS)


def task_of_edit() -> Task:
    """The task of the function, as the runtime sees it."""
    task = get_task(edit)
    if task is None:
        raise RuntimeError("edit is a task")
    return task


def published(outcome: Outcome) -> str:
    """The commit of an attempt that must have gone well: a benchmark of failures proves nothing."""
    if outcome.status is not TaskStatus.COMPLETED or outcome.commit is None:
        raise RuntimeError(f"the attempt ended as {outcome.status}: {outcome.reason}")
    return outcome.commit


if __name__ == "__main__":
    main()
