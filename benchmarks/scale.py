"""A workspace of 100,000 small objects on a real lakeFS, from its listing to what the function has changed in it.

Beside it is a bare urllib3 loop that is given the keys, and only downloads and verifies them. perago lists, lays out,
downloads, scans, and finds ten changed files. `BENCHMARK_OBJECTS` says how many objects there are.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks import servers
from benchmarks.harness import Cost, Row, arguments, at_most, interleave, median, print_table, ratio, seconds, under
from benchmarks.processes import Apart, apart
from benchmarks.transfer_clients import Place, Work, bare_down, down_into
from perago.adapters.lakefs import LakeFSStore
from perago.ports import Upload
from perago.workspace.changes import Baseline, detect_changes
from perago.workspace.layout import create_directories, directories_to_create, plan_layout
from perago.workspace.scan import scan_tree

OBJECTS = int(os.environ.get("BENCHMARK_OBJECTS", "100000"))
CONTENTS, CHANGED = 100, 10
LIMIT, MEMORY = 1.5, 250
"""In multiples of the bare loop, and in MiB."""

T = TypeVar("T")


def main() -> None:
    """Run and print."""
    rounds = arguments(__doc__, rounds=1).rounds
    found = servers.lakefs()
    with tempfile.TemporaryDirectory() as scratch, servers.repository(found) as repository:
        uploads = make_uploads(Path(scratch) / "seed")
        place = Place(
            found, repository, servers.commit_files(found, repository, uploads), Path(scratch), tuple(uploads)
        )
        work = Work("", OBJECTS, uploads[0].size, threads=16, part=1)
        steps: list[dict[str, float]] = []
        peaks: list[float] = []

        def ours() -> Cost:
            result: Apart[tuple[Cost, dict[str, float]]] = apart(workspace, work, replace(place, uploads=()))
            steps.append(result.value[1])
            peaks.append(result.peak)
            return result.value[0]

        ways: dict[str, Callable[[], Cost]] = {
            "bare": lambda: apart(partial(bare_down, verify=True), work, place).value,
            "perago": ours,
        }
        costs = {name: median(taken) for name, taken in interleave(ways, rounds).items()}
    print_table(
        f"a workspace of {OBJECTS:,} objects on a real lakeFS; medians of {rounds}, taking turns",
        ["wall", "wall / bare"],
        rows_of(costs, steps[-1], max(peaks)),
        depends_on="cores shared with the server; how fast the disk makes files",
    )


def rows_of(costs: dict[str, Cost], steps: dict[str, float], peak: float) -> list[Row]:
    """The lines of the table; the steps are those of one run."""
    bare, whole = costs["bare"].wall, costs["perago"].wall
    looks = steps["scan after the function"] + steps["changes"]
    return [
        Row("bare download", [seconds(bare), ratio(bare, bare)]),
        Row("perago", [seconds(whole), ratio(whole, bare)], at_most(LIMIT, whole / bare, f"at most {LIMIT} x")),
        *(Row(f"  {name}", [seconds(took), ratio(took, bare)]) for name, took in steps.items()),
        Row(
            f"{CHANGED} changed files beside one scan",
            [seconds(looks), f"{looks / steps['scan']:.2f} scans"],
            at_most(LIMIT, looks / steps["scan"], f"one scan, at most {LIMIT}"),
        ),
        Row("memory of the whole process", [f"{peak:.0f} MiB", ""], under(MEMORY, peak, f"under {MEMORY} MiB")),
    ]


def make_uploads(directory: Path) -> list[Upload]:
    """Many objects of few different contents, which is enough: lakeFS stores each by itself."""
    directory.mkdir()
    made = []
    for number in range(CONTENTS):
        content = f"{number:03}\n".encode() * 64
        path = directory / str(number)
        path.write_bytes(content)
        made.append((path, len(content), hashlib.md5(content, usedforsecurity=False).hexdigest()))
    return [Upload(f"d{n % 20}/e{n // 1000:03}/f{n:06}.txt", *made[n % CONTENTS]) for n in range(OBJECTS)]


def workspace(work: Work, place: Place) -> tuple[Cost, dict[str, float]]:
    """All that an attempt does with its workspace before it publishes; what it took, and each step of it."""
    store, steps = LakeFSStore(place.settings), dict[str, float]()

    def step(name: str, action: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = action()
        steps[name] = time.perf_counter() - start
        return result

    def move(target: Path) -> None:
        entries = step("list", lambda: store.list_objects(place.repository, place.ref, ""))
        placements = step("lay out", lambda: plan_layout(entries, "", target))
        step("make directories", lambda: create_directories(target, directories_to_create(placements, "")))
        step("download", lambda: store.download(place.repository, place.ref, target, placements))
        tree = step("scan", lambda: scan_tree(target))
        baseline = step("remember", lambda: Baseline.record(tree, placements, ""))
        for entry in entries[:: len(entries) // CHANGED][:CHANGED]:
            (target / entry.key).write_bytes(b"?" * entry.size)
        after = step("scan after the function", lambda: scan_tree(target))
        changes = step("changes", lambda: detect_changes(baseline, after))
        if len(changes.changed) != CHANGED or changes.added or changes.removed:
            raise RuntimeError(f"{len(changes.changed)} files have changed, not {CHANGED}")

    return down_into(place, work.count, move, work), steps


if __name__ == "__main__":
    main()
