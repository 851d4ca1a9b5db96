"""What the supervisor does around one attempt: answers, heartbeats, hand-backs. The slot is a list of messages."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, cast

import pytest

from perago.driver import SystemClock
from perago.ports import AccessDenied, Delivery, NotFound, ServiceError, Unavailable, Unclear
from perago.worker import attempts, channel
from perago.worker.attempts import Attempt, Services, beat_interval, hand_back
from perago.worker.events import AttemptEnded, Ending, Event, LeaseDoubtful
from perago.worker.host import HostCheck, Pools
from perago.worker.plan import TaskPlan
from perago.worker.slot_process import AttemptCancelled, PipeDeliveryCheck
from perago.worker.slots import Assignment, ProcessEnded, Slot
from tests.deliveries import make_delivery

from .bench import make_plan, wait_for
from .small_queue import SmallQueue


class ListSlot:
    """The slot of an attempt: keeps what it is sent."""

    worker_id = "test0001"
    located = "test0001@node-7:4711"
    task = TaskPlan(module="m", name="worker.behaves")

    def __init__(self) -> None:
        self.sent: list[channel.ToSlot] = []
        self.canceled: list[str] = []

    def send(self, message: channel.ToSlot) -> bool:
        self.sent.append(message)
        return True

    def cancel(self, reason: str) -> None:
        self.canceled.append(reason)


@dataclass
class Scene:
    """An attempt whose slot works."""

    attempt: Attempt
    assignment: Assignment
    slot: ListSlot
    queue: SmallQueue
    events: list[Event]

    def ask(self, number: int = 7) -> None:
        """Put a delivery question, as the slot does."""
        question = channel.DeliveryQuestion(number, self.assignment.delivery.identity)
        assert self.assignment.accepts(question)
        self.assignment.messages.put_nowait(question)

    async def answers(self, number: int) -> list[channel.DeliveryAnswer]:
        """So many answers, as soon as the slot has them."""
        while (
            len(answers := [message for message in self.slot.sent if isinstance(message, channel.DeliveryAnswer)])
            < number
        ):
            await asyncio.sleep(0.001)
        return answers

    def ended(self) -> AttemptEnded:
        (event,) = (event for event in self.events if isinstance(event, AttemptEnded))
        return event


Scenario = Callable[[Scene], Coroutine[Any, Any, None]]


def with_attempt(
    queue: SmallQueue, scenario: Scenario, *, lease_check_interval: float = 60.0, **delivery: Any
) -> Scene:
    """Run `scenario` while an attempt of `queue` runs, then wait for the end of the attempt."""
    queue.put(what="returns")
    delivered = replace(queue.poll("worker.behaves", "w", count=1, wait_seconds=0)[0], **delivery)

    async def run() -> Scene:
        pools, slot, events = Pools(1), ListSlot(), list[Event]()
        plan, running = (
            make_plan(Path("/nowhere"), lease_check_interval=lease_check_interval),
            set[asyncio.Task[None]](),
        )
        host = HostCheck(plan, pools.host, events.append, lambda: None)
        spawn = lambda work: running.add(asyncio.create_task(work))  # noqa: E731
        services = Services(plan, queue, SystemClock(), pools, host, events.append, spawn)
        assignment = Assignment(delivered, slot.task, slot.worker_id, slot.located)
        scene = Scene(Attempt(cast("Slot", slot), assignment, services, 0.0), assignment, slot, queue, events)
        life = asyncio.create_task(scene.attempt.run())
        try:
            await asyncio.wait_for(scenario(scene), 10)
            if not assignment.is_over:
                assignment.end(channel.Finished(delivered.identity, None))
            await asyncio.wait_for(life, 10)
        finally:
            pools.close()
        return scene

    return asyncio.run(run())


# ------------------------------------------------------------------------------ delivery questions


def test_yes_and_no_are_conductors_words() -> None:
    async def scenario(scene: Scene) -> None:
        scene.ask()
        assert await scene.answers(1) == [channel.DeliveryAnswer(7, current=True)]
        scene.queue.supersede(scene.assignment.delivery.task_id)
        scene.ask(8)
        assert (await scene.answers(2))[1] == channel.DeliveryAnswer(8, current=False)

    with_attempt(SmallQueue(), scenario)


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (AccessDenied("Conductor", "read", "403"), AccessDenied),
        (Unavailable("Conductor", "read", "down"), Unavailable),
        (RuntimeError("a defect"), Unavailable),
    ],
)
def test_an_error_is_not_an_answer_and_is_passed_on_as_an_error(raised: Exception, kind: type[ServiceError]) -> None:
    queue = SmallQueue()
    queue.fault = lambda operation: cast("ServiceError", raised) if operation == "is_current" else None

    async def scenario(scene: Scene) -> None:
        scene.ask()
        assert [type(answer.error) for answer in await scene.answers(1)] == [kind]

    with_attempt(queue, scenario)


def test_a_lost_attempt_is_answered_no_even_while_conductor_says_yes() -> None:
    async def scenario(scene: Scene) -> None:
        scene.attempt.lose("it ran too long")
        scene.ask()
        assert await scene.answers(1) == [channel.DeliveryAnswer(7, current=False)]

    scene = with_attempt(SmallQueue(), scenario)
    assert scene.slot.canceled == ["it ran too long"]
    assert (scene.ended().ending, scene.ended().reason) == (Ending.LOST, "it ran too long")


def test_nothing_of_an_ended_attempt_reaches_the_next_one_of_its_slot() -> None:
    queue, asked, release = SmallQueue(), threading.Event(), threading.Event()

    def slow(operation: str) -> ServiceError | None:
        if operation == "is_current":
            asked.set()
            release.wait(10)
        return None

    queue.fault = slow

    async def scenario(scene: Scene) -> None:
        scene.ask()
        await asyncio.to_thread(asked.wait, 10)
        scene.assignment.end(ProcessEnded("killed", had_delivery=True))
        sent = list(scene.slot.sent)
        scene.attempt.lose("too late")
        release.set()
        await asyncio.sleep(0.05)  # the time in which an answer would come
        assert scene.slot.sent == sent
        assert not scene.slot.canceled

    scene = with_attempt(queue, scenario)
    assert scene.queue.reports["task-1"][0].reason == "killed while it ran the attempt"


def test_questions_that_are_too_many_or_about_others_are_not_accepted() -> None:
    async def scenario(scene: Scene) -> None:
        assert not scene.assignment.accepts(channel.DeliveryQuestion(1, ("task-1", 2, 5)))
        question = channel.DeliveryQuestion(1, scene.assignment.delivery.identity)
        assert [scene.assignment.accepts(question) for _ in range(101)] == [True] * 100 + [False]
        assert not scene.assignment.accepts(channel.Publishing(question.identity, "r", "b", "h", "x" * 2001))

    with_attempt(SmallQueue(), scenario)


DELIVERY = make_delivery(task_id="t", start_time=1, task_name="n", workflow_id="w", reference_name="r")


def test_a_slot_without_a_supervisor_holds_nothing_for_current() -> None:
    ours, theirs = Pipe()
    fence = PipeDeliveryCheck(channel.SlotChannel(theirs))
    answers: list[bool] = []
    asking = threading.Thread(target=lambda: answers.append(fence.is_current(DELIVERY)))
    asking.start()
    assert channel.decode(ours.recv_bytes()) == channel.DeliveryQuestion(1, DELIVERY.identity)
    fence.close()
    asking.join(10)
    assert answers == [False]
    assert not fence.is_current(DELIVERY)
    with pytest.raises(AttemptCancelled):  # a failure would be repeated
        fence.read_workflow(DELIVERY, DELIVERY.workflow_id)
    ours.close()
    theirs.close()


def test_questions_of_an_attempt_that_has_ended_are_not_sent() -> None:
    ours, theirs = Pipe()
    questions = PipeDeliveryCheck(channel.SlotChannel(theirs))
    with ours, theirs, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(questions.is_current, DELIVERY)
        assert channel.decode(ours.recv_bytes()) == channel.DeliveryQuestion(1, DELIVERY.identity)
        questions.end(DELIVERY)
        assert not asked.result(10)
        assert not questions.is_current(DELIVERY)
        later = replace(DELIVERY, poll_count=2)
        asked = threads.submit(questions.is_current, later)
        assert channel.decode(ours.recv_bytes()) == channel.DeliveryQuestion(3, later.identity)
        questions.answered(channel.DeliveryAnswer(3, current=True))
        assert asked.result(10)


def test_no_answer_in_time_is_not_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perago.worker.slot_process.ANSWER_LIMIT", 0.05)
    ours, theirs = Pipe()
    with ours, theirs, pytest.raises(Unavailable, match="no answer within"):
        PipeDeliveryCheck(channel.SlotChannel(theirs)).is_current(DELIVERY)


# ------------------------------------------------------------------------------ heartbeats


@pytest.mark.parametrize(("response_timeout", "interval"), [(600, 60), (90, 30), (180, 60), (3, 1), (0.03, 0.1)])
def test_heartbeats_come_every_third_of_the_response_timeout(response_timeout: float, interval: float) -> None:
    assert beat_interval(response_timeout) == pytest.approx(interval)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_a_heartbeat_extends_only_a_current_delivery() -> None:
    async def scenario(scene: Scene) -> None:
        await until(lambda: scene.queue.beats)
        scene.queue.supersede("task-1")
        await until(lambda: scene.slot.canceled)
        beats = len(scene.queue.beats)
        await asyncio.sleep(0.3)  # the time of two more
        assert len(scene.queue.beats) == beats

    scene = with_attempt(SmallQueue(), scenario, response_timeout_seconds=0.3)
    assert scene.slot.canceled == ["Conductor is no longer waiting for this delivery"]


def test_a_cancellation_is_noticed_between_two_heartbeats() -> None:
    async def scenario(scene: Scene) -> None:
        began, checks = time.monotonic(), list[str]()
        scene.queue.fault = checks.append
        await until(lambda: len(checks) >= 2)
        scene.queue.supersede("task-1")
        await until(lambda: scene.slot.canceled)
        assert set(checks) == {"is_current"}
        assert time.monotonic() - began < 9

    scene = with_attempt(SmallQueue(), scenario, lease_check_interval=0.02, response_timeout_seconds=30)
    assert scene.queue.beats == []


def test_checks_between_heartbeats_leave_their_interval_as_it_is() -> None:
    async def scenario(scene: Scene) -> None:
        began = time.monotonic()
        await until(lambda: len(scene.queue.beats) == 2)
        assert time.monotonic() - began > 0.9

    with_attempt(SmallQueue(), scenario, lease_check_interval=0.05, response_timeout_seconds=1.5)


def test_an_attempt_that_is_given_up_during_a_heartbeat_extends_nothing() -> None:
    queue = SmallQueue()

    async def scenario(scene: Scene) -> None:
        loop = asyncio.get_running_loop()

        def lose_it(operation: str) -> None:
            if operation == "is_current":
                loop.call_soon_threadsafe(scene.attempt.lose, "it ran too long")
                wait_for("the loss", lambda: scene.slot.canceled)

        queue.fault = lose_it
        await asyncio.sleep(0.3)
        assert not queue.beats

    with_attempt(queue, scenario, response_timeout_seconds=0.3)


@pytest.mark.parametrize("kind", [Unavailable, NotFound])
def test_no_answer_is_not_a_loss_and_doubt_is_reported_once_per_silence(kind: type[ServiceError]) -> None:
    """That a task is gone is a plain "no" of `is_current`; only Conductor's own word leads to it."""
    queue, silent = SmallQueue(), [False]
    queue.fault = lambda operation: kind("Conductor", "read", "down") if silent[0] else None

    async def scenario(scene: Scene) -> None:
        def doubts() -> int:
            return sum(isinstance(event, LeaseDoubtful) for event in scene.events)

        silent[0] = True
        await until(doubts)
        await asyncio.sleep(0.3)
        assert doubts() == 1
        silent[0] = False
        await until(lambda: scene.queue.beats)
        silent[0] = True
        await until(lambda: doubts() == 2)
        assert not scene.slot.canceled
        silent[0] = False

    with_attempt(queue, scenario, response_timeout_seconds=0.3)


