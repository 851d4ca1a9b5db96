"""The bases of `attempt` and `cache`: a loop that only downloads and verifies the objects of a commit, and the requests
of a publication alone."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import urllib3

from benchmarks import servers
from benchmarks.harness import Cost, timed
from benchmarks.tasks.requests_alone import RawConnection
from perago.attempt.publication import EXPECTED_HEAD
from perago.ports import Upload
from perago.settings import LakeFSSettings

MOST_THREADS = 16
_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class Place:
    """A commit with the uploaded files, and a local directory for measurements."""

    settings: LakeFSSettings
    repository: str
    ref: str
    directory: Path
    uploads: tuple[Upload, ...]


def make_file(directory: Path, size: int, number: int) -> Upload:
    """Write a file of random bytes."""
    path = directory / f"d{number % 20}" / f"f{number:05}"
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("wb") as file:
        for start in range(0, size, _BLOCK):
            block = os.urandom(min(_BLOCK, size - start))
            digest.update(block)
            file.write(block)
    return Upload(path.relative_to(directory).as_posix(), path, size, digest.hexdigest())


def bare_download(place: Place) -> Cost:
    """Send one GET for each object, and stream the verified bytes into a file.

    Raises:
        RuntimeError: an object differs from its upload.
    """
    threads = min(MOST_THREADS, len(place.uploads))
    pool = urllib3.PoolManager(maxsize=threads, headers=servers.credentials(place.settings), retries=False)
    url = f"{servers.api(place.settings)}/repositories/{place.repository}/refs/{place.ref}/objects?path="
    target = Path(tempfile.mkdtemp(dir=place.directory))
    for upload in place.uploads:
        (target / upload.key).parent.mkdir(parents=True, exist_ok=True)

    def fetch(upload: Upload) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        address = url + quote(upload.key, safe="")
        with pool.request("GET", address, preload_content=False) as answer, (target / upload.key).open("wb") as file:
            for chunk in answer.stream(2**18):
                file.write(chunk)
                digest.update(chunk)
        if digest.hexdigest() != upload.checksum:
            raise RuntimeError(f"the downloaded bytes of {upload.key} differ from the uploaded ones")

    try:
        with ThreadPoolExecutor(threads) as executor:
            return timed(lambda: list(executor.map(fetch, place.uploads)))
    finally:
        shutil.rmtree(target)


def bare_publication(place: Place, branch: str) -> Cost:
    """Publish one new file with the requests that must follow each other, and nothing else."""
    server = RawConnection(servers.api(place.settings), servers.credentials(place.settings))
    root, staging, content = f"/repositories/{place.repository}", f"{branch}-staging", os.urandom(place.uploads[0].size)
    server.ask("POST", f"{root}/branches", {"name": branch, "source": place.ref})

    def publish() -> None:
        server.ask("GET", f"{root}/refs/{place.ref}/objects/ls?amount=1000")
        head = server.ask("GET", f"{root}/branches/{branch}")["commit_id"]
        server.ask("POST", f"{root}/branches", {"name": staging, "source": head, "hidden": True})
        server.ask("POST", f"{root}/branches/{staging}/objects?path={place.uploads[0].key}", content)
        commit = server.ask("POST", f"{root}/branches/{staging}/commits", {"message": "staging"})["id"]
        fenced = {"message": "merge", "metadata": {EXPECTED_HEAD: head}}
        server.ask("POST", f"{root}/refs/{commit}/merge/{branch}", fenced)

    return timed(publish)
