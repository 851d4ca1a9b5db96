"""One simulation: a number of hosts, their work, one seed."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.simulated.hosts import Setup, supervisor, virtual_workers
from benchmarks.simulated.servers import CONDUCTOR, LAKEFS, ConductorLine, LakeFSLine, Requests
from benchmarks.simulated.turns import Turns
from benchmarks.simulated.work import BRANCH, TASKS, Start, Work, runner
from perago.driver import AttemptRecord
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.conductor.state import TaskRow
from perago.embedded.lakefs import InMemoryLakeFS
from perago.ports import VirtualClock
from perago.trees import fast_directory
from perago.worker.plan import WorkerPlan

SETTLE, IDLE = 30.0, 60.0
"""Seconds before the requests of idle hosts are counted, and seconds of the count."""
LIMIT = 36_000.0
"""Virtual seconds after which a simulation is aborted."""


@dataclass
class Figures:
    """The results of a simulation. Times are seconds."""

    hosts: int
    tasks: int = 0
    seconds: float = 0.0
    """From the first start of a workflow to the end of the last one."""
    idle: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests of idle hosts in a minute."""
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests from the first start to the last end, by server and kind."""
    busiest: dict[str, int] = field(default_factory=dict)
    """Requests in the busiest second, by server."""
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """From scheduled to started, by task name, of first attempts."""
    records: list[tuple[str, AttemptRecord]] = field(default_factory=list)
    """Attempts, each with its host."""
    rows: list[TaskRow] = field(default_factory=list)
    """Conductor's rows of the attempts."""
    failed: list[str] = field(default_factory=list)
    """Workflows that have not completed."""
    publications: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """Commits of attempts by repository and branch, with their tasks' ids."""

    def requests(self, server: str) -> int:
        """All requests to one server."""
        return sum(number for (asked, _), number in self.kinds.items() if asked == server)

    def by_host(self) -> Counter[str]:
        """Attempts of each host that got any."""
        return Counter(host for host, _ in self.records)


def simulate(hosts: int, starts: Sequence[Start], *, slots: int, seed: int) -> Figures:
    """Run one simulation."""
    state = random.getstate()
    random.seed(seed)  # back-offs
    clock = VirtualClock()
    turns = Turns(clock)
    try:
        with tempfile.TemporaryDirectory(dir=fast_directory()) as root, InMemoryLakeFS(clock) as lakefs:
            simulation = _Simulation(turns, InMemoryConductor(clock, seed=seed), lakefs, hosts)
            with virtual_workers(simulation.setup):
                turns.loop.run_until_complete(simulation.run(starts, Path(root), slots))
            return simulation.figures
    finally:
        turns.close()
        random.setstate(state)


class _Simulation:
    def __init__(self, turns: Turns, conductor: InMemoryConductor, lakefs: InMemoryLakeFS, hosts: int) -> None:
        self.figures = Figures(hosts)
        self._turns, self._conductor, self._lakefs = turns, conductor, lakefs
        self._requests = Requests(turns)
        self._line = ConductorLine(conductor, turns, self._requests)
        self.setup = Setup(
            turns, self._line, LakeFSLine(lakefs, turns, self._requests), TASKS, runner(turns), self._ended
        )
        self._work = Work(conductor, lakefs)

    async def run(self, starts: Sequence[Start], root: Path, slots: int) -> None:
        """Start the hosts, let them idle, then work, then stop them."""
        workers = [supervisor(self.setup, number, root, slots) for number in range(self.figures.hosts)]
        running = [asyncio.ensure_future(_after(random.uniform(0, 5), worker._run)) for worker in workers]
        try:
            await self._idle()
            await self._start_all(starts)
        finally:
            for worker in workers:
                worker.stop()
            await asyncio.gather(*running)

    async def _idle(self) -> None:
        await asyncio.sleep(SETTLE)
        before = self._requests.kinds.copy()
        await asyncio.sleep(IDLE)
        self.figures.idle = Counter({kind: n * 60 / IDLE for kind, n in (self._requests.kinds - before).items()})

    async def _start_all(self, starts: Sequence[Start]) -> None:
        figures, loop = self.figures, self._turns.loop
        began, before = loop.time(), self._requests.kinds.copy()
        workflows = []
        for start in starts:
            await asyncio.sleep(max(0.0, began + start.at - loop.time()))
            workflows.append(self._work.start(start))
            self._line.changed()
        running = set(workflows)
        while running and loop.time() < began + LIMIT:
            await asyncio.sleep(1)
            self._line.changed()  # delays of retries pass without a request
            running = {workflow_id for workflow_id in running if self._status(workflow_id) == "RUNNING"}
        rows = [row for row in self._conductor._state.tasks.values() if row.kind == "SIMPLE"]
        figures.rows = rows
        figures.seconds = max((row.end_time for row in rows), default=0) / 1000 - began
        figures.kinds = self._requests.kinds - before
        for server in (CONDUCTOR, LAKEFS):
            seconds = {second: n for second, n in self._requests.seconds[server].items() if second >= began}
            figures.busiest[server] = max(seconds.values(), default=0)
        for row in rows:
            if row.retry_count == 0:
                figures.waits[row.task_name].append((row.start_time - row.scheduled_time) / 1000)
        figures.tasks = sum(row.retry_count == 0 for row in rows)
        statuses = {workflow_id: self._status(workflow_id) for workflow_id in workflows}
        figures.failed = [f"{name} {status}" for name, status in statuses.items() if status != "COMPLETED"]
        self._read_branches()

    def _status(self, workflow_id: str) -> str:
        return str(self._conductor.workflow(workflow_id, include_tasks=False)["status"])

    def _read_branches(self) -> None:
        for repository, head in self._work.heads.items():
            for branch in (BRANCH, *self._lakefs.list_branches(repository, "run")):
                commits = self._lakefs.history(repository, branch, until=head, limit=100_000)
                task_ids = [commit.metadata["perago.task_id"] for commit in commits]
                self.figures.publications[repository, branch] = task_ids

    def _ended(self, plan: WorkerPlan, record: AttemptRecord) -> None:
        self.figures.records.append((plan.worker_prefix, record))


async def _after(seconds: float, run: object) -> None:
    await asyncio.sleep(seconds)
    await run()  # type: ignore[operator]


def mixture(tasks: int) -> Mapping[str, int]:
    """Return workflows of each kind for about that many tasks: of 100, 47 alone, 24 in chains, 27 in forks, 2 on one
    branch."""
    return {
        "single": tasks * 47 // 100,
        "chain": tasks * 6 // 100,
        "fork": tasks * 3 // 100,
        "shared": tasks * 2 // 100,
    }
