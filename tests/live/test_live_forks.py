"""Forks on real servers: every branch of the fork publishes to one branch of lakeFS."""

from __future__ import annotations

import random
from typing import Any

import pytest

from .chaos import LARGE
from .conftest import Deploy
from .deploying import Deployment, block
from .histories import STAMPS, Family, History
from .repositories import Repository
from .workflows import step

pytestmark = pytest.mark.live

BRANCHES = 4
REFERENCES = [f"branch{number}" for number in range(BRANCHES)]


def forked(deployment: Deployment, *, dynamic: bool = False) -> str:
    """Defines a fork of `BRANCHES` steps; returns its name."""
    name = f"{deployment.task}.fork"
    inputs = {"workspace": "${workflow.input.workspace}"}
    steps = [
        step(deployment.task, reference, **inputs, params=f"${{workflow.input.{reference}}}") | {"permissive": True}
        for reference in REFERENCES
    ]
    fork: dict[str, Any] = {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN"}
    join: dict[str, Any] = {"name": "join", "taskReferenceName": "join", "type": "JOIN"}
    if dynamic:
        fork |= {
            "type": "FORK_JOIN_DYNAMIC",
            "inputParameters": {"tasks": "${workflow.input.tasks}", "inputs": "${workflow.input.inputs}"},
            "dynamicForkTasksParam": "tasks",
            "dynamicForkTasksInputParamName": "inputs",
        }
    else:
        fork["forkTasks"] = [[each] for each in steps]
        join["joinOn"] = REFERENCES
    deployment.conductor.define(name, [fork, join])
    return name


def orders(dice: random.Random) -> dict[str, Any]:
    """One stamp for each branch of the fork."""
    return {
        reference: {
            "stamp": STAMPS,
            "sleep": dice.uniform(0.0, 0.4),
            "padding": dice.choice([0, LARGE]),
        }
        for reference in REFERENCES
    }


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_all_branches_of_a_fork_publish_to_one_branch(deploy: Deploy, repository: Repository, *, dynamic: bool) -> None:
    deployment = deploy("forking")
    workflow = forked(deployment, dynamic=dynamic)
    ref = repository.commit({"raw/a.txt": b"a"})
    inputs: dict[str, Any] = {"workspace": block(repository, ref), **orders(random.Random(1))}
    if dynamic:
        inputs |= {
            "tasks": [step(deployment.task, reference) | {"permissive": True} for reference in REFERENCES],
            "inputs": {
                reference: {"workspace": inputs["workspace"], "params": inputs[reference]} for reference in REFERENCES
            },
        }
    deployment.worker(slots=BRANCHES)
    run = deployment.start(inputs, workflow)
    deployment.conductor.completed(run, driven=True)
    family = Family(deployment.conductor, run)
    assert len(list(family.counted())) == BRANCHES
    assert list(History(family, repository, ref).violations()) == []
