"""The delivery check between a slot and its supervisor, without processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, cast

import pytest

from perago.driver import SystemClock
from perago.ports import AccessDenied, Delivery, ServiceError, Unavailable
from perago.worker.attempts import Attempt, Services
from perago.worker.channel import DeliveryAnswer, DeliveryQuestion, SlotChannel, decode
from perago.worker.maintenance import HostCheck
from perago.worker.pools import Pools
from perago.worker.slot_process import PipeDeliveryCheck
from perago.worker.slots import Slot

from .bench import make_plan
from .small_queue import SmallQueue


class AnsweredSlot:
    """The slot of an attempt: keeps what it is answered."""

    worker_id = "test0001"

    def __init__(self) -> None:
        self.answers: list[DeliveryAnswer] = []
        self.cancelled: list[str] = []

    def answer(self, answer: DeliveryAnswer) -> None:
        self.answers.append(answer)

    def cancel(self, reason: str) -> None:
        self.cancelled.append(reason)


def with_attempt(
    queue: SmallQueue, story: Callable[[Attempt, DeliveryQuestion], Coroutine[Any, Any, None]]
) -> AnsweredSlot:
    """Play `story` with an attempt on a delivery of `queue`; returns its slot."""
    slot = AnsweredSlot()
    queue.put(what="returns")
    delivery = queue.poll("worker.behaves", "w", count=1, wait_seconds=0)[0]

    async def play() -> None:
        pools = Pools(1)
        plan = make_plan(Path("/nowhere"))
        host = HostCheck(plan, pools.host, lambda event: None, lambda: None)
        services = Services(plan, queue, SystemClock(), pools, host, lambda event: None, lambda delivery: None)
        attempt = Attempt(delivery, cast("Slot", slot), services, 0.0)
        try:
            await asyncio.wait_for(story(attempt, DeliveryQuestion(7, delivery.identity)), 10)
        finally:
            pools.close()

    asyncio.run(play())
    return slot


def test_yes_and_no_are_conductors_words() -> None:
    queue = SmallQueue()

    async def story(attempt: Attempt, question: DeliveryQuestion) -> None:
        await attempt.answer(question)
        queue.supersede(attempt.delivery.task_id)
        await attempt.answer(question)

    assert with_attempt(queue, story).answers == [DeliveryAnswer(7, current=True), DeliveryAnswer(7, current=False)]


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (AccessDenied("Conductor", "read", "403"), AccessDenied),
        (Unavailable("Conductor", "read", "down"), Unavailable),
        (RuntimeError("a defect"), Unavailable),
    ],
)
def test_an_error_is_no_answer_and_travels_as_an_error(raised: Exception, kind: type[ServiceError]) -> None:
    queue = SmallQueue()
    queue.fault = lambda operation: cast("ServiceError", raised) if operation == "is_current" else None
    answers = with_attempt(queue, lambda attempt, question: attempt.answer(question)).answers
    assert [type(answer.error) for answer in answers] == [kind]


def test_the_question_of_another_delivery_is_answered_no() -> None:
    async def story(attempt: Attempt, question: DeliveryQuestion) -> None:
        await attempt.answer(DeliveryQuestion(8, ("task-1", 2, 5)))

    assert with_attempt(SmallQueue(), story).answers == [DeliveryAnswer(8, current=False)]


def test_a_lost_attempt_is_answered_no_even_while_conductor_says_yes() -> None:
    async def story(attempt: Attempt, question: DeliveryQuestion) -> None:
        attempt.lose("it ran too long")
        await attempt.answer(question)

    slot = with_attempt(SmallQueue(), story)
    assert slot.answers == [DeliveryAnswer(7, current=False)]
    assert slot.cancelled == ["it ran too long"]


def test_an_answer_that_outlived_its_process_never_reaches_the_next_one() -> None:
    queue, asked, release = SmallQueue(), threading.Event(), threading.Event()

    def slow(operation: str) -> ServiceError | None:
        if operation == "is_current":
            asked.set()
            release.wait(10)
        return None

    queue.fault = slow

    async def story(attempt: Attempt, question: DeliveryQuestion) -> None:
        answering = asyncio.create_task(attempt.answer(question))
        await asyncio.to_thread(asked.wait, 10)
        attempt.process_died("killed")
        release.set()
        await answering

    assert with_attempt(queue, story).answers == []


# ---------------------------------------------------------------------- the slot's side

DELIVERY = Delivery("t", 1, 1, "n", "w", "r", 0, 0, None, {})


def test_a_slot_without_a_supervisor_holds_nothing_for_current() -> None:
    ours, theirs = Pipe()
    fence = PipeDeliveryCheck(SlotChannel(theirs))
    found: list[bool] = []
    asking = threading.Thread(target=lambda: found.append(fence.is_current(DELIVERY)))
    asking.start()
    assert decode(ours.recv_bytes()) == DeliveryQuestion(1, DELIVERY.identity)
    fence.close()
    asking.join(10)
    assert found == [False]
    assert not fence.is_current(DELIVERY)
    ours.close()
    theirs.close()


def test_no_answer_in_time_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perago.worker.slot_process.ANSWER_LIMIT", 0.05)
    ours, theirs = Pipe()
    with ours, theirs, pytest.raises(Unavailable, match="no answer within"):
        PipeDeliveryCheck(SlotChannel(theirs)).is_current(DELIVERY)
