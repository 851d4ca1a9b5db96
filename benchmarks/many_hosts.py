"""What 1, 10 and 100 hosts ask of Conductor and lakeFS, how long tasks wait, and what races for one branch cost.

Every host is a real supervisor with a few slots, and every attempt runs the real protocol; the servers are the embedded
ones, in virtual time (`benchmarks/simulated/`). So there is no waiting, the machine does not matter, and one seed gives
the same work each time. What a request takes is a parameter, and a server never gets slower under load: what it would
have to bear is what is printed.

First, each number of hosts gets as many tasks a host (steps alone, chains, forks, and steps that advance one branch for
all), spread over 200 seconds. Then it gets steps that all advance one branch, all at once.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.harness import Row, percentile, print_machine, print_table, seconds
from benchmarks.simulated import servers
from benchmarks.simulated.servers import CONDUCTOR, LAKEFS
from benchmarks.simulated.simulation import Seen, mixture, simulate
from benchmarks.simulated.work import TASKS, plan

OVER, LONGEST = 200.0, 10.0
"""Seconds over which workflows are started, and that a function takes at most."""
RACES = 10
"""An attempt that lost more than this many races is counted as starved."""
ENOUGH = 20
"""Tasks a host from which on each must get some. Of fewer, the hosts whose slots are warm may get all."""
RACING, RACING_SECONDS = 100, 1.0
"""Steps that all advance one branch, and how long their functions take at most."""


def main() -> None:
    """Run and print."""
    options = _arguments()
    print_machine()
    _set_costs(options.cost)
    hosts: list[int] = options.hosts

    def run(number: int, work: Mapping[str, int], over: float, longest: float) -> Seen:
        starts = plan(random.Random(options.seed), work, over=over, longest=longest)
        return simulate(number, starts, slots=options.slots, seed=options.seed)

    mixed = [run(number, mixture(options.tasks * number), OVER, LONGEST) for number in hosts]
    print_table(
        f"many hosts, {options.tasks} tasks and {options.slots} slots a host, seed {options.seed}",
        [_hosts(number) for number in hosts],
        _side_by_side(mixed, _mixed),
        depends_on="what a request takes (--cost), and on nothing of this machine",
    )
    racing = [run(number, {"shared": min(options.racing, 40 * number)}, 0, RACING_SECONDS) for number in hosts]
    print_table(
        f"one branch for all: up to {options.racing} steps that are started at once",
        [_hosts(number) for number in hosts],
        _side_by_side(racing, _racing),
        depends_on="what a request to lakeFS takes (--cost), and on nothing of this machine",
    )
    wrong = [words for seen in (*mixed, *racing) for words in problems(seen)]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    sys.exit(1 if wrong else 0)


def problems(seen: Seen) -> Iterator[str]:
    """What must never be: work that is lost or done twice, and hosts without any."""
    yield from (f"not completed: {each}" for each in seen.failed)
    completed = [row for row in seen.rows if row.status.value == "COMPLETED"]
    if len(completed) != seen.tasks:
        yield f"{len(completed)} attempts have completed {seen.tasks} tasks"
    published = [task_id for ids in seen.publications.values() for task_id in ids]
    expected = {row.task_id for row in completed if "workspace" in row.input}
    if len(published) != len(set(published)):
        yield f"{len(published) - len(set(published))} attempts have published twice"
    if set(published) != expected:
        yield f"{len(expected - set(published))} publications are lost, {len(set(published) - expected)} are strange"
    if seen.tasks >= ENOUGH * seen.hosts and len(seen.by_host()) < seen.hosts:
        yield f"{seen.hosts - len(seen.by_host())} of {seen.hosts} hosts have got nothing"


def _side_by_side(all_seen: Sequence[Seen], figures: Callable[[Seen], Iterator[tuple[str, str]]]) -> list[Row]:
    """A row for each figure, which every simulation has."""
    columns = [list(figures(seen)) for seen in all_seen]
    return [Row(line[0][0], [value for _, value in line]) for line in zip(*columns, strict=True)]


def _mixed(seen: Seen) -> Iterator[tuple[str, str]]:
    """Figures of the first table."""
    attempts = seen.by_host().values()
    yield "tasks", f"{seen.tasks:,}"
    yield "time for all", seconds(seen.seconds)
    yield "attempts of a host, fewest to most", f"{min(attempts)} to {max(attempts)}"
    yield "hosts that got nothing", str(seen.hosts - len(attempts))
    for name in TASKS:
        waits = seen.waits[name]
        yield f"{name} waits, median", seconds(statistics.median(waits))
        yield "  95 %", seconds(percentile(waits, 0.95))
        yield "  longest", seconds(max(waits))
    yield "races lost", f"{_lost(seen):,}"
    yield f"attempts that lost over {RACES}", str(_starved(seen))
    for server in (CONDUCTOR, LAKEFS):
        yield f"{server}, idle, a minute", f"{sum(n for (asked, _), n in seen.idle.items() if asked == server):,.0f}"
        yield f"{server}, at work, all", f"{seen.requests(server):,}"
        yield "  in the busiest second", f"{seen.busiest[server]:,}"
        yield "  a task", f"{seen.requests(server) / seen.tasks:.1f}"
        for kind in servers.COSTS:
            if kind in servers.KINDS[server]:
                yield f"    {kind}", f"{seen.kinds[server, kind] / seen.tasks:.2f}"


def _racing(seen: Seen) -> Iterator[tuple[str, str]]:
    """Figures of the second table."""
    yield "publications", f"{seen.tasks:,}"
    yield "time for all", seconds(seen.seconds)
    yield "publications a minute", f"{seen.tasks * 60 / seen.seconds:.0f}"
    yield "races lost", f"{_lost(seen):,}"
    yield "  a publication", f"{_lost(seen) / seen.tasks:.1f}"
    yield "  by one attempt, most", str(max(each.lost_races for _, each in seen.records))
    yield f"attempts that lost over {RACES}", str(_starved(seen))
    yield "attempts that failed", str(len(seen.rows) - seen.tasks)
    for server in (LAKEFS, CONDUCTOR):
        yield f"{server}, a publication", f"{seen.requests(server) / seen.tasks:.1f}"
        yield "  in the busiest second", f"{seen.busiest[server]:,}"
    reads = seen.kinds[CONDUCTOR, "read_attempt"] + seen.kinds[CONDUCTOR, "read_workflow"]
    yield "  to learn who made commits", f"{reads / seen.tasks:.1f}"


def _lost(seen: Seen) -> int:
    return sum(record.lost_races for _, record in seen.records)


def _starved(seen: Seen) -> int:
    return sum(record.lost_races > RACES for _, record in seen.records)


def _hosts(number: int) -> str:
    return f"{number} hosts" if number > 1 else "1 host"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 10, 100], help="numbers of hosts, side by side")
    parser.add_argument("--tasks", type=int, default=40, help="tasks a host (default %(default)s)")
    parser.add_argument("--slots", type=int, default=4, help="slots a host (default %(default)s)")
    parser.add_argument("--racing", type=int, default=RACING, help="steps that race (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="what work there is, and when (default %(default)s)")
    parser.add_argument(
        "--cost",
        action="append",
        default=[],
        metavar="KIND=MS",
        help=f"what a request takes, in milliseconds: {', '.join(servers.COSTS)}",
    )
    return parser.parse_args()


def _set_costs(given: Sequence[str]) -> None:
    for text in given:
        kind, _, value = text.partition("=")
        if kind not in servers.COSTS:
            sys.exit(f"--cost {text}: there is no request {kind!r}; there are {', '.join(servers.COSTS)}")
        try:
            servers.COSTS[kind] = float(value) / 1000
        except ValueError:
            sys.exit(f"--cost {text}: {value!r} is no number of milliseconds, as in {kind}=5")


if __name__ == "__main__":
    main()
