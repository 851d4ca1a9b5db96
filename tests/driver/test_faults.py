"""Calls that fail before or after they took effect, deliveries that are lost, branches that others move."""

from __future__ import annotations

import pytest

from perago.driver import Limits
from perago.embedded.lakefs import objects
from perago.ports import CorruptTransfer, Forbidden, Refused, ServiceError, TaskStatus, Unavailable
from perago.settings import PublishFence
from perago.testing import InMemoryServices

from . import tasks
from .tasks import EDIT, TWO_FILES, Params, publications_since


@pytest.mark.parametrize("error", [Forbidden, Refused, CorruptTransfer], ids=lambda error: error.__name__)
@pytest.mark.parametrize("operation", ["download", "create_branch", "upload", "delete_objects"])
def test_a_call_that_fails_for_good_is_a_retryable_failure_that_leaves_nothing(
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
    assert "is left behind" in outcome.record.notes[0]


def test_a_foreign_commit_between_the_look_and_the_merge_is_reported_loudly(services: InMemoryServices) -> None:
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
