"""A full queue of tasks that do nothing: `perago start`, a bare conductor-python worker, and perago's requests alone.

All run on the same server, and the queue is filled before the worker starts. Tasks a second are counted by the server's
clock, from the start of the first task to the end of the last one. Processor time is that of all processes with their
start.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.harness import Row, Target, at_least, at_most, median, print_table, ratio, rounds_option, seconds, under
from benchmarks.processes import tree_cpu
from benchmarks.workers import KINDS, Kind, base_of, running
from benchmarks.workflows import Workflows, workflows

TASKS = 300
LIMIT = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """The figures of a worker that has emptied the queue."""

    rate: float
    """Tasks a second."""
    cpu: float
    """Seconds."""
    start: float
    """Seconds from the start of the command to the first line of the first task."""


def main() -> None:
    """Run and print."""
    rounds = rounds_option(__doc__, 3)
    runs: dict[str, list[Run]] = {kind.name: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as scratch, workflows(servers.conductor(), "noop") as flows:
        for number in range(rounds):
            for kind in KINDS:
                runs[kind.name].append(empty_queue(kind, flows, Path(scratch) / f"{number}-{kind.name}"))
    medians = {name: median(taken) for name, taken in runs.items()}
    print_table(
        f"throughput, {TASKS} queued tasks, median of {rounds}, taking turns; ratios to bare with as many threads",
        ["tasks/s", "tasks/s / bare", "cpu", "cpu / bare", "to first task"],
        [row for kind in KINDS for row in rows_of(kind, medians)],
        depends_on="the Conductor server (its database sets the pace) and the cores it shares with the worker",
    )


def empty_queue(kind: Kind, flows: Workflows, scratch: Path) -> Run:
    """Fill the queue, start a worker, and wait until the queue is empty."""
    ids = flows.start(TASKS)
    with running(kind, flows.task, flows.url, scratch) as worker:
        flows.wait(LIMIT)
        cpu = tree_cpu(worker.pid)
    tasks = flows.tasks(ids)
    span = max(task["endTime"] for task in tasks) - min(task["startTime"] for task in tasks)
    first = min(task["outputData"]["result"]["ran"] for task in tasks)
    return Run(TASKS / (span / 1000), cpu, first - worker.started)


def rows_of(kind: Kind, medians: dict[str, Run]) -> list[Row]:
    """Return the row of a worker, and one for each further target."""
    run, base = medians[kind.name], medians[base_of(kind)]
    values = [f"{run.rate:.0f}", ratio(run.rate, base.rate), seconds(run.cpu), ratio(run.cpu, base.cpu)]
    values.append(seconds(run.start))
    if kind.other:
        return [Row(kind.name, values)]
    first, *others = targets_of(kind, run, base)
    return [Row(kind.name, values, first), *(Row("", [""] * len(values), target) for target in others)]


def targets_of(kind: Kind, run: Run, base: Run) -> list[Target]:
    """Return the targets of rate and processor time; for four slots also that of the start."""
    rate = at_least(1.0, run.rate / base.rate, "at least 1.0 x bare")
    cpu = at_most(1.3, run.cpu / base.cpu, "cpu at most 1.3 x bare")
    return [rate, cpu, *([under(0.6, run.start, "first task under 0.6 s")] if kind.slots == 4 else [])]


if __name__ == "__main__":
    main()
