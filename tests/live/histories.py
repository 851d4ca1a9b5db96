"""What must hold of a workflow and its branch whatever has happened, read from the servers' own histories."""

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
    """One branch from its head down to a commit."""

    def __init__(self, repository: Repository, ref: str) -> None:
        self.repository = repository
        self.commits = repository.since(ref)
        self.publications = [commit for commit in self.commits if "perago.task_id" in commit["metadata"]]
        self.undone = {gone for commit in self.publications for gone in field(commit, "supersedes").split(",")}

    def visible(self) -> Iterator[str]:
        """At most one publication of a step that is not superseded, each on the head that it was built on."""
        living = [commit for commit in self.publications if commit["id"] not in self.undone]
        steps = Counter(field(commit, "step_key") for commit in living if field(commit, "phase") != "fence")
        yield from (f"{number} publications of {key} are visible" for key, number in steps.items() if number > 1)
        for commit in self.publications:
            if commit["parents"][0] != field(commit, "expected_head"):
                yield f"{commit['id']} is on another head than it was built on"

    def kept(self, outside: Sequence[str]) -> Iterator[str]:
        """Others' commits are in the history, and what they brought is there to the end."""
        ids, tree = {commit["id"] for commit in self.commits}, self.repository.tree()
        for commit in outside:
            path = self.repository.get(commit)["message"].removeprefix("outside ")
            if commit not in ids or path not in tree:
                yield f"the outside commit {commit} or its file {path} is gone"


class History(Branch):
    """The branch of a workflow, whose steps follow one another, from its head down to its input ref."""

    def __init__(self, conductor: Conductor, run: Run) -> None:
        super().__init__(run.repository, run.ref)
        self._run = run
        self._workflow = conductor.workflow(run.workflow_id)

    def violations(self) -> Iterator[str]:
        """Every promise that was broken."""
        yield from self.visible()
        for commit in self.publications:
            yield from self._exact(commit)
        yield from self._reported()
        yield from self.kept(self._run.outside)
        if left := [branch for branch in self.repository.branches() if branch != "main" and not self._is_over(branch)]:
            yield f"branches are left: {left}"
        if uncommitted := self.repository.uncommitted():
            yield f"uncommitted changes are left: {uncommitted}"

    def _is_over(self, branch: str) -> bool:
        """Whether it is a staging branch of a workflow that somebody else's commits have ended: no delivery comes that
        could publish and then remove it, so it waits for `perago gc`."""
        return self._workflow["status"] != "COMPLETED" and is_staging_branch(branch)

    def _exact(self, commit: Commit) -> Iterator[str]:
        """A publication's tree is its input and the changes that its recorded result tells of; that of an empty fence
        commit is the tree below."""
        found = self.repository.tree(commit["id"])
        if field(commit, "phase") == "fence":
            if found != self.repository.tree(commit["parents"][0]):
                yield f"fence commit {commit['id']} changes something"
            return
        yield from self._differs(commit["id"], field(commit, "input_ref"), json.loads(field(commit, "result")))

    def _differs(self, commit_id: str, ref: str, result: Mapping[str, Any]) -> Iterator[str]:
        before, after = self.repository.tree(ref), self.repository.tree(commit_id)
        changed = {path for path in before.keys() | after.keys() if _identity(before, path) != _identity(after, path)}
        stamps = {path: md5(self.repository.read(path, commit_id)) for path in changed & after.keys()}
        wanted = [result["stamp_md5"]] if result["stamp"] else []
        if list(stamps.values()) != wanted or len(changed) != len(wanted):
            yield f"{commit_id} differs from its input {ref} in {sorted(changed)} ({stamps}), not in {result['stamp']}"

    def _saw(self, task_id: str, ref: str, seen: Mapping[str, str]) -> Iterator[str]:
        """The function found the bytes of its input, all of them and no others."""
        found = {path: text if MD5.fullmatch(text) else md5(text.encode()) for path, text in seen.items()}
        wanted = {path: stored.checksum for path, stored in self.repository.tree(ref).items()}
        if found != wanted:
            yield f"task {task_id} saw {found}, not its input {wanted}"

    def _reported(self) -> Iterator[str]:
        """A COMPLETED step names a commit of its own, or its input, and the tree there has exactly its changes."""
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
                yield f"task {task['taskId']} reported {published}, which is of another"
            elif field(known[published], "start_time") != str(task["startTime"]):
                yield f"task {task['taskId']} reported {published}, which is of a run before"
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
    """Whether it reported what its retry had reported: Conductor hands an attempt out again that was given away at the
    moment in which it timed out."""
    retries = [each for each in completed if each.get("retriedTaskId") == task["taskId"]]
    return any(each["outputData"] == task["outputData"] for each in retries)


def field(commit: Commit, name: str) -> str:
    """An entry of a publication's metadata."""
    return str(commit["metadata"][f"perago.{name}"])


def md5(content: bytes) -> str:
    """What lakeFS has as checksum of these bytes."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _identity(tree: Mapping[str, Stored], path: str) -> tuple[int, str] | None:
    return (tree[path].size, tree[path].checksum) if path in tree else None
