"""A fork whose branches change what their parameters say, and publish to one branch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from perago import RetryPolicy, TaskControls, WorkspaceSpec, forbid_glob, guardrail, require_glob, task
from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.authoring import Task
from perago.ports import Commit, Delivery, TaskStatus
from perago.taskdef import build_task_definition
from perago.testing.services import InMemoryServices
from perago.testing.tasks import task_of

from ..definitions import flow, forking, simple

COMPLETED, FAILED, TERMINAL = TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.FAILED_WITH_TERMINAL_ERROR
TREE = {"raw/a.csv": "1", "raw/b.csv": "2", "raw/c.csv": "3", FENCE_PATH: FENCE_TEXT}
CONTROLS = TaskControls(retry=RetryPolicy(count=3, delay_seconds=1))


class Edit(BaseModel):
    put: dict[str, str] = {}
    drop: list[str] = []


class Nothing(BaseModel):
    pass


def _edit(workspace: Path, params: Edit) -> Nothing:
    for path in params.drop:
        (workspace / path).unlink()
    for path, text in params.put.items():
        (workspace / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace / path).write_text(text)
    return Nothing()


@task(
    name="fork.plain", owner_email="d@example.com", controls=CONTROLS, workspace=WorkspaceSpec(on_moved_head="rebase")
)
def plain(workspace: Path, params: Edit) -> Nothing:
    return _edit(workspace, params)


@task(
    name="fork.ruled",
    owner_email="d@example.com",
    controls=CONTROLS,
    workspace=WorkspaceSpec(
        on_moved_head="rebase",
        prefix="raw",
        reads=["c.csv"],
        post=[require_glob("*.csv", max_count=4), forbid_glob("*.x")],
    ),
)
def ruled(workspace: Path, params: Edit) -> Nothing:
    return _edit(workspace, params)


@guardrail
def no_secrets(workspace: Path) -> list[str]:
    return [f"{path.name} holds a secret" for path in sorted(workspace.rglob("*")) if "secret" in path.name]


@task(
    name="checked",
    owner_email="a@example.com",
    workspace=WorkspaceSpec(on_moved_head="rebase", post=[no_secrets, require_glob("**/*", max_count=9)]),
)
def checked(workspace: Path, params: Edit) -> Nothing:
    return _edit(workspace, params)


class Fork:
    """A started fork with one branch for each edit. All deliveries are taken at once, from the same input ref."""

    def __init__(
        self, services: InMemoryServices, *edits: dict[str, Any], function: Any = plain, tree: dict[str, str] = TREE
    ) -> None:
        self.services, self.function = services, function
        self.task: Task = task_of(function)
        self.ref = services.seed(tree)
        conductor = services.conductor
        conductor.register_task_definitions([build_task_definition(self.task)])
        steps = [
            simple(
                self.task.name,
                f"step{number}",
                workspace="${workflow.input.workspace}",
                params=f"${{workflow.input.edits[{number}]}}",
            )
            for number in range(len(edits))
        ]
        conductor.create_workflow_definition(flow(*forking("fork", *([step] for step in steps)), name="forked"))
        block = {"repository": "workspace", "branch": "main", "ref_type": "commit", "ref": self.ref}
        self.workflow = conductor.start_workflow("forked", {"workspace": block, "edits": list(edits)})
        self.deliveries = self.take(len(edits))

    def take(self, count: int) -> list[Delivery]:
        """The deliveries that wait, in the order of the fork's branches."""
        found = self.services.conductor.poll(self.task.name, "w", count=count, wait_seconds=0)
        return sorted(found, key=lambda delivery: delivery.reference_name)

    def run(self, delivery: Delivery, **options: Any) -> Any:
        return self.services.attempt(self.function, delivery, **options)

    def commits(self) -> list[Commit]:
        """After the input ref, oldest first."""
        found = self.services.lakefs.history("workspace", "main", until=self.ref, limit=100)
        return list(found[::-1])

    def tree(self) -> dict[str, str]:
        """Of the branch, without the fence."""
        return {path: data.decode() for path, data in self.services.tree().items() if path != FENCE_PATH}

    def linear(self) -> bool:
        """Whether each publication came on the head that it was built on."""
        return all(
            commit.parents[0] == commit.metadata["perago.expected_head"]
            for commit in self.commits()
            if "perago.task_id" in commit.metadata
        )


A: dict[str, Any] = {"put": {"raw/a.csv": "A"}}
