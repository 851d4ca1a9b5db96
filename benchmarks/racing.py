"""What `fence_race` is made of: publishers, their races, and the look at the branch that tells whether all is well."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from perago.adapters.lakefs import LakeFSStore
from perago.attempt.publication import EXPECTED_HEAD
from perago.ports import Commit, MergeRefused, ServiceError, Upload
from perago.settings import LakeFSSettings

SHARED = "shared/latest"
"""The file that all publishers of a race may change."""

_WON = "won"
_SIZE = 1024
_START_SECONDS = 120
_WATCH_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Answer:
    """What one publisher got for its merge."""

    kind: str
    """Whether it won, why it was refused, or what else happened."""
    wall: float
    """Seconds from sending the merge to its answer."""
    staged: Commit
    keys: frozenset[str]
    merge: str | None

    @property
    def won(self) -> bool:
        """Whether its merge moved the branch."""
        return self.kind == _WON


class Publisher:
    """One publisher with connections of its own, as every slot of a worker has."""

    def __init__(self, settings: LakeFSSettings, repository: str, scratch: Path) -> None:
        self._store = LakeFSStore(settings, threads=2)
        self._repository = repository
        self._file = scratch / secrets.token_hex(8)

    def publish(self, branch: str, keys: Iterable[str], start: threading.Barrier) -> Answer:
        """Publish new bytes at `keys` as an attempt does; the merge is sent when all have come to `start`."""
        store, repository, found = self._store, self._repository, frozenset(keys)
        head = store.get_commit(repository, branch).id
        staging = f"perago-{secrets.token_hex(8)}-{secrets.token_hex(6)}"
        store.create_branch(repository, staging, head)
        try:
            store.upload(repository, staging, self._uploads(found))
            staged = store.commit(repository, staging, "a racer's changes", {EXPECTED_HEAD: head})
            start.wait(_START_SECONDS)
            return self._merge(branch, head, staged, found)
        except BaseException:
            start.abort()  # the others must not wait for one that does not come
            raise
        finally:
            store.delete_branch(repository, staging)

    def _uploads(self, keys: frozenset[str]) -> list[Upload]:
        content = secrets.token_bytes(_SIZE)  # nobody else has these bytes: equal ones would be no conflict
        self._file.write_bytes(content)
        checksum = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return [Upload(key, self._file, len(content), checksum) for key in sorted(keys)]

    def _merge(self, branch: str, head: str, staged: Commit, keys: frozenset[str]) -> Answer:
        kind, merge, begun = _WON, None, time.perf_counter()
        try:
            merge = self._store.merge(self._repository, staged.id, branch, "race", {EXPECTED_HEAD: head})
        except MergeRefused as error:
            kind = str(error.reason)
        except ServiceError as error:
            kind = f"{type(error).__name__}: {error.detail}"
        return Answer(kind, time.perf_counter() - begun, staged, keys, merge)

    def close(self) -> None:
        """Close its connections."""
        self._store.close()


@dataclass(slots=True)
class Race:
    """The rounds of one branch: what was answered, and what is wrong with the branch.

    `first` is the head before the first round, `wrong` what a look at the branch found, in words.
    """

    store: LakeFSStore
    repository: str
    branch: str
    first: str
    shared: bool
    """Whether all change one file as well."""
    rounds: list[list[Answer]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    head: str = field(init=False)

    def __post_init__(self) -> None:
        self.head = self.first

    @property
    def answers(self) -> list[Answer]:
        """Those of all rounds."""
        return [answer for answers in self.rounds for answer in answers]

    def run(self, publishers: Sequence[Publisher]) -> None:
        """One round: all publish at once, then the branch is looked at."""
        start, number = threading.Barrier(len(publishers)), len(self.rounds)
        common = {SHARED} if self.shared else set()
        with ThreadPoolExecutor(len(publishers)) as pool:
            sent = [
                pool.submit(publisher.publish, self.branch, {f"round{number}/{racer}"} | common, start)
                for racer, publisher in enumerate(publishers)
            ]
        self.rounds.append([answer.result() for answer in sent])
        self.wrong += [f"{self.branch}, round {number}: {problem}" for problem in self._look()]

    def _look(self) -> Iterator[str]:
        before, head = self.head, self.store.get_commit(self.repository, self.branch)
        self.head = head.id
        winners = [answer for answer in self.rounds[-1] if answer.won]
        if len(winners) != 1:
            yield f"{len(winners)} winners"
            return
        winner = winners[0]
        if head.id != winner.merge or head.parents != (before, winner.staged.id):
            yield "the head is not the winner's merge on the head that it was built on"
        if head.meta_range_id != winner.staged.meta_range_id:
            yield "the tree is not the one that the winner staged"
        if (brought := set(self.store.diff(self.repository, before, head.id))) != winner.keys:
            yield f"the winner brought {sorted(winner.keys)}, the branch got {sorted(brought)}"
        if self.store.has_uncommitted_changes(self.repository, self.branch):
            yield "something is staged on the branch"

    def finish(self, seen: set[str]) -> None:
        """Look at the whole history; `seen` are the heads that a bystander saw."""
        self.wrong += [f"{self.branch}: {problem}" for problem in self._look_back(seen)]

    def _look_back(self, seen: set[str]) -> Iterator[str]:
        limit = len(self.answers) + 1
        log = self.store.history(self.repository, self.branch, until=self.first, limit=limit)[::-1]
        ids = [commit.id for commit in log]
        if ids != [answer.merge for answer in self.answers if answer.won]:
            yield "its history is not the winners' merges in their order"
        if [commit.parents[0] for commit in log] != [self.first, *ids][:-1]:
            yield "a merge is not built on the one before it"
        if strange := seen - {self.first, *ids}:
            yield f"{len(strange)} heads were seen that are not in its history"
        lost = {key for answer in self.answers if not answer.won for key in answer.keys} - {SHARED}
        if visible := lost & set(self.store.diff(self.repository, self.first, self.head)):
            yield f"{len(visible)} files of losers are visible"


@contextmanager
def watched(settings: LakeFSSettings, repository: str, branches: Sequence[str]) -> Iterator[dict[str, set[str]]]:
    """Every head of the branches that a bystander gets to see while the block runs, complete when it is left."""
    seen: dict[str, set[str]] = {branch: set() for branch in branches}
    over = threading.Event()

    def watch() -> None:
        store = LakeFSStore(settings, threads=1)
        while not over.wait(_WATCH_SECONDS):
            for branch in branches:
                seen[branch].add(store.get_commit(repository, branch).id)
        store.close()

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(watch)
        try:
            yield seen
        finally:
            over.set()
    watcher.result()
