"""The clients that `transfer` compares: each moves the same files and says what that took."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import lakefs
import urllib3
from lakefs.client import Client

from benchmarks import servers
from benchmarks.harness import Cost, timed
from benchmarks.processes import run_command
from perago.adapters.lakefs import LakeFSStore
from perago.ports import Placement, Upload
from perago.settings import LakeFSSettings

PERAGO, WRAPPER, SEQUENTIAL = "perago", "lakefs wrapper", "wrapper, sequential"
BARE, BARE_MD5, LAKECTL = "bare urllib3", "bare urllib3 with MD5", "lakectl"
LAKECTL_AT = "BENCHMARK_LAKECTL"
_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class Work:
    """Files of one size, and how they are moved. Sequential use is measured on a part and scaled."""

    name: str
    count: int
    size: int
    threads: int
    """Of the wrapper and of the bare loop; perago chooses by itself."""
    part: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where one measurement reads and writes."""

    settings: LakeFSSettings
    repository: str
    ref: str
    directory: Path
    uploads: tuple[Upload, ...]


Contestant = Callable[[Work, Place], Cost]


def make_file(directory: Path, size: int, number: int) -> Upload:
    """A file of random bytes, described as change detection would."""
    path = directory / f"d{number % 20}" / f"f{number:05}"
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("wb") as file:
        for start in range(0, size, _BLOCK):
            block = os.urandom(min(_BLOCK, size - start))
            digest.update(block)
            file.write(block)
    return Upload(path.relative_to(directory).as_posix(), path, size, digest.hexdigest())


def down_into(place: Place, count: int, move: Callable[[Path], object], work: Work) -> Cost:
    """Time a download into a new directory, and see that everything is there."""
    target = Path(tempfile.mkdtemp(dir=place.directory))
    for upload in place.uploads:
        (target / upload.key).parent.mkdir(parents=True, exist_ok=True)
    moved: list[object] = []
    try:
        cost = timed(lambda: moved.append(move(target)))
        cost = moved[0] if isinstance(moved[0], Cost) else cost  # of another process
        found = [path.stat().st_size for path in target.rglob("*") if path.is_file()]
        if found != [work.size] * count:
            raise RuntimeError(f"{len(found)} files arrived, or not whole ones; expected {count}")
    finally:
        shutil.rmtree(target)
    return scaled(cost, work.count / count)


def up_onto(place: Place, count: int, send: Callable[[str], object], work: Work) -> Cost:
    """Time an upload to a new branch, and see that everything is there."""
    store = LakeFSStore(place.settings)
    branch = f"up-{secrets.token_hex(6)}"
    store.create_branch(place.repository, branch, store.get_commit(place.repository, place.ref).parents[0])
    cost = timed(lambda: send(branch))
    staged = store.commit(place.repository, branch, "uploaded", {}).id
    arrived = [entry.size for entry in store.list_objects(place.repository, staged, "")]
    store.close()
    if arrived != [work.size] * count:
        raise RuntimeError(f"{len(arrived)} objects arrived, or not whole ones; expected {count}")
    return scaled(cost, work.count / count)


def scaled(cost: Cost, factor: float) -> Cost:
    """What the whole would take if a part took `cost`."""
    return Cost(cost.wall * factor, cost.cpu * factor)


def each(threads: int, action: Callable[[Upload], object], uploads: tuple[Upload, ...]) -> None:
    """Call `action` for each file, on as many threads."""
    if threads == 1:
        for upload in uploads:
            action(upload)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(action, uploads):
            pass


# ------------------------------------------------------------------------------ perago


def perago_down(work: Work, place: Place) -> Cost:
    """List, fetch, verify."""
    store = LakeFSStore(place.settings)

    def move(target: Path) -> None:
        entries = store.list_objects(place.repository, place.ref, "")
        store.download(place.repository, place.ref, target, [Placement(e, target / e.key) for e in entries])

    return down_into(place, work.count, move, work)


def perago_up(work: Work, place: Place) -> Cost:
    """Send and have the stored checksum compared."""
    store = LakeFSStore(place.settings)
    return up_onto(place, work.count, lambda branch: store.upload(place.repository, branch, place.uploads), work)


# ----------------------------------------------------------------------------- lakectl


