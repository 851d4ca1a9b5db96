"""Forks on real servers: every branch publishes to one branch of lakeFS, also while processes die and others commit."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from perago.attempt.publication import FENCE_PATH

from .chaos import CHAOTIC, LARGE, RAGE_SECONDS, RECOVERY_SECONDS, SEED, Chaos, Fleet, Run
from .conftest import Deploy
from .deploying import Deployment, block
from .histories import md5
from .proxy import Proxy
from .repositories import Repository
from .workflows import Conductor, step, told

pytestmark = CHAOTIC

ROUNDS = int(os.environ.get("PERAGO_LIVE_CHAOS_ROUNDS", "4"))
BRANCHES = 4


def forked(deployment: Deployment, *, dynamic: bool = False) -> str:
    """Defines a fork of `BRANCHES` steps; returns its name."""
    name = f"{deployment.task}.fork"
    references = [f"branch{number}" for number in range(BRANCHES)]
    inputs = {"workspace": "${workflow.input.workspace}"}
    steps = [
        step(deployment.task, reference, **inputs, params=f"${{workflow.input.{reference}}}") | {"permissive": True}
        for reference in references
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
        join["joinOn"] = references
    deployment.conductor.define(name, [fork, join])
    return name


def orders(dice: random.Random) -> dict[str, Any]:
    """One stamp for each branch of the fork."""
    return {
        f"branch{number}": {
            "stamp": f"branch{number}.stamp",
            "sleep": dice.uniform(0.0, 0.4),
            "padding": dice.choice([0, LARGE]),
        }
        for number in range(BRANCHES)
    }


class Branch:
    """What has become of one branch of lakeFS since a commit, by the server's own history."""

    def __init__(self, repository: Repository, ref: str) -> None:
        self.repository = repository
        self.commits = repository.since(ref)
        self.publications = [commit for commit in self.commits if "perago.task_id" in commit["metadata"]]

    def violations(self, workflow: Mapping[str, Any], outside: list[str]) -> Iterator[str]:
        """Every promise that was broken."""
        undone = {gone for commit in self.publications for gone in _field(commit, "supersedes").split(",")}
        living = [commit for commit in self.publications if commit["id"] not in undone]
        steps = Counter(_field(commit, "step_key") for commit in living if _field(commit, "phase") != "fence")
        yield from (f"{number} publications of {key}" for key, number in steps.items() if number > 1)
        for commit in self.publications:
            if commit["parents"][0] != _field(commit, "expected_head"):
                yield f"{commit['id']} is on another head than it was built on"
            yield from self._exact(commit)
        yield from self._present(workflow)
        tree, ids = self.repository.tree(), {commit["id"] for commit in self.commits}
        for commit_id in outside:
            path = self.repository.get(commit_id)["message"].removeprefix("outside ")
            if commit_id not in ids or path not in tree:
                yield f"the outside commit {commit_id} or its file {path} is gone"

    def _exact(self, commit: Mapping[str, Any]) -> Iterator[str]:
        """It changes its own stamp and those that it undoes, and nothing else but the publish fence."""
        before, after = self.repository.tree(commit["parents"][0]), self.repository.tree(commit["id"])
        changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
        known = {each["id"]: each for each in self.publications}
        undoes = [known[gone] for gone in _field(commit, "supersedes").split(",") if gone in known]
        allowed = {f"{_field(each, 'reference_name')}.stamp" for each in [commit, *undoes]} | {FENCE_PATH}
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


def _field(commit: Mapping[str, Any], name: str) -> str:
    return str(commit["metadata"][f"perago.{name}"])


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_all_branches_of_a_fork_publish_to_one_branch(
    deploy: Deploy, conductor: Conductor, repository: Repository, *, dynamic: bool
) -> None:
    deployment = deploy("forking")
    workflow = forked(deployment, dynamic=dynamic)
    ref = repository.commit({"raw/a.txt": b"a"})
    inputs: dict[str, Any] = {"workspace": block(repository, ref), **orders(random.Random(1))}
    if dynamic:
        references = [f"branch{number}" for number in range(BRANCHES)]
        inputs |= {
            "tasks": [step(deployment.task, reference) | {"permissive": True} for reference in references],
            "inputs": {
                reference: {"workspace": inputs["workspace"], "params": inputs[reference]} for reference in references
            },
        }
    deployment.worker(slots=BRANCHES)
    run = deployment.start(inputs, workflow)
    found = conductor.completed(run, driven=True)
    assert list(Branch(repository, ref).violations(found, [])) == []


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_round_of_chaos_breaks_no_promise_of_a_fork(
    deploy: Deploy,
    conductor: Conductor,
    repository: Repository,
    conductor_proxy: Proxy,
    lakefs_proxy: Proxy,
    store_proxy: dict[str, Proxy],
    seed: int,
    number: int,
) -> None:
    print(f"PERAGO_LIVE_CHAOS_SEED={seed}, round {number}")
    dice = random.Random(f"fork:{seed}:{number}")
    deployment = deploy(
        "forking",
        CONDUCTOR_SERVER_URL=conductor_proxy.url,
        LAKECTL_SERVER_ENDPOINT_URL=lakefs_proxy.url,
        LIVE_RESPONSE_SECONDS="3",
        LIVE_RETRIES="5",
    )
    ref = repository.commit(SEED)
    started = deployment.start({"workspace": block(repository, ref), **orders(dice)}, forked(deployment))
    run = Run(started, repository, ref)
    fleet = Fleet(deployment, dice)
    for worker in [fleet.add(), fleet.add()]:
        worker.ready()
    proxies = {"conductor": conductor_proxy, "lakefs": lakefs_proxy, **store_proxy}
    chaos = Chaos(dice, conductor, fleet, proxies, [run], forked=True)
    chaos.rage(RAGE_SECONDS, outside=number % 2 == 1)
    print("\n".join(chaos.journal))
    chaos.recover(RECOVERY_SECONDS)
    fleet.retire()

    found = conductor.workflow(run.workflow_id)
    print(told(found))
    assert list(Branch(repository, ref).violations(found, run.outside)) == []
    assert deployment.environment.attempt_directories() == []
