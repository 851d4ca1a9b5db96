"""Attempts a second on the services in memory: the cost of an author's test.

A workspace of ten files of which the function changes one. The base is the file work alone, without perago: write the
ten files to a new directory, call the function, read all files and remove the directory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import Cost, Row, interleave, median, print_table, ratio, rounds_option, seconds, timed, under
from benchmarks.tasks.editing import Params, edit
from perago.authoring.task import get_task
from perago.ports import TaskStatus
from perago.testing import Outcome
from perago.testing.services import InMemoryServices

ATTEMPTS = 100
"""Attempts on one pair of services, as in a long test. A measurement is their mean."""
LIMIT = 0.003
TREE: dict[str, str | bytes | None] = {f"part{number % 3}/file{number}": os.urandom(4096) for number in range(10)}
PARAMS = Params(paths=["part0/file0"])

BASE = "the file work alone"
ATTEMPT = "attempt: take, run, report"
WHOLE = "new services, seed, start, attempt, close"


def main() -> None:
    """Run and print."""
    rounds = rounds_option(__doc__, 15)
    contestants: dict[str, Callable[[], Cost]] = {
        BASE: lambda: mean(file_work),
        ATTEMPT: chain_of_attempts,
        WHOLE: lambda: mean(complete_test),
    }
    interleave(contestants, 1)
    costs = {name: median(runs) for name, runs in interleave(contestants, rounds).items()}
    base = costs[BASE]
    rows = [
        Row(
            name,
            [seconds(cost.wall), seconds(cost.cpu), f"{1 / cost.wall:.0f}", ratio(cost.wall, base.wall)],
            under(LIMIT, cost.wall, "under 3 ms") if name == ATTEMPT else None,
        )
        for name, cost in costs.items()
    ]
    print_table(
        f"in_process, ten files of 4 KiB, one changed; median of {rounds} means over {ATTEMPTS}",
        ["wall", "cpu", "a second", "wall / base"],
        rows,
        depends_on="the speed of one core, and of small files in memory (/dev/shm where there is one)",
    )


def chain_of_attempts() -> Cost:
    """Return the mean cost of attempts, each on the publication of the one before."""
    task = get_task(edit)
    assert task is not None
    with InMemoryServices() as services:
        refs = [services.seed(TREE)]

        def prepare() -> None:
            services.start(task, PARAMS, ref=refs[-1])

        return mean(lambda: refs.append(published(services.attempt(edit))), prepare)


def complete_test() -> None:
    """Run one test that shares nothing with other tests."""
    with InMemoryServices() as services:
        published(services.run(edit, PARAMS, TREE))


def file_work() -> None:
    """Do the part that no implementation can avoid."""
    directory = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    for name, content in TREE.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else b"")
    edit(workspace=directory, params=PARAMS)
    for name in TREE:
        (directory / name).read_bytes()
    shutil.rmtree(directory)


def mean(action: Callable[[], None], prepare: Callable[[], None] = lambda: None) -> Cost:
    """Return the mean cost of many calls, without what prepares them."""
    cost = Cost(0.0, 0.0)
    for _ in range(ATTEMPTS):
        prepare()
        call = timed(action)
        cost = Cost(cost.wall + call.wall, cost.cpu + call.cpu)
    return Cost(cost.wall / ATTEMPTS, cost.cpu / ATTEMPTS)


def published(outcome: Outcome) -> str:
    """Return the commit of an attempt.

    Raises:
        RuntimeError: it has none, so its time proves nothing.
    """
    if outcome.status is not TaskStatus.COMPLETED or outcome.commit is None:
        raise RuntimeError(f"the attempt ended as {outcome.status}: {outcome.reason}")
    return outcome.commit


if __name__ == "__main__":
    main()
