"""Small uploads through the `lakefs` wrapper: the embedded lakeFS against the real one.

A data team's tests spend their time here, so the embedded server must not be slower than the one that it stands for.
It runs in a process of its own, as `perago dev` runs it, and once more in the process of the uploading threads, as a
fixture of a test does, where both share one interpreter.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from lakefs import Repository
from lakefs.client import Client

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
    timed,
)
from perago.driver import SystemClock
from perago.embedded.http.lakefs import lakefs_app
from perago.embedded.http.loopback import serve
from perago.embedded.lakefs import LakeFSServer
from perago.settings import LakeFSSettings

UPLOADS = 1000
SIZE = 1024
WORKERS = 8
KEY, SECRET = "benchmark", uuid.uuid4().hex

REAL = "real lakeFS"
APART = "embedded, own process"
WITHIN = "embedded, same process"


@dataclass(frozen=True, slots=True)
class Place:
    """A lakeFS to upload to."""

    url: str
    key: str
    secret: str


def main() -> None:
    """Run and print."""
    rounds = arguments(__doc__, rounds=3).rounds
    found = servers.lakefs()
    with ExitStack() as stack:
        places = {
            REAL: _place(found),
            APART: _place(stack.enter_context(servers.embedded_lakefs())),
            WITHIN: Place(stack.enter_context(_served()), KEY, SECRET),
        }
        for workers in (1, WORKERS):
            contestants: dict[str, Callable[[], Cost]] = {
                name: partial(upload, place, workers) for name, place in places.items()
            }
            costs = {name: median(took) for name, took in interleave(contestants, rounds).items()}
            _print(workers, costs)


def _place(found: LakeFSSettings) -> Place:
    return Place(found.endpoint_url.rstrip("/"), found.access_key_id, found.secret_access_key.get_secret_value())


def _print(workers: int, costs: dict[str, Cost]) -> None:
    real = costs[REAL]
    rows = []
    for name, cost in costs.items():
        target: Target | None = None
        if name == APART:
            target = at_most(1.0, cost.wall / real.wall, "at least as fast as the real one")
        values = [seconds(cost.wall), seconds(cost.cpu), f"{UPLOADS / cost.wall:.0f}", ratio(cost.wall, real.wall)]
        rows.append(Row(name, values, target))
    print_table(
        f"{UPLOADS} uploads of {SIZE} bytes through the wrapper, {workers} at a time",
        ["wall", "our CPU", "a second", "ratio"],
        rows,
        depends_on="cores: with one, client and server take turns wherever they run",
    )


def upload(place: Place, workers: int) -> Cost:
    """What the uploads take in a repository of their own, threads and all."""
    client: Any = Client(host=place.url, username=place.key, password=place.secret)
    name = f"bench-{uuid.uuid4().hex[:12]}"
    repository = Repository(name, client=client).create(storage_namespace=f"local://{name}")
    branch, content = repository.branch("main"), os.urandom(SIZE)
    try:
        with ThreadPoolExecutor(workers) as pool:
            return timed(
                lambda: list(pool.map(lambda i: branch.object(f"d{i % 10}/{i}").upload(content), range(UPLOADS)))
            )
    finally:
        repository.delete()


@contextmanager
def _served() -> Iterator[str]:
    server = LakeFSServer(SystemClock())
    with serve(lakefs_app(server, access_key_id=KEY, secret_access_key=SECRET)) as url:
        yield url
    server.close()


if __name__ == "__main__":
    main()
