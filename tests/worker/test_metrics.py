"""What `/metrics` says of a worker, as a Prometheus client reads it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perago.authoring.context import Measured
from perago.driver import SystemClock
from perago.ports import TaskStatus, Unavailable
from perago.retry import retry, within
from perago.worker import events
from perago.worker.events import (
    AttemptEnded,
    AttemptReceived,
    Ending,
    Event,
    Pulse,
    SlotReady,
    SlotStartFailed,
    TransferMeter,
    Usage,
)
from perago.worker.exporters import StatusServer, metrics_page
from perago.worker.health import REJECTED, Incidents
from perago.worker.metrics import FAMILIES, Metrics
from tests.deliveries import make_delivery

from ..generated import assert_table
from .bench import make_plan, running, wait_for
from .outside import get
from .small_queue import SmallQueue

parser = pytest.importorskip("prometheus_client.parser")  # the extra `metrics`

ODD = "A0._-" + "z" * 123
"""A name of a task with every kind of character that one may have, as long as one may be."""
DELIVERY = make_delivery(task_id="t1", start_time=0, task_name=ODD, workflow_id="w1", waited_seconds=2.5)


FAILED_START = SlotStartFailed("p1", "no such module", ODD, 1.0)
DIED = events.SlotDied("p1", 1, "the slot's process ended with exit status 3", 30.0, task_name=ODD)
PULSE = Pulse(4, 1, 2, 3, 0.0, {ODD: 7.0}, {"the block store": 2}, {"logs": 5}, {"logs": 9})
AWAY = events.ConductorUnreachable("x", denied=False)
DENIED = events.ConductorUnreachable("401", denied=True)
REJECTED_BY_LAKEFS = ("perago_credentials_rejected", "lakeFS")
REJECTION = events.WaitingForLakeFS("w0001", f"{REJECTED}: 401")
REFUSED = events.ConductorUnreachable("x", denied=True, task_name=ODD)


def samples(metrics: Metrics) -> dict[tuple[Any, ...], float]:
    """Value by name and the values of the labels."""
    text = metrics_page(metrics, "").body.decode()
    values = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            values[(sample.name, *(value for _, value in sorted(sample.labels.items())))] = sample.value
    return values


def samples_after(*worker_events: Event) -> dict[tuple[Any, ...], float]:
    incidents = Incidents()
    metrics = Metrics([ODD], incidents=incidents)
    for event in worker_events:
        incidents(event)
        metrics(event)
    return samples(metrics)


def ended(ending: Ending = Ending.REPORTED, status: TaskStatus | None = TaskStatus.COMPLETED, **more: Any) -> Event:
    return AttemptEnded(DELIVERY, "w0001", ending, 3.0, status=status, **more)


def test_attempts_are_counted_by_task_and_outcome() -> None:
    values = samples_after(
        ended(),
        ended(),
        ended(status=TaskStatus.FAILED),
        ended(status=TaskStatus.FAILED_WITH_TERMINAL_ERROR),
        ended(Ending.LOST, None),
        ended(Ending.UNREPORTED, TaskStatus.COMPLETED),
        ended(Ending.HANDED_BACK, None),
    )
    outcomes = {key[1]: value for key, value in values.items() if key[0] == "perago_attempts_total"}
    once = dict.fromkeys(("failed", "terminal", "lost", "unreported", "handed_back"), 1)
    assert outcomes == {"completed": 2, **once}
    assert values["perago_attempt_seconds_sum", ODD] == 21


def test_transfers_of_an_attempt_are_summed() -> None:
    usage = Usage(10, 7, 4000, 300, 2, cache_damaged=1)
    values = samples_after(
        AttemptReceived(DELIVERY, "w0001"), ended(usage=usage, steps=(("Fetch", 0.25),)), ended(usage=usage)
    )
    assert values["perago_queue_wait_seconds_sum", ODD] == 2.5
    assert values["perago_step_seconds_sum", "Fetch", ODD] == 0.25
    assert values["perago_workspace_bytes_total", "download", ODD] == 8000
    assert values["perago_workspace_bytes_total", "upload", ODD] == 600
    assert values["perago_cache_objects_total", "hit", ODD] == 14
    assert values["perago_cache_objects_total", "miss", ODD] == 4
    assert values["perago_cache_objects_total", "damaged", ODD] == 2
    assert values["perago_fence_refusals_total", ODD] == 4


def test_the_number_of_labels_is_limited_for_any_slot_or_server() -> None:
    steps = tuple((f"step {number}", 1.0) for number in range(100))
    stranger = replace(DELIVERY, task_name='x"}\n')
    values = samples_after(
        ended(steps=steps),
        *(events.CallRepeated("w0001", f"service {number}") for number in range(100)),
        Pulse(1, 0, 1, 0, 0.0, {"x": 1.0}, {f"service {number}": 1 for number in range(100)}),
        AttemptEnded(stranger, "w", Ending.LOST, 1.0),
    )
    assert values["perago_step_seconds_count", "other", ODD] == 100
    assert values["perago_call_repeats_total", "other"] == 100
    assert values["perago_attempts_waiting", "other"] == 100
    assert values["perago_attempts_total", "lost", "other"] == 1
    labels = {label for key in values for label in key[1:]}
    assert not any(label.startswith(("step ", "service ", "x")) for label in labels)
    many = tuple(Measured(f"m{number}", "gauge", 1.0, 1) for number in range(1000))
    assert sum(key[0] == "perago_task_gauge" for key in samples_after(ended(usage=Usage(metrics=many)))) == 50


@pytest.mark.parametrize("number", [math.nan, math.inf, -1.0])
def test_invalid_numbers_are_not_counted(number: Any) -> None:
    values = samples_after(ended(usage=Usage(downloaded=number), steps=(("Fetch", number),)))
    assert values["perago_workspace_bytes_total", "download", ODD] == 0
    assert values["perago_step_seconds_sum", "Fetch", ODD] == 0


@pytest.mark.parametrize(
    ("worker_events", "gauge", "value"),
    [
        ((), ("perago_polling_paused",), 0),
        ((events.PollingPaused("full"),), ("perago_polling_paused",), 1),
        ((events.PollingPaused("full"), events.PollingResumed(1.0)), ("perago_polling_paused",), 0),
        ((Pulse(4, 1, 2, 3, 0.0),), ("perago_slots", "free"), 1),
        ((Pulse(4, 1, 2, 3, 0.0),), ("perago_slots", "busy"), 2),
        ((Pulse(4, 1, 2, 3, 0.0),), ("perago_slots", "starting"), 1),
        ((FAILED_START, Pulse(4, 4, 0, 0, 0.0)), ("perago_slots", "starting"), 1),
        ((FAILED_START, SlotReady("p1", 1, ODD), Pulse(4, 4, 0, 0, 0.0)), ("perago_slots", "starting"), 0),
        ((Pulse(4, 1, 2, 3, 0.0),), ("perago_reports_pending",), 3),
        ((Pulse(4, 1, 2, 3, 0.0, stopped=1),), ("perago_slots_stopped",), 1),
        ((), ("perago_conductor_up",), 0),
        ((PULSE,), ("perago_conductor_up",), 1),
        ((PULSE, AWAY), ("perago_conductor_up",), 0),
        ((PULSE, AWAY, PULSE, events.ConductorBack(1.0)), ("perago_conductor_up",), 1),
        ((PULSE, REFUSED), ("perago_conductor_up",), 1),
        ((DENIED,), ("perago_credentials_rejected", "Conductor"), 1),
        ((AWAY,), ("perago_credentials_rejected", "Conductor"), 0),
        ((DENIED, events.ConductorBack(1.0)), ("perago_credentials_rejected", "Conductor"), 0),
        ((REJECTION, ended(status=TaskStatus.FAILED)), ("perago_credentials_rejected", "lakeFS"), 1),
        ((events.WaitingForLakeFS("w0001", "no route"),), ("perago_credentials_rejected", "lakeFS"), 0),
        ((REJECTION, events.LakeFSBack("w0001", "the block store answers again")), REJECTED_BY_LAKEFS, 1),
        (
            (REJECTION, events.LakeFSBack("w0001", "lakeFS answers again, after 3 s")),
            ("perago_credentials_rejected", "lakeFS"),
            0,
        ),
        ((DIED, SlotReady("p1", 2, ODD)), ("perago_restart_delay_seconds", "ended with exit status 3", ODD), 30),
        ((PULSE,), ("perago_oldest_attempt_seconds", ODD), 7),
        ((PULSE, Pulse(4, 4, 0, 0, 0.0)), ("perago_oldest_attempt_seconds", ODD), 0),
        ((PULSE,), ("perago_attempts_waiting", "block store"), 2),
        ((PULSE, Pulse(4, 4, 0, 0, 0.0)), ("perago_attempts_waiting", "block store"), 0),
        ((PULSE,), ("perago_free_bytes", "logs"), 5),
        ((PULSE,), ("perago_disk_bytes", "logs"), 9),
        ((events.CallRepeated("w0001", "lakeFS"),), ("perago_call_repeats_total", "lakeFS"), 1),
        ((REFUSED,), ("perago_polls_refused", ODD), 1),
        ((REFUSED, events.ConductorBack(1.0, ODD)), ("perago_polls_refused", ODD), 0),
        ((events.Draining(0),), ("perago_draining",), 1),
    ],
)
def test_the_state_of_the_worker_is_in_gauges(
    worker_events: tuple[Event, ...], gauge: tuple[str, ...], value: float
) -> None:
    assert samples_after(*worker_events)[gauge] == value


def test_calls_that_the_process_repeats_are_counted() -> None:
    answers = iter((Unavailable("lakeFS", "answer", "no"), None))

    def call() -> None:
        if (error := next(answers)) is not None:
            raise error

    metrics, clock = Metrics([]), SystemClock()
    retry(call, within(60), clock)
    assert samples(metrics)["perago_call_repeats_total", "lakeFS"] == 1


def test_a_restarted_transfer_is_added_to_the_previous_one() -> None:
    meter = TransferMeter()
    for size in (10, 25, 25, 5, 8):
        meter.transferred("upload", size)
    assert (meter.total("upload"), meter.total("download")) == (33, 0)


ROWS = Measured("rows", "counter", 3.0, 2)
SIZES = Measured("sizes", "histogram", 6.0, 2, (1.0, 10.0), (1, 1, 0))
SHARE = Measured("share", "gauge", 0.5, 1)


def test_metrics_of_functions_are_summed_by_task_and_name() -> None:
    usage = Usage(metrics=(ROWS, SIZES, SHARE))
    values = samples_after(
        ended(usage=usage), ended(usage=usage), ended(usage=Usage(metrics=(replace(SHARE, value=0.75),)))
    )
    assert values["perago_task_counted_total", "rows", ODD] == 6
    assert values["perago_task_gauge", "share", ODD] == 0.75
    buckets = {key[1]: value for key, value in values.items() if key[0] == "perago_task_observed_bucket"}
    assert buckets == {"1.0": 2, "10.0": 4, "+Inf": 4}
    assert values["perago_task_observed_sum", "sizes", ODD] == 12


@pytest.mark.parametrize(
    "forged",
    [
        Measured('x"}', "counter", 1.0, 1),
        Measured("rows", "counter", -1.0, 1),
        Measured("rows", "gauge", math.nan, 1),
        Measured("rows", "histogram", 1.0, 1, (1.0,), (1,)),
        Measured("rows", "histogram", 1.0, 1, (math.nan,), (1, 1)),
    ],
)
def test_undeclared_fields_are_left_out(forged: Measured) -> None:
    assert not [
        key for key in samples_after(ended(usage=Usage(metrics=(forged,)))) if key[0].startswith("perago_task_")
    ]


def families(keys: Iterable[tuple[Any, ...]]) -> set[str]:
    names = {re.sub(r"_(total|bucket|sum|count|info)$", "", key[0]) for key in keys}
    return {name for name in names if not name.startswith("process_")}


def test_the_page_of_the_documentation_lists_all_metrics() -> None:
    rows = []
    for family in FAMILIES:
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        labels = f"{{{','.join(family.labels)}}}" if family.labels else ""
        rows.append((f"`{name}{labels}`", family.kind, family.help))
    assert_table("operations.md", "Metrics", ("Metric", "Kind", "Meaning"), rows)


def test_a_worker_shows_all_declared_metrics() -> None:
    usage = Usage(metrics=(ROWS, SIZES, SHARE))
    incidents = Incidents()
    metrics = Metrics([ODD], lambda: True, incidents)
    for event in (ended(steps=(("Fetch", 1.0),), usage=usage), PULSE, DIED):
        incidents(event)
        metrics(event)
    values = samples(metrics)
    assert values["perago_lakefs_up",] == 1
    assert families(values) == {re.sub(r"_info$", "", family.name) for family in FAMILIES}


def test_scrapes_while_attempts_run_see_counts_that_only_grow(tmp_path: Path, queue: SmallQueue) -> None:
    metrics, number, counts = Metrics(["worker.behaves"]), 4, list[float]()
    server = StatusServer("127.0.0.1", 0, {"/metrics": lambda accept: metrics_page(metrics, accept)})
    server.start()
    try:
        with running(make_plan(tmp_path), queue, metrics) as worker:
            for _ in range(number):
                queue.put(what="returns")
            for _ in range(20):
                status, body = get(f"{server.url}/metrics")
                assert status == 200
                sample = re.search(rb'perago_attempts_total\{outcome="completed",task="worker.behaves"\} (\S+)', body)
                assert sample
                counts.append(float(sample[1]))
            wait_for("all reports", lambda: len(worker.ended(Ending.REPORTED)) == number)
    finally:
        server.close()
    assert counts == sorted(counts)
    assert samples(metrics)["perago_attempts_total", "completed", "worker.behaves"] == number
