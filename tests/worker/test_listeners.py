"""Those who listen to a worker: what they hear, and what they may do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from perago.worker import exporters
from perago.worker.events import AttemptEnded, Event, Listener, Stopped
from perago.worker.plan import ExportContext
from perago.worker.supervisor import Supervisor

from .bench import make_plan
from .small_queue import SmallQueue

LONG = 3600.0


def test_listeners_hear_everything_in_order_and_a_new_exporter_needs_to_be_registered_only(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, Event]] = []
    closed: list[str] = []

    @contextlib.contextmanager
    def counting(context: ExportContext) -> Iterator[Listener]:
        """An exporter as somebody would add it: opened with the plan, called with events, closed at the end."""
        yield lambda event: heard.append((context.plan.worker_prefix, event))
        closed.append(context.plan.worker_prefix)

    monkeypatch.setattr(exporters, "EXPORTERS", (*exporters.EXPORTERS, counting))

    def second(event: Event) -> None:
        heard.append(("second", event))
        if isinstance(event, AttemptEnded):
            supervisor.stop()

    plan = make_plan(tmp_path)
    with exporters.exporting(ExportContext(plan=plan)) as exported:
        supervisor = Supervisor(plan, queue, *exported, lambda event: heard.append(("first", event)), second)
        queue.put(what="returns")
        assert supervisor.run() == 0
        assert closed == []
    assert closed == ["test"]
    names = ["test", "first", "second"]
    assert [name for name, _ in heard] == names * (len(heard) // 3)
    assert [event for _, event in heard[::3]] == [event for _, event in heard[2::3]]
    assert isinstance(heard[-1][1], Stopped)


def test_a_worker_that_is_told_to_stop_before_it_runs_takes_nothing(tmp_path: Path, queue: SmallQueue) -> None:
    supervisor = Supervisor(make_plan(tmp_path), queue, lambda event: None)
    task_id = queue.put(what="returns")
    supervisor.stop()
    assert supervisor.run() == 0
    assert queue.waiting() == [task_id]
