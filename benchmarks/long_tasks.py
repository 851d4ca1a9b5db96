"""Many long tasks at once: `perago start -j 64` against a bare conductor-python worker with 64 threads.

Twice as many tasks as slots, each of a few seconds, come a few at a time to a worker that waits. From the server's
times: the most that ran at one moment, and how long all took beside what 64 slots need that are never without work.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.harness import Row, arguments, at_least, at_most, print_table, ratio, seconds
from benchmarks.workers import BARE_MODULE, Kind, running
from benchmarks.workflows import Workflows, workflows

SLOTS = 64
TASKS = 2 * SLOTS
SECONDS = 8.0
"""Of each task."""
BATCH, PAUSE = 8, 0.2
"""So many tasks come together, and so many seconds pass until the next."""
IDEAL = SECONDS * TASKS / SLOTS
LIMIT = 120.0
KINDS = (Kind(f"bare, {SLOTS} threads", SLOTS, other=BARE_MODULE), Kind(f"perago, {SLOTS} slots", SLOTS))


@dataclass(frozen=True, slots=True)
class Run:
    """All tasks worked off."""

    most: int
    """Tasks that ran at one moment."""
    span: float
    """Seconds from the first start to the last end."""


def main() -> None:
    """Run and print."""
    rounds = arguments(__doc__, rounds=1).rounds
    os.environ["BENCHMARK_SECONDS"] = str(SECONDS)
    runs: dict[str, list[Run]] = {kind.name: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as scratch, workflows(servers.conductor(), "long") as flows:
        for number in range(rounds):
            for kind in KINDS:
                runs[kind.name].append(work_off(kind, flows, Path(scratch) / f"{number}-{kind.name}"))
    print_table(
        f"{TASKS} tasks of {SECONDS:g} s, median of {rounds}, taking turns",
        ["most at once", f"of {SLOTS}", "span", f"to {IDEAL:g} s"],
        rows(*(Run(min(run.most for run in found), middle(found)) for found in runs.values())),
        depends_on="the Conductor server, and the cores that start 64 processes beside it",
    )


def work_off(kind: Kind, flows: Workflows, scratch: Path) -> Run:
    """Start a worker, give it work, and look when everything is done."""
    with running(kind, flows.task, flows.url, scratch):
        flows.start(1)
        flows.wait(LIMIT)  # until it works
        ids = []
        for _ in range(TASKS // BATCH):
            ids += flows.start(BATCH)
            time.sleep(PAUSE)
        flows.wait(LIMIT)
    tasks = flows.tasks(ids)
    span = max(task["endTime"] for task in tasks) - min(task["startTime"] for task in tasks)
    return Run(most_at_once(tasks), span / 1000)


def most_at_once(tasks: Iterable[Mapping[str, Any]]) -> int:
    """Of the times during which tasks ran, the most that overlap."""
    steps = sorted(step for task in tasks for step in ((task["startTime"], 1), (task["endTime"], -1)))
    running_now, most = 0, 0
    for _, change in steps:
        running_now += change
        most = max(most, running_now)
    return most


def middle(runs: list[Run]) -> float:
    """The median of the spans."""
    return statistics.median(run.span for run in runs)


def rows(bare: Run, perago: Run) -> list[Row]:
    """A line for each worker, and one for a further target."""
    lines = [
        [str(run.most), ratio(run.most, SLOTS), seconds(run.span), ratio(run.span, IDEAL)] for run in (bare, perago)
    ]
    return [
        Row(KINDS[0].name, lines[0]),
        Row(KINDS[1].name, lines[1], at_least(SLOTS, perago.most, "all slots at once")),
        Row("", [""] * len(lines[1]), at_most(1.25 * bare.span, perago.span, "span at most 1.25 x bare")),
    ]


if __name__ == "__main__":
    main()
