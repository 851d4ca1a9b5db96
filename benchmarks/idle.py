"""An idle worker: memory, processor, polls a minute, and the time of a task from scheduled to completed.

`perago start -j 4` and a bare conductor-python worker with four threads run idle at the same time, each behind a
counting proxy. Then both are started again without it and take turns with workflows of two tasks, at random intervals
that are longer than a worker stays alert after work. The first task meets an idle worker, the second a busy one.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.harness import Row, percentile, print_table, rounds_option, seconds, under
from benchmarks.processes import tree_cpu, tree_memory
from benchmarks.proxy import CountingProxy, counting
from benchmarks.workers import BARE_FOUR, PERAGO_FOUR, Kind, Running, running
from benchmarks.workflows import Workflows, workflows

WINDOW = 30.0
"""Seconds of the idle measurement."""
SETTLE = 8.0
"""Seconds between the first task and the measurement: the first long poll of a worker has begun by then."""
TASK_LIMIT = 20.0


@dataclass(frozen=True, slots=True)
class Idle:
    """The cost of an idle worker."""

    memory: float
    """MiB."""
    cpu: float
    """Percent of one core."""
    polls: float
    """A minute."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of one workflow, by the server's clock."""

    started: float
    """The first task, from scheduled to started."""
    first: float
    """The first task, from scheduled to completed."""
    second: float


@dataclass(frozen=True, slots=True)
class Contestant:
    """A kind of worker, its tasks, and the directory of its files."""

    kind: Kind
    flows: Workflows
    scratch: Path

    def running(self, url: str) -> contextlib.AbstractContextManager[Running]:
        """Run the worker with Conductor at `url`."""
        return running(self.kind, self.flows.task, url, self.scratch)

    def run_workflow(self) -> Latency:
        """Run one workflow."""
        ids = self.flows.start(1)
        self.flows.wait(TASK_LIMIT)
        tasks = self.flows.tasks(ids)
        started = tasks[0]["startTime"] - tasks[0]["scheduledTime"]
        first, second = (task["endTime"] - task["scheduledTime"] for task in tasks)
        return Latency(started / 1000, first / 1000, second / 1000)


def main() -> None:
    """Run and print."""
    count = rounds_option(__doc__, 40)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contestants = [
            Contestant(kind, stack.enter_context(workflows(servers.conductor(), "idle", steps=2)), scratch / kind.name)
            for kind in (PERAGO_FOUR, BARE_FOUR)
        ]
        rows = [*idle_rows(measure_idle(contestants)), *latency_rows(measure_latencies(contestants, count))]
    print_table(
        f"idle, {WINDOW:g} s without work, then {count} workflows of two tasks for each, taking turns",
        [PERAGO_FOUR.name, BARE_FOUR.name],
        rows,
        depends_on="the server's long poll (it reads the queue every 100 ms) for latency; otherwise the processor",
    )


def measure_idle(contestants: list[Contestant]) -> list[Idle]:
    """Measure workers that have run one workflow and have no work."""
    with contextlib.ExitStack() as stack:
        workers: list[tuple[CountingProxy, Running]] = []
        for contestant in contestants:
            proxy = stack.enter_context(counting(contestant.flows.url))
            workers.append((proxy, stack.enter_context(contestant.running(proxy.url))))
        for contestant in contestants:
            contestant.run_workflow()  # a worker loads some modules with its first task
        time.sleep(SETTLE)
        cpu_before = [tree_cpu(worker.pid) for _, worker in workers]
        for proxy, _ in workers:
            proxy.reset()
        time.sleep(WINDOW)
        return [
            Idle(
                tree_memory(worker.pid),
                100 * (tree_cpu(worker.pid) - cpu) / WINDOW,
                60 * proxy.counts.requests / WINDOW,
            )
            for (proxy, worker), cpu in zip(workers, cpu_before, strict=True)
        ]


def measure_latencies(contestants: list[Contestant], count: int) -> list[list[Latency]]:
    """Run `count` workflows on each contestant in turns."""
    latencies: list[list[Latency]] = [[] for _ in contestants]
    with contextlib.ExitStack() as stack:
        for contestant in contestants:
            stack.enter_context(contestant.running(contestant.flows.url))
            contestant.run_workflow()
        for _ in range(count):
            for contestant, runs in zip(contestants, latencies, strict=True):
                time.sleep(random.uniform(0.2, 0.4))
                runs.append(contestant.run_workflow())
    return latencies


def idle_rows(idle: list[Idle]) -> list[Row]:
    """Return the rows of memory, processor and polls."""
    perago = idle[0]
    return [
        Row(
            "memory of the tree (PSS)",
            [f"{worker.memory:.0f} MiB" for worker in idle],
            under(180, perago.memory, "under 180 MiB"),
        ),
        Row("processor", [f"{worker.cpu:.2f} %" for worker in idle], under(0.5, perago.cpu, "under 0.5 %")),
        Row("polls a minute", [f"{worker.polls:.0f}" for worker in idle], under(60, perago.polls, "under 60")),
    ]


def latency_rows(latencies: list[list[Latency]]) -> list[Row]:
    """Return the percentiles of each contestant."""
    started = [[run.started for run in runs] for runs in latencies]
    first = [[run.first for run in runs] for runs in latencies]
    second = [[run.second for run in runs] for runs in latencies]

    def row(what: str, figures: list[list[float]], share: float, limit: float | None = None) -> Row:
        values = [percentile(contestant, share) for contestant in figures]
        target = under(limit, values[0], f"under {seconds(limit)}") if limit else None
        return Row(what, [seconds(value) for value in values], target)

    return [
        row("idle: scheduled to started, median", started, 0.5, 0.030),
        row("idle: scheduled to completed, median", first, 0.5, 0.070),
        row("idle: scheduled to completed, p95", first, 0.95),
        row("busy: second step, median", second, 0.5, 0.020),
        row("busy: second step, p95", second, 0.95),
    ]


if __name__ == "__main__":
    main()
