"""What Conductor is asked and told about one delivery: whether it is still current, what came before it, its report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import perago
from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.history import WORKFLOWS_READ
from perago.attempt.protocol import advance, begin_report
from perago.attempt.state import Plan, State, Step
from perago.driver.environment import Limits
from perago.ports import (
    AttemptRow,
    Clock,
    Delivery,
    DeliveryCheck,
    NotFound,
    Report,
    ServiceError,
    TaskQueue,
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


def check_delivery(
    delivery_check: DeliveryCheck,
    delivery: Delivery,
    clock: Clock,
    patience: float,
    *,
    passing: tuple[type[ServiceError], ...] = PASSING,
) -> on.DeliveryConfirmed | on.DeliveryLost:
    """The answer of the delivery check, and whether it came late.

    Raises:
        ServiceError: as `retry`.
    """
    sent = 0.0

    def is_current() -> bool:
        nonlocal sent
        sent = clock.now()
        return delivery_check.is_current(delivery)

    current = retry(is_current, within(patience, passing), clock)
    return on.DeliveryConfirmed(late=abs(clock.now() - sent) > LATE) if current else on.DeliveryLost()


def read_lineage(
    delivery_check: DeliveryCheck,
    delivery: Delivery,
    task_ids: Sequence[str],
    known: tuple[str, ...],
    clock: Clock,
    patience: float,
) -> on.LineageRead:
    """Follow `retriedTaskId` upwards from the delivery, unless its chain is `known`, and read the rows of `task_ids`.

    Raises:
        ServiceError: no answer within `patience` seconds a question. Silence is neither a yes nor a no.
    """
    own = AttemptRow(delivery.task_id, delivery.start_time, delivery.retried_task_id)
    rows: dict[str, AttemptRow | None] = {delivery.task_id: own}

    def read(task_id: str) -> AttemptRow | None:
        if task_id not in rows:
            rows[task_id] = retry(lambda: delivery_check.read_attempt(delivery, task_id), within(patience), clock)
        return rows[task_id]

    chain = list(known) or [delivery.task_id]
    above = None if known else delivery.retried_task_id
    while above and above not in chain and len(chain) < LONGEST_CHAIN:
        chain.append(above)
        row = read(above)
        above = row.retried_task_id if row is not None else None
    for task_id in task_ids:
        read(task_id)
    return on.LineageRead(tuple(chain), rows)


def read_workflows(
    delivery_check: DeliveryCheck,
    delivery: Delivery,
    command: do.ReadWorkflows,
    clock: Clock,
    patience: float,
    until: float,
) -> on.WorkflowsRead:
    """Read workflows, and the parents of each up to its root, but at most `WORKFLOWS_READ`. A repetition waits
    first. Nothing waits beyond `until`.

    Raises:
        ServiceError: as `read_lineage`.
    """
    rows: dict[str, WorkflowRow | None] = {}
    if command.repetition:
        clock.sleep(max(0.0, min(_WHILE_STARTING.pause(command.repetition - 1), until - clock.now())))
    for workflow_id in command.workflow_ids:
        above: str | None = workflow_id
        while above and above not in rows and len(rows) < WORKFLOWS_READ:
            question = partial(delivery_check.read_workflow, delivery, above)
            row = rows[above] = retry(question, within(patience), clock, until=until)
            above = row.parent_id if row is not None else None
    return on.WorkflowsRead(rows)


_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_TRIES_PER_TIMEOUT = 100
"""A pause is at most this part of the response time-out, or `_LONGEST_PAUSE` if that is longer."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """How it went: both None for a report that Conductor answered."""

    lost_reason: str | None = None
    """Conductor no longer waited for the delivery, so nothing was sent."""
    error: str | None = None
    """No report got through; Conductor's response time-out will notice."""


FRESH = 1.0
"""Seconds for which an answer of Conductor that named the delivery counts as the delivery check before its report, if
there is no workspace (docs/design/contract.md 7)."""


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
    time-out, but notices that only when its sweeper comes round, and takes a late result until then: so it is asked
    for that long and `Limits.answer_patience` more, anew after every answer. One that still waits for the delivery and
    does not take the report (heartbeats keep the delivery alive then) gets it `REPORT_TRIES` times, which is more than
    an hour and more than the response time-out. After that the publication is there for the next attempt to adopt.

    `proven_at`, by `clock`, is when Conductor was last asked for what it then answered with this very delivery: a poll,
    or a heartbeat. If that was less than `FRESH` seconds ago, it is not asked again before the first report. Between a
    delivery check and its report the same time can pass.

    `alone` is entered for each report: what must not be said to Conductor at the same time keeps out of it. The
    delivery check is repeated if that takes longer than `FRESH`.
    """
    patience = delivery.response_timeout_seconds + (limits or Limits()).answer_patience
    state, command = begin_report(Plan(delivery, perago.__version__, ""), report)
    while command is not None:
        is_known = isinstance(command, do.CheckDelivery) and not state.reports_sent
        if is_known and abs(clock.now() - proven_at) < FRESH:
            event: on.Event = on.DeliveryConfirmed()
        else:
            event = _carry_out(command, state, queue, clock, worker_id, patience, alone or nullcontext())
        state, command = advance(state, event)
    if state.step is Step.LOST:
        return Delivered(lost_reason=state.problem)
    return Delivered(error=None if state.step is Step.REPORTED else state.problem or "the report got no answer")


def _carry_out(
    command: do.Command,
    state: State,
    queue: TaskQueue,
    clock: Clock,
    worker_id: str,
    patience: float,
    alone: AbstractContextManager[object],
) -> on.Event:
    delivery = state.plan.delivery
    try:
        if isinstance(command, do.CheckDelivery):
            # Any error is no answer: Conductor's own word that a task is gone is a "no".
            return check_delivery(queue, delivery, clock, patience, passing=(ServiceError,))
        if isinstance(command, do.SendReport):
            asked = clock.now()
            with alone:
                if abs(clock.now() - asked) > FRESH:  # the delivery check is that old, too
                    return on.ReportUnclear("it had to wait", sent=False)
                queue.report(delivery, command.report, worker_id)
            return on.ReportSent()
    except NotImplementedError:  # a model says what it cannot do
        raise
    except Exception as error:  # noqa: BLE001 - there is no answer, and the worker continues
        if isinstance(command, do.SendReport) and isinstance(error, (*PASSING, NotFound)):
            REPEATS.note("Conductor")
            clock.sleep(_pause(state.reports_sent, delivery))
            return on.ReportUnclear(str(error), sent=isinstance(error, Unclear))
        words = str(error) if isinstance(error, ServiceError) else f"{type(error).__name__}: {error}"
        return on.CommandFailed(words, terminal=False)
    raise ValueError(f"{type(command).__name__} is no part of reporting")


def _pause(reports_sent: int, delivery: Delivery) -> float:
    """Seconds to wait after so many reports without an answer."""
    longest = max(_LONGEST_PAUSE, delivery.response_timeout_seconds / _TRIES_PER_TIMEOUT)
    return BackOff(_FIRST_PAUSE, longest).pause(reports_sent - 1)
