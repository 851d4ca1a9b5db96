"""What Conductor is asked about a delivery: whether it still waits for it, and which attempts came before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from perago.attempt import commands as do
from perago.attempt import events as on
from perago.attempt.recovery import WORKFLOWS_READ
from perago.back_off import BackOff
from perago.driver.retry import PASSING, retry, within
from perago.ports import AttemptRow, Clock, Delivery, DeliveryCheck, ServiceError, WorkflowRow

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

    current = retry(is_current, clock, within(patience, passing))
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
            rows[task_id] = retry(lambda: delivery_check.read_attempt(delivery, task_id), clock, within(patience))
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
            row = rows[above] = retry(question, clock, within(patience), until=until)
            above = row.parent_id if row is not None else None
    return on.WorkflowsRead(rows)
