"""The commit graph of one repository: parents, merge base, log."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from perago.embedded.lakefs.errors import Invalid, Missing
from perago.embedded.lakefs.names import INVALID_REF, Step
from perago.embedded.lakefs.tree import Tree
from perago.ports import Commit


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """A commit with its tree. `generation` is one more than the highest of its parents, 1 for the first."""

    commit: Commit
    tree: Tree
    generation: int
    fraction: float = 0.0
    """The part of the creation's second that no answer shows; it decides what is newer all the same."""

    @property
    def moment(self) -> float:
        """When it was made, in seconds since the epoch."""
        return self.commit.created + self.fraction


class CommitGraph:
    """All commits, reachable or not: a deleted branch and a refused merge leave theirs readable by id."""

    def __init__(self) -> None:
        self._records: dict[str, CommitRecord] = {}

    def __contains__(self, commit_id: str) -> bool:
        return commit_id in self._records

    def record(self, commit_id: str) -> CommitRecord:
        """The record of a full commit id that is known to exist."""
        return self._records[commit_id]

    def by_prefix(self, prefix: str) -> str | None:
        """The only commit id that starts with `prefix` (lower case), or None."""
        found = [commit_id for commit_id in self._records if commit_id.startswith(prefix)]
        return found[0] if len(found) == 1 else None

    def add(
        self,
        *,
        parents: tuple[str, ...],
        tree: Tree,
        message: str,
        metadata: Mapping[str, str],
        committer: str,
        at: float,
        squashed: str | None = None,
    ) -> CommitRecord:
        """Store a commit. Its id is that of its contents: the same commit in the same second is the same commit.

        `squashed` is the source of a squash merge: no parent, but it counts for the generation.
        """
        second = math.floor(at)
        commit = Commit(
            id=_content_id(parents, tree.id, message, metadata, committer, second),
            parents=parents,
            committer=committer,
            message=message,
            created=second,
            metadata=dict(metadata),
            meta_range_id=tree.id,
        )
        above = parents if squashed is None else (*parents, squashed)
        generation = 1 + max((self._records[parent].generation for parent in above), default=0)
        record = CommitRecord(commit, tree, generation, at - second)
        self._records[commit.id] = record
        return record

    def walk_back(self, commit_id: str, steps: tuple[Step, ...]) -> str:
        """Follow `~` and `^` steps.

        Raises:
            Missing: `~` beyond the first commit.
            Invalid: `^` names a parent that the commit does not have, or `@` or `$` stands beside other steps.
        """
        for step in steps:
            if step.mark == "~":
                for _ in range(step.count):
                    parents = self._records[commit_id].commit.parents
                    if not parents:
                        raise Missing("not found")
                    commit_id = parents[0]
            elif step.mark != "^":
                raise Invalid(INVALID_REF)
            elif step.count != 0:
                commit_id = self._parent(commit_id, step.count)
        return commit_id

    def _parent(self, commit_id: str, number: int) -> str:
        parents = self._records[commit_id].commit.parents
        if not 1 <= number <= len(parents):
            raise Invalid(INVALID_REF)
        return parents[number - 1]

    def merge_base(self, left: str, right: str) -> str:
        """The best common ancestor.

        Raises:
            Missing: there is none.
        """
        if left == right:
            return left
        left_side, right_side = 1, 2
        reached = {left: left_side, right: right_side}
        queue = [self._by_generation(left), self._by_generation(right)]
        heapq.heapify(queue)
        while queue:
            commit_id = heapq.heappop(queue)[-1]
            for parent in self._records[commit_id].commit.parents:
                if parent not in reached:
                    heapq.heappush(queue, self._by_generation(parent))
                reached[parent] = reached.get(parent, 0) | reached[commit_id]
                if reached[parent] == left_side | right_side:
                    return parent
        raise Missing("no merge base")

    def _by_generation(self, commit_id: str) -> tuple[int, float, str]:
        record = self._records[commit_id]
        return (-record.generation, -record.moment, commit_id)

    def first_parents(self, commit_id: str) -> Iterator[CommitRecord]:
        """The commit and its first parents, newest first."""
        record = self._records[commit_id]
        while True:
            yield record
            if not record.commit.parents:
                return
            record = self._records[record.commit.parents[0]]

    def log(self, commit_id: str, *, first_parent: bool = False, since: float | None = None) -> Iterator[CommitRecord]:
        """The commit and its ancestors, by creation date, newest first (ties: by id, highest first).

        With `first_parent` only first parents are followed. A commit created before `since` ends its line.
        """
        seen = {commit_id}
        queue: list[tuple[float, int, str]] = []
        self._queue(queue, commit_id, since)
        while queue:
            record = self._records[heapq.heappop(queue)[-1]]
            yield record
            parents = record.commit.parents[:1] if first_parent else record.commit.parents
            for parent in parents:
                if parent not in seen:
                    seen.add(parent)
                    self._queue(queue, parent, since)

    def _queue(self, queue: list[tuple[float, int, str]], commit_id: str, since: float | None) -> None:
        moment = self._records[commit_id].moment
        if since is None or moment >= since:
            heapq.heappush(queue, (-moment, -int(commit_id, 16), commit_id))


def _content_id(
    parents: tuple[str, ...], meta_range_id: str, message: str, metadata: Mapping[str, str], committer: str, at: int
) -> str:
    fields = repr((parents, meta_range_id, message, sorted(metadata.items()), committer, at))
    return hashlib.sha256(fields.encode()).hexdigest()
