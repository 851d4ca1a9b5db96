"""One worker for twenty task types: memory, requests a minute, and how soon a task is seen.

`perago start crowd -j 8` does nothing behind a counting proxy, first without a slot, then with eight. After that,
started anew without the proxy, it gets tasks of random types after random pauses, longer than it stays alert: a slot
has to be made for the first of two, and is there for the second.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import servers
from benchmarks.harness import Row, arguments, percentile, print_table, seconds, under
from benchmarks.processes import tree_cpu, tree_memory
from benchmarks.proxy import counting
from benchmarks.workers import Kind, running, wait_for

TYPES, SLOTS = 20, 8
WINDOW = 60.0
"""Seconds of doing nothing."""
SETTLE = 5.0
TASK_LIMIT = 30.0
MODULE = """
from benchmarks.tasks.noop import Params, Result
from perago import task


@task(name="{name}", owner_email="benchmark@example.com")
def work(params: Params) -> Result:
    return Result(ran=0)
"""


@dataclass(frozen=True, slots=True)
class Crowd(Kind):
    """A worker for all types."""

    def command(self, task: str) -> list[str]:
        """How it is started."""
        return [*Kind.command(self, task)[:3], "start", "crowd", "-j", str(self.slots)]


class Types:
    """The task types, their modules, and a workflow of one step for each."""

    def __init__(self, url: str, scratch: Path) -> None:
        self.url = url
        self.names = [f"benchmark.{uuid.uuid4().hex[:8]}.{number}" for number in range(TYPES)]
        package = scratch / "crowd"
        package.mkdir(parents=True)
        for number, name in enumerate(self.names):
            (package / f"t{number}.py").write_text(MODULE.format(name=name))

    def register(self) -> None:
        """Put the definitions on the server."""
        owner = {"ownerEmail": "benchmark@example.com"}
        for name in self.names:
            definition = {"name": name, "timeoutSeconds": 0, "responseTimeoutSeconds": 600, **owner}
            servers.call(f"{self.url}/metadata/taskdefs", "POST", [definition])
            step = {"name": name, "taskReferenceName": "step", "type": "SIMPLE", "inputParameters": {"params": {}}}
            workflow = {"name": name, "version": 1, "schemaVersion": 2, "tasks": [step], **owner}
            servers.call(f"{self.url}/metadata/workflow", "PUT", [workflow])

    def one(self, name: str) -> float:
        """Seconds from scheduled to started, of one task."""
        workflow = servers.call(f"{self.url}/workflow", "POST", {"name": name, "version": 1, "input": {}})

        def completed() -> bool:
            found = servers.call(f"{self.url}/workflow/{workflow}?includeTasks=false", "GET")["status"]
            return bool(found == "COMPLETED")

        wait_for("the workflow to complete", completed, TASK_LIMIT)
        (task,) = servers.call(f"{self.url}/workflow/{workflow}", "GET")["tasks"]
        return float(task["startTime"] - task["scheduledTime"]) / 1000


def main() -> None:
    """Run and print."""
    rounds = arguments(__doc__, rounds=20).rounds
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, server = stack.enter_context(servers.conductor_or_embedded())
        types = Types(url, scratch)
        types.register()
        kind = Crowd("perago", SLOTS)
        rows = list(do_nothing(kind, types, scratch))
        cold, warm = latencies(kind, types, scratch, rounds)
    print_table(
        f"{TYPES} task types in one worker with up to {SLOTS} slots, {server}",
        [kind.name],
        [
            *rows,
            Row("idle: scheduled to started, a slot is made, median", [seconds(percentile(cold, 0.5))]),
            Row("the same, p95", [seconds(percentile(cold, 0.95))]),
            Row("idle: scheduled to started, the slot is there, median", [seconds(percentile(warm, 0.5))]),
            Row("the same, p95", [seconds(percentile(warm, 0.95))]),
        ],
        depends_on="the pause between two looks at the queues for latency; for the rest little but the processor",
    )


def do_nothing(kind: Kind, types: Types, scratch: Path) -> Iterator[Row]:
    """Wait, and see what that takes."""
    with counting(types.url) as proxy, running(kind, "benchmark.crowd", proxy.url, scratch) as worker:
        wait_for("the worker to be ready", lambda: "ready: " in (scratch / "output").read_text(), TASK_LIMIT)
        time.sleep(SETTLE)
        memory = tree_memory(worker.pid)
        yield Row("memory of the tree, no slot yet (PSS)", [f"{memory:.0f} MiB"], under(250, memory, "under 250 MiB"))
        for name in types.names:
            types.one(name)
        time.sleep(SETTLE)
        proxy.reset()
        cpu = tree_cpu(worker.pid)
        time.sleep(WINDOW)
        requests, spent = 60 * proxy.counts.requests / WINDOW, 100 * (tree_cpu(worker.pid) - cpu) / WINDOW
        memory = tree_memory(worker.pid)
        yield Row(f"memory, {kind.slots} slots", [f"{memory:.0f} MiB"], under(250, memory, "under 250 MiB"))
        yield Row("processor", [f"{spent:.2f} %"])
        yield Row("requests a minute", [f"{requests:.0f}"], under(60, requests, "under 60"))


def latencies(kind: Kind, types: Types, scratch: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Those of tasks that a slot must be made for, and those of tasks whose slot is there."""
    cold: list[float] = []
    warm: list[float] = []
    with running(kind, "benchmark.crowd", types.url, scratch):
        types.one(types.names[0])
        order = random.sample(types.names, len(types.names)) * (1 + rounds // len(types.names))
        for name in order[:rounds]:
            for found in (cold, warm):
                time.sleep(random.uniform(3, 5))
                found.append(types.one(name))
    return cold, warm


if __name__ == "__main__":
    main()
