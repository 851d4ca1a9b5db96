"""Commits that somebody made by hand with the metadata of a publication: they are never adopted, nor published over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perago.embedded.lakefs import commits, objects, references
from perago.ports import Commit
from perago.testing.services import InMemoryServices

from .world import BRANCH, REPOSITORY, SharedWorld, World

KILLS_PROCESSES = True


def commit_by_hand(world: World, by: Commit) -> None:
    """Commit another file with the metadata of `by`."""
    server = world.services.lakefs.server
    objects.put_object(server.repository(REPOSITORY), BRANCH, "raw/by-hand", b"theirs")
    commits.commit(server.repository(REPOSITORY), BRANCH, by.message, published(world, by))


def merge_by_hand(world: World, by: Commit) -> None:
    """Merge another branch with the metadata of `by`."""
    server = world.services.lakefs.server
    references.create_branch(server.repository(REPOSITORY), "side", BRANCH)
    objects.put_object(server.repository(REPOSITORY), "side", "raw/by-hand", b"theirs")
    source = commits.commit(server.repository(REPOSITORY), "side", "by hand", {}).commit.id
    commits.merge(server.repository(REPOSITORY), source, BRANCH, by.message, published(world, by))


def merge_nothing_by_hand(world: World, by: Commit) -> None:
    """Merge the head into its own branch with the metadata of `by`."""
    server = world.services.lakefs.server
    head = references.get_branch(server.repository(REPOSITORY), BRANCH).commit_id
    commits.merge(server.repository(REPOSITORY), head, BRANCH, by.message, published(world, by), allow_empty=True)


def cherry_pick(world: World, by: Commit) -> None:
    """Undo a publication, and pick it again."""
    server = world.services.lakefs.server
    commits.revert(server.repository(REPOSITORY), BRANCH, by.id, parent_number=1)
    commits.cherry_pick(server.repository(REPOSITORY), BRANCH, by.id, parent_number=1)


def published(world: World, by: Commit) -> dict[str, str]:
    """The metadata as of a merge on the present head, so that the publish fence lets it through."""
    return {**by.metadata, "perago.phase": "merge", "perago.expected_head": world.commit(BRANCH).id}


@pytest.mark.parametrize("make", [World, SharedWorld])
@pytest.mark.parametrize("copy", [commit_by_hand, merge_by_hand, merge_nothing_by_hand])
def test_a_copy_of_a_staging_commit_is_refused_and_nothing_is_published(
    services: InMemoryServices, make: type[World], copy: Callable[[World, Commit], None]
) -> None:
    world = make(services)
    services.faults.between("merge", world.kill)
    world.run(world.take())
    (branch,) = world.staging_branches()
    copy(world, commits.get_commit(services.lakefs.server.repository(REPOSITORY), branch).commit)
    made = world.commit(BRANCH)
    world.time_out()
    world.run(world.take())

    assert world.status == "FAILED"
    assert "carries the metadata of this step, but perago did not publish it" in world.tried[-1].words
    for named in (made.id[:12], made.parents[-1][:12]):
        assert named in world.tried[-1].words
    assert world.commit(BRANCH) == made, "nothing is published"


@pytest.mark.parametrize("make", [World, SharedWorld])
@pytest.mark.parametrize("copy", [commit_by_hand, merge_by_hand, cherry_pick])
def test_a_copy_on_top_of_a_publication_is_refused_and_nothing_is_published(
    services: InMemoryServices, make: type[World], copy: Callable[[World, Commit], None]
) -> None:
    world = make(services)
    world.publish_and_die()
    copy(world, world.publications()[0])
    made = world.commit(BRANCH)
    world.run(world.take())

    assert world.status == "FAILED"
    assert made.id[:12] in world.tried[-1].words
    assert world.commit(BRANCH) == made, "nothing is published"


@pytest.mark.parametrize("make", [World, SharedWorld])
@pytest.mark.parametrize("how", ["rerun", "restart"])
def test_a_merge_by_hand_with_the_metadata_of_a_stale_publication_is_not_undone(
    services: InMemoryServices, make: type[World], how: str
) -> None:
    world = make(services)
    world.run(world.take())
    merge_by_hand(world, world.publications()[0])
    made = world.commit(BRANCH)
    services.clock.advance(1)
    if how == "rerun":
        services.conductor.rerun_workflow(world.workflow, world.tried[0].delivery.task_id)
    else:
        services.conductor.restart_workflow(world.workflow)
    world.run(world.take())

    assert world.status == "FAILED"
    for named in (made.id[:12], made.parents[-1][:12]):
        assert named in world.tried[-1].words
    assert world.commit(BRANCH) == made, "nothing is published, and the file is there still"


@pytest.mark.parametrize("make", [World, SharedWorld])
def test_a_stale_fence_commit_without_a_staging_commit_is_undone_since_it_changes_nothing(
    services: InMemoryServices, make: type[World]
) -> None:
    world = make(services)
    world.run(world.take())
    merge_nothing_by_hand(world, world.publications()[0])
    services.clock.advance(1)
    services.conductor.restart_workflow(world.workflow)
    world.run(world.take())

    assert world.status == "COMPLETED"
    assert len(world.commit(BRANCH).metadata["perago.supersedes"].split(",")) == 2


def test_an_empty_staging_commit_that_arrives_twice_is_published_once(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(services, quiet="always")
    world.hand_back()
    send, server = services.lakefs.commit, services.lakefs.server

    def sent_twice(repository: str, branch: str, message: str, metadata: Any, *, allow_empty: bool) -> Commit:
        commits.commit(server.repository(repository), branch, message, metadata, allow_empty=allow_empty)
        return send(repository, branch, message, metadata, allow_empty=allow_empty)

    monkeypatch.setattr(services.lakefs, "commit", sent_twice)
    world.run(world.take())

    assert world.status == "COMPLETED"
    assert [commit.metadata["perago.phase"] for commit in world.publications()] == ["fence"]
    world.assert_sound()
