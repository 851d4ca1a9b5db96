"""What tests control in the embedded services: virtual time and fault scripts."""

from __future__ import annotations

import threading

import pytest

from perago.driver import SystemClock
from perago.embedded.faults import FaultScript, faults_around
from perago.ports import Clock, NotFound, Unavailable, Unclear, VirtualClock


@pytest.mark.parametrize("clock", [VirtualClock(start=100), SystemClock()])
def test_a_negative_sleep_does_not_turn_time_back(clock: Clock) -> None:
    before = clock.now()
    clock.sleep(-5)
    assert before <= clock.now() < before + 5


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_advance_refuses_a_step_backward(seconds: float) -> None:
    with pytest.raises(ValueError, match="forward"):
        VirtualClock().advance(seconds)


def test_threads_that_sleep_at_once_all_wake_after_their_time() -> None:
    clock = VirtualClock(start=0)
    slept = list[float]()

    def work(step: float) -> None:
        for _ in range(5):
            before = clock.now()
            clock.sleep(step)
            slept.append(clock.now() - before - step)

    threads = [threading.Thread(target=work, args=(step,)) for step in (2, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(slept) == 15
    assert min(slept) >= 0


class Counterpart:
    """The smallest model: a counter that counts what took effect."""

    def __init__(self, faults: FaultScript) -> None:
        self.faults = faults
        self.clock = VirtualClock(start=0)
        self.effects: list[float] = []

    def add(self, *, refuse: bool = False) -> int:
        with faults_around(self.faults, "add", service="lakeFS", clock=self.clock):
            if refuse:
                raise NotFound("lakeFS", "add", "no such thing")
            self.effects.append(self.clock.now())
            return len(self.effects)


def test_a_lost_answer_hides_a_refusal_too() -> None:
    model = Counterpart(FaultScript().after("add", error=Unclear))
    with pytest.raises(Unclear):
        model.add(refuse=True)
    assert model.effects == []


def test_an_exception_object_is_raised_as_it_is() -> None:
    error = OSError(28, "No space left on device")
    model = Counterpart(FaultScript().before("add", error=error))
    with pytest.raises(OSError) as caught:
        model.add()
    assert caught.value is error


def test_a_callback_may_use_the_model_and_its_calls_count() -> None:
    script = FaultScript()
    model = Counterpart(script)
    script.between("add", lambda: model.add())
    assert model.add() == 2
    assert script.calls("add") == 2


def test_faults_of_one_call_happen_in_the_order_written() -> None:
    script = FaultScript().delay("add", seconds=5)
    model = Counterpart(script)
    script.between("add", lambda: model.effects.append(-model.clock.now()))
    model.add()
    assert model.effects == [-5, 5]


def test_faults_that_no_call_met_are_reported() -> None:
    script = FaultScript().before("add", nth=1, error=Unavailable).before("merge", nth=3, error=Unclear)
    model = Counterpart(script)
    with pytest.raises(Unavailable):
        model.add()
    assert list(script.unused()) == ["merge #3, before it takes effect: Unclear"]


def test_calls_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        FaultScript().before("merge", nth=0, error=Unclear)
