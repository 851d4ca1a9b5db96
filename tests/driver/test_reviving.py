"""An attempt that Conductor hands out again although its retry has taken its place does nothing."""

from __future__ import annotations

import pytest

from perago.ports import TaskStatus
from perago.testing import InMemoryServices

from .reviving import play_revived


@pytest.mark.parametrize("revived_first", [True, False], ids=["before the rerun step", "after it"])
def test_what_the_retry_has_published_stands(services: InMemoryServices, revived_first: bool) -> None:
    played = play_revived(services, revived_first=revived_first)

    assert list(played.violations()) == []
    revived, rerun = played.records["r0"], played.records["r1"]
    assert [step.name for step in revived.steps] == ["ValidateInput"]
    assert revived.report is not None
    assert revived.report.status is TaskStatus.FAILED_WITH_TERMINAL_ERROR
    assert "has been retried since, and only the retry counts" in str(revived.report.reason)
    assert rerun.report is not None
    assert rerun.report.status is TaskStatus.COMPLETED
