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

from .chaos import CHAOTIC, RAGE_SECONDS, RECOVERY_SECONDS, SEED, STEPS, Chaos, Fleet, Run, payload
from .conftest import Deploy
from .deploying import Deployment
from .histories import History
from .proxy import Proxy
from .repositories import LakeFSServer, Repository, created
from .workflows import Conductor, step, told

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
    deploy: Deploy,
    conductor: Conductor,
    repositories: list[Repository],
    conductor_proxy: Proxy,
    lakefs_proxy: Proxy,
    store_proxy: dict[str, Proxy],
    seed: int,
    number: int,
) -> None:
    print(f"PERAGO_LIVE_CHAOS_SEED={seed}, round {number}")
    dice = random.Random(f"{seed}:{number}")
    deployment = deploy(
        "chaotic",
        CONDUCTOR_SERVER_URL=conductor_proxy.url,
        LAKECTL_SERVER_ENDPOINT_URL=lakefs_proxy.url,
        LIVE_RESPONSE_SECONDS="3",
        LIVE_RETRIES="5",
    )
    workflow, runs = chain(deployment), []
    for repository in repositories:
        ref = repository.commit(SEED)
        runs.append(Run(deployment.start(payload(repository, ref, dice), workflow), repository, ref))

    fleet = Fleet(deployment, dice)
    for worker in [fleet.add(), fleet.add()]:
        worker.ready()
    chaos = Chaos(dice, conductor, fleet, {"conductor": conductor_proxy, "lakefs": lakefs_proxy, **store_proxy}, runs)
    chaos.rage(RAGE_SECONDS, outside=number % 3 == 2)
    print("\n".join(chaos.journal))
    chaos.recover(RECOVERY_SECONDS)
    fleet.retire()

    for run in runs:
        print(told(conductor.workflow(run.workflow_id)))
        assert list(History(conductor, run).violations()) == []
    assert deployment.environment.attempt_directories() == []
