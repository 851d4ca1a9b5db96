"""The questions about workflows end, however many parents there are, and however long a sub-workflow starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import pytest

from perago.attempt import commands as do
from perago.attempt.history import STARTING_REREADS, WORKFLOWS_READ, Refuse, judge
from perago.attempt.refusals import STILL_STARTING
from perago.driver.delivery import DeliveryQuestions
from perago.ports import Delivery, DeliveryCheck, WorkflowRow
from perago.testing.services import InMemoryServices
from tests.attempt.builders import DELIVERY, publication_of, workflow_row
from tests.attempt.judging import FAMILY, REBASE, read


class Parents:
    """A Conductor whose workflows have the next one of `line` as their parent, and the last one has the first."""

    def __init__(self, line: Sequence[str]) -> None:
        self._line = line
        self.read = 0

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow:
        self.read += 1
        above = self._line[(self._line.index(workflow_id) + 1) % len(self._line)]
        return workflow_row(workflow_id, int(delivery.start_time), above)


def questions(services: InMemoryServices, parents: Parents) -> DeliveryQuestions:
    return DeliveryQuestions(cast("DeliveryCheck", parents), DELIVERY, services.clock, patience=1)


@pytest.mark.parametrize("length", [1, 3, WORKFLOWS_READ + 100])
def test_parents_are_followed_within_a_bound(services: InMemoryServices, length: int) -> None:
    parents = Parents([f"wf-{number}" for number in range(length)])
    event = questions(services, parents).read_workflows(do.ReadWorkflows(("wf-0",)))

    assert parents.read == len(event.rows) == min(length, WORKFLOWS_READ)
    theirs = publication_of(replace(DELIVERY, workflow_id="wf-0"))
    state = REBASE.evolve(read=read(theirs), workflows={**FAMILY, **event.rows})
    judgement = judge(state)
    assert isinstance(judgement, Refuse)
    assert "was not found within 1000 workflows" in judgement.reason


def test_a_sub_workflow_that_starts_is_waited_for_for_30_seconds_before_a_retryable_failure(
    services: InMemoryServices,
) -> None:
    asked, began = questions(services, Parents(["wf-0"])), services.clock.now()
    for repetition in range(1, STARTING_REREADS + 1):
        asked.read_workflows(do.ReadWorkflows(("wf-0",), repetition))
    assert 25 < services.clock.now() - began <= 30
    assert not STILL_STARTING.terminal
