"""`current()`: what a running task function can learn about, and tell, the attempt around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path


def _ignore_log(text: str) -> None:
    """Outside an attempt nobody listens."""


def _ignore_progress(done: int, total: int) -> None:
    """Outside an attempt nobody watches."""


def _never() -> bool:
    return False


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
    on_log: Callable[[str], None] = field(default=_ignore_log, repr=False)
    on_progress: Callable[[int, int], None] = field(default=_ignore_progress, repr=False)
    is_cancelled: Callable[[], bool] = field(default=_never, repr=False)
    scratch: tuple[Path, Path] | None = field(default=None, repr=False)
    """For the runtime: the function's current and temporary directories."""

    def log(self, text: str) -> None:
        """Add a line to the attempt's log, here and in Conductor."""
        self.on_log(text)

    def progress(self, done: int, total: int) -> None:
        """Tell how far the function has come: `done` of `total` of whatever it counts."""
        self.on_progress(done, total)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for this attempt any more; a long function should then return soon."""
        return self.is_cancelled()


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
