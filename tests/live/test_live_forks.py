"""Forks on real servers: every branch publishes to one branch of lakeFS, also while processes die and others commit."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from perago.attempt.publication import FENCE_PATH

from .chaos import CHAOTIC, LARGE, SEED, Run, chaotic, rage_and_recover
from .conftest import Deploy
from .deploying import Deployment, block
from .histories import Branch, field, md5
from .proxy import Proxy
from .repositories import Repository
from .workflows import step, told

pytestmark = CHAOTIC

ROUNDS = int(os.environ.get("PERAGO_LIVE_CHAOS_ROUNDS", "4"))
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
            "stamp": f"{reference}.stamp",
            "sleep": dice.uniform(0.0, 0.4),
            "padding": dice.choice([0, LARGE]),
        }
        for reference in REFERENCES
    }


class ForkedBranch(Branch):
    """One branch of lakeFS, to which all branches of a fork have published."""

    def violations(self, workflow: Mapping[str, Any], outside: list[str]) -> Iterator[str]:
        """Every promise that was broken."""
        yield from self.visible()
        for commit in self.publications:
            yield from self._exact(commit)
        yield from self._present(workflow)
        yield from self.kept(outside)

    def _exact(self, commit: Mapping[str, Any]) -> Iterator[str]:
        """It changes its own stamp and those that it undoes, and nothing else but the publish fence."""
        before, after = self.repository.tree(commit["parents"][0]), self.repository.tree(commit["id"])
        changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        known = {each["id"]: each for each in self.publications}
        undoes = [known[gone] for gone in field(commit, "supersedes").split(",") if gone in known]
        allowed = {f"{field(each, 'reference_name')}.stamp" for each in [commit, *undoes]} | {FENCE_PATH}
        if not changed <= allowed:
            yield f"{commit['id']} has changed {sorted(changed - allowed)}"

    def _present(self, workflow: Mapping[str, Any]) -> Iterator[str]:
        """A COMPLETED workflow has each branch's stamp at the head, as the task reported it."""
        if workflow["status"] != "COMPLETED":
            yield f"the workflow is {workflow['status']}"
            return
        done = [task for task in workflow["tasks"] if task["status"] == "COMPLETED" and task["taskType"] not in SYSTEM]
        if len(done) != BRANCHES:
            yield f"{len(done)} branches are done"
        for task in done:
            path, stamp = f"{task['referenceTaskName']}.stamp", task["outputData"]["result"]["stamp_md5"]
            if md5(self.repository.read(path)) != stamp:
                yield f"{path} is not what task {task['taskId']} has reported"


SYSTEM = ("FORK", "FORK_JOIN", "JOIN", "FORK_JOIN_DYNAMIC")


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
    found = deployment.conductor.completed(run, driven=True)
    assert list(ForkedBranch(repository, ref).violations(found, [])) == []


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_round_of_chaos_breaks_no_promise_of_a_fork(
    deploy: Deploy, repository: Repository, proxies: dict[str, Proxy], seed: int, number: int
) -> None:
    print(f"PERAGO_LIVE_CHAOS_SEED={seed}, round {number}")
    dice = random.Random(f"fork:{seed}:{number}")
    deployment = chaotic(deploy, "forking", proxies)
    ref = repository.commit(SEED)
    started = deployment.start({"workspace": block(repository, ref), **orders(dice)}, forked(deployment))
    run = Run(started, repository, ref)
    rage_and_recover(deployment, dice, proxies, [run], outside=number % 2 == 1, forked=True)
    found = deployment.conductor.workflow(run.workflow_id)
    print(told(found))
    assert list(ForkedBranch(repository, ref).violations(found, run.outside)) == []
