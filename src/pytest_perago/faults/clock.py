"""A clock that the author's code reads instead of the real one: it begins at a given moment and advances at each look.

The names `time` and `datetime`, and what the author's modules took from them, mean this clock while the function runs.
No other code sees it, but for the archives of the standard library, which write the time into their files.
"""

from __future__ import annotations

import builtins
import datetime as real_datetime
import sys
import time as real_time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from pytest_perago.faults.patching import patched, rebound

TICK = 0.001
"""Seconds that a look at the clock usually takes, so that a loop which waits for a moment comes to its end."""

_ARCHIVES = ("gzip", "zipfile", "zipfile._path", "tarfile", "shutil")
_MODULES = (real_time.__name__, real_datetime.__name__)


class _Meta(type):
    """Lets a stand-in of a class be taken for the class, wherever the author asks."""

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
        """The time, a tick later than at the last look."""
        self._note()
        self._now += self._tick
        return self._now

    def sleep(self, seconds: float) -> None:
        """Sleep as long as asked; the clock advances by just that."""
        real_time.sleep(seconds)
        self._now += seconds

    def passed(self) -> float:
        """Seconds since an arbitrary moment, for measuring."""
        return self.now() - self._start

    def stand_ins(self) -> Mapping[int, Any]:
        """What takes the place of a module, a class or a function, by the id of that."""
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
            "strftime": lambda text, moment=None: real_time.strftime(text, moment or real_time.localtime(self.now())),
            "asctime": lambda moment=None: real_time.asctime(moment or real_time.localtime(self.now())),
        }
        classes = {"datetime": self._datetime(), "date": self._date()}
        found: dict[int, Any] = {id(getattr(real_time, name)): each for name, each in functions.items()}
        found |= {id(getattr(real_datetime, name)): each for name, each in classes.items()}
        found[id(real_time)] = _module(real_time, functions)
        found[id(real_datetime)] = _module(real_datetime, classes)
        return found

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
        return _stand_in(real, members)

    def _date(self) -> type:
        real, now = real_datetime.date, self.now
        return _stand_in(real, {"real": real, "today": staticmethod(lambda: real.fromtimestamp(now()))})


def _stand_in(real: type, members: Mapping[str, Any]) -> type:
    meta = type("_Meta", (_Meta,), {"real": real})
    made: type = meta(real.__name__, (), {**members, "__module__": real.__module__, "__doc__": real.__doc__})
    return made


def _module(real: ModuleType, members: Mapping[str, Any]) -> ModuleType:
    made = ModuleType(real.__name__, real.__doc__)
    vars(made).update({**vars(real), **members})
    return made


@contextmanager
def on_the_clock(
    modules: Mapping[str, ModuleType], start: float, tick: float, note: Callable[[], object]
) -> Iterator[None]:
    """The code of these modules reads a clock that begins at `start`, seconds since the epoch, and advances by `tick`
    seconds with each look, which is noted."""
    replaced = Clock(start, tick, note).stand_ins()
    owners = [*modules.values(), *(sys.modules[name] for name in _ARCHIVES if name in sys.modules)]
    real_import = builtins.__import__

    def imports(name: str, given: Any = None, *rest: Any, **more: Any) -> Any:
        found = real_import(name, given, *rest, **more)
        is_own = name in _MODULES and given is not None and given.get("__name__") in modules
        return replaced.get(id(found), found) if is_own else found

    with rebound(owners, replaced), patched(builtins, __import__=imports):
        yield
