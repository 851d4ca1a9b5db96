"""The last part of an attempt, from `cleaned` to `reported`. In a worker it runs in the supervisor."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import perago
from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.protocol import advance, begin_report
from perago.attempt.state import Plan, State
from perago.attempt.steps import Step
from perago.back_off import BackOff
from perago.driver.delivery_check import check_delivery
from perago.driver.limits import Limits
from perago.driver.retry import PASSING
from perago.ports import Clock, Delivery, NotFound, Report, ServiceError, TaskQueue, Unclear
from perago.repeats import REPEATS

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
