"""The requests of 1, 10 and 100 hosts, how long tasks wait, and the cost of races for one branch.

Every host is a real supervisor with a few slots, and every attempt runs the real protocol. The servers are the embedded
ones, in virtual time (`benchmarks/simulated/`). So nothing waits, the machine does not matter, and one seed always
gives the same work. The duration of a request is a parameter, and a server never gets slower under load. So the figures
show the load on a server, not whether it can handle the load.

First, each number of hosts gets as many tasks a host (steps alone, chains, forks, and steps that advance one branch for
all), spread over 200 seconds. Then it gets steps that all advance one branch, all at the same time.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.harness import Row, command_line, options, percentile, print_table, seconds
from benchmarks.simulated import servers
from benchmarks.simulated.servers import CONDUCTOR, LAKEFS
from benchmarks.simulated.simulation import Figures, mixture, simulate
from benchmarks.simulated.work import TASKS, plan

START_SECONDS, LONGEST = 200.0, 10.0
"""Seconds over which workflows are started, and the longest function."""
STARVED = 10
"""An attempt that lost more races is counted as starved."""
BUSY = 20
"""Tasks a host from which on every host must get some. Of fewer tasks, hosts whose slots are warm may get all."""
RACING, RACING_SECONDS = 100, 1.0
"""Steps that all advance one branch, and the seconds of their longest function."""


def main() -> None:
    """Run and print."""
    namespace = options(_command_line())
    _set_costs(namespace.cost)
    hosts: list[int] = namespace.hosts

    def simulated(number: int, work: Mapping[str, int], over: float, longest: float) -> Figures:
        starts = plan(random.Random(namespace.seed), work, over=over, longest=longest)
        return simulate(number, starts, slots=namespace.slots, seed=namespace.seed)

    mixed = [simulated(number, mixture(namespace.tasks * number), START_SECONDS, LONGEST) for number in hosts]
    print_table(
        f"many hosts, {namespace.tasks} tasks and {namespace.slots} slots a host, seed {namespace.seed}",
        [_hosts(number) for number in hosts],
        _side_by_side(mixed, _mixed),
        depends_on="the duration of a request (--cost), and on nothing of this machine",
    )
    racing = [simulated(number, {"shared": min(namespace.racing, 40 * number)}, 0, RACING_SECONDS) for number in hosts]
    print_table(
        f"one branch for all: up to {namespace.racing} steps that are started at the same time",
        [_hosts(number) for number in hosts],
        _side_by_side(racing, _racing),
        depends_on="the duration of a request to lakeFS (--cost), and on nothing of this machine",
    )
    violations = [problem for run in (*mixed, *racing) for problem in problems(run)]
    print(*violations, sep="\n", end="\n" if violations else "")
    sys.exit(1 if violations else 0)


def problems(run: Figures) -> Iterator[str]:
    """Report work that is lost or done twice, and hosts that got none."""
    yield from (f"not completed: {workflow}" for workflow in run.failed)
    completed = [row for row in run.rows if row.status.value == "COMPLETED"]
    if len(completed) != run.tasks:
        yield f"{len(completed)} attempts have completed {run.tasks} tasks"
    published = [task_id for ids in run.publications.values() for task_id in ids]
    expected = {row.task_id for row in completed if "workspace" in row.input}
    if len(published) != len(set(published)):
        yield f"{len(published) - len(set(published))} attempts have published twice"
    if set(published) != expected:
        yield f"{len(expected - set(published))} publications are lost, {len(set(published) - expected)} are unknown"
    if run.tasks >= BUSY * run.hosts and len(run.by_host()) < run.hosts:
        yield f"{run.hosts - len(run.by_host())} of {run.hosts} hosts got nothing"


def _side_by_side(runs: Sequence[Figures], figures: Callable[[Figures], Iterator[tuple[str, str]]]) -> list[Row]:
    """Return a row for each figure."""
    columns = [list(figures(run)) for run in runs]
    return [Row(line[0][0], [value for _, value in line]) for line in zip(*columns, strict=True)]


def _mixed(run: Figures) -> Iterator[tuple[str, str]]:
    """Return the figures of the first table."""
    attempts = run.by_host().values()
    yield "tasks", f"{run.tasks:,}"
    yield "time for all", seconds(run.seconds)
    yield "attempts of a host, fewest to most", f"{min(attempts)} to {max(attempts)}"
    yield "hosts that got nothing", str(run.hosts - len(attempts))
    for name in TASKS:
        waits = run.waits[name]
        yield f"{name} waits, median", seconds(statistics.median(waits))
        yield "  95 %", seconds(percentile(waits, 0.95))
        yield "  longest", seconds(max(waits))
    yield "races lost", f"{_lost(run):,}"
    yield f"attempts that lost over {STARVED}", str(_starved(run))
    for server in (CONDUCTOR, LAKEFS):
        yield f"{server}, idle, a minute", f"{sum(n for (asked, _), n in run.idle.items() if asked == server):,.0f}"
        yield f"{server}, at work, all", f"{run.requests(server):,}"
        yield "  in the busiest second", f"{run.busiest[server]:,}"
        yield "  a task", f"{run.requests(server) / run.tasks:.1f}"
        for kind in servers.COSTS:
            if kind in servers.KINDS[server]:
                yield f"    {kind}", f"{run.kinds[server, kind] / run.tasks:.2f}"


def _racing(run: Figures) -> Iterator[tuple[str, str]]:
    """Return the figures of the second table."""
    yield "publications", f"{run.tasks:,}"
    yield "time for all", seconds(run.seconds)
    yield "publications a minute", f"{run.tasks * 60 / run.seconds:.0f}"
    yield "races lost", f"{_lost(run):,}"
    yield "  a publication", f"{_lost(run) / run.tasks:.1f}"
    yield "  by one attempt, most", str(max(record.lost_races for _, record in run.records))
    yield f"attempts that lost over {STARVED}", str(_starved(run))
    yield "attempts that failed", str(len(run.rows) - run.tasks)
    for server in (LAKEFS, CONDUCTOR):
        yield f"{server}, a publication", f"{run.requests(server) / run.tasks:.1f}"
        yield "  in the busiest second", f"{run.busiest[server]:,}"
    reads = run.kinds[CONDUCTOR, "read_attempt"] + run.kinds[CONDUCTOR, "read_workflow"]
    yield "  to learn which workflows made the commits", f"{reads / run.tasks:.1f}"


def _lost(run: Figures) -> int:
    return sum(record.lost_races for _, record in run.records)


def _starved(run: Figures) -> int:
    return sum(record.lost_races > STARVED for _, record in run.records)


def _hosts(number: int) -> str:
    return f"{number} hosts" if number > 1 else "1 host"


def _command_line() -> argparse.ArgumentParser:
    parser = command_line(__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 10, 100], help="numbers of hosts, side by side")
    parser.add_argument("--tasks", type=int, default=40, help="tasks a host (default %(default)s)")
    parser.add_argument("--slots", type=int, default=4, help="slots a host (default %(default)s)")
    parser.add_argument("--racing", type=int, default=RACING, help="steps that race (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the work and its times (default %(default)s)")
    parser.add_argument(
        "--cost",
        action="append",
        default=[],
        metavar="KIND=MS",
        help=f"duration of a request in milliseconds: {', '.join(servers.COSTS)}",
    )
    return parser


def _set_costs(costs: Sequence[str]) -> None:
    for text in costs:
        kind, _, value = text.partition("=")
        if kind not in servers.COSTS:
            sys.exit(f"--cost {text}: there is no request {kind!r}; there are {', '.join(servers.COSTS)}")
        try:
            servers.COSTS[kind] = float(value) / 1000
        except ValueError:
            sys.exit(f"--cost {text}: {value!r} is not a number of milliseconds, as in {kind}=5")


if __name__ == "__main__":
    main()
