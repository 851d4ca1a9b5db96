"""Worlds whose steps publish beside others, with `on_moved_head="rebase"`: what others do is accepted, and nothing of
it is lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from perago.authoring import Task
from perago.ports import Commit, Delivery
from perago.testing import InMemoryServices

from .editing import SHARING, expected_tree
from .world import BRANCH, INPUT, REPOSITORY, World

_PARTS = ("raw", "side")


class SharedWorld(World):
    """A workflow of one such step."""

    task: ClassVar[Task] = SHARING
    files: ClassVar[Mapping[str, str]] = {**INPUT, "side/a.csv": "1", "side/b.csv": "2"}

    def definition(self) -> dict[str, Any]:
        return _workflow([_step("raw")])

    def ended(self) -> Iterator[str]:
        """Nothing of what happens here is a reason to fail."""
        if self.status == "FAILED":
            yield f"the workflow failed without need: {self.tried[-1].words}"

    def at_the_end(self) -> Iterator[str]:
        """The branch is what its commits make of it, and Conductor counts what is in effect there."""
        head = self.commit("main").id
        if head != self.ref and self.services.tree() != self.folded(head):
            yield "the branch holds something else than what its commits have made"
        reported = {self._made(self.commit(row["outputData"]["workspace"]["ref"])).id for row in self.rows()}
        undone = self._undone(self.commits())
        living = {commit.id for commit in self.publications() if _moves_data(commit) and commit.id not in undone}
        if reported & undone or not living <= reported:
            yield f"the branch holds something else than what was reported: {living} for {reported}"

    def expected(self, delivery: Delivery, commit_id: str) -> dict[str, bytes]:
        """What all commits up to this one make of the input; for the input itself, what the delivery makes of it."""
        return expected_tree(delivery, self.start) if commit_id == self.ref else self.folded(commit_id)

    def folded(self, commit_id: str) -> dict[str, bytes]:
        """The input and, one after the other, the changes of others and of the publications that are in effect."""
        commits = self.commits()
        upto = commits[[commit.id for commit in commits].index(commit_id) :][::-1]
        undone, tree = self._undone(upto), self.start
        for commit in upto:
            maker = self._maker(commit)
            if maker is None:
                tree = self._with_changes_of(commit, tree)
            elif commit.id not in undone and not commit.metadata["perago.adopts"]:
                tree = expected_tree(maker, tree)
        return dict(sorted(tree.items()))

    def _with_changes_of(self, commit: Commit, tree: Mapping[str, bytes]) -> dict[str, bytes]:
        before, after = self.services.tree(commit.parents[0]), self.services.tree(commit.id)
        kept = {key: content for key, content in tree.items() if key in after or key not in before}
        return kept | {key: content for key, content in after.items() if before.get(key) != content}

    def _maker(self, commit: Commit) -> Delivery | None:
        identity = [commit.metadata.get(f"perago.{key}") for key in ("task_id", "poll_count", "start_time")]
        made = (each.delivery for each in self.tried if list(map(str, each.delivery.identity)) == identity)
        return next(made, None)

    def _made(self, commit: Commit) -> Commit:
        while adopted := commit.metadata.get("perago.adopts"):
            commit = self.commit(adopted)
        return commit

    @staticmethod
    def _undone(commits: tuple[Commit, ...]) -> set[str]:
        return {gone for commit in commits for gone in commit.metadata.get("perago.supersedes", "").split(",") if gone}


class ForkedWorld(SharedWorld):
    """A fork of two such steps, which change a directory each."""

    def definition(self) -> dict[str, Any]:
        fork = {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN"}
        join = {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": list(_PARTS)}
        return _workflow([{**fork, "forkTasks": [[_step(part)] for part in _PARTS]}, join])


class JoinedWorld(SharedWorld):
    """A step that gets what a fork has published: two commits, of which it has to find the one to continue from."""

    def __init__(self, services: InMemoryServices, **options: Any) -> None:
        self._below = services.seed({"raw/before": "1"})
        super().__init__(services, **options)

    def given_ref(self) -> Any:
        block = {"repository": REPOSITORY, "branch": BRANCH, "ref_type": "commit"}
        given = {"one": self.ref, "other": self._below}
        return {name: {"workspace": {**block, "ref": ref}} for name, ref in given.items()}


def _workflow(tasks: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": "matrix", "version": 1, "schemaVersion": 2, "tasks": tasks}


def _step(part: str) -> dict[str, Any]:
    params = {"quiet": "${workflow.input.params.quiet}", "began": "${workflow.input.params.began}", "part": part}
    inputs = {"workspace": "${workflow.input.workspace}", "params": params}
    return {"name": SHARING.name, "taskReferenceName": part, "type": "SIMPLE", "inputParameters": inputs}


def _moves_data(commit: Commit) -> bool:
    return commit.metadata["perago.phase"] != "fence"
