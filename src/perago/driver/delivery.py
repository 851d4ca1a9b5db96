"""Questions and reports about one delivery: whether it is still current, what came before it, its report."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.history import WORKFLOWS_READ
from perago.attempt.outcome import advance_report, begin_report
from perago.attempt.state import Step
from perago.driver.runtime import Ahead, KnownRoots, Limits, SentAhead
from perago.ports import (
    AccessDenied,
    Clock,
    Delivery,
    DeliveryCheck,
    NotFound,
    Report,
    ServiceError,
    TaskQueue,
    Unavailable,
    Unclear,
    WorkflowRow,
)
from perago.retry import PASSING, REPEATS, BackOff, Retries, retry, within

LATE = 2.0
"""Seconds after which the answer to a question is outdated. A process can be stopped at any point, for any time."""

_TIME_TO_REPORT = 30.0

_WHILE_STARTING = BackOff(0.5, 5.0)
"""Delays before a workflow is read again. All of `STARTING_REREADS` take 27.5 s."""


def time_to_fail(delivery: Delivery) -> float:
    """Return the seconds after which an attempt fails instead of waiting longer. A failure that is reported in time is
    retried, but `timeoutSeconds` can end the workflow. For a redelivery, a part of the time has already passed."""
    limit = delivery.timeout_seconds
    return limit - delivery.spent_seconds - min(_TIME_TO_REPORT, limit / 10) if limit > 0 else math.inf


class DeliveryQuestions:
    """Asks Conductor about one delivery. A question is repeated while no answer comes."""

    def __init__(
        self,
        delivery_check: DeliveryCheck,
        delivery: Delivery,
        clock: Clock,
        *,
        patience: float,
        until: float = math.inf,
        roots: KnownRoots | None = None,
        passing: tuple[type[ServiceError], ...] = PASSING,
        ahead: Ahead | None = None,
    ) -> None:
        """`patience`: the seconds for which a question is repeated after `passing` errors. `until`: the time, by
        `clock`, up to which workflows are waited for. `roots`: what this process knows of workflows."""
        self._delivery_check = delivery_check
        self._delivery = delivery
        self._clock = clock
        self._retries = within(patience, passing)
        self._until = until
        self._roots = roots or KnownRoots()
        self._line_asked = 0.0
        self._ahead = ahead or Ahead()
        self._begun: tuple[do.CheckDelivery, float, SentAhead[on.DeliveryConfirmed | on.DeliveryLost]] | None = None

    def begin(self, command: do.CheckDelivery) -> None:
        """Send the questions of the next delivery check ahead, unless they were sent a moment ago."""
        if self._begun is not None and self._begun[0] == command and not self._is_late(self._begun[1]):
            return
        now, once = self._clock.now(), partial(self._check, command, within(0.0, ()))
        self._begun = command, now, self._ahead.begin(once, partial(self._check, command, self._retries))

    def check_delivery(self, command: do.CheckDelivery) -> on.DeliveryConfirmed | on.DeliveryLost:
        """Return the answer of the delivery check, and whether it came late.

        With the line of a sub-workflow, the parents are read first and the delivery last, so that the answer is as
        fresh as without. The first row of a workflow without a parent has the delivery itself in it.

        Raises:
            ServiceError: there is no answer, which means neither yes nor no.
        """
        begun, self._begun = self._begun, None
        if begun is None or begun[0] != command:
            return self._check(command, self._retries)
        answer = begun[2]()
        if isinstance(answer, on.DeliveryConfirmed) and self._is_late(begun[1]):
            return replace(answer, late=True)
        return answer

    def _check(self, command: do.CheckDelivery, retries: Retries) -> on.DeliveryConfirmed | on.DeliveryLost:
        line: dict[str, WorkflowRow | None] = {}
        workflow_id, sent = self._delivery.workflow_id, 0.0
        if command.with_line and not self._roots.has(workflow_id):
            line = self._read_up((workflow_id,), command.repetition, retries)
            own = line[workflow_id]
            if own is not None and own.parent_id is None:
                self._roots.add(workflow_id)
                late = self._is_late(self._line_asked)
                return on.DeliveryConfirmed(late) if _is_current(own, self._delivery) else on.DeliveryLost()

        def is_current() -> bool:
            nonlocal sent
            sent = self._clock.now()
            return self._delivery_check.is_current(self._delivery)

        current = retry(is_current, retries, self._clock)
        return on.DeliveryConfirmed(self._is_late(sent), line) if current else on.DeliveryLost()

    def _is_late(self, sent: float) -> bool:
        return abs(self._clock.now() - sent) > LATE

    def read_workflows(self, command: do.ReadWorkflows) -> on.WorkflowsRead:
        """Read workflows, and the parents of each up to its root, but at most `WORKFLOWS_READ`. A repetition waits
        first.

        Raises:
            ServiceError: as `check_delivery`.
        """
        return on.WorkflowsRead(self._read_up(command.workflow_ids, command.repetition, self._retries))

    def _read_up(self, workflow_ids: Iterable[str], repetition: int, retries: Retries) -> dict[str, WorkflowRow | None]:
        rows: dict[str, WorkflowRow | None] = {}
        if repetition:
            delay = _WHILE_STARTING.pause(repetition - 1)
            self._clock.sleep(max(0.0, min(delay, self._until - self._clock.now())))

        def read(workflow_id: str) -> WorkflowRow | None:
            self._line_asked = self._clock.now()
            return self._delivery_check.read_workflow(self._delivery, workflow_id)

        for workflow_id in workflow_ids:
            above: str | None = workflow_id
            while above and above not in rows and len(rows) < WORKFLOWS_READ:
                row = rows[above] = retry(partial(read, above), retries, self._clock, until=self._until)
                above = row.parent_id if row is not None else None
        return rows


def _is_current(workflow: WorkflowRow, delivery: Delivery) -> bool:
    row = workflow.row(delivery.task_id)
    identity = (row.task_id, row.poll_count, row.start_time) if row is not None else None
    return row is not None and row.status == "IN_PROGRESS" and identity == delivery.identity


_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0
_TRIES_PER_TIMEOUT = 100
"""The largest part of the response timeout that a delay can be, unless `_LONGEST_DELAY` is longer."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The outcome: both None for a report that Conductor answered."""

    lost_reason: str | None = None
    """Whether Conductor no longer waited for the delivery, so that nothing was sent."""
    error: str | None = None
    """The reason why no report arrived. Conductor's response timeout handles that."""


