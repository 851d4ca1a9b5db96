"""A result survives as long as it may matter: how long a report is tried, and what happens afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.history import STARTING_REREADS, WORKFLOWS_READ, Refuse, judge
from perago.attempt.outcome import REPORT_TRIES
from perago.attempt.refusals import STILL_STARTING
from perago.driver import AttemptRecord, Delivered, deliver_report
from perago.driver.delivery import DeliveryQuestions
from perago.embedded.faults import Moment
from perago.ports import (
    AccessDenied,
    Delivery,
    DeliveryCheck,
    NotFound,
    Refused,
    ServiceError,
    TaskQueue,
    Unavailable,
    Unclear,
    WorkflowRow,
)
from perago.testing.services import InMemoryServices
from tests.attempt.builders import DELIVERY, publication_of, workflow_row
from tests.attempt.judging import REBASE, own

from .tasks import EDIT, TWO_FILES, Params, publications_since

MINUTE, HOUR = 60.0, 3600.0


@dataclass
class Troubled:
    """A Conductor that fails some operations for some time after the attempt was over."""

    services: InMemoryServices
    seconds: float = float("inf")
    operations: tuple[str, ...] = ("is_current", "report")
    error: type[ServiceError] = Unavailable
    began: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.services.conductor, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            if name in self.operations and self.elapsed < self.seconds:
                raise self.error("Conductor", name, "down")
            return method(*arguments, **options)

        return call

    @property
    def elapsed(self) -> float:
        return self.services.clock.now() - self.began


@dataclass
class Case:
    """One attempt of a task that is over, with its report still to be sent."""

    services: InMemoryServices
    ref: str
    conductor: Troubled
    record: AttemptRecord

    def deliver(self, **more: Any) -> Delivered:
        assert self.record.report is not None
        services, queue = self.services, cast("TaskQueue", self.conductor)
        delivery, report = self.record.delivery, self.record.report
        return deliver_report(queue, services.clock, delivery, report, "w0001", services.limits, **more)

    @property
    def task_id(self) -> str:
        return self.record.delivery.task_id

    @property
    def status(self) -> str:
        return str(self.services.conductor.get_task(self.task_id)["status"])


def finished(services: InMemoryServices, response_timeout: float = 600, **trouble: Any) -> Case:
    """An attempt that has published, when Conductor goes down."""
    ref = services.seed(TWO_FILES)
    controls = {"responseTimeoutSeconds": int(response_timeout), "retryDelaySeconds": 1}
    services.start(EDIT, Params(do="edit"), ref=ref, controls=controls)
    delivery = services.take(EDIT)
    record = services.run_delivery(EDIT, delivery)
    return Case(services, ref, Troubled(services, began=services.clock.now(), **trouble), record)


BACK_IN_TIME = {
    "a minute": (600, MINUTE),
    "just before the response time-out": (600, 10 * MINUTE - 30),
    "ten minutes, and the sweeper has not come round": (600, 10 * MINUTE),
    "three of four hours": (4 * HOUR, 3 * HOUR),
    "a day of a week": (7 * 24 * HOUR, 24 * HOUR),
    "longer than a short response time-out": (5, 2 * MINUTE - 10),
}


@pytest.mark.parametrize(("response_timeout", "down"), BACK_IN_TIME.values(), ids=BACK_IN_TIME.keys())
def test_a_result_survives_a_conductor_that_is_down(
    services: InMemoryServices, response_timeout: float, down: float
) -> None:
    case = finished(services, response_timeout, seconds=down)
    assert case.deliver() == Delivered()
    assert case.status == "COMPLETED"
    assert case.conductor.elapsed < down + 15, "it is noticed soon"


GONE = {"ten minutes and the sweeper is first": 10 * MINUTE, "six hours": 6 * HOUR}


@pytest.mark.parametrize("down", GONE.values(), ids=GONE.keys())
def test_a_result_that_comes_too_late_is_adopted_by_the_retry(services: InMemoryServices, down: float) -> None:
    case = finished(services, seconds=down)
    if down == 10 * MINUTE:
        services.clock.advance(down)
        services.conductor.sweep()
        assert case.status == "TIMED_OUT"
        assert case.deliver().lost_reason is not None
    else:
        delivered = case.deliver()
        assert "down" in str(delivered.error)
        assert 10 * MINUTE <= case.conductor.elapsed <= 13 * MINUTE, "it ends, and not before the response time-out"
        services.clock.advance(down)
        services.conductor.sweep()
    services.clock.advance(2)
    retry = services.attempt(EDIT.function)

    assert retry.task["status"] == "COMPLETED"
    assert retry.adopted_commit is not None
    assert "RunFunction" not in [step.name for step in retry._record.steps]
    merges = services.lakefs.history("workspace", "main", until=case.ref, limit=10)
    assert [commit.metadata["perago.phase"] for commit in merges] == ["fence", "merge"]
    assert publications_since(services, case.ref) == 2


def test_every_answer_makes_the_patience_new(services: InMemoryServices) -> None:
    """While heartbeats get through, the delivery stays current: a report that is not taken is tried on and on."""
    case = finished(services, seconds=50 * MINUTE, operations=("report",))
    assert case.deliver() == Delivered()
    assert case.status == "COMPLETED"


ENDLESS = {"ten minutes": (10 * MINUTE, HOUR), "a day": (24 * HOUR, 24 * HOUR)}


@pytest.mark.parametrize(("response_timeout", "at_least"), ENDLESS.values(), ids=ENDLESS.keys())
def test_a_report_that_is_never_taken_ends_some_time_after_the_response_timeout(
    services: InMemoryServices, response_timeout: float, at_least: float
) -> None:
    case = finished(services, response_timeout, operations=("report",))
    assert "down" in str(case.deliver().error)
    assert case.conductor.calls["report"] == REPORT_TRIES
    assert at_least <= case.conductor.elapsed <= 2 * at_least


@pytest.mark.parametrize("error", [NotFound, AccessDenied, Unavailable, Unclear], ids=lambda error: error.__name__)
def test_an_answer_that_is_not_from_conductor_is_not_an_answer(
    services: InMemoryServices, error: type[ServiceError]
) -> None:
    """Such as the 404 of a proxy whose backend is gone, or the 401 of one whose password database is."""
    case = finished(services, seconds=5 * MINUTE, error=error)
    assert case.deliver() == Delivered()
    assert case.status == "COMPLETED"


def test_a_report_that_is_refused_is_not_tried_again(services: InMemoryServices) -> None:
    case = finished(services, operations=("report",), error=Refused)
    assert "down" in str(case.deliver().error)
    assert case.conductor.calls["report"] == 1


def test_a_conductor_that_is_always_slow_gets_its_report(services: InMemoryServices) -> None:
    case = finished(services, seconds=0)
    for nth in (1, 2, 3):
        services.faults.between(
            "is_current",
            lambda: services.clock.advance(30),
            nth=services.faults.calls("is_current") + nth,
            moment=Moment.AFTER,
        )
    assert case.deliver() == Delivered()
    assert (case.conductor.calls["is_current"], case.conductor.calls["report"]) == (3, 1)


@pytest.mark.parametrize(("age", "questions"), [(0.9, 0), (1.0, 1), (-600.0, 1)])
def test_facts_that_conductor_has_just_reported_are_not_requested_again(
    services: InMemoryServices, age: float, questions: int
) -> None:
    case = finished(services, operations=())
    assert case.deliver(proven_at=services.clock.now() - age) == Delivered()
    assert case.conductor.calls["is_current"] == questions
    assert case.status == "COMPLETED"


def test_a_report_that_had_to_wait_for_a_beat_asks_again(services: InMemoryServices) -> None:
    """The workflow was run again meanwhile: the result would complete the new delivery."""
    case, conductor = finished(services, operations=()), services.conductor
    workflow = case.record.delivery.workflow_id

    @contextmanager
    def beat_under_way() -> Iterator[None]:
        conductor.terminate_workflow(workflow)
        services.clock.advance(60)
        conductor.rerun_workflow(workflow, case.task_id)
        yield

    assert case.deliver(alone=beat_under_way()).lost_reason is not None
    assert case.conductor.calls["report"] == 0


# ----------------------------------------------------------------------------------------------------
# The questions about workflows end, however many parents there are, and however long a sub-workflow starts.


class Parents:
    """A Conductor whose workflows have the next one of `line` as their parent, and the last one has the first."""

    def __init__(self, line: Sequence[str]) -> None:
        self._line = line
        self.read = 0

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow:
        self.read += 1
        above = self._line[(self._line.index(workflow_id) + 1) % len(self._line)]
        return workflow_row(workflow_id, above)


def questions(services: InMemoryServices, parents: Parents) -> DeliveryQuestions:
    return DeliveryQuestions(cast("DeliveryCheck", parents), DELIVERY, services.clock, patience=1)


@pytest.mark.parametrize("length", [1, 3, WORKFLOWS_READ + 100])
def test_parents_are_followed_within_a_bound(services: InMemoryServices, length: int) -> None:
    parents = Parents([f"wf-{number}" for number in range(length)])
    event = questions(services, parents).read_workflows(do.ReadWorkflows(("wf-0",)))

    assert parents.read == len(event.rows) == min(length, WORKFLOWS_READ)
    theirs = publication_of(replace(DELIVERY, workflow_id="wf-0"))
    read = on.BranchRead((theirs,), reaches_ref=True)
    judgement = judge(REBASE.evolve(read=read, workflows={**own(), **event.rows}))
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
