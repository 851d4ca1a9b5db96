"""Publications of this step that this worker has not made: by earlier versions, by hand, and by a later retry.

The metadata of earlier versions are those that they recorded (`tests.driver.earlier`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perago.attempt.publication import is_staging_branch, staging_prefix
from perago.driver.gc import Fate
from perago.embedded.faults import Moment
from perago.embedded.lakefs import commits, objects, references
from perago.ports import Commit, Delivery, Report, TaskStatus
from perago.testing.services import InMemoryServices
from perago.workspace.directory import directory_name

from ..definitions import flow, forking, operator, simple
from .earlier import FORMS, EarlierStore, recorded
from .world import BRANCH, DAY, DEFINITION, INPUT, REPOSITORY, TASK, Caretaker, SharedWorld, World

KILLS_PROCESSES = True

PHASES = ("staging", "merge", "fence")


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def earlier(world: World, form: str, *actions: Callable[[World], None]) -> None:
    """Let a worker of an earlier version do something."""
    world.store = EarlierStore(world.services.lakefs, form)
    for do in actions:
        do(world)
    world.store = world.services.lakefs


def run_next(world: World) -> None:
    world.run(world.take())


def publish(world: World) -> None:
    world.run(world.take(), report=False)


def phases(world: World) -> list[str]:
    """Of the publications, oldest first."""
    return [commit.metadata["perago.phase"] for commit in world.publications()][::-1]


def test_names_of_branches_still_follow_from_the_recorded_steps(form: str) -> None:
    for found in recorded(form).values():
        branch = found["perago.staging_branch"]
        assert not branch or (is_staging_branch(branch) and branch.startswith(staging_prefix(found["perago.step_key"])))


def test_todays_publications_have_every_recorded_key(services: InMemoryServices, form: str) -> None:
    world = World(services)
    world.publish_and_die()
    world.settle()
    merge, fence = (commit.metadata for commit in world.publications()[::-1])
    assert set(recorded(form)["merge"]) <= set(merge)
    assert set(recorded(form)["fence"]) <= set(fence)
    assert recorded(form)["merge"]["perago.params_sha256"] == merge["perago.params_sha256"]


HISTORIES: dict[str, tuple[tuple[Callable[[World], None], ...], list[str]]] = {
    "a publication": ((World.publish_and_die,), ["merge", "fence"]),
    "a fence commit": ((World.publish_and_die, World.publish_and_die), ["merge", "fence", "fence"]),
    "one that undid another": ((publish, World.order_rerun, World.publish_and_die), ["merge", "merge", "fence"]),
}


@pytest.mark.parametrize(("actions", "expected"), HISTORIES.values(), ids=HISTORIES)
def test_what_an_earlier_version_has_published_is_adopted(
    services: InMemoryServices, form: str, actions: tuple[Callable[[World], None], ...], expected: list[str]
) -> None:
    world = World(services)
    earlier(world, form, *actions)
    world.run(world.take())

    assert phases(world) == expected
    assert world.status == "COMPLETED"
    world.assert_sound()


@pytest.mark.parametrize("again", [World.order_rerun, World.order_restart], ids=["rerun", "restart"])
def test_publications_of_an_earlier_version_are_undone(
    services: InMemoryServices, form: str, again: Callable[[World], None]
) -> None:
    world = World(services)
    earlier(world, form, World.publish_and_die, publish)
    again(world)
    world.settle()

    assert phases(world) == ["merge", "fence", "merge"]
    undone = world.publications()[0].metadata["perago.supersedes"].split(",")
    assert undone == [commit.id for commit in world.publications()[1:]]
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


# ----------------------------------------------------------------------------------------------------
# Commits that somebody made by hand with the metadata of a publication: they are never adopted, nor published over.


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


def merge_nothing_later(world: World, by: Commit) -> None:
    """Merge the head into its own branch, as earlier versions did for a later delivery without changes."""
    merge_nothing_by_hand(world, replace(by, metadata={**by.metadata, "perago.poll_count": "2"}))


def merge_revert(world: World, by: Commit, *, moved: bool = False) -> None:
    """Merge the revert of a publication by hand, with a claim to have undone it."""
    repository = world.services.lakefs.server.repository(REPOSITORY)
    references.create_branch(repository, "side", BRANCH)
    source = commits.revert(repository, "side", by.id, parent_number=1).commit.id
    if moved:
        world.services.seed({"raw/by-hand": "theirs"})
    commits.merge(repository, source, BRANCH, by.message, published(world, by) | {"perago.supersedes": by.id})


def cherry_pick(world: World, by: Commit) -> None:
    """Undo a publication, and pick it again."""
    server = world.services.lakefs.server
    commits.revert(server.repository(REPOSITORY), BRANCH, by.id, parent_number=1)
    commits.cherry_pick(server.repository(REPOSITORY), BRANCH, by.id, parent_number=1)


def published(world: World, by: Commit) -> dict[str, str]:
    """The metadata as of a merge on the present head, so that the publish fence lets it through."""
    return {**by.metadata, "perago.phase": "merge", "perago.expected_head": world.commit(BRANCH).id}


@pytest.mark.parametrize("make", [World, SharedWorld])
@pytest.mark.parametrize(
    ("is_published", "copy"),
    [
        *((False, copy) for copy in (commit_by_hand, merge_by_hand, merge_nothing_by_hand)),
        *((True, copy) for copy in (commit_by_hand, merge_by_hand, cherry_pick)),
    ],
)
def test_a_copy_of_a_commit_of_perago_is_refused_and_nothing_is_published(
    services: InMemoryServices, make: type[World], is_published: bool, copy: Callable[[World, Commit], None]
) -> None:
    world = make(services)
    if not is_published:
        services.faults.between("merge", world.kill)
    world.publish_and_die()
    (branch,) = [BRANCH] if is_published else world.staging_branches()
    copy(world, world.commit(branch))
    made = world.commit(BRANCH)
    world.run(world.take())

    assert world.status == "FAILED"
    assert made.id[:12] in world.tried[-1].words
    if not is_published:
        assert "carries the metadata of this step, but perago did not publish it" in world.tried[-1].words
        assert made.parents[-1][:12] in world.tried[-1].words
    assert world.commit(BRANCH) == made, "nothing is published"


def rerun_over(world: World, copy: Callable[[World, Commit], None]) -> Commit:
    """Rerun a task after a copy of its publication was made, and return the copy."""
    world.run(world.take())
    copy(world, world.publications()[0])
    made = world.commit(BRANCH)
    world.services.clock.advance(1)
    world.services.conductor.rerun_workflow(world.workflow, world.tried[0].delivery.task_id)
    world.run(world.take())
    return made


@pytest.mark.parametrize("make", [World, SharedWorld])
@pytest.mark.parametrize("merge", [merge_nothing_later])
def test_a_stale_publication_without_own_changes_needs_no_staging_commit(
    services: InMemoryServices, make: type[World], merge: Callable[[World, Commit], None]
) -> None:
    world = make(services)
    made = rerun_over(world, merge)

    assert world.status == "COMPLETED"
    assert made.id in world.publications()[0].metadata["perago.supersedes"].split(",")
    assert services.tree().keys() == {*world.start} - {"raw/b.csv"} | {directory_name(world.tried[-1].delivery)}


@pytest.mark.parametrize(
    ("make", "copy"),
    [
        (World, merge_by_hand),
        (SharedWorld, merge_by_hand),
        (World, merge_revert),
        (SharedWorld, merge_revert),
        (SharedWorld, partial(merge_revert, moved=True)),
    ],
    ids=["alone", "among others", "a revert", "a revert among others", "a revert over another commit"],
)
def test_a_merge_by_hand_with_the_metadata_of_a_stale_publication_is_not_undone(
    services: InMemoryServices, make: type[World], copy: Callable[[World, Commit], None]
) -> None:
    world = make(services)
    made = rerun_over(world, copy)

    assert world.status == "FAILED"
    for named in (made.id[:12], made.parents[-1][:12]):
        assert named in world.tried[-1].words
    assert world.commit(BRANCH) == made, "nothing is published, and the file is there still"


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


# ------------------- A canceled attempt that Conductor begins again, without its mark, after its retry


SUB = operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": "inner"})
EDITING = simple(TASK.name, "edit", workspace="${workflow.input.workspace}", params={"quiet": "never", "began": 0})


def end_plain(services: InMemoryServices, status: TaskStatus) -> Delivery:
    """End all waiting tasks without a workspace. The retry of a sub-workflow revives its earlier runs as well."""
    *others, last = services.conductor.poll("plain", "w0001", count=9, wait_seconds=0)
    for delivery in (*others, last):
        services.conductor.report(delivery, Report(status), "w0001")
    return last


@pytest.mark.parametrize("retry_first", [True, False], ids=["its retry is done", "its retry begins again, too"])
def test_an_attempt_that_is_begun_again_without_its_mark_ends_as_its_retry(
    services: InMemoryServices, retry_first: bool
) -> None:
    """The sub-workflow next to it fails, the workflow is retried, the sub-workflow fails again and is retried alone.
    Measured on a real server."""
    conductor, played = services.conductor, []

    def run_all() -> None:
        while waiting := conductor.poll(TASK.name, "w0001", count=1, wait_seconds=0):
            played.append(services.attempt(TASK.function, waiting[0])._record)

    conductor.register_task_definitions([DEFINITION, {**DEFINITION, "name": "plain"}])
    for name, steps in (("inner", [simple("plain")]), ("revived", forking("fork", [EDITING], [SUB]))):
        conductor.create_workflow_definition(flow(*steps, name=name))
    block = {"repository": REPOSITORY, "branch": BRANCH, "ref_type": "commit", "ref": services.seed(INPUT)}
    workflow = conductor.start_workflow("revived", {"workspace": block})
    end_plain(services, TaskStatus.FAILED_WITH_TERMINAL_ERROR)
    conductor.sweep()
    conductor.retry_workflow(workflow)
    conductor.sweep()
    if retry_first:
        run_all()
    child = end_plain(services, TaskStatus.FAILED_WITH_TERMINAL_ERROR).workflow_id
    conductor.sweep()
    conductor.retry_workflow(child)
    end_plain(services, TaskStatus.COMPLETED)
    for _ in range(3):
        run_all()
        conductor.advance(10)

    by_chain = {record.delivery.retried_task_id is None: record for record in played}
    first, retry = by_chain[True], by_chain[False]
    assert [step.name for step in first.steps] == ["ValidateInput"]
    assert first.report == retry.report
    assert first.remarks == ("did nothing, because its retry has done the work",)
    assert conductor.workflow(workflow)["status"] == "COMPLETED"
    (head, *_) = commits.first_parents(services.lakefs.server.repository(REPOSITORY), BRANCH)
    assert head.commit.id == retry.published_commit
