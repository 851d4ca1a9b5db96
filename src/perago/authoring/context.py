"""The attempt around a running task function: `current()`, and the metrics that its task declares."""

from __future__ import annotations

import bisect
import difflib
import math
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import field_validator, model_validator

from perago.authoring.declaration import Declaration, InvalidDeclaration, declared_list

MetricKind: TypeAlias = Literal["counter", "gauge", "histogram"]

METRIC_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
MOST_METRICS = 50
"""The maximum number of metrics of a task, because each metric is at least one time series."""
MOST_BUCKETS = 30
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The default of Prometheus clients, for seconds of short work."""

_CALLS: dict[MetricKind, str] = {"counter": "count", "gauge": "gauge", "histogram": "observe"}


class Metric(Declaration):
    """A number that the function of a task reports: `@task(metrics=[Metric(name="rows_read", kind="counter")])`."""

    name: str
    """Lower-case letters, digits and `_`; at most 64."""
    kind: MetricKind
    """`counter`: grows by `current().count`. `gauge`: the last value of `current().gauge`. `histogram`: the values of
    `current().observe`, sorted into buckets."""
    buckets: tuple[float, ...] = ()
    """Upper bounds of the buckets of a histogram, rising; empty: 5 ms to 10 s."""

    @field_validator("name")
    @classmethod
    def _name_is_one(cls, value: str) -> str:
        if not METRIC_NAME.fullmatch(value):
            raise ValueError(
                f"{value!r} must be lower-case letters, digits and '_', begin with a letter, at most 64 characters"
            )
        return value

    @model_validator(mode="after")
    def _buckets_rise(self) -> Metric:
        if self.buckets and self.kind != "histogram":
            raise ValueError(f"a {self.kind} has no buckets")
        if len(self.buckets) > MOST_BUCKETS or sorted(set(self.buckets)) != list(self.buckets):
            raise ValueError(f"buckets must be at most {MOST_BUCKETS} rising numbers")
        return self


@dataclass(frozen=True, slots=True)
class Measured:
    """The values of one metric that an attempt has reported."""

    name: str
    kind: MetricKind
    value: float = 0.0
    """The sum; of a gauge the last value."""
    count: int = 0
    """The number of values."""
    bounds: tuple[float, ...] = ()
    """Upper bounds of the buckets of a histogram."""
    counts: tuple[int, ...] = ()
    """The number of values in each bucket, without those of lower buckets. The last number counts values above all
    bounds."""


class Measurements:
    """Sums the reported values of one attempt. Thread-safe."""

    def __init__(self, task_name: str, declared: Iterable[Metric]) -> None:
        self._task_name = task_name
        self._declared = {metric.name: metric for metric in declared}
        self._found: dict[str, Measured] = {}
        self._lock = threading.Lock()

    def __call__(self, kind: MetricKind, name: str, value: float) -> None:
        """Record a value.

        Raises:
            ValueError: the task declares no such metric of this kind, or the metric cannot have this value.
        """
        metric = self._declared.get(name)
        if metric is None or metric.kind != kind:
            raise ValueError(self._undeclared(metric, kind, name))
        call = f"current().{_CALLS[kind]}({name!r})"
        try:
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        except OverflowError:
            bits = int(value).bit_length()
            raise ValueError(f"{call}: an integer of {bits:,} bits is too large for a float") from None
        if not is_number:
            raise ValueError(f"{call}: {value!r} is not a finite number")
        if kind == "counter" and value < 0:
            raise ValueError(f"{call}: a counter only grows, and {value!r} is less than 0")
        with self._lock:
            if name not in self._found:
                bounds = (metric.buckets or DEFAULT_BUCKETS) if kind == "histogram" else ()
                counts = (0,) * (len(bounds) + 1) if bounds else ()
                self._found[name] = Measured(name, kind, bounds=bounds, counts=counts)
            self._found[name] = _with(self._found[name], float(value))

    def all(self) -> tuple[Measured, ...]:
        """Return the reported metrics, in the order of the declarations."""
        with self._lock:
            return tuple(self._found[name] for name in self._declared if name in self._found)

    def _undeclared(self, metric: Metric | None, kind: MetricKind, name: str) -> str:
        if metric is not None:
            instead = f"use current().{_CALLS[metric.kind]}"
            return f"current().{_CALLS[kind]}({name!r}): it is declared as a {metric.kind}; {instead}"
        near = difflib.get_close_matches(str(name), self._declared, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else "."
        return (
            f"current().{_CALLS[kind]}({name!r}): task {self._task_name} declares no such metric{meant} Declare it: "
            f"@task(metrics=[Metric(name={str(name)!r}, kind={kind!r})])"
        )


def checked_metrics(declared: object) -> tuple[Metric, ...]:
    """Return the argument of `@task` as a tuple.

    Raises:
        InvalidDeclaration: it is not a list of metrics with different names.
    """
    fix = 'write metrics=[Metric(name="rows_read", kind="counter")], or leave it out'
    metrics = declared_list("metrics", "Metric(...)", declared, fix, but=Metric)
    for index, metric in enumerate(metrics):
        if not isinstance(metric, Metric):
            raise InvalidDeclaration(f"metrics[{index}] must be Metric(...), not {type(metric).__name__}", fix)
        if metric.name in {other.name for other in metrics[:index]}:
            raise InvalidDeclaration(f"two metrics have the name {metric.name!r}", "give each its own name")
    if len(metrics) > MOST_METRICS:
        problem = f"{len(metrics)} metrics are more than {MOST_METRICS}"
        raise InvalidDeclaration(problem, "declare only the metrics that you watch")
    return metrics


def _with(before: Measured, value: float) -> Measured:
    total = value if before.kind == "gauge" else before.value + value
    if not math.isfinite(total):
        raise ValueError(f"current().{_CALLS[before.kind]}({before.name!r}): the sum is too large")
    if not before.bounds:
        return replace(before, value=total, count=before.count + 1)
    place = bisect.bisect_left(before.bounds, value)
    counts = tuple(number + (index == place) for index, number in enumerate(before.counts))
    return replace(before, value=total, count=before.count + 1, counts=counts)


def metrics_json(measured: Iterable[Measured]) -> dict[str, dict[str, str | float]]:
    """Return the reported metrics as JSON, by name."""
    return {metric.name: {"kind": metric.kind, "value": metric.value, "count": metric.count} for metric in measured}


def _ignore_log(text: str) -> None:
    """Ignore the line outside of an attempt."""


def _ignore_progress(done: int, total: int) -> None:
    """Ignore the progress outside of an attempt."""


def _ignore_measure(kind: MetricKind, name: str, value: float) -> None:
    """Ignore the value outside of an attempt."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Hooks:
    """The calls of `Current` that the runtime answers. `scratch` has the function's current and temporary directories,
    `environment` the variables that only the function has."""

    log: Callable[[str], None] = _ignore_log
    progress: Callable[[int, int], None] = _ignore_progress
    measure: Callable[[MetricKind, str, float], None] = _ignore_measure
    is_cancelled: Callable[[], bool] = _never
    scratch: tuple[Path, Path] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Current:
    """The attempt that calls the function. Outside of one, ids are empty and calls do nothing."""

    workflow_id: str = ""
    task_id: str = ""
    task_name: str = ""
    reference_name: str = ""
    iteration: int = 0
    retry_count: int = 0
    worker_id: str = ""
    _hooks: Hooks = field(default=Hooks(), repr=False)

    def log(self, text: str) -> None:
        """Add a line to the attempt's log, here and in Conductor."""
        self._hooks.log(text)

    def progress(self, done: int, total: int) -> None:
        """Report progress: `done` of `total` of whatever the function counts."""
        self._hooks.progress(done, total)

    def count(self, name: str, value: float = 1) -> None:
        """Increase a counter by `value`.

        Raises:
            ValueError: the task declares no counter `name` (`@task(metrics=...)`), or `value` is less than 0.
        """
        self._hooks.measure("counter", name, value)

    def gauge(self, name: str, value: float) -> None:
        """Set a gauge to `value`.

        Raises:
            ValueError: the task declares no gauge `name`.
        """
        self._hooks.measure("gauge", name, value)

    def observe(self, name: str, value: float) -> None:
        """Add `value` to a histogram.

        Raises:
            ValueError: the task declares no histogram `name`.
        """
        self._hooks.measure("histogram", name, value)

    @property
    def cancelled(self) -> bool:
        """Whether the attempt was canceled or lost. Then a long function should return soon."""
        return self._hooks.is_cancelled()


def hooks_of(attempt: Current) -> Hooks:
    """Return the hooks of an attempt. Task functions do not need them."""
    return attempt._hooks


def with_hooks(attempt: Current, **hooks: Any) -> Current:
    """Return the attempt with these `Hooks` instead of the current ones."""
    return replace(attempt, _hooks=replace(attempt._hooks, **hooks))


_OUTSIDE = Current()
_current: ContextVar[Current] = ContextVar("perago_current")
_running: list[Current] = []


def current() -> Current:
    """Return the attempt in which the calling function runs, or a stand-in without effect.

    Threads of the function see it, too, as long as the process runs one attempt at a time.
    """
    attempt = _current.get(None)
    if attempt is not None:
        return attempt
    return _running[0] if len(_running) == 1 else _OUTSIDE


@contextmanager
def running(attempt: Current) -> Iterator[None]:
    """Make `attempt` what `current()` returns inside the block."""
    token = _current.set(attempt)
    _running.append(attempt)
    try:
        yield
    finally:
        _current.reset(token)
        _running[:] = [other for other in _running if other is not attempt]
