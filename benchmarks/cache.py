"""A whole attempt on a machine that has seen the workspace before, against a real lakeFS, or an embedded one where the
environment names none.

The same two workspaces as in `attempt`. Four ways take turns: without a cache, filling an empty one, with what the one
before has left, and the same without verifying the bytes that come from the cache. Next to them are the least that a
cold attempt has to do, which is a bare loop that downloads and verifies, and the least for a warm one: `cp` copies the
files in the cache, and shares blocks where the disk can. Requests are counted by a proxy, in a run of their own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.attempt import LARGE, MANY, Workspace, attempt, seeded
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
from benchmarks.processes import apart, run_command
from benchmarks.proxy import counting
from benchmarks.transfer_clients import Place, Work, bare_down
from perago.cache import ObjectCache, ObjectId, Shelf, clear, objects, usage
from perago.settings import LakeFSSettings

LIMITS = {MANY: (0.25, 30), LARGE: (0.6, 30)}
"""What a warm attempt may take, in seconds and requests."""
VERIFIED = 1.05
"""What a warm attempt may take, in multiples of one that does not verify the bytes from the cache."""
COLD = 1.15
"""What a cold attempt on small files may take, in multiples of the bare loop."""
PLENTY = 10**12
SIGNS = "BENCHMARK_NAMESPACE" in os.environ
"""Another block store than the local one: lakeFS signs addresses of it."""


def main() -> None:
    """Run and print."""
    rounds = arguments(__doc__, rounds=3).rounds
    rows: list[Row] = []
    with servers.lakefs_or_embedded() as (found, server):
        for workspace in LIMITS:
            with tempfile.TemporaryDirectory() as scratch, servers.repository(found) as repository:
                place = seeded(found, repository, Path(scratch), workspace)
                rows += timed_rows(workspace, place, rounds)
                rows += counted_rows(workspace, place)
    print_table(
        f"attempt with a cache on a {server}; medians of {rounds}, taking turns",
        ["wall", "cpu", "wall / bare", "wall / cp"],
        rows,
        depends_on="cores shared with the server; whether the disk can share blocks (btrfs, XFS) or copies (ext4)",
    )


def cache_of(place: Place) -> ObjectCache:
    """The cache of the workspace root that the attempts have."""
    (place.directory / "workspaces").mkdir(mode=0o700, exist_ok=True)
    return ObjectCache(place.directory / "workspaces", PLENTY)


def timed_rows(workspace: Workspace, place: Place, rounds: int) -> list[Row]:
    """Wall and processor time of each way."""
    cache = cache_of(place)
    steps: list[dict[str, float]] = []

    def run(cache: ObjectCache | None, attempt: Callable[..., tuple[Cost, dict[str, float]]] = attempt) -> Cost:
        cost, taken = apart(attempt, place.settings, workspace, place, f"b{time.monotonic_ns()}", cache).value
        steps.append(taken)
        return cost

    def filling() -> Cost:
        shutil.rmtree(cache.root / ".cache", ignore_errors=True)
        return run(cache)

    def copying() -> Cost:
        target = place.directory / "copied"
        cost = run_command(["cp", "--reflink=auto", "-R", str(cache.root / ".cache"), str(target)])
        shutil.rmtree(target)
        return cost

    work = Work("", workspace.count, workspace.size, threads=min(16, workspace.count), part=1)
    ways: dict[str, Callable[[], Cost]] = {
        "bare download": lambda: apart(partial(bare_down, verify=True), work, place).value,
        "no cache": partial(run, None),
        "filling it": filling,
        "warm": partial(run, cache),
        "warm, unverified": partial(run, cache, unverified_attempt),
        "cp": copying,
    }
    costs = {name: median(taken) for name, taken in interleave(ways, rounds).items()}
    slowest = sorted(((took, name) for name, took in steps[-1].items()), reverse=True)[:6]
    print(f"{workspace.name}, warm: {', '.join(f'{name} {seconds(took)}' for took, name in slowest)}")
    bare, copy = costs["bare download"].wall, costs["cp"].wall
    rows = [
        Row(
            f"{workspace.name}, {name}",
            [seconds(cost.wall), seconds(cost.cpu), ratio(cost.wall, bare), ratio(cost.wall, copy)],
            target_of(workspace, name, cost.wall, bare),
        )
        for name, cost in costs.items()
    ]
    warm, unverified = costs["warm"], costs["warm, unverified"]
    values = [ratio(warm.wall, unverified.wall), ratio(warm.cpu, unverified.cpu), "", ""]
    target = at_most(VERIFIED, warm.wall / unverified.wall, f"at most {VERIFIED} x unverified")
    return [*rows, Row("  warm / unverified", values, target)]


def unverified_attempt(*arguments: Any) -> tuple[Cost, dict[str, float]]:
    """Run an attempt that copies from the cache without reading the bytes, as far as the system can do that."""

    def deliver(self: Shelf, wanted: ObjectId, name: str, source: int, destination: int) -> bool:  # noqa: ARG001
        if not objects._clone(source, destination):
            done = 0
            while done < wanted.size:
                done += os.copy_file_range(source, destination, wanted.size - done, offset_src=done)
        os.ftruncate(destination, wanted.size)
        return True

    setattr(Shelf, "_deliver", deliver)  # noqa: B010 - mypy takes no assignment to a method
    return attempt(*arguments)


def target_of(workspace: Workspace, name: str, wall: float, bare: float) -> Target | None:
    """What the plan says of one way, if it does."""
    if name == "warm":
        limit = LIMITS[workspace][0]
        return under(limit, wall, f"under {limit} s")
    if workspace is MANY and name in ("no cache", "filling it"):
        return at_most(COLD, wall / bare, f"at most {COLD} x bare")
    return None


def counted_rows(workspace: Workspace, place: Place) -> list[Row]:
    """Requests to lakeFS of an attempt that fills the cache, and of the next one."""
    cache = cache_of(place)
    clear(cache.root)
    rows = []
    with counting(place.settings.endpoint_url) as proxy:
        through: LakeFSSettings = servers.through(place.settings, proxy.url)
        for name in ("filling it", "warm"):
            before = usage(cache.root).misses
            proxy.reset()
            apart(attempt, through, workspace, place, f"counted-{name[:4]}", cache)
            counts, fetched = proxy.counts, usage(cache.root).misses - before
            print(f"{workspace.name}, {name}: {', '.join(f'{n} {call}' for call, n in counts.calls.most_common())}")
            limit = LIMITS[workspace][1]
            target = under(limit, counts.requests, f"under {limit}") if name == "warm" or SIGNS else None
            what, of = f"{workspace.name}, {name}: requests", f"{fetched} of {workspace.count} objects fetched"
            rows.append(Row(what, [str(counts.requests), of, "", ""], target))
    return rows


if __name__ == "__main__":
    main()
