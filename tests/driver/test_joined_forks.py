"""Forks on the embedded Conductor: the task behind a join continues a commit that has what all branches published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from perago import TaskTerminalError, WorkspaceSpec, task
from perago.testing.services import InMemoryServices

JOINED = "${join.output}"


class Name(BaseModel):
    name: str


class Names(BaseModel):
    names: list[str]


@task(name="fork.part", owner_email="d@example.com", workspace=WorkspaceSpec(on_moved_head="rebase"))
def part(workspace: Path, params: Name) -> Names:
    if params.name == "broken":
        raise TaskTerminalError("broken")
    if params.name != "idle":
        (workspace / "parts").mkdir(exist_ok=True)
        (workspace / "parts" / params.name).write_text(params.name)
    return Names(names=[])


@task(name="fork.look", owner_email="d@example.com", workspace=WorkspaceSpec(read_only=True))
def look(workspace: Path, params: Name) -> Names:
    return Names(names=[])


@task(name="fork.plain", owner_email="d@example.com")
def plain(params: Name) -> Names:
    return Names(names=[])


@task(name="fork.gather", owner_email="d@example.com", workspace=WorkspaceSpec())
def gather(workspace: Path, params: Name) -> Names:
    found = sorted(path.name for path in workspace.glob("parts/*"))
    (workspace / "summary").write_text(",".join(found))
    return Names(names=found)


def block(ref: str) -> dict[str, Any]:
    return {"repository": "workspace", "branch": "main", "ref_type": "commit", "ref": ref}


def step(function: Any, name: str, workspace: object = "${workflow.input.workspace}") -> dict[str, Any]:
    inputs: dict[str, Any] = {"params": {"name": name}, **({} if function is plain else {"workspace": workspace})}
    kind = f"fork.{function.__name__}"
    return {"name": kind, "taskReferenceName": name, "type": "SIMPLE", "inputParameters": inputs}


def fork(*steps: dict[str, Any]) -> list[dict[str, Any]]:
    names = [each["taskReferenceName"] for each in steps]
    return [
        {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN", "forkTasks": [[each] for each in steps]},
        {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": names},
    ]


def assert_gathers(services: InMemoryServices, steps: list[dict[str, Any]], *names: str) -> None:
    """Run a workflow. Its last step sees what all branches published, and publishes directly on that."""
    conductor = services.conductor
    conductor.register(part, look, plain, gather)
    conductor.create_workflow_definition({"name": "forked", "version": 1, "schemaVersion": 2, "tasks": steps})
    workflow = conductor.start_workflow("forked", {"workspace": block(services.seed({"raw/a.csv": "1"}))})
    *_, last = conductor.drain()

    assert conductor.workflow(workflow)["status"] == "COMPLETED"
    assert last.result == {"names": sorted(names)}
    assert last.input_ref == services.lakefs.get_commit("workspace", "main").parents[0]
    assert {key.removeprefix("parts/") for key in services.tree() if key.startswith("parts/")} == set(names)


def test_siblings_without_a_publication_do_not_interfere(services: InMemoryServices) -> None:
    optional = {**step(part, "broken"), "optional": True}
    branches = step(part, "a"), step(look, "look"), step(plain, "plain"), step(part, "idle"), step(part, "b"), optional
    assert_gathers(services, [*fork(*branches), step(gather, "gather", block(JOINED))], "a", "b")


def test_a_sub_workflow_that_puts_out_a_workspace_with_a_join_as_its_ref(services: InMemoryServices) -> None:
    inner = {"name": "inner", "version": 1, "schemaVersion": 2, "tasks": fork(step(part, "a"), step(part, "b"))}
    services.conductor.create_workflow_definition({**inner, "outputParameters": {"workspace": block(JOINED)}})
    sub = {
        "name": "sub",
        "taskReferenceName": "sub",
        "type": "SUB_WORKFLOW",
        "subWorkflowParam": {"name": "inner"},
        "inputParameters": {"workspace": "${workflow.input.workspace}"},
    }
    assert_gathers(services, [sub, step(gather, "gather", "${sub.output.workspace}")], "a", "b")
