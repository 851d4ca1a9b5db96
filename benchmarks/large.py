"""One attempt on 10 GB: three files of 3.4 GB, of which one changes. Time and memory, against a real lakeFS.

Beside it are a bare loop that downloads and verifies the files, and two that only move them on this machine: `cp`, and
a copy through a socket on loopback, without HTTP and without a digest. It needs four times as much room on the disk,
and lakeFS as much as five such files. `BENCHMARK_FILE_MB` says how large a file is.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks import servers
from benchmarks.attempt import MEGABYTE, Workspace, attempt
from benchmarks.cache import cache_of
from benchmarks.harness import Cost, Row, arguments, interleave, median, print_table, ratio, seconds, timed, under
from benchmarks.processes import apart, run_command
from benchmarks.transfer_clients import Place, Work, bare_down, make_file
from perago.cache import ObjectCache, clear

SIZE = int(os.environ.get("BENCHMARK_FILE_MB", "3400")) * MEGABYTE
COUNT = 3
MEMORY = 120
"""MiB that a process may have, however large the files are."""
_BLOCK = 2**20


def main() -> None:
    """Run and print."""
    rounds = arguments(__doc__, rounds=1).rounds
    found = servers.lakefs()
    peaks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch, servers.repository(found) as repository:
        uploads = [make_file(Path(scratch) / "from", SIZE, number) for number in range(COUNT)]
        place = Place(
            found, repository, servers.commit_files(found, repository, uploads), Path(scratch), tuple(uploads)
        )
        costs = {name: median(taken) for name, taken in interleave(ways_of(place, peaks), rounds).items()}
    base = costs["socket"].wall

    def memory_of(name: str) -> str:
        return f"{peaks[name]:.0f} MiB" if name in peaks else ""

    print_table(
        f"one attempt on {COUNT} x {SIZE / 10**9:g} GB, one changed, on a real lakeFS; medians of {rounds}",
        ["wall", "cpu", "wall / socket", "memory"],
        [
            Row(
                name,
                [seconds(cost.wall), seconds(cost.cpu), ratio(cost.wall, base), memory_of(name)],
                under(MEMORY, peaks[name], f"memory under {MEMORY} MiB") if name in peaks else None,
            )
            for name, cost in costs.items()
        ],
        depends_on="the disk, and how much of the files it still has in memory",
    )


def ways_of(place: Place, peaks: dict[str, float]) -> dict[str, Callable[[], Cost]]:
    """What takes turns. `peaks` gets the memory of the process of each attempt."""
    workspace = Workspace("", COUNT, SIZE, changed=1, max_requests=0, max_up=0)
    work = Work("", COUNT, SIZE, threads=COUNT, part=1)
    cache = cache_of(place)

    def run(name: str, cache: ObjectCache | None) -> Cost:
        result = apart(attempt, place.settings, workspace, place, f"b{time.monotonic_ns()}", cache)
        peaks[name] = max(peaks.get(name, 0.0), result.peak)
        cost, steps = result.value
        slowest = sorted(((took, step) for step, took in steps.items()), reverse=True)[:6]
        print(f"{name}: {', '.join(f'{step} {seconds(took)}' for took, step in slowest)}", flush=True)
        return cost

    def warm() -> Cost:
        cost = run("warm", cache)
        clear(cache.root)  # so that the next ones have the room
        return cost

    return {
        "cp": partial(copy_files, place),
        "socket": partial(copy_through_socket, place),
        "bare download": lambda: apart(partial(bare_down, verify=True), work, place).value,
        "no cache": partial(run, "no cache", None),
        "filling it": partial(run, "filling it", cache),
        "warm": warm,
    }


def copy_files(place: Place) -> Cost:
    """`cp` of the files, which shares blocks where the disk can."""
    target = place.directory / "copied"
    cost = run_command(["cp", "--reflink=auto", "-R", str(place.directory / "from"), str(target)])
    shutil.rmtree(target)
    return cost


def copy_through_socket(place: Place) -> Cost:
    """The files, one after the other, from a process that sends them to this one. Processor time is this one's."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    sender = context.Process(target=send_files, args=([upload.path for upload in place.uploads], theirs), daemon=True)
    sender.start()
    port = ours.recv()
    with tempfile.TemporaryDirectory(dir=place.directory) as target:
        cost = timed(lambda: receive_files(port, Path(target)))
    sender.join()
    return cost


def send_files(paths: Sequence[Path], ready: Connection) -> None:
    """Send a file to each connection, as often as there are files."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ready.send(server.getsockname()[1])
        for path in paths:
            connection, _ = server.accept()
            with connection, path.open("rb") as file:
                connection.sendfile(file)


def receive_files(port: int, target: Path) -> None:
    """Write what comes to files."""
    block = memoryview(bytearray(_BLOCK))
    for number in range(COUNT):
        path = target / str(number)
        with socket.create_connection(("127.0.0.1", port)) as connection, path.open("wb", buffering=0) as file:
            while count := connection.recv_into(block):
                file.write(block[:count])
        if path.stat().st_size != SIZE:
            raise RuntimeError("the copy is not whole")


if __name__ == "__main__":
    main()
