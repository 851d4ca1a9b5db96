"""The invariants of a workflow and its branch after any failures, read from the servers' own histories."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from perago.attempt.publication import is_staging_branch

from .chaos import STEPS, Run
from .repositories import Repository, Stored
from .workflows import Conductor

Commit = Mapping[str, Any]
MD5 = re.compile(r"[0-9a-f]{32}")


class Branch:
    """One branch, from its head to a commit."""

    def __init__(self, repository: Repository, ref: str) -> None:
        self.repository = repository
        self.commits = repository.since(ref)
        self.publications = [commit for commit in self.commits if "perago.task_id" in commit["metadata"]]
        self.undone = {
            commit_id for commit in self.publications for commit_id in field(commit, "supersedes").split(",")
        }

    def visible(self) -> Iterator[str]:
        """Report steps with more than one publication that is not superseded, and publications on an unexpected
        head."""
        living = [commit for commit in self.publications if commit["id"] not in self.undone]
        steps = Counter(field(commit, "step_key") for commit in living if field(commit, "phase") != "fence")
        yield from (f"{number} publications of {key} are visible" for key, number in steps.items() if number > 1)
        for commit in self.publications:
            if commit["parents"][0] != field(commit, "expected_head"):
                yield f"{commit['id']} is on another head than it was built on"

    def kept(self, outside: Sequence[str]) -> Iterator[str]:
        """Report commits from other clients that are no longer in the history, and files of theirs that were lost."""
        ids, tree = {commit["id"] for commit in self.commits}, self.repository.tree()
        for commit in outside:
            path = self.repository.get(commit)["message"].removeprefix("outside ")
            if commit not in ids or path not in tree:
                yield f"the outside commit {commit} or its file {path} is gone"


class History(Branch):
    """The branch of a workflow of sequential steps, from its head to its input ref."""

    def __init__(self, conductor: Conductor, run: Run) -> None:
        super().__init__(run.repository, run.ref)
        self._run = run
        self._workflow = conductor.workflow(run.workflow_id)

    def violations(self) -> Iterator[str]:
        """Report every broken promise."""
        yield from self.visible()
        for commit in self.publications:
            yield from self._exact(commit)
        yield from self._reported()
        yield from self.kept(self._run.outside)
        branches = [name for name in self.repository.branches() if name != "main" and not self._is_leftover(name)]
        if branches:
            yield f"branches are left: {branches}"
        if uncommitted := self.repository.uncommitted():
            yield f"uncommitted changes are left: {uncommitted}"

    def _is_leftover(self, branch: str) -> bool:
        """Whether it is a staging branch of a workflow that commits from another client have ended. No later delivery
        can publish and then remove it, so `perago gc` does."""
        return self._workflow["status"] != "COMPLETED" and is_staging_branch(branch)

    def _exact(self, commit: Commit) -> Iterator[str]:
        """Report a publication whose tree is not its input with the changes of its recorded result, and a fence commit
        whose tree differs from its parent's."""
        tree = self.repository.tree(commit["id"])
        if field(commit, "phase") == "fence":
            if tree != self.repository.tree(commit["parents"][0]):
                yield f"fence commit {commit['id']} changes something"
            return
        yield from self._differs(commit["id"], field(commit, "input_ref"), json.loads(field(commit, "result")))

    def _differs(self, commit_id: str, ref: str, result: Mapping[str, Any]) -> Iterator[str]:
        before, after = self.repository.tree(ref), self.repository.tree(commit_id)
        changed = {path for path in before.keys() | after.keys() if _identity(before, path) != _identity(after, path)}
        stamps = {path: md5(self.repository.read(path, commit_id)) for path in changed & after.keys()}
        checksums = [result["stamp_md5"]] if result["stamp"] else []
        if list(stamps.values()) != checksums or len(changed) != len(checksums):
            yield f"{commit_id} differs from its input {ref} in {sorted(changed)} ({stamps}), not in {result['stamp']}"

    def _saw(self, task_id: str, ref: str, texts: Mapping[str, str]) -> Iterator[str]:
        """Report a function that read other bytes than those of its input."""
        actual = {path: text if MD5.fullmatch(text) else md5(text.encode()) for path, text in texts.items()}
        expected = {path: stored.checksum for path, stored in self.repository.tree(ref).items()}
        if actual != expected:
            yield f"task {task_id} saw {actual}, not its input {expected}"

    def _reported(self) -> Iterator[str]:
        """Report a COMPLETED step whose commit is not its own or its input, or whose tree has other changes than its
        own."""
        completed = [task for task in self._workflow["tasks"] if task["status"] == "COMPLETED"]
        tasks = [task for task in completed if not _repeats_its_retry(task, completed)]
        known = {commit["id"]: commit for commit in self.publications}
        for task in tasks:
            output, ref = task["outputData"], task["inputData"]["workspace"]["ref"]
            published = output["workspace"]["ref"]
            yield from self._differs(published, ref, output["result"])
            yield from self._saw(task["taskId"], ref, output["result"]["seen"])
            if published == ref:
                continue
            if published not in known:
                yield f"task {task['taskId']} reported {published}, which is not in the history"
            elif field(known[published], "task_id") != task["taskId"]:
                yield f"task {task['taskId']} reported {published}, which another task published"
            elif field(known[published], "start_time") != str(task["startTime"]):
                yield f"task {task['taskId']} reported {published}, which an earlier run published"
            elif published in self.undone:
                yield f"task {task['taskId']} reported {published}, which was undone"
        if self._workflow["status"] == "COMPLETED":
            names = [task["referenceTaskName"] for task in tasks]
            head = tasks[-1]["outputData"]["workspace"]["ref"]
            if sorted(names) != sorted(STEPS):
                yield f"the completed steps are {names}"
            tree = self.repository.tree(self.repository.head())
            if self.repository.tree(head) != {path: tree[path] for path in tree if not path.startswith("outside/")}:
                yield "the branch holds something else than the last step reported"
        elif not self._run.outside:
            yield f"the workflow is {self._workflow['status']}"


def _repeats_its_retry(task: Mapping[str, Any], completed: Sequence[Mapping[str, Any]]) -> bool:
    """Whether it reported the output of its retry. Conductor delivers an attempt again that was handed back at the time
    of its timeout."""
    retries = [retry for retry in completed if retry.get("retriedTaskId") == task["taskId"]]
    return any(retry["outputData"] == task["outputData"] for retry in retries)


def field(commit: Commit, name: str) -> str:
    """Return an entry of a publication's metadata."""
    return str(commit["metadata"][f"perago.{name}"])


def md5(content: bytes) -> str:
    """Return the checksum that lakeFS has for these bytes."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _identity(tree: Mapping[str, Stored], path: str) -> tuple[int, str] | None:
    return (tree[path].size, tree[path].checksum) if path in tree else None
