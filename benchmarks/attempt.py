"""A complete attempt on a real lakeFS: time, requests, bytes, memory.

Two workspaces: 1,000 files of 4 KiB of which ten change, and three of 100 MB of which one changes. A proxy counts
requests and bytes in a separate run. Times are taken without the proxy, and compared with a bare loop that only
downloads and verifies the same objects. Conductor is in memory, so its requests are not counted.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import servers
from benchmarks.bare_download import Place, bare_download, make_file
from benchmarks.harness import (
    Cost,
    Row,
    at_most,
    interleave,
    median,
    print_table,
    ratio,
    rounds_option,
    seconds,
    under,
)
from benchmarks.processes import apart
from benchmarks.proxy import Counts, counting
from benchmarks.tasks.editing import Params, edit
from perago.adapters.lakefs import LakeFSStore
from perago.authoring.task import get_task
from perago.cache import ObjectCache
from perago.driver import AttemptRuntime, SystemClock, run_attempt
from perago.ports import TaskStatus
from perago.settings import LakeFSSettings
from perago.testing.services import InMemoryServices

MEGABYTE = 1_000_000
GROWTH_LIMIT = 60
"""MiB that an attempt may add to its process, however large the files are."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Its files, how many of them change, and the limits of an attempt."""

    name: str
    count: int
    size: int
    changed: int
    max_requests: int
    max_up: float
    """In MB."""
    max_seconds: float | None = None


MANY = Workspace("1,000 x 4 KiB, 10 changed", 1000, 4096, changed=10, max_requests=1040, max_up=0.05, max_seconds=1.5)
LARGE = Workspace("3 x 100 MB, 1 changed", 3, 100 * MEGABYTE, changed=1, max_requests=30, max_up=100.5)


def main() -> None:
    """Run and print."""
    rounds = rounds_option(__doc__, 3)
    settings = servers.lakefs()
    rows: list[Row] = []
    for workspace in (MANY, LARGE):
        with tempfile.TemporaryDirectory() as scratch, servers.repository(settings) as repository:
            place = seeded(settings, repository, Path(scratch), workspace)
            rows += counted_rows(workspace, place)
            rows += timed_rows(workspace, place, rounds)
    print_table(
        f"attempt on a real lakeFS; times are medians of {rounds}, taking turns",
        ["perago", "bare download", "ratio"],
        rows,
        depends_on="cores shared with the server, disk speed for the large files; requests and bytes on nothing",
    )


def seeded(settings: LakeFSSettings, repository: str, scratch: Path, workspace: Workspace) -> Place:
    """Commit the workspace."""
    uploads = [make_file(scratch / "seed", workspace.size, number) for number in range(workspace.count)]
    commit = servers.commit_files(settings, repository, uploads)
    shutil.rmtree(scratch / "seed")
    return Place(settings, repository, commit, scratch, tuple(uploads))


def counted_rows(workspace: Workspace, place: Place) -> list[Row]:
    """Count requests, bytes and memory of one attempt through the proxy."""
    with counting(place.settings.endpoint_url) as proxy:
        run = apart(attempt, replace(place.settings, endpoint_url=proxy.url), workspace, place, "counted")
        counts: Counts = proxy.counts
    print(f"{workspace.name}: {counts}")
    up, down = counts.up / MEGABYTE, counts.down / MEGABYTE
    requests, most, up_limit = counts.requests, workspace.max_requests, workspace.max_up
    return [
        Row(
            f"{workspace.name}: requests",
            [str(requests), str(workspace.count), ratio(requests, workspace.count)],
            at_most(most, requests, f"at most {most:,}"),
        ),
        Row("  up", [f"{up:.3f} MB", "0", ""], at_most(up_limit, up, f"at most {up_limit} MB")),
        Row("  down", [f"{down:.1f} MB", f"{workspace.count * workspace.size / MEGABYTE:.1f} MB", ""]),
        Row(
            "  memory",
            [f"+{run.growth:.0f} MiB", "", ""],
            under(GROWTH_LIMIT, run.growth, f"flat, under {GROWTH_LIMIT} MiB"),
        ),
    ]


def timed_rows(workspace: Workspace, place: Place, rounds: int) -> list[Row]:
    """Measure wall and processor time of attempts and bare downloads."""
    steps: dict[str, list[float]] = defaultdict(list)

    def measured_attempt() -> Cost:
        cost, durations = apart(attempt, place.settings, workspace, place, f"timed-{time.monotonic_ns()}").value
        for name, duration in durations.items():
            steps[name].append(duration)
        return cost

    costs = interleave({"perago": measured_attempt, "bare": lambda: apart(bare_download, place).value}, rounds)
    perago, bare = median(costs["perago"]), median(costs["bare"])
    limit = workspace.max_seconds
    target = None if limit is None else under(limit, perago.wall, f"under {limit} s")
    print_slowest(workspace.name, {name: sorted(taken)[len(taken) // 2] for name, taken in steps.items()})
    return [
        Row("  wall", [seconds(perago.wall), seconds(bare.wall), ratio(perago.wall, bare.wall)], target),
        Row("  processor", [seconds(perago.cpu), seconds(bare.cpu), ratio(perago.cpu, bare.cpu)]),
    ]


def print_slowest(title: str, steps: dict[str, float]) -> None:
    """Print the five slowest steps of an attempt."""
    slowest = sorted(steps.items(), key=lambda step: -step[1])[:5]
    print(f"{title}: {', '.join(f'{name} {seconds(duration)}' for name, duration in slowest)}")


def attempt(
    settings: LakeFSSettings, workspace: Workspace, place: Place, branch: str, cache: ObjectCache | None = None
) -> tuple[Cost, dict[str, float]]:
    """Run one attempt on a new branch at the seeded commit; return its cost, and the seconds of each step.

    Raises:
        RuntimeError: it did not publish.
    """
    admin = LakeFSStore(place.settings)
    admin.create_branch(place.repository, branch, place.ref)
    admin.close()
    task = get_task(edit)
    assert task is not None
    block = {"repository": place.repository, "branch": branch, "ref_type": "commit", "ref": place.ref}
    params = Params(paths=[upload.key for upload in place.uploads[: workspace.changed]])
    store = LakeFSStore(settings, cache=cache)
    with InMemoryServices() as services:
        services.start_raw(task, {"workspace": block, "params": params.model_dump()})
        delivery = services.take(task)
        start, cpu = time.perf_counter(), time.process_time()
        record = run_attempt(
            task,
            delivery,
            AttemptRuntime(
                store=store,
                delivery_check=services.conductor,
                workspace_root=place.directory / "workspaces",
                clock=SystemClock(),
                worker_id="benchmark0001",
            ),
        )
        cost = Cost(time.perf_counter() - start, time.process_time() - cpu)
    store.close()
    if record.report is None or record.report.status is not TaskStatus.COMPLETED:
        raise RuntimeError(f"the attempt did not complete: {record.report or record.lost_reason}")
    steps: dict[str, float] = defaultdict(float)
    for step in record.steps:
        steps[step.name] += step.seconds
    return cost, steps


if __name__ == "__main__":
    main()
