"""The metrics of a worker: declared and counted here, and shown by exporters.

The number of labels is limited to the tasks of the worker, the steps of the protocol, and the services that perago
calls. Values from a slot are only used if they are valid numbers.
"""

from __future__ import annotations

import math
import os
import resource
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import perago
from perago.attempt.commands import COMMANDS
from perago.authoring.context import METRIC_NAME, MOST_BUCKETS, MOST_METRICS, Measured
from perago.ports import TaskStatus
from perago.retry import REPEATS
from perago.worker import events
from perago.worker.events import Event
from perago.worker.health import Incidents

OTHER = "other"
STEPS = frozenset(command.__name__ for command in COMMANDS)
SERVICES = ("Conductor", "lakeFS", "block store")
OUTCOMES = ("completed", "failed", "terminal", "lost", "unreported", "handed_back")
SECONDS = (0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0)
"""Upper bounds of the buckets of durations."""

_OUTCOME_OF = {
    TaskStatus.COMPLETED: "completed",
    TaskStatus.FAILED: "failed",
    TaskStatus.FAILED_WITH_TERMINAL_ERROR: "terminal",
}


@dataclass(frozen=True, slots=True)
class Family:
    """The declaration of a metric. Exporters append `_total` to the name of a counter."""

    name: str
    help: str
    """The meaning, in one sentence for the docs and for Prometheus."""
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Number:
    """The value for one set of labels. For a histogram, it is the sum of the observed values."""

    value: float = 0.0
    bounds: tuple[float, ...] = ()
    """Upper bounds of the buckets of a histogram. There is one more bucket, without a bound."""
    counts: tuple[int, ...] = ()
    """The number of values in each bucket."""


Numbers = Mapping[tuple[str, ...], Number]
"""The values of a family, by the values of its labels."""

FAMILIES = (
    Family("perago_info", "1, with the version of perago that runs.", "gauge", ("version",)),
    Family("perago_attempts", "Attempts that have ended.", "counter", ("task", "outcome")),
    Family(
        "perago_attempt_seconds",
        "Time from the hand-over of an attempt to a slot until the slot is free again.",
        "histogram",
        ("task",),
    ),
    Family("perago_step_seconds", "Time that each step of an attempt takes.", "histogram", ("task", "step")),
    Family("perago_oldest_attempt_seconds", "Age of the oldest running attempt; 0 if none runs.", "gauge", ("task",)),
    Family(
        "perago_attempts_waiting",
        "Attempts whose call to a server has had no answer for 5 s, or is repeated.",
        "gauge",
        ("service",),
    ),
    Family(
        "perago_queue_wait_seconds",
        "Time from scheduling until the hand-out, by Conductor's clock, including the delay of a retry.",
        "histogram",
        ("task",),
    ),
    Family(
        "perago_workspace_bytes",
        "Bytes that were put into workspaces (download), or staged on lakeFS (upload).",
        "counter",
        ("task", "direction"),
    ),
    Family(
        "perago_cache_objects",
        "Files of workspaces that were copied from the cache (hit) or fetched, because their copy was damaged "
        "(damaged) or missing (miss).",
        "counter",
        ("task", "result"),
    ),
    Family(
        "perago_fence_refusals",
        "Merges that lakeFS refused because another client had moved the head of the branch.",
        "counter",
        ("task",),
    ),
    Family(
        "perago_call_repeats",
        "Calls that are repeated because there was no answer, while it happens.",
        "counter",
        ("service",),
    ),
    Family("perago_slot_deaths", "Slot processes that ended unexpectedly.", "counter"),
    Family(
        "perago_leases_in_doubt", "Attempts whose heartbeats failed for longer than the response timeout.", "counter"
    ),
    Family(
        "perago_restart_delay_seconds",
        "Delay of the last restart of a process of the task that died, until a process has lived for a minute. "
        "exit: how it ended.",
        "gauge",
        ("task", "exit"),
    ),
    Family("perago_slots", "Slots that are free, busy or starting, updated once a second.", "gauge", ("state",)),
    Family("perago_slots_stopped", "Slots whose process a signal has stopped (state T).", "gauge"),
    Family("perago_reports_pending", "Results that Conductor has not accepted yet.", "gauge"),
    Family("perago_conductor_up", "1 while Conductor answers polls, 0 otherwise.", "gauge"),
    Family(
        "perago_lakefs_up",
        "1 while lakeFS answers its health check, 0 otherwise. Needs a task with a workspace.",
        "gauge",
    ),
    Family(
        "perago_credentials_rejected",
        "1 from the rejection of the credentials until a call with them succeeds.",
        "gauge",
        ("service",),
    ),
    Family(
        "perago_free_bytes",
        "Free bytes on the disk of the workspace root (workspaces) and of the log root (logs).",
        "gauge",
        ("root",),
    ),
    Family("perago_disk_bytes", "Size of the disk of each root, in bytes.", "gauge", ("root",)),
    Family("perago_polls_refused", "1 while Conductor refuses the polls for this task only.", "gauge", ("task",)),
    Family("perago_polling_paused", "1 while the worker takes no work because of a full or read-only disk.", "gauge"),
    Family("perago_draining", "1 after the worker was asked to stop.", "gauge"),
    Family("perago_task_counted", "Sums that functions reported by current().count.", "counter", ("task", "metric")),
    Family("perago_task_gauge", "Last values that functions reported by current().gauge.", "gauge", ("task", "metric")),
    Family(
        "perago_task_observed", "Values that functions reported by current().observe.", "histogram", ("task", "metric")
    ),
)
"""The table of docs/operations.md is written from it: `WRITE_DOCS=1 pytest tests/worker/test_metrics.py`."""
_OF_FUNCTIONS = {"counter": "perago_task_counted", "gauge": "perago_task_gauge", "histogram": "perago_task_observed"}
"""Families for the values that functions report, by kind, because two tasks can declare one name differently."""


