"""A worker of today after one of an earlier version, on the same step: it takes over, undoes or refuses what is
there. The metadata are those that earlier versions recorded (`tests.driver.earlier`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from perago.attempt.publication import is_staging_branch, staging_prefix
from perago.driver.gc import Fate
from perago.embedded.faults import Moment
from perago.testing.services import InMemoryServices

from .caretaker import DAY, Caretaker
from .earlier import FORMS, EarlierStore, recorded
from .world import ForkedWorld, World

KILLS_PROCESSES = True

PHASES = ("staging", "merge", "fence")


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def earlier(world: World, form: str, *deeds: Callable[[World], None]) -> None:
    """Let a worker of an earlier version do something."""
    world.store = EarlierStore(world.services.lakefs, form)
    for do in deeds:
        do(world)
    world.store = world.services.lakefs


def run_next(world: World) -> None:
    world.run(world.take())


def publish(world: World) -> None:
    world.run(world.take(), report=False)


def publish_and_die(world: World) -> None:
    publish(world)
    world.services.clock.advance(601)
    world.services.conductor.sweep()
    world.services.clock.advance(2)


def phases(world: World) -> list[str]:
    """Of the publications, oldest first."""
    return [commit.metadata["perago.phase"] for commit in world.publications()][::-1]


def test_names_of_branches_still_follow_from_the_recorded_steps(form: str) -> None:
    for found in recorded(form).values():
        branch = found["perago.staging_branch"]
        assert not branch or (is_staging_branch(branch) and branch.startswith(staging_prefix(found["perago.step_key"])))


def test_todays_publications_have_every_recorded_key(services: InMemoryServices, form: str) -> None:
    world = World(services)
    publish_and_die(world)
    world.settle()
    merge, fence = (commit.metadata for commit in world.publications()[::-1])
    assert set(recorded(form)["merge"]) <= set(merge)
    assert set(recorded(form)["fence"]) <= set(fence)
    assert recorded(form)["merge"]["perago.params_sha256"] == merge["perago.params_sha256"]


def test_a_publication_of_an_earlier_version_is_adopted(services: InMemoryServices, form: str) -> None:
    world = World(services)
    earlier(world, form, publish_and_die)
    world.run(world.take())

    assert phases(world) == ["merge", "fence"]
    assert world.status == "COMPLETED"
    world.assert_sound()


def test_a_fence_commit_of_an_earlier_version_is_adopted(services: InMemoryServices, form: str) -> None:
    world = World(services)
    earlier(world, form, publish_and_die, publish_and_die)
    world.run(world.take())

    assert phases(world) == ["merge", "fence", "fence"]
    assert world.status == "COMPLETED"
    world.assert_sound()


@pytest.mark.parametrize("again", [World.order_rerun, World.order_restart], ids=["rerun", "restart"])
def test_publications_of_an_earlier_version_are_undone(
    services: InMemoryServices, form: str, again: Callable[[World], None]
) -> None:
    world = World(services)
    earlier(world, form, publish_and_die, publish)
    again(world)
    world.settle()

    assert phases(world) == ["merge", "fence", "merge"]
    undone = world.publications()[0].metadata["perago.supersedes"].split(",")
    assert undone == [commit.id for commit in world.publications()[1:]]
    world.assert_sound()


def test_publications_that_an_earlier_version_undid_stay_undone(services: InMemoryServices, form: str) -> None:
    world = World(services)
    earlier(world, form, publish, World.order_rerun, publish_and_die)
    world.run(world.take())

    assert phases(world) == ["merge", "merge", "fence"]
    assert world.status == "COMPLETED"
    world.assert_sound()


def test_another_workflows_publication_of_an_earlier_version_is_refused(services: InMemoryServices, form: str) -> None:
    world = World(services)
    services.conductor.start_workflow("matrix", services.conductor.workflow(world.workflow)["input"])
    mine, others = world.take(), world.take()
    earlier(world, form, lambda world: world.run(others))
    world.run(mine)

    assert "has moved since the input ref" in world.tried[-1].words
    assert "matrix.edit" in world.tried[-1].words
    assert phases(world) == ["merge"]


def test_the_branches_of_a_fork_may_be_of_two_versions(services: InMemoryServices, form: str) -> None:
    """Also where one of them is run again, which undoes exactly what the other version has published."""
    world = ForkedWorld(services)
    earlier(world, form, run_next)
    world.run(world.take())
    services.clock.advance(1)
    services.conductor.rerun_workflow(world.workflow, world.tried[0].delivery.task_id)
    world.settle()

    world.assert_sound()


@pytest.mark.parametrize("phase", ["commit", "merge"])
def test_a_staging_branch_of_an_earlier_version_is_swept(
    services: InMemoryServices, form: str, phase: str, tmp_path: Path
) -> None:
    world = World(services)
    services.faults.between(phase, world.kill, moment=Moment.AFTER)
    earlier(world, form, run_next)
    caretaker = Caretaker(world, tmp_path / "gc.json")
    services.clock.advance(2 * DAY)
    assert caretaker.fate() is Fate.KEPT, "Conductor still waits for its delivery"
    services.conductor.sweep()
    assert caretaker.fate() is Fate.REMOVED
    assert caretaker.branches == ["main"]
