"""How a cancellation reaches what an attempt does, also when a signal comes at the wrong moment."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from perago.worker.slot_process import AttemptCancelled, Cancellation

from .bench import LIMIT


class Signals:
    """Those that are sent to the main thread; the first `lost` of them do not arrive."""

    def __init__(self) -> None:
        self.lost = 0
        self.sent = 0
        self._send = signal.pthread_kill

    def __call__(self, thread: int, number: int) -> None:
        self.sent += 1
        if self.sent > self.lost:
            self._send(thread, number)


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Signals:
    signals = Signals()
    monkeypatch.setattr(signal, "pthread_kill", signals)
    return signals


@pytest.fixture
def cancellation() -> Iterator[Cancellation]:
    """In charge of this process's signals, as in a slot."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    cancellation = Cancellation()
    cancellation.install()
    yield cancellation
    for number, handler in before.items():
        signal.signal(number, handler)


def cancelling(cancellation: Cancellation) -> threading.Thread:
    """What the thread that listens to the supervisor does, on a thread."""

    def cancel() -> None:
        cancellation.announce()
        cancellation.insist()

    return threading.Thread(target=cancel, daemon=True)


def sleep_with(thread: threading.Thread) -> None:
    """A function in the middle of which `thread` begins."""
    thread.start()
    time.sleep(LIMIT)


def test_a_signal_that_did_not_wake_the_function_is_sent_again(cancellation: Cancellation, signals: Signals) -> None:
    """As when it came right before the function went to sleep."""
    signals.lost = 2
    thread = cancelling(cancellation)
    with pytest.raises(AttemptCancelled), cancellation.interrupting():
        sleep_with(thread)
    thread.join()
    assert signals.sent > signals.lost


def test_an_attempt_is_interrupted_once(cancellation: Cancellation, signals: Signals) -> None:
    thread = cancelling(cancellation)
    with cancellation.interrupting():
        with pytest.raises(AttemptCancelled):
            sleep_with(thread)
        thread.join()  # the function goes on, and hears no more of it


def test_where_nothing_can_be_interrupted_one_signal_is_sent(cancellation: Cancellation, signals: Signals) -> None:
    cancellation.announce()
    cancellation.insist()
    assert signals.sent == 1
    with pytest.raises(AttemptCancelled), cancellation.interrupting():
        pytest.fail("the block must not begin")


def test_a_handler_that_the_function_has_set_is_called_once(cancellation: Cancellation, signals: Signals) -> None:
    heard: list[int] = []
    thread = cancelling(cancellation)
    with cancellation.interrupting():
        signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
        thread.start()
        thread.join()
    assert heard == [signal.SIGTERM]


def test_signals_to_a_function_that_does_not_take_them_end(cancellation: Cancellation, signals: Signals) -> None:
    signals.lost = 1000
    with cancellation.interrupting():
        thread = cancelling(cancellation)
        thread.start()
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert 1 < signals.sent < 20
