"""Questions and reports about one delivery: whether it is still current, what came before it, its report."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.history import WORKFLOWS_READ
from perago.attempt.outcome import advance_report, begin_report
from perago.attempt.state import Step
from perago.driver.runtime import Limits
from perago.ports import (
    AccessDenied,
    AttemptRow,
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
from perago.retry import PASSING, REPEATS, BackOff, retry, within

LATE = 2.0
"""Seconds after which the answer to a question is old news. Processes can be stopped at any point, for any time."""

LONGEST_CHAIN = 1000
"""Attempts of one step that are followed back. A workflow can be retried by hand without end."""

_TIME_TO_REPORT = 30.0

_WHILE_STARTING = BackOff(0.5, 5.0)
"""Delays before a workflow is read again. All of `STARTING_REREADS` take 27.5 s."""


def time_to_fail(delivery: Delivery) -> float:
    """Seconds after which an attempt had better fail than wait on: an end by `timeoutSeconds` may cost the workflow, a
    failure that is reported in time is retried. A redelivery has spent a part of them elsewhere."""
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
        passing: tuple[type[ServiceError], ...] = PASSING,
    ) -> None:
        """`patience`: for how many seconds a question is repeated after `passing` errors. `until`: when workflows are
        no longer waited for, by `clock`."""
        self._delivery_check = delivery_check
        self._delivery = delivery
        self._clock = clock
        self._retries = within(patience, passing)
        self._until = until

    def check_delivery(self, _: do.CheckDelivery) -> on.DeliveryConfirmed | on.DeliveryLost:
        """Return the answer of the delivery check, and whether it came late.

        Raises:
            ServiceError: no answer. Silence is neither a yes nor a no.
        """
        sent = 0.0

        def is_current() -> bool:
            nonlocal sent
            sent = self._clock.now()
            return self._delivery_check.is_current(self._delivery)

        current = retry(is_current, self._retries, self._clock)
        return on.DeliveryConfirmed(late=abs(self._clock.now() - sent) > LATE) if current else on.DeliveryLost()

    def read_lineage(self, command: do.ReadLineage) -> on.LineageRead:
        """Follow `retriedTaskId` upwards from the delivery, unless its chain is known, and read some attempts.

        Raises:
            ServiceError: as `check_delivery`.
        """
        own = self._delivery
        rows: dict[str, AttemptRow | None] = {
            own.task_id: AttemptRow(own.task_id, own.start_time, own.retried_task_id),
        }

        def read(task_id: str) -> AttemptRow | None:
            if task_id not in rows:
                question = partial(self._delivery_check.read_attempt, own, task_id)
                rows[task_id] = retry(question, self._retries, self._clock)
            return rows[task_id]

        chain = list(command.chain) or [own.task_id]
        above = None if command.chain else own.retried_task_id
        while above and above not in chain and len(chain) < LONGEST_CHAIN:
            chain.append(above)
            row = read(above)
            above = row.retried_task_id if row is not None else None
        for task_id in command.task_ids:
            read(task_id)
        return on.LineageRead(tuple(chain), rows)

    def read_workflows(self, command: do.ReadWorkflows) -> on.WorkflowsRead:
        """Read workflows, and the parents of each up to its root, but at most `WORKFLOWS_READ`. A repetition waits
        first.

        Raises:
            ServiceError: as `check_delivery`.
        """
        rows: dict[str, WorkflowRow | None] = {}
        if command.repetition:
            delay = _WHILE_STARTING.pause(command.repetition - 1)
            self._clock.sleep(max(0.0, min(delay, self._until - self._clock.now())))
        for workflow_id in command.workflow_ids:
            above: str | None = workflow_id
            while above and above not in rows and len(rows) < WORKFLOWS_READ:
                question = partial(self._delivery_check.read_workflow, self._delivery, above)
                row = rows[above] = retry(question, self._retries, self._clock, until=self._until)
                above = row.parent_id if row is not None else None
        return on.WorkflowsRead(rows)


_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0
_TRIES_PER_TIMEOUT = 100
"""A delay is at most this part of the response timeout, or `_LONGEST_DELAY` if that is longer."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The outcome: both None for a report that Conductor answered."""

    lost_reason: str | None = None
    """Conductor no longer waited for the delivery, so nothing was sent."""
    error: str | None = None
    """No report got through; Conductor's response timeout will notice."""


FRESH = 1.0
"""Seconds for which an answer of Conductor that named the delivery counts as the delivery check before its report, if
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
    """The delivery check, then the report; both again, a bounded number of times, while answers do not arrive.

    A result survives as long as it may matter. A Conductor that is silent gives the delivery up after its response
    timeout, but notices that only when its sweeper comes round, and takes a late result until then: so it is asked
    for that long and `Limits.answer_patience` more, counted again from every answer. One that still waits for the
    delivery and does not take the report (heartbeats keep the delivery alive then) gets it `REPORT_TRIES` times, which
    is more than an hour and more than the response timeout. After that the publication is there for the next attempt to
    adopt.

    `proven_at`, by `clock`, is when Conductor was last asked for what it then answered with this very delivery: a poll,
    or a heartbeat. If that was less than `FRESH` seconds ago, it is not asked again before the first report. Between a
    delivery check and its report the same time can pass.

    `alone` is entered for each report: what must not be said to Conductor at the same time keeps out of it. The
    delivery check is repeated if that takes longer than `FRESH`.
    """
    patience = delivery.response_timeout_seconds + (limits or Limits()).answer_patience
    longest = max(_LONGEST_DELAY, delivery.response_timeout_seconds / _TRIES_PER_TIMEOUT)
    # Any error is no answer: Conductor's own word that a task no longer exists is a "no".
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
