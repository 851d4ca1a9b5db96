"""Many small and few large objects down and up: perago's store, the official `lakefs` wrapper, and a bare urllib3 loop.

The bare loop is given the keys and writes under the final name: the floor for this transport, with and without a look
at the MD5. perago lists, verifies size and MD5, and renames complete files into place.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks import servers
from benchmarks.harness import (
    Cost,
    Row,
    Target,
    arguments,
    at_most,
    interleave,
    median,
    print_table,
    ratio,
    seconds,
    under,
)
from benchmarks.processes import Apart, apart
from benchmarks.transfer_clients import (
    BARE,
    BARE_MD5,
    DOWN,
    PERAGO,
    SEQUENTIAL,
    UP,
    WRAPPER,
    Contestant,
    Place,
    Work,
    make_file,
)

LIMIT = 1.25
"""What perago may take in multiples of a bare loop that gives the same guarantee."""
SMALL = Work("2,000 x 4 KiB", 2000, 4096, threads=16, part=100)
LARGE = Work("4 x 64 MiB", 4, 2**26, threads=4, part=1)
THREE = Work("3 x 100 MB", 3, 10**8, threads=3, part=1)
HUGE = Work("1 x 2 GB", 1, 2 * 10**9, threads=1, part=1)
MEMORY = 120
"""MiB that a process may have, however large the files are."""


def main() -> None:
    """Run and print."""
    rounds = arguments(__doc__, rounds=2).rounds
    found = servers.lakefs()
    rows = []
    for work in (SMALL, LARGE, THREE, HUGE):
        slow = (WRAPPER, SEQUENTIAL) if work in (THREE, HUGE) else ()  # and with whole objects in memory
        with tempfile.TemporaryDirectory() as scratch, servers.repository(found) as repository:
            uploads = tuple(make_file(Path(scratch) / "from", work.size, number) for number in range(work.count))
            commit = servers.commit_files(found, repository, list(uploads))
            place = Place(found, repository, commit, Path(scratch), uploads)
            rows += compare(f"{work.name} down", without(slow, DOWN), BARE_MD5, work, place, rounds)
            rows += compare(f"{work.name} up", without(slow, UP), BARE, work, place, rounds)
    print_table(
        f"transfer, median of {rounds} measurements each, taking turns, each in a process of its own",
        ["wall", "cpu", "wall / bare", "cpu / bare", "memory"],
        rows,
        depends_on="cores shared with the server (on two it needs one of them), and disk speed for the large files",
    )


def without(left_out: Sequence[str], clients: Mapping[str, Contestant]) -> dict[str, Contestant]:
    """The other clients."""
    return {name: client for name, client in clients.items() if name not in left_out}


def compare(what: str, clients: dict[str, Contestant], like: str, work: Work, place: Place, rounds: int) -> list[Row]:
    """One line for each client; `like` is the bare loop that perago is held against."""
    growth, peak = dict.fromkeys(clients, 0.0), dict.fromkeys(clients, 0.0)

    def measure(name: str) -> Cost:
        result: Apart[Cost] = apart(clients[name], work, place)
        growth[name], peak[name] = max(growth[name], result.growth), max(peak[name], result.peak)
        return result.value

    found = interleave({name: partial(measure, name) for name in clients}, rounds)
    costs = {name: median(taken) for name, taken in found.items()}
    base, rows = costs[BARE], []
    for name, cost in costs.items():
        target: Target | None = None
        if name == PERAGO:
            target = at_most(LIMIT, cost.wall / costs[like].wall, f"at most {LIMIT} x {like}")
        values = [seconds(cost.wall), seconds(cost.cpu), ratio(cost.wall, base.wall), ratio(cost.cpu, base.cpu)]
        rows.append(Row(f"{what}, {name}", [*values, f"+{growth[name]:.0f} MiB"], target))
    held = under(MEMORY, peak[PERAGO], f"under {MEMORY} MiB")
    rows.append(Row(f"  the whole process of {PERAGO}", ["", "", "", "", f"{peak[PERAGO]:.0f} MiB"], held))
    return rows


if __name__ == "__main__":
    main()
