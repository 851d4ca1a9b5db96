"""Many small and few large objects down and up: perago's store, the official `lakefs` wrapper, and a bare urllib3 loop.

The bare loop is given the keys and writes under the final name: the floor for this transport, with and without a look
at the MD5. perago lists, verifies size and MD5, and renames complete files into place.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import partial
from pathlib import Path

from benchmarks import servers
from benchmarks.harness import Cost, Row, Target, arguments, at_most, interleave, median, print_table, ratio, seconds
from benchmarks.processes import Apart, apart
from benchmarks.transfer_clients import BARE, BARE_MD5, DOWN, PERAGO, UP, Contestant, Place, Work
from perago.ports import Upload

LIMIT = 1.25
"""What perago may take in multiples of a bare loop that gives the same guarantee."""
SMALL = Work("2,000 x 4 KiB", 2000, 4096, threads=16, part=100)
LARGE = Work("4 x 64 MiB", 4, 2**26, threads=4, part=1)


def main() -> None:
    """Run and print."""
    rounds = arguments(__doc__, rounds=2).rounds
    found = servers.lakefs()
    rows = []
    for work in (SMALL, LARGE):
        with tempfile.TemporaryDirectory() as scratch, servers.repository(found) as repository:
            uploads = tuple(make_file(Path(scratch) / "from", work, number) for number in range(work.count))
            commit = servers.commit_files(found, repository, list(uploads))
            place = Place(found, repository, commit, Path(scratch), uploads)
            rows += compare(f"{work.name} down", DOWN, BARE_MD5, work, place, rounds)
            rows += compare(f"{work.name} up", UP, BARE, work, place, rounds)
    print_table(
        f"transfer, median of {rounds} measurements each, taking turns, each in a process of its own",
        ["wall", "cpu", "wall / bare", "cpu / bare", "memory"],
        rows,
        depends_on="cores shared with the server (on two it needs one of them), and disk speed for the large files",
    )


def compare(what: str, clients: dict[str, Contestant], like: str, work: Work, place: Place, rounds: int) -> list[Row]:
    """One line for each client; `like` is the bare loop that perago is held against."""
    growth = dict.fromkeys(clients, 0.0)

    def measure(name: str) -> Cost:
        result: Apart[Cost] = apart(clients[name], work, place)
        growth[name] = max(growth[name], result.growth)
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
    return rows


def make_file(directory: Path, work: Work, number: int) -> Upload:
    """A file of random bytes, described as change detection would."""
    path = directory / f"d{number % 20}" / f"f{number:05}"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = os.urandom(work.size)
    path.write_bytes(content)
    key = path.relative_to(directory).as_posix()
    return Upload(key, path, work.size, hashlib.md5(content, usedforsecurity=False).hexdigest())


if __name__ == "__main__":
    main()
