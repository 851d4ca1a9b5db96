"""A worker in numbers, for Prometheus (docs/monitoring.md lists them). Needs the extra `metrics`.

Labels are bounded: tasks are those that the worker was started with, steps those of the protocol, and services those
that perago speaks to. Numbers from a slot are not believed further than that they are some.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

import perago
from perago.attempt.commands import Command
from perago.authoring.context import METRIC_NAME, MOST_BUCKETS, MOST_METRICS, Measured
from perago.ports import TaskStatus
from perago.retry import REPEATS
from perago.worker import events
from perago.worker.events import Event

OTHER = "other"
STEPS = frozenset(command.__name__ for command in get_args(Command))
SERVICES = ("Conductor", "lakeFS", "block store")
OUTCOMES = ("completed", "failed", "terminal", "lost", "unreported", "handed_back")
SECONDS = (0.005, 0.02, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400)
"""Upper bounds of the buckets of durations."""

_OUTCOME_OF = {
    TaskStatus.COMPLETED: "completed",
    TaskStatus.FAILED: "failed",
    TaskStatus.FAILED_WITH_TERMINAL_ERROR: "terminal",
}


class Metrics:
    """A `Listener` that counts. `page` and `collect` may be asked by any thread."""

    def __init__(self, tasks: Iterable[str]) -> None:
        disable_created_metrics()
        self._tasks = frozenset(tasks)
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge("perago_info", "The version that runs.", ["version"], registry=registry).labels(perago.__version__).set(1)
        self._attempts = Counter("perago_attempts", "Attempts that are over.", ["task", "outcome"], registry=registry)
        self._attempt_seconds = Histogram(
            "perago_attempt_seconds",
            "From the hand-over of an attempt to a slot until the slot was free again.",
            ["task"],
            buckets=SECONDS,
            registry=registry,
        )
        self._step_seconds = Histogram(
            "perago_step_seconds", "Each step of an attempt.", ["step"], buckets=SECONDS, registry=registry
        )
        self._queue_wait = Histogram(
            "perago_queue_wait_seconds",
            "From scheduling in Conductor until the attempt was handed out.",
            ["task"],
            buckets=SECONDS,
            registry=registry,
        )
        self._bytes = Counter(
            "perago_workspace_bytes",
            "Bytes of files that were put into workspaces, or staged on lakeFS.",
            ["task", "direction"],
            registry=registry,
        )
        self._cache = Counter(
            "perago_cache_objects",
            "Files of workspaces that were copied from the cache (hit) or fetched (miss).",
            ["task", "result"],
            registry=registry,
        )
        self._refusals = Counter(
            "perago_fence_refusals",
            "Merges that were refused because the head of the branch had moved.",
            ["task"],
            registry=registry,
        )
        self._repeats = Counter(
            "perago_call_repeats", "Calls that were repeated for want of an answer.", ["service"], registry=registry
        )
        self._deaths = Counter("perago_slot_deaths", "Slot processes that ended by themselves.", registry=registry)
        self._doubts = Counter(
            "perago_leases_in_doubt", "Attempts whose heartbeats did not get through.", registry=registry
        )
        self._slots = Gauge("perago_slots", "Slots by what they do.", ["state"], registry=registry)
        self._unreported = Gauge("perago_reports_pending", "Results that Conductor has not got yet.", registry=registry)
        self._conductor = Gauge("perago_conductor_up", "1: polls get an answer.", registry=registry)
        self._polls_refused = Gauge(
            "perago_polls_refused", "1: Conductor refuses the polls for the task alone.", ["task"], registry=registry
        )
        self._paused = Gauge(
            "perago_polling_paused",
            "1: a root takes no files or lacks the reserve, or an input had no room.",
            registry=registry,
        )
        self._draining = Gauge("perago_draining", "1: the worker was told to stop.", registry=registry)
        self._conductor.set(1)
        self._functions = FunctionMetrics()
        registry.register(self._functions)
        for task in self._tasks:
            self._begin_at_zero(task)
        for service in SERVICES:
            self._repeats.labels(service)

    def _begin_at_zero(self, task: str) -> None:
        """A series that appears with its first count has no rate then."""
        for outcome in OUTCOMES:
            self._attempts.labels(task, outcome)
        for direction in ("download", "upload"):
            self._bytes.labels(task, direction)
        for result in ("hit", "miss"):
            self._cache.labels(task, result)
        self._refusals.labels(task)
        self._polls_refused.labels(task)
        self._attempt_seconds.labels(task)
        self._queue_wait.labels(task)

    def page(self, accept: str) -> tuple[str, bytes]:
        """Content type and text of all numbers, in the format that `accept` asks for."""
        encoder, content_type = choose_encoder(accept)
        return content_type, encoder(self)

    def collect(self) -> Iterator[Metric]:
        """All families, as a registry gives them."""
        self._repeated(REPEATS.take())
        yield from self._registry.collect()

    def __call__(self, event: Event) -> None:
        """Count `event`."""
        match event:
            case events.Pulse(slots, free, busy, unreported):
                self._slots.labels("free").set(free)
                self._slots.labels("busy").set(busy)
                self._slots.labels("starting").set(max(0, slots - free - busy))
                self._unreported.set(unreported)
            case events.AttemptReceived(delivery):
                self._queue_wait.labels(self._task(delivery.task_name)).observe(countable(delivery.waited_seconds))
            case events.AttemptEnded():
                self._ended(event)
            case events.SlotDied():
                self._deaths.inc()
            case events.LeaseDoubtful():
                self._doubts.inc()
            case events.ConductorUnreachable(task_name=events.ALL_TASKS):
                self._conductor.set(0)
            case events.ConductorBack(task_name=events.ALL_TASKS):
                self._conductor.set(1)
            case events.ConductorUnreachable(task_name=task):
                self._polls_refused.labels(self._task(task)).set(1)
            case events.ConductorBack(task_name=task):
                self._polls_refused.labels(self._task(task)).set(0)
            case events.PollingPaused():
                self._paused.set(1)
            case events.PollingResumed():
                self._paused.set(0)
            case events.Draining():
                self._draining.set(1)

    def _ended(self, event: events.AttemptEnded) -> None:
        task, usage = self._task(event.delivery.task_name), event.usage
        self._attempts.labels(task, outcome_of(event)).inc()
        self._attempt_seconds.labels(task).observe(event.seconds)
        for name, seconds in event.steps:
            self._step_seconds.labels(step_of(name)).observe(countable(seconds))
        self._bytes.labels(task, "download").inc(countable(usage.downloaded))
        self._bytes.labels(task, "upload").inc(countable(usage.uploaded))
        self._cache.labels(task, "hit").inc(countable(usage.from_cache))
        self._cache.labels(task, "miss").inc(countable(usage.objects - usage.from_cache))
        self._refusals.labels(task).inc(countable(usage.fence_refusals))
        self._repeated(usage.repeats)
        self._functions.add(task, usage.metrics)

    def _repeated(self, counts: Mapping[str, int]) -> None:
        for service, times in counts.items():
            service = service.removeprefix("the ")
            self._repeats.labels(service if service in SERVICES else OTHER).inc(countable(times))

    def _task(self, name: str) -> str:
        return name if name in self._tasks else OTHER


def outcome_of(event: events.AttemptEnded) -> str:
    """One of `OUTCOMES`."""
    reported = event.ending is events.Ending.REPORTED and event.status is not None
    return _OUTCOME_OF[event.status] if reported and event.status else event.ending.value


def step_of(name: str) -> str:
    """The name of a step that a slot has told, or `OTHER`."""
    return name if name in STEPS else OTHER


class FunctionMetrics:
    """What functions have reported, in three families: two tasks may declare one name differently, and a family has
    one kind only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, dict[tuple[str, str], Measured]] = {}

    def add(self, task: str, measured: Iterable[Measured]) -> None:
        """Add what an attempt has reported. A slot may say anything, so what no declaration could allow is left out."""
        with self._lock:
            known = self._found.setdefault(task, {})
            for one in measured:
                key = (one.kind, one.name)
                if _is_possible(one) and (key in known or len(known) < MOST_METRICS):
                    known[key] = _sum(known.get(key), one)

    def collect(self) -> Iterator[Metric]:
        """The families, for the registry."""
        labels = ["task", "metric"]
        counted = CounterMetricFamily("perago_task_counted", "What current().count has reported.", labels=labels)
        gauge = GaugeMetricFamily("perago_task_gauge", "The last value of current().gauge.", labels=labels)
        observed = HistogramMetricFamily("perago_task_observed", "What current().observe has reported.", labels=labels)
        with self._lock:
            found = [(task, one) for task, known in self._found.items() for one in known.values()]
        for task, one in found:
            if one.kind == "counter":
                counted.add_metric([task, one.name], one.value)
            elif one.kind == "gauge":
                gauge.add_metric([task, one.name], one.value)
            else:
                bounds = (*map(str, one.bounds), "+Inf")
                sums = zip(bounds, itertools.accumulate(one.counts), strict=True)
                observed.add_metric([task, one.name], [(bound, float(sum_)) for bound, sum_ in sums], one.value)
        yield from (counted, gauge, observed)


def _is_possible(one: Measured) -> bool:
    return (
        METRIC_NAME.fullmatch(one.name) is not None
        and math.isfinite(one.value)
        and (one.kind != "counter" or one.value >= 0)
        and len(one.bounds) <= MOST_BUCKETS
        and len(one.counts) == (len(one.bounds) + 1 if one.kind == "histogram" else 0)
        and all(map(math.isfinite, one.bounds))
        and all(number >= 0 for number in one.counts)
    )


def _sum(before: Measured | None, one: Measured) -> Measured:
    if before is None or one.kind == "gauge" or before.bounds != one.bounds:
        return one
    counts = tuple(map(sum, zip(before.counts, one.counts, strict=True)))
    return replace(one, value=before.value + one.value, count=before.count + one.count, counts=counts)


def countable(value: float) -> float:
    """`value`, if it is one that a counter may grow by."""
    return value if math.isfinite(value) and value > 0 else 0.0
