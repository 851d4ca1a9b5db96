"""Calls that fail before or after they took effect, deliveries that are lost, branches that others move."""

from __future__ import annotations

from typing import Any

import pytest

from perago.attempt import events as on
from perago.attempt.protocol import TRANSITIONS
from perago.attempt.state import Step
from perago.driver import Limits
from perago.embedded.faults import Moment
from perago.embedded.lakefs import objects, references
from perago.ports import CorruptTransfer, Forbidden, Refused, ServiceError, TaskStatus, Unavailable, Unclear
from perago.settings import PublishFence
from perago.testing.services import InMemoryServices

from . import tasks
from .editing import expected_tree
from .forking import FAILED, A, Fork
from .tasks import EDIT, TWO_FILES, Params, publications_since
from .world import BRANCH, REPOSITORY, World


@pytest.mark.parametrize("error", [Forbidden, Refused, CorruptTransfer], ids=lambda error: error.__name__)
@pytest.mark.parametrize("operation", ["download", "create_branch", "upload", "delete_objects"])
def test_a_call_that_fails_for_good_is_a_retryable_failure_without_leftovers(
    services: InMemoryServices, operation: str, error: type[ServiceError]
) -> None:
    ref = services.seed(TWO_FILES)
    services.faults.before(operation, error=error)
    services.start(EDIT, Params(do="edit"), ref=ref)
    outcome = services.attempt(tasks.edit)

    assert outcome.status is TaskStatus.FAILED
    assert str(outcome.reason).startswith("lakeFS: ")
    assert services.lakefs.get_commit("workspace", "main").id == ref
    services.clock.advance(5)
    assert services.attempt(tasks.edit).status is TaskStatus.COMPLETED, "the retry succeeds"
    assert publications_since(services, ref) == 1


def test_a_staging_branch_that_is_at_another_commit_is_a_failure(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = services.lakefs.create_branch
    other = services.seed({"raw/other": "x"})

    def create_elsewhere(repository: str, branch: str, source: str) -> None:
        create(repository, branch, other)
        create(repository, branch, source)

    monkeypatch.setattr(services.lakefs, "create_branch", create_elsewhere)
    outcome = services.run(tasks.edit, Params(do="edit"), TWO_FILES)

    assert outcome.status is TaskStatus.FAILED
    assert "already exists" in str(outcome.reason)


def test_a_staging_branch_that_cannot_be_removed_does_not_cost_the_result(services: InMemoryServices) -> None:
    services.faults.before("delete_branch", error=Unavailable)
    outcome = services.run(tasks.edit, Params(), TWO_FILES)

    assert outcome.status is TaskStatus.COMPLETED
    assert "was not removed" in outcome.notes[0]


def test_a_foreign_commit_between_the_last_read_and_the_merge_is_reported(services: InMemoryServices) -> None:
    """Where no publish fence guards the merge, only the verification afterwards can notice."""
    services.limits = Limits(publish_fence=PublishFence.OFF)
    ref = services.seed(TWO_FILES)
    services.faults.between("merge", lambda: services.seed({"raw/foreign": "theirs"}))
    services.start(EDIT, Params(do="edit"), ref=ref)
    outcome = services.attempt(tasks.edit)

    assert outcome.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert "is not what this attempt built" in str(outcome.reason)
    assert services.tree()["raw/foreign"] == b"theirs"


def test_uncommitted_changes_on_the_target_are_retryable(services: InMemoryServices) -> None:
    ref = services.seed(TWO_FILES)
    objects.put_object(services.lakefs.server.repository("workspace"), "main", "staged", b"x")
    services.start(EDIT, Params(do="edit"), ref=ref)
    outcome = services.attempt(tasks.edit)

    assert outcome.status is TaskStatus.FAILED
    assert "uncommitted changes" in str(outcome.reason)


def reset(world: World) -> None:
    """Another client resets all staging branches."""
    for branch in world.staging_branches():
        references.reset_branch(world.services.lakefs.server.repository(REPOSITORY), branch)


def roll_back(world: World) -> None:
    """Another client moves all staging branches back to the head of the workspace branch."""
    for branch in world.staging_branches():
        references.hard_reset_branch(world.services.lakefs.server.repository(REPOSITORY), branch, BRANCH)


def fails_once(world: World, words: str = "have vanished twice from staging branch") -> None:
    """The first delivery fails as retryable, and the next one publishes everything."""
    world.run(world.take())
    assert words in world.tried[-1].words
    world.settle()
    assert world.status == "COMPLETED"
    world.assert_sound()
    assert world.services.tree() == expected_tree(world.tried[-1].delivery, world.start)


def test_changes_that_vanish_twice_fail_the_attempt_as_retryable(services: InMemoryServices) -> None:
    world = World(services)
    for nth in (1, 2):
        services.faults.between("commit", lambda: reset(world), nth=nth)
    fails_once(world)


def test_a_revert_that_vanishes_twice_fails_the_attempt_as_retryable(services: InMemoryServices) -> None:
    world = World(services)
    world.complete()
    for nth in (1, 2):
        services.faults.between("revert", lambda: roll_back(world), nth=nth, moment=Moment.AFTER)
    fails_once(world)


@pytest.mark.parametrize("event", [on.Merged, on.MergeUnclear, on.PublicationRead])
def test_a_defect_in_the_protocol_fails_the_attempt_and_names_the_open_merge(
    services: InMemoryServices, monkeypatch: pytest.MonkeyPatch, event: type
) -> None:
    """The transition raises, as a parser of a foreign value once did."""
    fork = Fork(services, A)
    if event is on.MergeUnclear:
        services.faults.after("merge", error=Unclear)

    def defect(*_: object) -> Any:
        raise KeyError("x")

    with monkeypatch.context() as patch:
        patch.setitem(TRANSITIONS, (Step.COMMITTED, event), defect)
        outcome = fork.run(fork.deliveries[0])
    assert outcome.status is FAILED
    assert f"could not continue after {event.__name__} at step committed: KeyError" in str(outcome.reason)
    ending = "was not verified." if event is on.PublicationRead else "a retry will recognize it."
    assert str(outcome.reason).endswith(ending)

    services.clock.advance(1)
    (retry,) = fork.take(1)
    assert fork.run(retry).assert_completed().adopted_commit == fork.commits()[0].id
