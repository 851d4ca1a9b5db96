"""A complete attempt on a machine that has downloaded the workspace before.

It runs on a real lakeFS, or on an embedded one if the environment names none, with the two workspaces of `attempt`.
Four ways take turns: without a cache, with an empty cache, with the cache that the way before has filled, and the same
without verification of cached bytes. Bases: a bare loop that downloads and verifies, and `cp` of the cached files,
which shares blocks if the disk can. A proxy counts requests in a separate run.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.attempt import LARGE, MANY, Workspace, attempt, seeded
from benchmarks.bare_download import Place, bare_download
from benchmarks.harness import (
    Cost,
    Row,
    Target,
    at_most,
    interleave,
    median,
    print_table,
    ratio,
    rounds_option,
    seconds,
    under,
)
from benchmarks.processes import apart, run_command
from benchmarks.proxy import counting
from perago.cache import ObjectCache, ObjectId, Shelf, clear, objects, usage

LIMITS = {MANY: (0.25, 30), LARGE: (0.6, 30)}
"""Seconds and requests of a warm attempt."""
VERIFIED = 1.05
"""Most time of a warm attempt, in multiples of one that does not verify cached bytes."""
COLD = 1.15
"""Most time of a cold attempt on small files, in multiples of the bare loop."""
CACHE_BYTES = 10**12
SIGNS = "BENCHMARK_NAMESPACE" in os.environ
"""Whether lakeFS signs addresses, because its block store is not the local one."""


def main() -> None:
    """Run and print."""
    rounds = rounds_option(__doc__, 3)
    rows: list[Row] = []
    with servers.lakefs_or_embedded() as (settings, server):
        for workspace in LIMITS:
            with tempfile.TemporaryDirectory() as scratch, servers.repository(settings) as repository:
                place = seeded(settings, repository, Path(scratch), workspace)
                (place.directory / "workspaces").mkdir(mode=0o700)
                cache = ObjectCache(place.directory / "workspaces", CACHE_BYTES)
                rows += timed_rows(workspace, place, cache, rounds)
                rows += counted_rows(workspace, place, cache)
    print_table(
        f"attempt with a cache on a {server}; medians of {rounds}, taking turns",
        ["wall", "cpu", "wall / bare", "wall / cp"],
        rows,
        depends_on="cores shared with the server; whether the disk can share blocks (btrfs, XFS) or copies (ext4)",
    )


def timed_rows(workspace: Workspace, place: Place, cache: ObjectCache, rounds: int) -> list[Row]:
    """Measure wall and processor time of each way."""

    def run(cache: ObjectCache | None, attempt: Callable[..., Cost] = attempt) -> Cost:
        return apart(attempt, place.settings, workspace, place, f"b{time.monotonic_ns()}", cache).value

    def fill() -> Cost:
        shutil.rmtree(cache.root / ".cache", ignore_errors=True)
        return run(cache)

    def copy() -> Cost:
        target = place.directory / "copied"
        cost = run_command(["cp", "--reflink=auto", "-R", str(cache.root / ".cache"), str(target)])
        shutil.rmtree(target)
        return cost

    ways: dict[str, Callable[[], Cost]] = {
        "bare download": lambda: apart(bare_download, place).value,
        "no cache": partial(run, None),
        "filling it": fill,
        "warm": partial(run, cache),
        "warm, unverified": partial(run, cache, unverified_attempt),
        "cp": copy,
    }
    costs = {name: median(runs) for name, runs in interleave(ways, rounds).items()}
    bare, copied = costs["bare download"].wall, costs["cp"].wall
    rows = [
        Row(
            f"{workspace.name}, {name}",
            [seconds(cost.wall), seconds(cost.cpu), ratio(cost.wall, bare), ratio(cost.wall, copied)],
            target_of(workspace, name, cost.wall, bare),
        )
        for name, cost in costs.items()
    ]
    warm, unverified = costs["warm"], costs["warm, unverified"]
    values = [ratio(warm.wall, unverified.wall), ratio(warm.cpu, unverified.cpu), "", ""]
    target = at_most(VERIFIED, warm.wall / unverified.wall, f"at most {VERIFIED} x unverified")
    return [*rows, Row("  warm / unverified", values, target)]


def unverified_attempt(*arguments: Any) -> Cost:
    """Run an attempt that copies from the cache without reading the bytes, if the system can do that."""

    def deliver(self: Shelf, identity: ObjectId, name: str, source: int, destination: int) -> bool:  # noqa: ARG001
        if not objects._clone(source, destination):
            done = 0
            while done < identity.size:
                done += os.copy_file_range(source, destination, identity.size - done, offset_src=done)
        os.ftruncate(destination, identity.size)
        return True

    setattr(Shelf, "_deliver", deliver)  # noqa: B010 - mypy takes no assignment to a method
    return attempt(*arguments)


def target_of(workspace: Workspace, name: str, wall: float, bare: float) -> Target | None:
    """Return the target of a way, if it has one."""
    if name == "warm":
        limit = LIMITS[workspace][0]
        return under(limit, wall, f"under {limit} s")
    if workspace is MANY and name in ("no cache", "filling it"):
        return at_most(COLD, wall / bare, f"at most {COLD} x bare")
    return None


def counted_rows(workspace: Workspace, place: Place, cache: ObjectCache) -> list[Row]:
    """Count the requests to lakeFS of an attempt that fills the cache, and of the next one."""
    clear(cache.root)
    rows = []
    limit = LIMITS[workspace][1]
    with counting(place.settings.endpoint_url) as proxy:
        settings = replace(place.settings, endpoint_url=proxy.url)
        for name in ("filling it", "warm"):
            before = usage(cache.root).misses
            proxy.reset()
            apart(attempt, settings, workspace, place, f"counted-{name[:4]}", cache)
            requests, fetched = proxy.counts.requests, usage(cache.root).misses - before
            print(f"{workspace.name}, {name}: {proxy.counts}")
            target = under(limit, requests, f"under {limit}") if name == "warm" or SIGNS else None
            values = [str(requests), f"{fetched} of {workspace.count} objects fetched", "", ""]
            rows.append(Row(f"{workspace.name}, {name}: requests", values, target))
    return rows


if __name__ == "__main__":
    main()
