"""Definitions of workflows for tests."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def operator(kind: str, reference: str, **fields: Any) -> Json:
    """Return a step of any type, which is named after its reference."""
    return {"name": reference, "taskReferenceName": reference, "type": kind, **fields}


def simple(task: str, reference: str = "step", **inputs: Any) -> Json:
    """Return a step that runs a task."""
    return operator("SIMPLE", reference, name=task, inputParameters=inputs)


def forking(reference: str, *branches: list[Json], **fields: Any) -> list[Json]:
    """Return a fork, and the join behind it."""
    ends = [branch[-1]["taskReferenceName"] for branch in branches]
    fork = operator("FORK_JOIN", reference, forkTasks=[list(branch) for branch in branches])
    return [fork, operator("JOIN", f"{reference}_join", joinOn=ends, **fields)]


def flow(*steps: Json, name: str = "w", **fields: Any) -> Json:
    """Return a workflow of these steps."""
    return {"name": name, "version": 1, "schemaVersion": 2, "tasks": list(steps), **fields}
