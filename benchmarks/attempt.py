"""A whole attempt against a real lakeFS: time, requests, bytes, memory.

Two workspaces: 1,000 files of 4 KiB of which ten change, and three of 100 MB of which one changes. Requests and bytes
are counted by a proxy, in a run of their own; times are taken without it and held against a bare loop that only
downloads and verifies the same objects on as many threads. Conductor is the in-memory one, so its requests (a poll,
two or three questions, a report) are not counted here.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import servers
from benchmarks.harness import (
    Cost,
    Row,
    arguments,
    at_most,
    interleave,
    median,
    print_table,
    ratio,
    seconds,
    under,
)
from benchmarks.processes import apart
from benchmarks.proxy import Counts, counting
from benchmarks.tasks.editing import Params, edit
from benchmarks.transfer_clients import Place, Work, bare_down, make_file
from perago.adapters.lakefs import LakeFSStore
from perago.authoring.task import get_task
from perago.cache import ObjectCache
from perago.driver import AttemptRuntime, SystemClock, run_attempt
from perago.ports import TaskStatus
from perago.settings import LakeFSSettings
from perago.testing.services import InMemoryServices

MEGABYTE = 1_000_000
FLAT = 60
"""MiB that an attempt may add to its process, however large the files are."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """What lies in it, what the function changes, and what an attempt may cost."""

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
    rounds = arguments(__doc__, rounds=3).rounds
    found = servers.lakefs()
    rows: list[Row] = []
    for workspace in (MANY, LARGE):
        with tempfile.TemporaryDirectory() as scratch, servers.repository(found) as repository:
            place = seeded(found, repository, Path(scratch), workspace)
            rows += counted_rows(workspace, place)
            rows += timed_rows(workspace, place, rounds)
    print_table(
        f"attempt on a real lakeFS; times are medians of {rounds}, taking turns",
        ["perago", "bare download", "ratio"],
        rows,
        depends_on="cores shared with the server, disk speed for the large files; requests and bytes on nothing",
    )


def seeded(found: LakeFSSettings, repository: str, scratch: Path, workspace: Workspace) -> Place:
    """Commit the workspace."""
    uploads = [make_file(scratch / "seed", workspace.size, number) for number in range(workspace.count)]
    commit = servers.commit_files(found, repository, uploads)
    shutil.rmtree(scratch / "seed")
    return Place(found, repository, commit, scratch, tuple(uploads))


def counted_rows(workspace: Workspace, place: Place) -> list[Row]:
    """Requests, bytes and memory of one attempt through the proxy."""
    with counting(place.settings.endpoint_url) as proxy:
        run = apart(attempt, servers.through(place.settings, proxy.url), workspace, place, "counted")
        counts: Counts = proxy.counts
    print(f"{workspace.name}: {', '.join(f'{n} {call}' for call, n in counts.calls.most_common())}")
    up, down = counts.up / MEGABYTE, counts.down / MEGABYTE
    limits = workspace.max_requests, workspace.max_up
    return [
        Row(
            f"{workspace.name}: requests",
            [str(counts.requests), str(workspace.count), ratio(counts.requests, workspace.count)],
            at_most(limits[0], counts.requests, f"at most {limits[0]:,}"),
        ),
        Row("  up", [f"{up:.3f} MB", "0", ""], at_most(limits[1], up, f"at most {limits[1]} MB")),
        Row("  down", [f"{down:.1f} MB", f"{workspace.count * workspace.size / MEGABYTE:.1f} MB", ""]),
        Row("  memory", [f"+{run.growth:.0f} MiB", "", ""], under(FLAT, run.growth, f"flat, under {FLAT} MiB")),
    ]


def timed_rows(workspace: Workspace, place: Place, rounds: int) -> list[Row]:
    """Wall and processor time, next to those of a bare download."""
    work = Work(workspace.name, workspace.count, workspace.size, threads=min(16, workspace.count), part=1)
    steps: dict[str, list[float]] = {}

    def ours() -> Cost:
        cost, taken = apart(attempt, place.settings, workspace, place, f"timed-{time.monotonic_ns()}").value
        for name, took in taken.items():
            steps.setdefault(name, []).append(took)
        return cost

    costs = interleave(
        {"perago": ours, "bare": lambda: apart(partial(bare_down, verify=True), work, place).value}, rounds
    )
    perago, bare = median(costs["perago"]), median(costs["bare"])
    limit = workspace.max_seconds
    target = None if limit is None else under(limit, perago.wall, f"under {limit} s")
    slowest = sorted(((sorted(took)[len(took) // 2], name) for name, took in steps.items()), reverse=True)[:5]
    print(f"{workspace.name}: {', '.join(f'{name} {seconds(took)}' for took, name in slowest)}")
    return [
        Row("  wall", [seconds(perago.wall), seconds(bare.wall), ratio(perago.wall, bare.wall)], target),
        Row("  processor", [seconds(perago.cpu), seconds(bare.cpu), ratio(perago.cpu, bare.cpu)]),
    ]


def attempt(
    settings: LakeFSSettings, workspace: Workspace, place: Place, branch: str, cache: ObjectCache | None = None
) -> tuple[Cost, dict[str, float]]:
    """One attempt on a branch of its own at the seeded commit; what it took, and each step of it.

    Raises:
        RuntimeError: it did not publish.
    """
    admin = LakeFSStore(place.settings)
    admin.create_branch(place.repository, branch, place.ref)
    admin.close()
    task = get_task(edit)
    if task is None:
        raise RuntimeError("edit is a task")
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
    steps: dict[str, float] = {}
    for step in record.steps:
        steps[step.name] = steps.get(step.name, 0.0) + step.seconds
    return cost, steps


if __name__ == "__main__":
    main()