FRESH = 1.0
"""Seconds for which an answer of Conductor that named the delivery replaces the delivery check before its report, if
there is no workspace."""


def deliver_report(
    queue: TaskQueue,
    clock: Clock,
    delivery: Delivery,
    report: Report,
    worker_id: str,
    limits: Limits | None = None,
    *,
    proven_at: float = -math.inf,
    alone: AbstractContextManager[object] | None = None,
) -> Delivered:
    """Make the delivery check, then send the report. Repeat both a limited number of times while there is no answer.

    The report is repeated as long as it can matter. After the response timeout Conductor's sweeper gives up on the
    delivery, but Conductor accepts a late report until then. So perago asks for the response timeout plus
    `Limits.answer_patience`, counted again from every answer. If Conductor still waits but does not accept the report,
    it is sent `REPORT_TRIES` times: for more than an hour, and longer than the response timeout. After that, the next
    attempt adopts the publication.

    `proven_at`, by `clock`, is the time of the last poll or heartbeat that Conductor answered with this delivery. If it
    is less than `FRESH` seconds ago, the first report needs no delivery check, because as much time can pass between a
    delivery check and its report.

    `alone` is entered for each report, and keeps other requests about the delivery away. The delivery check is repeated
    if entering takes longer than `FRESH`.
    """
    patience = delivery.response_timeout_seconds + (limits or Limits()).answer_patience
    longest = max(_LONGEST_DELAY, delivery.response_timeout_seconds / _TRIES_PER_TIMEOUT)
    # Every error means that there is no answer. If the task no longer exists, Conductor itself says "no".
    questions = DeliveryQuestions(queue, delivery, clock, patience=patience, passing=(ServiceError,))

    def send_report(command: do.SendReport) -> on.Event:
        asked = clock.now()
        try:
            with alone or nullcontext():
                if abs(clock.now() - asked) > FRESH:  # the delivery check is that old, too
                    return on.ReportUnclear("it had to wait", sent=False)
                queue.report(delivery, command.report, worker_id)
        except (Unavailable, Unclear, AccessDenied, NotFound) as error:
            REPEATS.note("Conductor")
            clock.sleep(BackOff(_FIRST_DELAY, longest).pause(state.sent - 1))
            return on.ReportUnclear(str(error), sent=isinstance(error, Unclear))
        return on.ReportSent()

    def carry_out(command: do.Command) -> on.Event:
        try:
            if isinstance(command, do.SendReport):
                return send_report(command)
            is_known = not state.sent and abs(clock.now() - proven_at) < FRESH
            return on.DeliveryConfirmed() if is_known else questions.check_delivery(do.CheckDelivery())
        except NotImplementedError:  # a model says what it cannot do
            raise
        except Exception as error:  # noqa: BLE001 - there is no answer, and the worker continues
            words = str(error) if isinstance(error, ServiceError) else f"{type(error).__name__}: {error}"
            return on.CommandFailed(words, terminal=False)

    state, command = begin_report(report)
    while command is not None:
        state, command = advance_report(state, carry_out(command))
    if state.step is Step.LOST:
        return Delivered(lost_reason=state.problem)
    return Delivered(error=None if state.step is Step.REPORTED else state.problem or "the report got no answer")
