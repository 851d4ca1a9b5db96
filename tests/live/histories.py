"""The invariants of a workflow and its branch after any failures, read from the servers' own histories."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .repositories import Repository
from .workflows import Conductor

Commit = Mapping[str, Any]
Row = Mapping[str, Any]
STAMPS = "stamps/"
"""The directory of the files that attempts write: each one of its own, so two publications never hide each other."""
MD5 = re.compile(r"[0-9a-f]{32}")


class Family:
    """A workflow with its sub-workflows, as Conductor has them now."""

    def __init__(self, conductor: Conductor, root_id: str) -> None:
        self.workflows: dict[str, dict[str, Any]] = {}
        """By id, that of the root first; replaced sub-workflows too."""
        pending = [root_id]
        while pending:
            workflow = self.workflows[pending[0]] = conductor.workflow(pending[0])
            below = (row.get("subWorkflowId") for row in workflow["tasks"])
            pending = [*pending[1:], *(child for child in below if child and child not in self.workflows)]
        self.root = self.workflows[root_id]

    @property
    def rows(self) -> list[Row]:
        """The rows of all workflows."""
        return [row for workflow in self.workflows.values() for row in workflow["tasks"]]

    @property
    def open(self) -> list[Row]:
        """The attempts that a worker has or can get, and the sub-workflows that are starting."""
        running = {name for name, workflow in self.workflows.items() if workflow["status"] == "RUNNING"}
        return [
            row
            for row in self.rows
            if row["status"] in ("SCHEDULED", "IN_PROGRESS") and row["workflowInstanceId"] in running and _is_work(row)
        ]

    def counted(self, workflow_id: str = "") -> Iterator[Row]:
        """The completed attempts that Conductor counts: of each step the last, in sub-workflows that a parent names."""
        rows = self.workflows[workflow_id or self.root["workflowId"]]["tasks"]
        retried = {row.get("retriedTaskId") for row in rows}
        for row in rows:
            if row["status"] != "COMPLETED" or row["taskId"] in retried:
                continue
            if child := row.get("subWorkflowId"):
                yield from self.counted(child)
            elif "workspace" in row["outputData"] and "result" in row["outputData"]:
                yield row

    @property
    def reasons(self) -> str:
        """Why attempts have failed."""
        return "\n".join(str(row["reasonForIncompletion"]) for row in self.rows if row.get("reasonForIncompletion"))

    def described(self) -> str:
        """All rows, for messages."""
        lines = [f"workflow {name} is {workflow['status']}" for name, workflow in self.workflows.items()]
        for row in self.rows:
            ref = row["outputData"].get("workspace", {}).get("ref", "")
            lines.append(
                f"  {row['workflowInstanceId'][:8]} {row['referenceTaskName']} {row['taskId'][:8]} "
                f"retry {row['retryCount']} polled {row['pollCount']} {row['startTime']}: {row['status']} "
                f"{row.get('subWorkflowId') or ''} {ref[:12]} {row.get('reasonForIncompletion') or ''}".rstrip()
            )
        return "\n".join(lines)


def _is_work(row: Row) -> bool:
    return row["taskType"] == row["taskDefName"] or (row["taskType"] == "SUB_WORKFLOW" and not row.get("subWorkflowId"))


class History:
    """The branch of a workflow that has completed, from its head down to the commit that the workflow began with."""

    def __init__(self, family: Family, repository: Repository, ref: str) -> None:
        self._family = family
        self._repository = repository
        self._ref = ref
        self._commits = repository.since(ref)

    def violations(self, outside: Sequence[str] = ()) -> Iterator[str]:
        """Every promise that was broken. `outside`: commits that somebody else has made."""
        yield from self._on_other_heads()
        yield from self._different_inputs()
        yield from self._unexpected_tree(outside)
        if uncommitted := self._repository.uncommitted():
            yield f"uncommitted changes are left: {uncommitted}"

    def described(self) -> str:
        """The commits, newest first, for messages."""
        return "\n".join(
            f"  {commit['id'][:12]} {field(commit, 'reference_name')} {field(commit, 'task_id')[:8]} "
            f"{field(commit, 'start_time')} {field(commit, 'phase')} input {field(commit, 'input_ref')[:12]} "
            f"adopts {field(commit, 'adopts')[:12]} "
            f"supersedes {[gone[:12] for gone in field(commit, 'supersedes').split(',')]} {commit['message']}"
            for commit in self._commits
        )

    def _on_other_heads(self) -> Iterator[str]:
        for commit in self._commits:
            if "perago.task_id" in commit["metadata"] and commit["parents"][0] != field(commit, "expected_head"):
                yield f"{commit['id']} is on another head than it was built on"

    def _different_inputs(self) -> Iterator[str]:
        """The functions found the bytes of their input, all of them and no others."""
        for row in self._family.counted():
            ref, seen = row["inputData"]["workspace"]["ref"], row["outputData"]["result"]["seen"]
            if isinstance(ref, str):
                found = {path: text if MD5.fullmatch(text) else md5(text.encode()) for path, text in seen.items()}
                wanted = {path: stored.checksum for path, stored in self._repository.tree(ref).items()}
                if found != wanted:
                    yield f"{_named(row)} saw {found}, not its input {wanted}"

    def _unexpected_tree(self, outside: Sequence[str]) -> Iterator[str]:
        """The head has what the workflow began with, what its completed steps reported, and nothing else."""
        tree = {path: stored.checksum for path, stored in self._repository.tree().items()}
        expected = {path: stored.checksum for path, stored in self._repository.tree(self._ref).items()}
        writers = dict[str, str]()
        for row in self._family.counted():
            result = row["outputData"]["result"]
            if result["stamp"]:
                path = STAMPS + result["stamp"].split()[1]
                expected[path], writers[path] = result["stamp_md5"], _named(row)
        for commit in outside:
            path = self._repository.get(commit)["message"].removeprefix("outside ")
            expected[path], writers[path] = md5(path.encode()), f"the outside commit {commit}"
        for path in sorted(expected.keys() | tree.keys()):
            if path not in tree:
                yield f"{path} is gone: it is of {writers.get(path, 'the input')}"
            elif path not in expected:
                yield f"{path} is on the branch, but no completed step has reported it"
            elif tree[path] != expected[path]:
                yield f"{path} has other bytes than {writers.get(path, 'the input')} has reported"


def _named(row: Row) -> str:
    return f"{row['referenceTaskName']} (task {row['taskId']} of workflow {row['workflowInstanceId']})"


def field(commit: Commit, name: str) -> str:
    """An entry of a publication's metadata; empty if it has none."""
    return str(commit["metadata"].get(f"perago.{name}", ""))


def md5(content: bytes) -> str:
    """Return the checksum that lakeFS has for these bytes."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
