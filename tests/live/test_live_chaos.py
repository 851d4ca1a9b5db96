"""The kill matrix with real processes: everything goes wrong at random, and no promise is broken.

A round starts a workflow of one shape on a branch of its own, rages for some seconds, recovers, and reads the servers'
own histories. Then comes an operation on the completed workflow, and all of it once more. A round is repeated by its
seed and number, as far as processes can be: what is thrown is the same, what it hits is not.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .chaos import CHAOTIC, LARGE, SEED, VERSIONS, Chaos, Fleet, Run, chaotic
from .conftest import Deploy
from .deploying import Deployment, block
from .histories import STAMPS, Family, History
from .proxy import Proxy
from .repositories import LakeFSServer, Repository, created
from .workflows import Conductor, step

pytestmark = CHAOTIC

MINUTES = float(os.environ.get("CHAOS_MINUTES", "5"))
FIRST = int(os.environ.get("CHAOS_ROUND", "0"))
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1000000"))
RAGE_SECONDS = 6.0
RECOVERY_SECONDS = 400.0

Json = dict[str, Any]
FROM_INPUT = "${workflow.input.workspace}"


def stamping(task: str, name: str, workspace: str = FROM_INPUT) -> Json:
    """A step that leaves a stamp."""
    return step(task, name, workspace=workspace, params="${workflow.input.params}")


def forked(*branches: list[Json]) -> list[Json]:
    """A fork of these branches, and its JOIN."""
    return [
        {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN", "forkTasks": list(branches)},
        {
            "name": "join",
            "taskReferenceName": "join",
            "type": "JOIN",
            "joinOn": [branch[-1]["taskReferenceName"] for branch in branches],
        },
    ]


def line(task: str, conductor: Conductor) -> list[Json]:
    """Three steps, one after the other."""
    return [
        stamping(task, "a"),
        stamping(task, "b", "${a.output.workspace}"),
        stamping(task, "c", "${b.output.workspace}"),
    ]


def joined() -> Json:
    """The workspace of the step behind a fork."""
    given: Json = {name: f"${{workflow.input.workspace.{name}}}" for name in ("repository", "branch", "ref_type")}
    return {**given, "ref": "${join.output}"}


def last(task: str) -> Json:
    """A step behind a fork."""
    found = stamping(task, "last")
    found["inputParameters"]["workspace"] = joined()
    return found


def fork(task: str, conductor: Conductor) -> list[Json]:
    """Two branches, one of which has two steps, and a step behind them."""
    left = [stamping(task, "a"), stamping(task, "b", "${a.output.workspace}")]
    return [*forked(left, [stamping(task, "c")]), last(task)]


def loop(task: str, conductor: Conductor) -> list[Json]:
    """Two rounds of two steps, and a step behind them."""
    rounds = {
        "name": "loop",
        "taskReferenceName": "loop",
        "type": "DO_WHILE",
        "loopCondition": "if ($.loop['iteration'] < 2) { true; } else { false; }",
        "loopOver": [stamping(task, "a"), stamping(task, "b", "${a.output.workspace}")],
    }
    return [rounds, stamping(task, "last")]


def nested(task: str, conductor: Conductor) -> list[Json]:
    """A step, a fork of a sub-workflow and a step, and a step behind them."""
    name = f"{task}.nested.below"
    conductor.define(name, [stamping(task, "a"), stamping(task, "b", "${a.output.workspace}")])
    below = {
        "name": name,
        "taskReferenceName": "below",
        "type": "SUB_WORKFLOW",
        "inputParameters": {"workspace": "${first.output.workspace}", "params": "${workflow.input.params}"},
        "subWorkflowParam": {"name": name, "version": 1},
    }
    beside = stamping(task, "beside", "${first.output.workspace}")
    return [stamping(task, "first"), *forked([below], [beside]), last(task)]


Shape = tuple[str, Callable[[str, Conductor], list[Json]]]
SHAPES: list[Shape] = [("forking", fork), ("forking", nested), ("chaotic", line), ("forking", loop), ("forking", line)]
MIXED: list[Shape] = [("chaotic", line), ("forking", fork)]
"""Those that the version before recovers from all operations of `Chaos` on them."""


@contextmanager
def repository_of(lakefs: LakeFSServer) -> Iterator[Repository]:
    """A repository of a round's own."""
    repository = created(lakefs)
    yield repository
    repository.delete()


def play(deployment: Deployment, shape: Shape, repository: Repository, proxies: dict[str, Proxy], seed: str) -> None:
    """Play one round."""
    dice, conductor = random.Random(seed), deployment.conductor
    name = f"{deployment.task}.{shape[1].__name__}"
    conductor.define(name, shape[1](deployment.task, conductor))
    ref = repository.commit(SEED)
    params = {"stamp": STAMPS, "padding": dice.choice([0, LARGE]), "sleep": dice.uniform(0.0, 0.6)}
    started = deployment.start({"workspace": block(repository, ref), "params": params}, name)
    run = Run(started, repository, ref, rebases=shape[0] == "forking", is_line=shape[1] is line)
    fleet = Fleet(deployment, dice)
    for worker in [fleet.add(), fleet.add()]:
        worker.ready()
    chaos = Chaos(dice, deployment, fleet, proxies, run)
    try:
        chaos.rage(RAGE_SECONDS, outside=dice.random() < 0.3)
        judge(chaos.recover(RECOVERY_SECONDS), run)
        if not run.is_given_up:
            chaos.operate()
            chaos.rage(RAGE_SECONDS / 3, outside=False)
            judge(chaos.recover(RECOVERY_SECONDS), run)
        fleet.retire()  # in any case, because later rounds of this deployment count its processes
        assert deployment.environment.attempt_directories() == []
    finally:
        print("\n".join(chaos.journal))


def judge(family: Family, run: Run) -> None:
    """Compare the branch with what the steps of the workflow reported."""
    if family.root["status"] != "COMPLETED" and not run.is_given_up:
        return  # somebody else's commits ended it
    history = History(family, run.repository, run.ref)
    violations = list(history.violations(run.outside))
    assert violations == [], "\n".join([*violations, family.described(), history.described()])


def test_chaos_breaks_no_promise(
    deploy: Deploy, lakefs: LakeFSServer, proxies: dict[str, Proxy], seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes = MIXED if len(VERSIONS) > 1 else SHAPES
    deployments = {module: chaotic(deploy, module, proxies) for module in dict.fromkeys(name for name, _ in shapes)}
    end = time.monotonic() + MINUTES * 60
    for number in itertools.count(FIRST):
        if time.monotonic() > end or number == FIRST + ROUNDS:
            break
        shape, began = shapes[number % len(shapes)], time.monotonic()
        again = f"CHAOS_SEED={seed} CHAOS_ROUND={number}"
        print(f"== {again}: {shape[1].__name__} of {shape[0]}")
        with repository_of(lakefs) as repository:
            play(deployments[shape[0]], shape, repository, proxies, f"{seed}:{number}")
        with capsys.disabled():
            print(f"{again}: {shape[1].__name__} of {shape[0]} in {time.monotonic() - began:.0f} s", file=sys.stderr)
