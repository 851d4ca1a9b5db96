"""Eight publishers race for one fenced branch: each round has one winner, whose work alone is on the branch."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr

from perago.adapters.lakefs import LakeFSStore
from perago.attempt.publication import EXPECTED_HEAD
from perago.driver.fencing import install_fence
from perago.ports import MergeRefusal, MergeRefused, Upload
from perago.settings import LakeFSSettings

from .repositories import BRANCH, LakeFSServer, Repository

pytestmark = pytest.mark.live

PUBLISHERS, ROUNDS = 8, 5
SHARED = "shared/latest"
START_LIMIT = 120
POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Publication:
    """The staged commit of one publisher, and the answer to its merge."""

    paths: set[str]
    staged: str
    merge: str | None
    refusal: MergeRefusal | None


@dataclass(frozen=True, slots=True)
class Round:
    """One race: all publishers write the common files and one file of their own."""

    number: int
    common: set[str]
    settings: LakeFSSettings
    repository: Repository
    scratch: Path
    start: threading.Barrier

    def publish(self, publisher: int) -> Publication:
        """Publish new bytes as an attempt does. The merge is sent when all publishers have reached the barrier."""
        paths = {f"round{self.number}/{publisher}"} | self.common
        content = secrets.token_bytes(1024)  # equal bytes of two publishers would not be a conflict
        file = self.scratch / str(publisher)
        file.write_bytes(content)
        checksum = hashlib.md5(content, usedforsecurity=False).hexdigest()
        uploads = [Upload(path, file, len(content), checksum) for path in sorted(paths)]
        repository, staging = self.repository.name, f"perago-{secrets.token_hex(8)}-{secrets.token_hex(6)}"
        with closing(LakeFSStore(self.settings, threads=2)) as store:
            try:
                head = store.get_commit(repository, BRANCH).id
                store.create_branch(repository, staging, head)
                store.upload(repository, staging, uploads)
                staged = store.commit(repository, staging, "changes of a publisher", {EXPECTED_HEAD: head}).id
                self.start.wait(START_LIMIT)
                merge = store.merge(repository, staged, BRANCH, "race", {EXPECTED_HEAD: head})
                return Publication(paths, staged, merge, None)
            except MergeRefused as error:
                return Publication(paths, staged, None, error.reason)
            except BaseException:
                self.start.abort()  # the other publishers must not wait for this one
                raise
            finally:
                store.delete_branch(repository, staging)


@contextmanager
def observed_heads(repository: Repository) -> Iterator[set[str]]:
    """Yield the heads that another client reads. The set is complete after the block."""
    heads: set[str] = set()
    stopped = threading.Event()

    def observe() -> None:
        while not stopped.wait(POLL_SECONDS):
            heads.add(repository.head())

    with ThreadPoolExecutor(1) as pool:
        observer: Future[None] = pool.submit(observe)
        try:
            yield heads
        finally:
            stopped.set()
    observer.result()


@pytest.mark.parametrize(
    ("common", "refusals"),
    [(set(), {MergeRefusal.HEAD_MOVED}), ({SHARED}, {MergeRefusal.HEAD_MOVED, MergeRefusal.CONFLICT})],
    ids=["own files", "one file"],
)
def test_a_fenced_branch_accepts_one_of_eight_racing_publications(
    lakefs: LakeFSServer, repository: Repository, tmp_path: Path, common: set[str], refusals: set[MergeRefusal]
) -> None:
    settings = LakeFSSettings(lakefs.url, lakefs.key, SecretStr(lakefs.secret))
    with closing(LakeFSStore(settings)) as store:
        assert install_fence(store, repository.name, BRANCH).holds
    race = partial(Round, common=common, settings=settings, repository=repository, scratch=tmp_path)
    first = repository.head()
    winners: list[Publication] = []
    with observed_heads(repository) as heads, ThreadPoolExecutor(PUBLISHERS) as pool:
        for number in range(ROUNDS):
            before = repository.head()
            publish = race(number, start=threading.Barrier(PUBLISHERS)).publish
            publications = list(pool.map(publish, range(PUBLISHERS)))
            (winner,) = [publication for publication in publications if publication.merge]
            winners.append(winner)
            assert {publication.refusal for publication in publications} - {None} <= refusals
            assert (repository.head(), repository.uncommitted()) == (winner.merge, set())
            assert repository.get(repository.head())["parents"] == [before, winner.staged]
            assert repository.tree() == repository.tree(winner.staged)
            old, new = repository.tree(before), repository.tree()
            assert {path for path in old | new if old.get(path) != new.get(path)} == winner.paths
    merges = [winner.merge for winner in winners]
    assert [commit["id"] for commit in repository.since(first)] == merges[::-1]
    assert heads <= {first, *merges}
    assert set(repository.tree()) == set().union(*(winner.paths for winner in winners))
    assert repository.branches() == {BRANCH}
