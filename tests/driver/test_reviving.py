"""An attempt that Conductor hands out again although there was a retry of it."""

from __future__ import annotations

import pytest

from perago.embedded.lakefs import commits
from perago.ports import TaskStatus
from perago.testing import InMemoryServices

from .reviving import play_begun_again, play_forgotten, play_revived
from .world import BRANCH, REPOSITORY


@pytest.mark.parametrize("revived_first", [True, False], ids=["before the rerun step", "after it"])
@pytest.mark.parametrize("by_hand", [False, True], ids=["published", "completed by hand"])
def test_what_became_of_the_retry_stands(services: InMemoryServices, by_hand: bool, revived_first: bool) -> None:
    played = play_revived(services, by_hand=by_hand, revived_first=revived_first)

    assert list(played.violations()) == []
    revived, rerun = played.records["r0"], played.records["r1"]
    assert [step.name for step in revived.steps] == ["ValidateInput"]
    assert revived.report is not None
    assert revived.report.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert "has been retried since, and only the retry counts" in str(revived.report.reason)
    assert rerun.report is not None
    assert rerun.report.status is TaskStatus.COMPLETED


def test_where_the_retry_is_forgotten_the_attempt_takes_its_place(services: InMemoryServices) -> None:
    failed, retry, revived = play_forgotten(services)

    assert failed.published_commit is None
    assert revived.superseded_commits == (retry.published_commit,)
    assert revived.report is not None
    assert revived.report.status is TaskStatus.COMPLETED
    services.clock.advance(60)
    services.conductor.sweep()  # the JOIN
    (summary,) = services.conductor.workflow_summaries()
    assert summary.status.value == "COMPLETED"


@pytest.mark.parametrize("retry_first", [True, False], ids=["its retry is done", "its retry begins again, too"])
def test_an_attempt_that_is_begun_again_without_its_mark_ends_as_its_retry(
    services: InMemoryServices, retry_first: bool
) -> None:
    played = play_begun_again(services, retry_first=retry_first)

    assert played.retry is not None
    assert played.first is not None
    assert [step.name for step in played.first.steps] == ["ValidateInput"]
    assert played.first.report == played.retry.report
    assert played.first.remarks == ("did nothing, its retry has done the work",)
    assert services.conductor.workflow(played.workflow)["status"] == "COMPLETED"
    (head, *_) = commits.first_parents(services.lakefs.server.repository(REPOSITORY), BRANCH)
    assert head.commit.id == played.retry.published_commit