def test_a_heartbeat_that_hangs_raises_doubt_after_the_response_timeout() -> None:
    queue, answered = SmallQueue(), threading.Event()

    def hang(operation: str) -> None:
        if operation == "is_current":
            answered.wait(60)

    queue.fault = hang

    async def scenario(scene: Scene) -> None:
        def doubts() -> list[LeaseDoubtful]:
            return [event for event in scene.events if isinstance(event, LeaseDoubtful)]

        try:
            await until(doubts)
            assert not scene.queue.beats
            assert [event.reason for event in doubts()] == ["a heartbeat has had no answer for 0 s"]
        finally:
            answered.set()
        await until(lambda: scene.queue.beats)
        assert len(doubts()) == 1

    with_attempt(queue, scenario, response_timeout_seconds=0.3)


# ------------------------------------------------------------------------------ the time limit


@pytest.mark.parametrize("ahead", [-3600, 0, 3600])
def test_deliveries_share_the_time_limit_for_any_local_clock(ahead: int) -> None:
    """What earlier deliveries have spent counts, as Conductor has measured it."""

    async def scenario(scene: Scene) -> None:
        await until(lambda: scene.slot.canceled)

    began = int((time.time() + ahead) * 1000)
    limits = {"timeout_seconds": 60.0, "start_time": began, "poll_count": 2}
    lost = with_attempt(SmallQueue(), scenario, **limits, spent_seconds=59.9)
    assert lost.ended().reason == "it ran longer than its time limit of 60 s"

    async def over(scene: Scene) -> None:
        await asyncio.sleep(0.02)
        assert not scene.slot.canceled

    with_attempt(SmallQueue(), over, **limits, spent_seconds=2.5)


