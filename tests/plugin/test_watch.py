"""The time limit also ends code that is mostly where Python drops exceptions."""

from __future__ import annotations

import gc
import sys
import time
import weakref
from collections.abc import Callable

import pytest

from pytest_perago.confinement import LastResort, TimeLimitExceeded, Watch

LIMIT = 0.1
ROUNDS = 5000
"""Of some milliseconds each: many times the limit. Rounds and not seconds, for the machine may stand still."""


def spin() -> None:
    until = time.monotonic() + 0.001
    while time.monotonic() < until:
        pass


class Owner:
    """Its destruction takes a while."""

    def __del__(self) -> None:
        spin()


def destroy() -> None:
    """Half of the time is spent in a destructor."""
    Owner()
    spin()


def forget() -> None:
    """The callback of a weak dictionary runs for each of these."""
    known: weakref.WeakKeyDictionary[object, int] = weakref.WeakKeyDictionary()
    for _ in range(1000):
        known[type("Key", (), {})()] = 1


def collect() -> None:
    """Half of the time is spent in a callback of the garbage collector, such as hypothesis has one."""
    gc.callbacks.append(pause)
    try:
        gc.collect(0)
    finally:
        gc.callbacks.remove(pause)
    spin()


def pause(phase: str, _: object) -> None:
    if phase == "start":
        spin()


@pytest.mark.parametrize("work", [destroy, forget, collect])
def test_the_limit_is_not_lost_in_code_that_drops_exceptions(work: Callable[[], None]) -> None:
    """Python would warn of a dropped one, and a warning fails these tests."""
    for _ in range(8):
        watch = Watch(LIMIT, LastResort(enabled=False))
        with pytest.raises(TimeLimitExceeded):
            run(watch, work, ROUNDS)
        assert watch.stuck is not None


def run(watch: Watch, work: Callable[[], None], rounds: int) -> None:
    with watch, watch.code_of_author():
        for _ in range(rounds):
            work()


def test_a_destructor_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, but not for ever. What is raised in it is dropped, so the limit strikes again after it."""
    dropped: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: dropped.append(told.exc_type))

    class Endless:
        def __del__(self) -> None:
            while True:
                spin()

    def work() -> None:
        Endless()
        time.sleep(60)

    with pytest.raises(TimeLimitExceeded):
        run(Watch(LIMIT, LastResort(enabled=False)), work, 1)
    assert dropped == [TimeLimitExceeded]