def lakectl_down(work: Work, place: Place) -> Cost:
    """`lakectl fs download`, which the variable `BENCHMARK_LAKECTL` names. It verifies nothing, and uses signed
    addresses where lakeFS gives some."""
    settings = place.settings
    environment = {
        **os.environ,
        "LAKECTL_SERVER_ENDPOINT_URL": settings.endpoint_url,
        "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": settings.access_key_id,
        "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": settings.secret_access_key.get_secret_value(),
    }
    source = f"lakefs://{place.repository}/{place.ref}/"

    def move(target: Path) -> Cost:
        command = [
            os.environ[LAKECTL_AT],
            "fs",
            "download",
            "--recursive",
            "-p",
            str(work.threads),
            source,
            f"{target}/",
        ]
        return run_command(command, environment)

    return down_into(place, work.count, move, work)


# ----------------------------------------------------------------------------- wrapper


def wrapped(place: Place) -> Any:
    """The wrapper's repository."""
    client = Client(
        host=place.settings.endpoint_url,
        username=place.settings.access_key_id,
        password=place.settings.secret_access_key.get_secret_value(),
    )
    return lakefs.Repository(place.repository, client=client)


def wrapper_down(work: Work, place: Place, *, threads: int | None = None) -> Cost:
    """`reader().read()` of each object: the wrapper's fastest way, with the object in memory."""
    ref = wrapped(place).commit(place.ref)
    uploads = place.uploads[: work.part] if threads == 1 else place.uploads

    def move(target: Path) -> None:
        def fetch(upload: Upload) -> None:
            (target / upload.key).write_bytes(ref.object(upload.key).reader("rb").read())

        each(threads or work.threads, fetch, uploads)

    return down_into(place, len(uploads), move, work)


def wrapper_up(work: Work, place: Place, *, threads: int | None = None) -> Cost:
    """`writer()` for each object."""
    uploads = place.uploads[: work.part] if threads == 1 else place.uploads

    def move(branch: str) -> None:
        ref = wrapped(place).branch(branch)

        def send(upload: Upload) -> None:
            with upload.path.open("rb") as source, ref.object(upload.key).writer("wb", pre_sign=False) as writer:
                shutil.copyfileobj(source, writer, 2**20)

        each(threads or work.threads, send, uploads)

    return up_onto(place, len(uploads), move, work)


# -------------------------------------------------------------------------------- bare


def bare(work: Work, place: Place) -> tuple[urllib3.PoolManager, str]:
    """A pool, and the URL of the repository."""
    headers = servers.credentials(place.settings)
    pool = urllib3.PoolManager(maxsize=work.threads, headers=headers, retries=False)
    return pool, f"{servers.api(place.settings)}/repositories/{place.repository}"


def bare_down(work: Work, place: Place, *, verify: bool = False) -> Cost:
    """A GET for each object, streamed into its file."""
    pool, url = bare(work, place)

    def move(target: Path) -> None:
        def fetch(upload: Upload) -> None:
            address = f"{url}/refs/{place.ref}/objects?path={quote(upload.key, safe='')}"
            digest = hashlib.md5(usedforsecurity=False)
            with pool.request("GET", address, preload_content=False) as answer, (target / upload.key).open("wb") as to:
                for chunk in answer.stream(2**18):
                    to.write(chunk)
                    if verify:
                        digest.update(chunk)
            if verify and digest.hexdigest() != upload.checksum:
                raise RuntimeError(f"{upload.key} is not what was uploaded")

        each(work.threads, fetch, place.uploads)

    return down_into(place, work.count, move, work)


def bare_up(work: Work, place: Place) -> Cost:
    """A POST for each file, streamed out of it."""
    pool, url = bare(work, place)

    def move(branch: str) -> None:
        def send(upload: Upload) -> None:
            address = f"{url}/branches/{branch}/objects?path={quote(upload.key, safe='')}"
            named = {**pool.headers, "Content-Type": "application/octet-stream", "Content-Length": str(upload.size)}
            with upload.path.open("rb") as source:
                answer = pool.request("POST", address, body=source, headers=named)
            if answer.status != 201:
                raise RuntimeError(f"lakeFS answered {answer.status}")

        each(work.threads, send, place.uploads)

    return up_onto(place, work.count, move, work)


DOWN: dict[str, Contestant] = {
    BARE: bare_down,
    BARE_MD5: partial(bare_down, verify=True),
    PERAGO: perago_down,
    **({LAKECTL: lakectl_down} if LAKECTL_AT in os.environ else {}),
    WRAPPER: wrapper_down,
    SEQUENTIAL: partial(wrapper_down, threads=1),
}
UP: dict[str, Contestant] = {
    BARE: bare_up,
    PERAGO: perago_up,
    WRAPPER: wrapper_up,
    SEQUENTIAL: partial(wrapper_up, threads=1),
}
