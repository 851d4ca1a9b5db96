"""The clock of user code.

While the function runs, the names `time` and `datetime`, and names that user modules imported from them, refer to a
fake clock. Other code does not see it, except the archive modules of the standard library, because they write the time
into their files.
"""

from __future__ import annotations

import datetime as real_datetime
import sys
import time as real_time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

from pytest_perago.confinement import patched
from pytest_perago.user_code import module_with, replacing

TICK = 0.001
"""Seconds that each read of the clock adds, so that a loop that waits for a moment ends."""

_ARCHIVES = ("gzip", "zipfile", "zipfile._path", "tarfile", "shutil")
REPLACED_LIBRARIES = frozenset(("numpy.random", "pandas", *_ARCHIVES))
"""Libraries whose random numbers or clock are replaced, if they were imported before the function is called."""
_MODULES = (real_time.__name__, real_datetime.__name__)


class _Meta(type):
    """Makes a replacement pass `isinstance` and `issubclass` checks of the author."""

    real: type

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls.real(*args, **kwargs)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.real)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.real, name)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.real

    def __hash__(cls) -> int:
        return hash(cls.real)


class Clock:
    """Seconds since the epoch, from `start` on."""

    def __init__(self, start: float, tick: float, note: Callable[[], object]) -> None:
        self._start = self._now = start
        self._tick = tick
        self._note = note

    def now(self) -> float:
        """Return the time, which is one tick later than at the last read."""
        self._note()
        self._now += self._tick
        return self._now

    def sleep(self, seconds: float) -> None:
        """Advance the clock by the requested time, without sleeping."""
        real_time.sleep(seconds)
        self._now += seconds

    def passed(self) -> float:
        """Return the seconds since an arbitrary moment, for measuring."""
        return self.now() - self._start

    def replacements(self) -> Mapping[int, Any]:
        """The replacement of a module, a class or a function, by its id."""
        functions: dict[str, Any] = {
            "time": self.now,
            "time_ns": lambda: int(self.now() * 1e9),
            "monotonic": self.passed,
            "monotonic_ns": lambda: int(self.passed() * 1e9),
            "perf_counter": self.passed,
            "perf_counter_ns": lambda: int(self.passed() * 1e9),
            "process_time": self.passed,
            "sleep": self.sleep,
            "localtime": self._default(real_time.localtime),
            "gmtime": self._default(real_time.gmtime),
            "ctime": self._default(real_time.ctime),
            "strftime": lambda text, parts=None: real_time.strftime(text, parts or real_time.localtime(self.now())),
            "asctime": lambda parts=None: real_time.asctime(parts or real_time.localtime(self.now())),
        }
        real_date: Any = real_datetime.date
        today = staticmethod(lambda: real_date.fromtimestamp(self.now()))
        classes = {"datetime": self._datetime(), "date": _replacement(real_date, {"real": real_date, "today": today})}
        replacements: dict[int, Any] = {
            id(getattr(real_time, name)): replacement for name, replacement in functions.items()
        }
        replacements |= {id(getattr(real_datetime, name)): replacement for name, replacement in classes.items()}
        replacements[id(real_time)] = module_with(real_time, functions)
        replacements[id(real_datetime)] = module_with(real_datetime, classes)
        return replacements

    def _default(self, call: Callable[[float], Any]) -> Callable[..., Any]:
        return lambda seconds=None: call(self.now() if seconds is None else seconds)

    def _datetime(self) -> type:
        real, now = real_datetime.datetime, self.now
        members = {
            "real": real,
            "now": staticmethod(lambda tz=None: real.fromtimestamp(now(), tz)),
            "utcnow": staticmethod(lambda: real.fromtimestamp(now(), real_datetime.UTC).replace(tzinfo=None)),
            "today": staticmethod(lambda: real.fromtimestamp(now())),
        }
        return _replacement(real, members)


def _replacement(real: type, members: Mapping[str, Any]) -> type:
    meta = type("_Meta", (_Meta,), {"real": real})
    replacement: type = meta(real.__name__, (), {**members, "__module__": real.__module__, "__doc__": real.__doc__})
    return replacement


@contextmanager
def fake_clock(
    modules: Mapping[str, ModuleType], start: float, tick: float, note: Callable[[], object]
) -> Iterator[None]:
    """Give these modules a clock that begins at `start`, in seconds since the epoch. Each read advances it by `tick`
    seconds, and is recorded."""
    archives = [sys.modules[name] for name in _ARCHIVES if name in sys.modules]
    clock = Clock(start, tick, note)
    with ExitStack() as stack:
        if (stamp := getattr(sys.modules.get("pandas"), "Timestamp", None)) is not None:
            now = classmethod(lambda kind, tz=None: kind.fromtimestamp(clock.now(), tz))
            utcnow = classmethod(lambda kind: kind.fromtimestamp(clock.now(), "UTC"))
            stack.enter_context(patched(stamp, now=now, today=now, utcnow=utcnow))
        stack.enter_context(replacing(modules, clock.replacements(), _MODULES, archives))
        yield
