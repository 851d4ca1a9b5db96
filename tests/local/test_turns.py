"""Events of several workers are told one attempt after the other."""

from __future__ import annotations

from typing import Any

import pytest

from perago.local import InTurn
from perago.ports import Delivery, TaskStatus
from perago.worker.events import AttemptEnded, AttemptReceived, Draining, Ending, Event, SlotReady, StepStarted
from tests.deliveries import make_delivery


def delivery(worker: int) -> Delivery:
    return make_delivery(task_id=f"task{worker}")


def received(worker: int) -> Event:
    return AttemptReceived(delivery(worker), f"w{worker}")


def reported(worker: int) -> Event:
    return AttemptEnded(delivery(worker), f"w{worker}", Ending.REPORTED, 0.1, None, TaskStatus.COMPLETED)


def step(worker: int) -> Event:
    return StepStarted(f"w{worker}", "Fetch")


def lost(worker: int) -> Event:
    return AttemptEnded(delivery(worker), f"w{worker}", Ending.LOST, 0.1, "gone")


@pytest.mark.parametrize("end", [reported, lost])
def test_the_next_attempt_waits_until_the_previous_one_is_reported(end: Any) -> None:
    told: list[Event] = []
    turns = InTurn(told.append)
    for worker, event in (
        (1, received(1)),
        (2, received(2)),
        (2, step(2)),
        (1, step(1)),
        (1, end(1)),
        (2, reported(2)),
    ):
        turns.hear(worker, event)
    assert told == [received(1), step(1), end(1), received(2), step(2), reported(2)]


def test_three_workers_keep_the_order_in_which_their_attempts_began() -> None:
    told: list[Event] = []
    turns = InTurn(told.append)
    for worker, event in ((1, received(1)), (2, received(2)), (3, received(3)), (3, reported(3)), (1, reported(1))):
        turns.hear(worker, event)
    assert told == [received(1), reported(1), received(2)]
    turns.hear(2, reported(2))
    assert told[3:] == [reported(2), received(3), reported(3)]


def test_attempts_of_one_worker_that_run_at_the_same_time_are_reported_in_turn() -> None:
    told: list[Event] = []
    turns = InTurn(told.append)
    draining = Draining(1)
    for event in (received(1), received(2), step(2), step(1), draining, reported(1), reported(2)):
        turns.hear(1, event)
    assert told == [received(1), step(1), draining, reported(1), received(2), step(2), reported(2)]


def test_nothing_is_kept_back_for_ever() -> None:
    told: list[Event] = []
    turns = InTurn(told.append)
    ready = SlotReady("w2", 1, "a")
    turns.hear(1, received(1))
    turns.hear(2, ready)
    turns.finish()
    assert told == [received(1), ready]
