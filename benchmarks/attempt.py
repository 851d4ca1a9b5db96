"""A complete attempt on a real lakeFS: time, requests, bytes, memory.

Two workspaces: 1,000 files of 4 KiB of which ten change, and three of 100 MB of which one changes. A proxy counts
requests and bytes in a separate run. Times are taken without the proxy, and compared with a bare loop that only
downloads and verifies the same objects. Conductor is in memory, so its requests are not counted.

The attempts on a third one, ten files of 4 KiB of which one changes, find its objects in a cache. They are compared
with a raw connection that sends only the requests that must follow each other.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import servers
from benchmarks.bare_download import Place, bare_download, bare_publication, make_file
from benchmarks.harness import Cost, Row, at_most, interleave, median, print_table, ratio, rounds_option, seconds, under
from benchmarks.processes import apart
from benchmarks.proxy import Counts, counting
from benchmarks.tasks.editing import Params, edit
from perago.adapters.lakefs import LakeFSStore
from perago.authoring.task import get_task
from perago.cache import ObjectCache
from perago.driver import AttemptRuntime, SystemClock, run_attempt
from perago.driver.fencing import FenceProofs, fence_upload
from perago.driver.runtime import CleanUp
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
FEW = Workspace("10 x 4 KiB, 1 changed", 10, 4096, changed=1, max_requests=20, max_up=0.05)
PUBLICATIONS = 20
"""Publications of `FEW` in each round."""
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
    with tempfile.TemporaryDirectory() as scratch, servers.repository(settings) as repository:
        rows.append(row_of_few(seeded(settings, repository, Path(scratch), FEW), rounds))
    print_table(
        f"attempt on a real lakeFS; times are medians of {rounds}, taking turns",
        ["perago", "bare download", "ratio"],
        rows,
        depends_on="cores shared with the server, disk speed for the large files; requests and bytes on nothing",
    )


def seeded(settings: LakeFSSettings, repository: str, scratch: Path, workspace: Workspace) -> Place:
    """Commit the workspace."""
    uploads = [make_file(scratch / "seed", workspace.size, number) for number in range(workspace.count)]
    with fence_upload() as fence:
        commit = servers.commit_files(settings, repository, [*uploads, *([fence] if workspace is FEW else [])])
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
    values = [str(requests), str(workspace.count), ratio(requests, workspace.count)]
    growth = under(GROWTH_LIMIT, run.growth, f"flat, under {GROWTH_LIMIT} MiB")
    return [
        Row(f"{workspace.name}: requests", values, at_most(most, requests, f"at most {most:,}")),
        Row("  up", [f"{up:.3f} MB", "0", ""], at_most(up_limit, up, f"at most {up_limit} MB")),
        Row("  down", [f"{down:.1f} MB", f"{workspace.count * workspace.size / MEGABYTE:.1f} MB", ""]),
        Row("  memory", [f"+{run.growth:.0f} MiB", "", ""], growth),
    ]


def timed_rows(workspace: Workspace, place: Place, rounds: int) -> list[Row]:
    """Measure wall and processor time of attempts and bare downloads."""
    contestants = {
        "perago": lambda: apart(attempt, place.settings, workspace, place, f"timed-{time.monotonic_ns()}").value,
        "bare": lambda: apart(bare_download, place).value,
    }
    costs = interleave(contestants, rounds)
    perago, bare = median(costs["perago"]), median(costs["bare"])
    limit = workspace.max_seconds
    target = None if limit is None else under(limit, perago.wall, f"under {limit} s")
    return [
        Row("  wall", [seconds(perago.wall), seconds(bare.wall), ratio(perago.wall, bare.wall)], target),
        Row("  processor", [seconds(perago.cpu), seconds(bare.cpu), ratio(perago.cpu, bare.cpu)]),
    ]


def row_of_few(place: Place, rounds: int) -> Row:
    """Compare warm attempts in one process, as a slot runs them, with their requests alone."""
    workspaces, clean_ups, proofs = place.directory / "workspaces", list[CleanUp](), FenceProofs(SystemClock())
    workspaces.mkdir(mode=0o700)
    store = LakeFSStore(place.settings, cache=ObjectCache(workspaces, 10**9))
    with closing(store), ThreadPoolExecutor(3) as threads:

        def publish() -> Cost:
            branch, later = f"a{time.monotonic_ns()}", clean_ups.append
            cost = attempt_with(store, FEW, place, branch, later=later, threads=threads, proofs=proofs)
            while clean_ups:
                clean_ups.pop()()
            return cost

        contestants = {"perago": publish, "alone": lambda: bare_publication(place, f"b{time.monotonic_ns()}")}
        costs = {name: median(taken) for name, taken in interleave(contestants, PUBLICATIONS * rounds).items()}
    perago, alone = costs["perago"].wall, costs["alone"].wall
    return Row(
        f"{FEW.name}: wall, over the requests alone",
        [seconds(perago), seconds(alone), ratio(perago, alone)],
        at_most(1.3, perago / alone, "at most 1.3 x the requests"),
    )


def attempt(
    settings: LakeFSSettings, workspace: Workspace, place: Place, branch: str, cache: ObjectCache | None = None
) -> Cost:
    """Run one attempt with a store of its own, as `attempt_with` does."""
    with closing(LakeFSStore(settings, cache=cache)) as store:
        return attempt_with(store, workspace, place, branch)


def attempt_with(store: LakeFSStore, workspace: Workspace, place: Place, branch: str, **helpers: Any) -> Cost:
    """Run one attempt on a new branch at the seeded commit. `helpers` are more fields of its runtime.

    Raises:
        RuntimeError: it did not publish.
    """
    with closing(LakeFSStore(place.settings)) as admin:
        admin.create_branch(place.repository, branch, place.ref)
    task = get_task(edit)
    assert task is not None
    block = {"repository": place.repository, "branch": branch, "ref_type": "commit", "ref": place.ref}
    params = Params(paths=[upload.key for upload in place.uploads[: workspace.changed]])
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
                **helpers,
            ),
        )
        cost = Cost(time.perf_counter() - start, time.process_time() - cpu)
    if record.report is None or record.report.status is not TaskStatus.COMPLETED:
        raise RuntimeError(f"the attempt did not complete: {record.report or record.lost_reason}")
    return cost


if __name__ == "__main__":
    main()
