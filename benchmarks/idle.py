"""A worker that waits: memory, processor, polls a minute, and the time of a task from scheduled to completed.

`perago start -j 4` and a bare conductor-python worker with four threads do nothing side by side, each behind a
counting proxy. Then, started anew without it, they get workflows of two tasks in turn, after random pauses longer than
a worker stays alert after work: the first task meets an idle worker, the second a busy one.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.harness import Row, Target, arguments, percentile, print_table, seconds, under
from benchmarks.processes import tree_cpu, tree_memory
from benchmarks.proxy import CountingProxy, counting
from benchmarks.workers import BARE_MODULE, Kind, Running, running
from benchmarks.workflows import Workflows, workflows

PERAGO, BARE = Kind("perago, 4 slots", 4), Kind("bare, 4 threads", 4, other=BARE_MODULE)
WINDOW = 30.0
"""Seconds of doing nothing."""
SETTLE = 8.0
"""Seconds after the start before the window opens: the first long poll of a worker has begun by then."""
TASK_LIMIT = 20.0


@dataclass(frozen=True, slots=True)
class Idle:
    """What waiting costs."""

    memory: float
    """MiB."""
    cpu: float
    """Percent of one core."""
    polls: float
    """A minute."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A kind of worker, its tasks, and where it keeps its files."""

    kind: Kind
    flows: Workflows
    scratch: Path

    def one(self) -> tuple[float, float, float]:
        """How long the first task of a workflow waited, and both took, by the server's clock: seconds from scheduled to
        started, and to completed."""
        ids = self.flows.start(1)
        self.flows.wait(TASK_LIMIT)
        first, second = self.flows.tasks(ids)
        waited = first["startTime"] - first["scheduledTime"]
        one, two = (task["endTime"] - task["scheduledTime"] for task in (first, second))
        return waited / 1000, one / 1000, two / 1000


def main() -> None:
    """Run and print."""
    tasks = arguments(__doc__, rounds=40).rounds
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        both = [
            Contestant(kind, stack.enter_context(workflows(servers.conductor(), "idle", steps=2)), scratch / kind.name)
            for kind in (PERAGO, BARE)
        ]
        idle = do_nothing(both)
        waited, first, second = latencies(both, tasks)
    print_table(
        f"idle, {WINDOW:g} s of waiting, then {tasks} workflows of two tasks for each, taking turns",
        [PERAGO.name, BARE.name],
        [
            *idle_rows(idle),
            latency_row(
                "idle: scheduled to started, median",
                waited,
                0.5,
                under(0.030, percentile(waited[0], 0.5), "under 30 ms"),
            ),
            latency_row(
                "idle: scheduled to completed, median",
                first,
                0.5,
                under(0.070, percentile(first[0], 0.5), "under 70 ms"),
            ),
            latency_row("idle: scheduled to completed, p95", first, 0.95),
            latency_row(
                "busy: second step, median", second, 0.5, under(0.020, percentile(second[0], 0.5), "under 20 ms")
            ),
            latency_row("busy: second step, p95", second, 0.95),
        ],
        depends_on="the server's long poll (it looks every 100 ms) for latency; for the rest little but the processor",
    )


def do_nothing(both: list[Contestant]) -> list[Idle]:
    """Wait, and see what that took."""
    with contextlib.ExitStack() as stack:
        workers: list[tuple[CountingProxy, Running]] = []
        for each in both:
            proxy = stack.enter_context(counting(each.flows.url))
            workers.append((proxy, stack.enter_context(running(each.kind, each.flows.task, proxy.url, each.scratch))))
        for each in both:
            each.one()  # and whatever a worker loads with its first task
        time.sleep(SETTLE)
        return look(workers)


def look(workers: list[tuple[CountingProxy, Running]]) -> list[Idle]:
    """What happens in the window."""
    before = [tree_cpu(worker.pid) for _, worker in workers]
    for proxy, _ in workers:
        proxy.reset()
    time.sleep(WINDOW)
    return [
        Idle(
            tree_memory(worker.pid),
            100 * (tree_cpu(worker.pid) - cpu) / WINDOW,
            60 * proxy.counts.requests / WINDOW,
        )
        for (proxy, worker), cpu in zip(workers, before, strict=True)
    ]


def latencies(both: list[Contestant], count: int) -> tuple[list[list[float]], ...]:
    """For each contestant how long first tasks waited, how long they took, and how long second tasks took."""
    found: tuple[list[list[float]], ...] = tuple([[] for _ in both] for _ in range(3))
    with contextlib.ExitStack() as stack:
        for each in both:
            stack.enter_context(running(each.kind, each.flows.task, each.flows.url, each.scratch))
            each.one()
        for _ in range(count):
            for number, each in enumerate(both):
                time.sleep(random.uniform(0.2, 0.4))
                for values, value in zip(found, each.one(), strict=True):
                    values[number].append(value)
    return found


def idle_rows(idle: list[Idle]) -> list[Row]:
    """Memory, processor, polls."""
    ours = idle[0]
    return [
        Row(
            "memory of the tree (PSS)",
            [f"{each.memory:.0f} MiB" for each in idle],
            under(180, ours.memory, "under 180 MiB"),
        ),
        Row("processor", [f"{each.cpu:.2f} %" for each in idle], under(0.5, ours.cpu, "under 0.5 %")),
        Row("polls a minute", [f"{each.polls:.0f}" for each in idle], under(60, ours.polls, "under 60")),
    ]


def latency_row(what: str, values: list[list[float]], share: float, target: Target | None = None) -> Row:
    """A percentile of each contestant."""
    return Row(what, [seconds(percentile(found, share)) for found in values], target)


if __name__ == "__main__":
    main()
