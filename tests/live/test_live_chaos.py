"""The kill matrix with real processes: everything goes wrong at random, and no promise is broken.

Each round starts workflows of three steps on branches of their own, rages for some seconds, recovers, and reads the
servers' own histories. A round is repeated by its seed, as far as processes can be: what is thrown is the same, what
it hits is not.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from .chaos import CHAOTIC, SEED, STEPS, Run, chaotic, payload, rage_and_recover
from .conftest import Deploy
from .deploying import Deployment
from .histories import History
from .proxy import Proxy
from .repositories import LakeFSServer, Repository, created
from .workflows import step, told

pytestmark = CHAOTIC

ROUNDS = int(os.environ.get("PERAGO_LIVE_CHAOS_ROUNDS", "8"))
WORKFLOWS = 2


@pytest.fixture
def repositories(lakefs: LakeFSServer) -> Iterator[list[Repository]]:
    made = [created(lakefs) for _ in range(WORKFLOWS)]
    yield made
    for repository in made:
        repository.delete()


def chain(deployment: Deployment) -> str:
    """Defines the workflow; returns its name."""
    before = {"first": "workflow.input", "second": "first.output", "third": "second.output"}
    steps = [
        step(deployment.task, name, workspace=f"${{{before[name]}.workspace}}", params=f"${{workflow.input.{name}}}")
        for name in STEPS
    ]
    deployment.conductor.define(f"{deployment.task}.chaos", steps)
    return f"{deployment.task}.chaos"


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_round_of_chaos_breaks_no_promise(
    deploy: Deploy, repositories: list[Repository], proxies: dict[str, Proxy], seed: int, number: int
) -> None:
    print(f"PERAGO_LIVE_CHAOS_SEED={seed}, round {number}")
    dice = random.Random(f"{seed}:{number}")
    deployment = chaotic(deploy, "chaotic", proxies)
    workflow, runs = chain(deployment), []
    for repository in repositories:
        ref = repository.commit(SEED)
        runs.append(Run(deployment.start(payload(repository, ref, dice), workflow), repository, ref))
    rage_and_recover(deployment, dice, proxies, runs, outside=number % 3 == 2)
    for run in runs:
        print(told(deployment.conductor.workflow(run.workflow_id)))
        assert list(History(deployment.conductor, run).violations()) == []
