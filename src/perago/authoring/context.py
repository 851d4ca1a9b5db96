"""`current()`: what a running task function can learn about, and tell, the attempt around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from perago.authoring.metrics import MetricKind


def _ignore_log(text: str) -> None:
    """Outside an attempt no log takes the line."""


def _ignore_progress(done: int, total: int) -> None:
    """Outside an attempt no listener takes it."""


def _ignore_measure(kind: MetricKind, name: str, value: float) -> None:
    """Outside an attempt no metric takes it."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the runtime does for `Current`. `scratch` are the function's current and temporary directories,
    `environment` variables that are its own."""

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
        """Tell how far the function has come: `done` of `total` of whatever it counts."""
        self._hooks.progress(done, total)

    def count(self, name: str, value: float = 1) -> None:
        """Let a counter grow by `value`.

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
        """Whether the attempt was cancelled or lost; a long function should then return soon."""
        return self._hooks.is_cancelled()


def hooks_of(attempt: Current) -> Hooks:
    """What the runtime does for the attempt; no business of the function."""
    return attempt._hooks


def with_hooks(attempt: Current, **hooks: Any) -> Current:
    """The attempt with these `Hooks` in place of the present ones."""
    return replace(attempt, _hooks=replace(attempt._hooks, **hooks))


_OUTSIDE = Current()
_current: ContextVar[Current] = ContextVar("perago_current")
_running: list[Current] = []


def current() -> Current:
    """The attempt in which the calling function runs, or a harmless stand-in.

    Threads that the function starts see it too, as long as the process runs one attempt at a time.
    """
    found = _current.get(None)
    if found is not None:
        return found
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
