from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perago.retry import BackOff
from perago.worker import attempts, poller, supervisor

from .bench import RunningWorker, make_plan, running
from .site import Site, opened
from .small_queue import SmallQueue


@pytest.fixture(autouse=True)
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten long polls, because workers that end wait for those in flight, and the interval of pulses."""
    monkeypatch.setattr(poller, "LONG_POLL_SECONDS", 0.5)
    monkeypatch.setattr(supervisor, "PULSE_INTERVAL", 0.1)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> SmallQueue:
    """The queue of a worker whose slots start again soon after a crash."""
    monkeypatch.setattr("perago.retry.RESTARTS", BackOff(0.02, 0.05))
    return SmallQueue()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path) as services:
        yield services


@pytest.fixture
def frequent_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers soon hear of a loss, however long the response time-out is."""
    monkeypatch.setattr(attempts, "MAX_INTERVAL", 0.3)


@pytest.fixture
def worker(tmp_path: Path, queue: SmallQueue) -> Iterator[RunningWorker]:
    """One slot that runs `behaves`."""
    with running(make_plan(tmp_path), queue) as started:
        yield started
