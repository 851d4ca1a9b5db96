"""Who an attempt is, as Conductor knows it today: its own chain, and the attempts whose commits were found."""

from __future__ import annotations

from collections.abc import Sequence

from perago.attempt import events as on
from perago.driver.patience import ask, within
from perago.ports import AttemptRow, Clock, Delivery, DeliveryCheck

LONGEST_CHAIN = 1000
"""Attempts of one step that are followed back. A workflow can be retried by hand without end."""


def read_lineage(
    delivery_check: DeliveryCheck, delivery: Delivery, task_ids: Sequence[str], clock: Clock, patience: float
) -> on.LineageRead:
    """Follow `retriedTaskId` upwards from the delivery, and read the rows of `task_ids`.

    Raises:
        ServiceError: no answer within `patience` seconds a question. Silence is neither a yes nor a no.
    """
    rows: dict[str, AttemptRow | None] = {}

    def read(task_id: str) -> AttemptRow | None:
        if task_id not in rows:
            rows[task_id] = ask(lambda: delivery_check.read_attempt(delivery, task_id), clock, within(patience))
        return rows[task_id]

    chain = [delivery.task_id]
    above = delivery.retried_task_id
    while above and above not in chain and len(chain) < LONGEST_CHAIN:
        chain.append(above)
        row = read(above)
        above = row.retried_task_id if row is not None else None
    for task_id in task_ids:
        if task_id and task_id != delivery.task_id:
            read(task_id)
    return on.LineageRead(tuple(chain), rows)