# ------------------------------------------------------------------------------ hand-backs


def test_an_attempt_that_another_worker_has_is_not_handed_back() -> None:
    """The poll's answer may have come late; Conductor would take the task away from whoever has it."""
    queue = SmallQueue()
    queue.put(what="return")
    (old,) = queue.poll("worker.behaves", "w0000", count=1, wait_seconds=0)
    queue.hand_back(old)
    (new,) = queue.poll("worker.behaves", "w0000", count=1, wait_seconds=0)

    assert hand_back(queue, old) is None
    assert queue.is_current(new)
    assert queue.handed_back == [old.task_id]


def test_a_hand_back_without_an_answer_is_not_repeated_if_it_was_received(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = SmallQueue()
    queue.put(what="return")
    (delivery,) = queue.poll("worker.behaves", "w0000", count=1, wait_seconds=0)
    heard = queue.hand_back

    def unanswered(delivery: Delivery, seconds: int) -> None:
        heard(delivery, seconds)
        raise Unclear("Conductor", "hand back", "no answer")

    monkeypatch.setattr(queue, "hand_back", unanswered)
    monkeypatch.setattr(attempts, "HAND_BACK_DELAYS", replace(attempts.HAND_BACK_DELAYS, first=0.0))
    assert hand_back(queue, delivery) is None
    assert queue.waiting() == [delivery.task_id]
    assert queue.handed_back == [delivery.task_id]
