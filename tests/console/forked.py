"""A workflow with forks that ran to its end: a nested one, a dynamic one, and a stranger's commit in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from perago import WorkspaceSpec, task
from perago.embedded.lakefs import commits, objects
from perago.testing.services import InMemoryServices

from ..definitions import Json, forking, operator, simple
from .filled import REPOSITORY, define


class Part(BaseModel):
    name: str
    files: int = 1


class Nothing(BaseModel):
    pass


@task(name="table.part", owner_email="d@example.com", workspace=WorkspaceSpec(on_moved_head="rebase"))
def part(workspace: Path, params: Part) -> Nothing:
    target = workspace / "parts" / params.name
    target.mkdir(parents=True)
    for number in range(params.files):
        (target / f"{number}.txt").write_text(params.name)
    return Nothing()


@dataclass(frozen=True)
class Forked:
    """The models, the workflow and the commit that it began with."""

    services: InMemoryServices
    workflow: str
    root: str
    foreign: str
    """What a stranger committed between two publications."""


def step(name: str, **params: Any) -> Json:
    inputs = {"workspace": "${workflow.input.workspace}", "params": {"name": name, **params}}
    return simple("table.part", name, **inputs)


def dynamic(reference: str, *names: str) -> list[Json]:
    """A dynamic fork of one step for each name, and its join."""
    parameters_of_fork: Mapping[str, Any] = {
        "steps": [{"name": "table.part", "taskReferenceName": name, "type": "SIMPLE"} for name in names],
        "inputs": {name: step(name)["inputParameters"] for name in names},
    }
    parameters = {"dynamicForkTasksParam": "steps", "dynamicForkTasksInputParamName": "inputs"}
    return [
        operator("FORK_JOIN_DYNAMIC", reference, inputParameters=parameters_of_fork, **parameters),
        operator("JOIN", f"{reference}_join"),
    ]


def begin(services: InMemoryServices, steps: list[Json]) -> tuple[str, str]:
    """Start a workflow of these steps; its id and the commit that it begins with."""
    root = services.seed({"raw/orders.csv": "id\n1\n"})
    services.conductor.register(part)
    define(services.conductor, "forked", *steps)
    workspace = {"repository": REPOSITORY, "branch": "main", "ref_type": "commit", "ref": root}
    return services.conductor.start_workflow("forked", {"workspace": workspace}), root


def fork(services: InMemoryServices) -> Forked:
    """Run the workflow."""
    inner = forking("inner", [step("inner_left")], [step("inner_right")])
    steps = [
        *forking("outer", [step("north", files=7)], inner, [step("south"), step("south_again")]),
        *dynamic("spread", "east", "west"),
    ]
    workflow, root = begin(services, steps)
    services.attempt(part)
    objects.put_object(services.lakefs.server.repository(REPOSITORY), "main", "notes/visit.txt", b"a visit")
    foreign = commits.commit(
        services.lakefs.server.repository(REPOSITORY), "main", "A note about the visit\n\nlong", {}
    ).commit.id
    services.conductor.drain()
    return Forked(services, workflow, root, foreign)
