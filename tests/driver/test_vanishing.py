"""Staged changes that vanish or are replaced before their commit."""

from __future__ import annotations

import pytest

from perago.embedded.faults import Moment
from perago.embedded.lakefs import commits, objects, references
from perago.testing import InMemoryServices

from .editing import expected_tree
from .world import BRANCH, REPOSITORY, SharedWorld, World


def reset(world: World) -> None:
    """Another client resets all staging branches."""
    for branch in world.staging_branches():
        references.reset_branch(world.services.lakefs.server.repository(REPOSITORY), branch)


def roll_back(world: World) -> None:
    """Another client moves all staging branches back to the head of the workspace branch."""
    for branch in world.staging_branches():
        references.hard_reset_branch(world.services.lakefs.server.repository(REPOSITORY), branch, BRANCH)


def replace(world: World) -> None:
    """Another client replaces a staged file by one of the same size."""
    server = world.services.lakefs.server
    for branch in world.staging_branches():
        for change in commits.staged_changes(server.repository(REPOSITORY), branch):
            if change.entry is not None and change.entry.path.startswith("raw/"):
                objects.put_object(
                    server.repository(REPOSITORY), branch, change.entry.path, b"?" * change.entry.blob.size
                )


def fails_once(world: World, words: str = "have vanished twice from staging branch") -> None:
    """The first delivery fails as retryable, and the next one publishes everything."""
    world.run(world.take())
    assert words in world.tried[-1].words
    world.settle()
    assert world.status == "COMPLETED"
    assert list(world.violations()) == []
    assert world.services.tree() == expected_tree(world.tried[-1].delivery, world.start)


def test_changes_that_vanish_twice_fail_the_attempt_as_retryable(services: InMemoryServices) -> None:
    world = World(services)
    for nth in (1, 2):
        services.faults.between("commit", lambda: reset(world), nth=nth)
    fails_once(world)


@pytest.mark.parametrize("make", [World, SharedWorld])
def test_a_staged_file_that_is_replaced_by_one_of_the_same_size_is_not_published(
    services: InMemoryServices, make: type[World]
) -> None:
    world = make(services)
    services.faults.between("commit", lambda: replace(world))
    fails_once(world, "does not hold exactly the changes of this attempt: 'raw/a.csv'")


def test_a_revert_that_vanishes_twice_fails_the_attempt_as_retryable(services: InMemoryServices) -> None:
    world = World(services)
    world.complete()
    for nth in (1, 2):
        services.faults.between("revert", lambda: roll_back(world), nth=nth, moment=Moment.AFTER)
    fails_once(world)