class Metrics:
    """A `Listener` that counts. `collect` may be called by any thread.

    Args:
        tasks: the names that the label `task` has. Others are counted as `OTHER`.
        lakefs_up: whether lakeFS answers; None: unknown, or it is not needed.
        incidents: the record that the metrics share with the health of the worker, and only read. None: no incidents.
    """

    def __init__(
        self,
        tasks: Iterable[str],
        lakefs_up: Callable[[], bool | None] = lambda: None,
        incidents: Incidents | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._tasks = frozenset(tasks)
        self._lakefs_up = lakefs_up
        self._repeats = REPEATS.counts()
        """The repeats of this process that are already counted."""
        self._numbers: dict[str, dict[tuple[str, ...], Number]] = {family.name: {} for family in FAMILIES}
        self._set("perago_info", perago.__version__, to=1)
        self._set("perago_conductor_up", to=0)
        self._not_starting: set[str] = set()
        """Tasks whose last slot could not start."""
        self._incidents = incidents or Incidents()
        self._has_begun = False
        """Whether polls can be made. Before that, the worker waits for its servers."""
        for name in ("perago_slot_deaths", "perago_leases_in_doubt"):
            self._add(name, by=0)
        for name in ("perago_slots_stopped", "perago_reports_pending", "perago_polling_paused", "perago_draining"):
            self._set(name, to=0)
        for task in self._tasks:
            self._begin_at_zero(task)
        for service in SERVICES:
            self._add("perago_call_repeats", service, by=0)
            self._set("perago_attempts_waiting", service, to=0)

    def _begin_at_zero(self, task: str) -> None:
        """Create all series with 0, because a series that appears with its first count has no rate."""
        for outcome in OUTCOMES:
            self._add("perago_attempts", task, outcome, by=0)
        for direction in ("download", "upload"):
            self._add("perago_workspace_bytes", task, direction, by=0)
        for result in ("hit", "miss", "damaged"):
            self._add("perago_cache_objects", task, result, by=0)
        self._add("perago_fence_refusals", task, by=0)
        self._set("perago_polls_refused", task, to=0)
        self._set("perago_oldest_attempt_seconds", task, to=0)
        self._observe("perago_attempt_seconds", task)
        self._observe("perago_queue_wait_seconds", task)

    def collect(self) -> Iterator[tuple[Family, Numbers]]:
        """Return all families with their current values. Those of the process come last."""
        repeats = REPEATS.counts()
        for service, times in (repeats - self._repeats).items():
            self._add("perago_call_repeats", service_of(service), by=times)
        self._repeats = repeats
        if (is_up := self._lakefs_up()) is not None:
            self._set("perago_lakefs_up", to=is_up)
        with self._lock:
            self._numbers["perago_restart_delay_seconds"] = {
                (self._task(task), death.reason.removeprefix("the slot's process ")): Number(death.restart_seconds)
                for task, death in self._incidents.deaths().items()
            }
            self._numbers["perago_credentials_rejected"] = {
                (service,): Number(float(bool(text))) for service, text in self._incidents.rejections.items()
            }
            numbers = {name: dict(series) for name, series in self._numbers.items()}
        for family in FAMILIES:
            yield family, numbers[family.name]
        yield from process_numbers()

    def __call__(self, event: Event) -> None:
        """Count `event`."""
        match event:
            case events.SlotStartFailed(task_name=task):
                self._not_starting.add(task)
            case events.SlotReady(task_name=task):
                self._not_starting.discard(task)
            case events.Pulse(slots, free, busy, unreported):
                self._set_state(event)
                # A place whose slot is made on demand counts as free, although the slots of its task cannot start.
                starting = max(0, slots - free - busy, min(len(self._not_starting), slots - busy))
                self._set("perago_slots", "free", to=max(0, slots - busy - starting))
                self._set("perago_slots", "busy", to=busy)
                self._set("perago_slots", "starting", to=starting)
                self._set("perago_slots_stopped", to=event.stopped)
                self._set("perago_reports_pending", to=unreported)
            case events.AttemptReceived(delivery):
                task, seconds = self._task(delivery.task_name), delivery.waited_seconds
                self._observe("perago_queue_wait_seconds", task, seconds=seconds)
            case events.AttemptEnded():
                self._ended(event)
            case events.CallRepeated(service=service):
                self._add("perago_call_repeats", service_of(service))
            case events.SlotDied():
                self._add("perago_slot_deaths")
            case events.LeaseDoubtful():
                self._add("perago_leases_in_doubt")
            case events.ConductorUnreachable(task_name=task) | events.ConductorBack(task_name=task):
                fails = isinstance(event, events.ConductorUnreachable)
                if task == events.ALL_TASKS:
                    self._set("perago_conductor_up", to=not fails)
                else:
                    self._set("perago_polls_refused", self._task(task), to=fails)
            case events.PollingPaused() | events.PollingResumed():
                self._set("perago_polling_paused", to=isinstance(event, events.PollingPaused))
            case events.Draining():
                self._set("perago_draining", to=1)

    def _set_state(self, pulse: events.Pulse) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._set("perago_conductor_up", to=1)
        for task in self._tasks:
            self._set("perago_oldest_attempt_seconds", task, to=pulse.ages.get(task, 0.0))
        waiting = dict.fromkeys(SERVICES, 0)
        for service, attempts in pulse.waiting.items():
            waiting[service_of(service)] = waiting.get(service_of(service), 0) + attempts
        for service, attempts in waiting.items():
            self._set("perago_attempts_waiting", service, to=attempts)
        for root, free in pulse.free_bytes.items():
            self._set("perago_free_bytes", root, to=free)
        for root, total in pulse.disk_bytes.items():
            self._set("perago_disk_bytes", root, to=total)

    def _ended(self, event: events.AttemptEnded) -> None:
        task, usage = self._task(event.delivery.task_name), event.usage
        self._add("perago_attempts", task, outcome_of(event))
        self._observe("perago_attempt_seconds", task, seconds=event.seconds)
        for name, seconds in event.steps:
            self._observe("perago_step_seconds", task, step_of(name), seconds=seconds)
        self._add("perago_workspace_bytes", task, "download", by=usage.downloaded)
        self._add("perago_workspace_bytes", task, "upload", by=usage.uploaded)
        self._add("perago_cache_objects", task, "hit", by=usage.from_cache)
        self._add("perago_cache_objects", task, "miss", by=usage.objects - usage.from_cache - usage.cache_damaged)
        self._add("perago_cache_objects", task, "damaged", by=usage.cache_damaged)
        self._add("perago_fence_refusals", task, by=usage.fence_refusals)
        self._reported_by_function(task, usage.metrics)

    def _reported_by_function(self, task: str, measured: Iterable[Measured]) -> None:
        """Add the metrics that a function reported. A slot can send anything, so undeclared metrics are dropped."""
        with self._lock:
            for metric in measured:
                numbers, key = self._numbers[_OF_FUNCTIONS[metric.kind]], (task, metric.name)
                known = sum(its[0] == task for name in _OF_FUNCTIONS.values() for its in self._numbers[name])
                if _is_possible(metric) and (key in numbers or known < MOST_METRICS):
                    numbers[key] = _sum(numbers.get(key), metric)

    def _task(self, name: str) -> str:
        return name if name in self._tasks else OTHER

    # ------------------------------------------------------------------------ numbers

    def _set(self, name: str, *labels: str, to: float) -> None:
        with self._lock:
            self._numbers[name][labels] = Number(float(to))

    def _add(self, name: str, *labels: str, by: float = 1) -> None:
        with self._lock:
            before = self._numbers[name].get(labels, Number())
            self._numbers[name][labels] = Number(before.value + countable(by))

    def _observe(self, name: str, *labels: str, seconds: float | None = None) -> None:
        with self._lock:
            before = self._numbers[name].get(labels) or Number(0.0, SECONDS, (0,) * (len(SECONDS) + 1))
            if seconds is not None:
                seconds = countable(seconds)
                counts = list(before.counts)
                counts[bisect_left(SECONDS, seconds)] += 1
                before = Number(before.value + seconds, SECONDS, tuple(counts))
            self._numbers[name][labels] = before


def outcome_of(event: events.AttemptEnded) -> str:
    """Return one of `OUTCOMES`."""
    reported = event.ending is events.Ending.REPORTED and event.status is not None
    return _OUTCOME_OF[event.status] if reported and event.status else event.ending.value


def step_of(name: str) -> str:
    """Return the name of a step that a slot has sent, or `OTHER`."""
    return name if name in STEPS else OTHER


def service_of(name: str) -> str:
    """Return the name of the service of an error, or `OTHER`."""
    name = name.removeprefix("the ")
    return name if name in SERVICES else OTHER


def countable(value: float) -> float:
    """Return `value` if a counter can grow by it."""
    return value if math.isfinite(value) and value > 0 else 0.0


def _is_possible(metric: Measured) -> bool:
    return (
        METRIC_NAME.fullmatch(metric.name) is not None
        and math.isfinite(metric.value)
        and (metric.kind != "counter" or metric.value >= 0)
        and len(metric.bounds) <= MOST_BUCKETS
        and len(metric.counts) == (len(metric.bounds) + 1 if metric.kind == "histogram" else 0)
        and all(map(math.isfinite, metric.bounds))
        and all(number >= 0 for number in metric.counts)
    )


def _sum(before: Number | None, metric: Measured) -> Number:
    if before is None or metric.kind == "gauge" or before.bounds != metric.bounds:
        return Number(metric.value, metric.bounds, metric.counts)
    counts = tuple(map(sum, zip(before.counts, metric.counts, strict=True)))
    return replace(before, value=before.value + metric.value, counts=counts)


# ------------------------------------------------------------------------ the supervisor's process


_PROCESS = (
    Family("process_virtual_memory_bytes", "Virtual memory size in bytes.", "gauge"),
    Family("process_resident_memory_bytes", "Resident memory size in bytes.", "gauge"),
    Family("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", "gauge"),
    Family("process_cpu_seconds", "Total user and system CPU time spent in seconds.", "counter"),
    Family("process_open_fds", "Number of open file descriptors.", "gauge"),
    Family("process_max_fds", "Maximum number of open file descriptors.", "gauge"),
)


def process_numbers() -> Iterator[tuple[Family, Numbers]]:
    """Return the usual numbers of this process, where there is /proc."""
    try:
        fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
        descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    except OSError:
        return
    ticks = os.sysconf("SC_CLK_TCK")
    values = (
        int(fields[20]),
        int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        int(booted.split()[1]) + int(fields[19]) / ticks,
        sum(map(int, fields[11:13])) / ticks,
        descriptors,
        resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )
    for family, value in zip(_PROCESS, values, strict=True):
        yield family, {(): Number(value)}
