"""Conditions under which author code runs (clock, random numbers, order of listings and threads), and interruptions.

While the function runs, the names `time` and `datetime`, and names that the author's modules imported from them, refer
to a fake clock. Other code does not see it, except the archive modules of the standard library, because they write the
time into their files.
"""

from __future__ import annotations

import builtins
import concurrent.futures
import concurrent.futures.thread
import datetime as real_datetime
import dis
import glob
import itertools
import os
import platform
import random
import signal
import socket
import sys
import threading
import time
import time as real_time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest

from perago.authoring import Task
from perago.driver import Interrupted
from perago.guardrails.evaluation import Phase
from perago.guardrails.function_guardrail import FunctionGuardrail
from pytest_perago.confinement import is_deaf, patched


@contextmanager
def rebound(modules: Iterable[ModuleType], stand_ins: Mapping[int, Any]) -> Iterator[None]:
    """Replace objects in the globals of the modules. `stand_ins` maps the id of each object to its replacement."""
    names = [(vars(module), name, id(value)) for module in modules for name, value in list(vars(module).items())]
    former = [(owner, name, owner[name]) for owner, name, key in names if key in stand_ins]
    for owner, name, value in former:
        owner[name] = stand_ins[id(value)]
    try:
        yield
    finally:
        for owner, name, value in former:
            if owner.get(name) is stand_ins[id(value)]:
                owner[name] = value


_PACKAGES = ("site-packages", "dist-packages")
_SET_NAMES = {"set", "frozenset", "hash", "union", "intersection", "difference", "symmetric_difference"}
_SET_CODES = {dis.opmap[name] for name in ("BUILD_SET", "SET_ADD", "SET_UPDATE") if name in dis.opmap}
_VIEWS = {"keys", "items"}


def own_guardrails(task: Task) -> list[tuple[Phase, FunctionGuardrail]]:
    """Return the guardrails that the author has written as functions, with their phases."""
    spec = task.workspace
    phases = ((Phase.PRE, spec.pre), (Phase.POST, spec.post)) if spec is not None else ()
    return [(phase, rule) for phase, rules in phases for rule in rules if isinstance(rule, FunctionGuardrail)]


class AuthorCode:
    """The modules of a task, as they are loaded now.

    A module is the author's if it is below the directory that the task module is imported from, and is not in an
    environment. The task module must reach it by its globals, or by imports inside its functions.
    """

    def __init__(self, task: Task) -> None:
        file = Path(getattr(sys.modules.get(task.module), "__file__", None) or task.file)
        depth = task.module.count(".") + (file.name == "__init__.py")
        self._root = file.parents[depth]
        """The directory that holds the task's topmost package, or its module."""
        rules = own_guardrails(task)
        self.modules: Mapping[str, ModuleType] = self._reached(
            [task.module, *(rule.function.__module__ for _, rule in rules)]
        )
        self.files: frozenset[str] = frozenset(str(module.__file__) for module in self.modules.values())

    @cached_property
    def uses_sets(self) -> bool:
        """Whether the code mentions sets or `hash`, so that the seed of Python's hashes may matter."""
        return any(_mentions_sets(code) for module in self.modules.values() for code in _code_of(module))

    def _reached(self, names: Iterable[str]) -> Mapping[str, ModuleType]:
        modules: dict[str, ModuleType] = {}
        pending = list(names)
        while pending:
            module = sys.modules.get(pending.pop())
            if module is None or module.__name__ in modules or not self._is_own(module):
                continue
            modules[module.__name__] = module
            for value in list(vars(module).values()):
                other = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
                if isinstance(other, str):
                    pending.append(other)
            for name in {name for code in _code_of(module) for name in code.co_names}:
                pending += [name, f"{module.__package__}.{name}"]
        return modules

    def _is_own(self, module: ModuleType) -> bool:
        file = getattr(module, "__file__", None)
        if not file:
            return False
        parts = Path(file).parts
        return Path(file).is_relative_to(self._root) and not any(name in parts for name in _PACKAGES)


def _code_of(module: ModuleType) -> Iterator[CodeType]:
    """The code of the functions and methods that the module defines."""
    pending = []
    for value in list(vars(module).values()):
        members = [value, *vars(value).values()] if isinstance(value, type) else [value]
        functions = [
            member.function if type(member) is FunctionGuardrail else getattr(member, "__func__", member)
            for member in members
        ]
        pending += [function.__code__ for function in functions if isinstance(function, FunctionType)]
    while pending:
        code = pending.pop()
        if code.co_filename == module.__file__:
            yield code
            pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _mentions_sets(code: CodeType) -> bool:
    """A literal set that is only used for membership tests is a constant, and harmless."""
    names = set(code.co_names)
    if names & _SET_NAMES or set(code.co_code[::2]) & _SET_CODES:
        return True
    steps = list(dis.get_instructions(code))
    constant = any(
        isinstance(step.argval, frozenset) and after.opname != "CONTAINS_OP"
        for step, after in itertools.pairwise(steps)
    )
    operators = (step.argrepr.rstrip("=") for step in steps if step.opname == "BINARY_OP")
    return constant or (bool(names & _VIEWS) and any(operator in ("&", "|", "-", "^") for operator in operators))


@contextmanager
def seeded(seed: int, note: Callable[[], object]) -> Iterator[None]:
    """Give random numbers of `seed` to code that asks for them, and record the use. Direct calls in C are not
    covered."""
    source = random.Random(seed)  # noqa: S311 - tests want what can be foretold

    def bytes_of(number: int) -> bytes:
        note()
        return source.randbytes(number)

    state = random.getstate()
    arrays = getattr(sys.modules.get("numpy"), "random", None) if "numpy.random" in sys.modules else None
    array_state = arrays.get_state() if arrays is not None else None
    real: Any = random.Random

    def seed_of(self: Any, a: Any = None, *rest: Any) -> None:
        real.seed(self, bytes_of(8) if a is None else a, *rest)

    generator = type(real.__name__, (real,), {"seed": seed_of})  # with a seed also where none is given
    random.seed(seed)
    untouched = random.getstate()
    if arrays is not None:
        arrays.seed(seed)
        note()  # its state is long, so it is not compared
    try:
        with patched(os, urandom=bytes_of), patched(random, _urandom=bytes_of, Random=generator):
            yield
    finally:
        if random.getstate() != untouched:
            note()
        random.setstate(state)
        if arrays is not None:
            arrays.set_state(array_state)


TICK = 0.001
"""Seconds that each read of the clock adds, so that a loop that waits for a moment ends."""

_ARCHIVES = ("gzip", "zipfile", "zipfile._path", "tarfile", "shutil")
REPLACED_LIBRARIES = frozenset(("numpy.random", "pandas", *_ARCHIVES))
"""Libraries whose random numbers or clock are replaced, if they were imported before the function is called."""
_MODULES = (real_time.__name__, real_datetime.__name__)


class _Meta(type):
    """Makes a stand-in pass `isinstance` and `issubclass` checks of the author."""

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

    def stand_ins(self) -> Mapping[int, Any]:
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
            "strftime": lambda text, moment=None: real_time.strftime(text, moment or real_time.localtime(self.now())),
            "asctime": lambda moment=None: real_time.asctime(moment or real_time.localtime(self.now())),
        }
        real_date: Any = real_datetime.date
        today = staticmethod(lambda: real_date.fromtimestamp(self.now()))
        classes = {"datetime": self._datetime(), "date": _stand_in(real_date, {"real": real_date, "today": today})}
        stand_ins: dict[int, Any] = {id(getattr(real_time, name)): stand_in for name, stand_in in functions.items()}
        stand_ins |= {id(getattr(real_datetime, name)): stand_in for name, stand_in in classes.items()}
        stand_ins[id(real_time)] = _module(real_time, functions)
        stand_ins[id(real_datetime)] = _module(real_datetime, classes)
        return stand_ins

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
    """Give these modules a clock that begins at `start`, in seconds since the epoch. Each read advances it by `tick`
    seconds, and is recorded."""
    archives = [sys.modules[name] for name in _ARCHIVES if name in sys.modules]
    clock = Clock(start, tick, note)
    with ExitStack() as stack:
        if (stamp := getattr(sys.modules.get("pandas"), "Timestamp", None)) is not None:
            now = classmethod(lambda kind, tz=None: kind.fromtimestamp(clock.now(), tz))
            utcnow = classmethod(lambda kind: kind.fromtimestamp(clock.now(), "UTC"))
            stack.enter_context(patched(stamp, now=now, today=now, utcnow=utcnow))
        stack.enter_context(_replaced_for(modules, clock.stand_ins(), _MODULES, archives))
        yield


@contextmanager
def _replaced_for(
    modules: Mapping[str, ModuleType],
    replaced: Mapping[int, Any],
    names: Iterable[str],
    others: Iterable[ModuleType] = (),
) -> Iterator[None]:
    """Replace objects in the globals of all modules. Imports of `names` inside functions of the author's modules also
    get the replacements."""
    real_import = builtins.__import__

    def imports(name: str, namespace: Any = None, *rest: Any, **more: Any) -> Any:
        module = real_import(name, namespace, *rest, **more)
        is_own = name in names and namespace is not None and namespace.get("__name__") in modules
        return replaced.get(id(module), module) if is_own else module

    with rebound([*modules.values(), *others], replaced), patched(builtins, __import__=imports):
        yield


TIMES_OF_FILES = "the modification times of its input files"
"""These are the times of the download. `pytest_perago.attempts` changes them."""
MACHINE = ("the process id", "the host name", "HOME", "LANG", "USER", TIMES_OF_FILES)
"""The parts of a machine that a function can see."""

_NO_PROCESS = 2**22
"""Offset that is added to process ids. Linux process ids are smaller, so no process can be killed by mistake."""


_HOST = "another-host"
_HOST_NAMES: tuple[tuple[ModuleType, Mapping[str, Any]], ...] = (
    (os, {"uname": lambda: os.uname_result((os.uname()[0], _HOST, *os.uname()[2:]))}),
    (socket, {"gethostname": lambda: _HOST, "getfqdn": lambda _="": _HOST}),
    (platform, {"node": lambda: _HOST, "uname": lambda: platform.uname()._replace(node=_HOST)}),
)
"""Functions that return the name of this machine, and their replacements."""


@contextmanager
def another_machine(modules: Mapping[str, ModuleType], parts: Iterable[str], home: str) -> Iterator[None]:
    """Show these modules different values for the given parts of `MACHINE`. `home` is the other home directory. Child
    processes see only the changed environment."""
    functions: dict[ModuleType, dict[str, Any]] = {}
    environment: dict[str, str] = {}
    for part in parts:
        if part == "the process id":
            pids = {name: getattr(os, name) for name in ("getpid", "getppid")}
            fakes = {name: lambda real=real: real() + _NO_PROCESS for name, real in pids.items()}
            functions.setdefault(os, {}).update(fakes)
        elif part == "the host name":
            for module, names in _HOST_NAMES:
                functions.setdefault(module, {}).update(names)
            environment["HOSTNAME"] = _HOST
        elif part == "HOME":
            environment["HOME"] = home
        elif part == "LANG":
            environment["LANG"] = "C" if os.environ.get("LANG") == "C.UTF-8" else "C.UTF-8"
        elif part == "USER":
            environment |= dict.fromkeys(("USER", "LOGNAME"), "another-user")
    replaced = {id(module): _module(module, members) for module, members in functions.items()}
    replaced |= {id(getattr(module, name)): fake for module, fakes in functions.items() for name, fake in fakes.items()}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with _replaced_for(modules, replaced, [module.__name__ for module in functions]):
            yield


_PATIENCE = 0.3
_MOMENT_OF_ENDING = 0.02
"""Seconds that a thread gets to end after the function has returned."""
_POLL_SECONDS = 0.002
_ALL = concurrent.futures.ALL_COMPLETED
_GLOBBER: Any = getattr(glob, "_StringGlobber", None)
"""A module that keeps its own reference to `os.scandir`, from Python 3.13 on."""


class _Entries:
    """The result of `os.scandir`, sorted."""

    def __init__(self, entries: list[os.DirEntry[Any]]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> _Entries:
        return self

    def __next__(self) -> os.DirEntry[Any]:
        return next(self._entries)

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())


@contextmanager
def listing_order(*, backwards: bool, note: Callable[[], object]) -> Iterator[None]:
    """Sort every directory listing by name, forwards or backwards, and record the use. A file system promises no
    order."""
    listdir, scandir = os.listdir, os.scandir

    def names(*args: Any, **kwargs: Any) -> list[Any]:
        note()
        return sorted(listdir(*args, **kwargs), reverse=backwards)

    def entries(*args: Any, **kwargs: Any) -> _Entries:
        note()
        with scandir(*args, **kwargs) as entries:
            return _Entries(sorted(entries, key=lambda entry: entry.name, reverse=backwards))

    with ExitStack() as stack:
        stack.enter_context(patched(os, listdir=names, scandir=entries))
        if hasattr(_GLOBBER, "scandir"):
            stack.enter_context(patched(_GLOBBER, scandir=staticmethod(entries)))
        yield


class Threads:
    """Runs the author's threads and thread-pool calls one after the other.

    Each waits for the previous one. With `swapped` 1, neighbors change places: the first of `expected` waits for the
    second, the third for the fourth. With 2, the pairs begin at the second. If threads need each other, the order is
    given up after a short time. `as_completed` and `imap_unordered` return results in the order of the inputs, or
    backwards. `wait` for the first result returns one at a time, in such an order.
    """

    def __init__(self, author: AuthorCode, *, swapped: int = 0, expected: int = 0, ordered: bool = True) -> None:
        self._author = author
        self._swapped = swapped
        self._expected = expected
        self.ordered: bool = ordered
        """Whether the order has been kept so far."""
        self._ended: list[threading.Event] = []
        self._unordered = 0
        self._places: dict[int, int] = {}
        """The place of each future in the order of the calls, by its id."""
        self._threads: list[threading.Thread] = []
        self._own: list[threading.Thread] = []
        """The threads that the author's code has started itself."""
        self._stack = ExitStack()
        self._owner = os.getpid()

    @property
    def number(self) -> int:
        """The number of threads."""
        return len(self._ended) + self._unordered

    def __enter__(self) -> Threads:
        item: Any = concurrent.futures.thread._WorkItem
        start, run, make = threading.Thread.start, item.run, item.__init__
        as_completed, wait = concurrent.futures.as_completed, concurrent.futures.wait

        def started(thread: Any) -> None:
            self._threads.append(thread)
            thread.daemon = True  # one that an interrupted call leaves waiting must not keep pytest from ending
            if sys._getframe(1).f_code.co_filename in self._author.files:  # those of libraries need each other
                thread.run = self._in_turn(thread.run)
                self._own.append(thread)
            start(thread)

        def made(item: Any, *args: Any, **kwargs: Any) -> None:
            make(item, *args, **kwargs)
            self._places[id(item.future)] = len(self._places)
            item.perago_turn = self._in_turn(lambda *rest: run(item, *rest))

        def ran(item: Any, *args: Any) -> Any:
            turn = getattr(item, "perago_turn", None)
            return turn(*args) if turn else run(item, *args)

        def arrived(futures: Iterable[Any], timeout: float | None = None) -> Iterator[Any]:
            distinct = list(dict.fromkeys(futures))
            places = {id(future): place for place, future in enumerate(distinct)}
            self._unordered += 1
            completed = as_completed(distinct, timeout)
            yield from sorted(completed, key=lambda future: places[id(future)], reverse=bool(self._swapped))

        def waited(futures: Iterable[Any], timeout: float | None = None, return_when: str = _ALL) -> Any:
            pending = set(futures)
            if return_when != concurrent.futures.FIRST_COMPLETED:
                return wait(pending, timeout, return_when)
            self._unordered += 1
            state = wait(pending, _PATIENCE if timeout is None else min(timeout, _PATIENCE))
            if not state.done:
                state = wait(pending, timeout, return_when)
            ended = sorted(state.done, key=lambda future: self._places.get(id(future), 0), reverse=bool(self._swapped))
            return type(state)(set(ended[:1]), pending - set(ended[:1]))

        def unordered(pool: Any, function: Any, arguments: Iterable[Any], chunksize: int = 1) -> Iterator[Any]:
            self._unordered += 1
            results = list(pool.imap(function, arguments, chunksize))
            return iter(results[::-1] if self._swapped else results)

        if (pools := sys.modules.get("multiprocessing.pool")) is not None:
            self._stack.enter_context(patched(pools.Pool, imap_unordered=unordered))
        self._stack.enter_context(patched(threading.Thread, start=started))
        self._stack.enter_context(patched(item, run=ran, __init__=made))
        self._stack.enter_context(patched(concurrent.futures, as_completed=arrived, wait=waited))
        stand_ins = {id(as_completed): arrived, id(wait): waited}
        self._stack.enter_context(rebound(self._author.modules.values(), stand_ins))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def running(self) -> list[str]:
        """Return the names of the author's threads that are running and do not end within a short time."""
        alive = [thread for thread in self._own if thread.is_alive()]
        if alive:
            time.sleep(_MOMENT_OF_ENDING)
        return [thread.name for thread in alive if thread.is_alive()]

    def join(self, seconds: float) -> None:
        """Wait until the threads have ended, for at most `seconds`."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
                if thread.is_alive():  # at its end Python waits for the workers of pools, daemons or not
                    concurrent.futures.thread._threads_queues.pop(thread, None)  # type: ignore[attr-defined]

    def _in_turn(self, run: Callable[..., Any]) -> Callable[..., Any]:
        number = len(self._ended)
        ended = threading.Event()
        self._ended.append(ended)

        def in_turn(*args: Any) -> Any:
            self._wait(number)
            try:
                return run(*args)
            finally:
                ended.set()

        return in_turn

    def _before(self, number: int) -> int:
        """The number of the thread to wait for; negative for no thread."""
        first = self._swapped - 1
        if not self._swapped or number < first:
            return number - 1
        if (number - first) % 2:
            return number - 3 if number - 3 >= first else first - 1
        return number + 1 if number + 1 < self._expected else number - 2

    def _wait(self, number: int) -> None:
        before = self._before(number)
        deadline = time.monotonic() + _PATIENCE
        while self.ordered and before >= 0 and os.getpid() == self._owner:
            if before < len(self._ended) and self._ended[before].wait(_POLL_SECONDS):
                return
            if time.monotonic() > deadline:
                self.ordered = False
            elif before >= len(self._ended):
                time.sleep(_POLL_SECONDS)


START_TIME = 1_767_607_230.0
"""2026-01-05 10:00:30 UTC."""
MUCH_LATER = START_TIME + 397 * 86_400 + 11_111
"""A moment with a different year, month, day, hour, minute and second."""
MUCH_SLOWER = 7 * TICK
"""A tick that also changes durations."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """`moment` is the start of the function, in seconds since the epoch. `tick` is the time that each read of the clock
    adds. `seed` determines the random numbers.

    `backwards` is the order of listings, `swapped` that of `threads` threads, unless `ordered` is False. `pinned=False`
    leaves clock and random numbers unchanged. `machine` names the parts of `MACHINE` that differ; `home` is the home
    directory then.
    """

    moment: float = START_TIME
    tick: float = TICK
    seed: int = 1
    backwards: bool = False
    swapped: int = 0
    threads: int = 0
    ordered: bool = True
    pinned: bool = True
    machine: tuple[str, ...] = ()
    home: str = ""


@contextmanager
def under(conditions: Conditions, author: AuthorCode, used: set[str]) -> Iterator[Threads]:
    """Run the author's code under these conditions. Yield the counter of its threads. `used` gets the used sources:
    `time`, `random`, `listing`."""
    with ExitStack() as stack:
        if conditions.pinned:
            stack.enter_context(seeded(conditions.seed, lambda: used.add("random")))
            stack.enter_context(
                on_the_clock(author.modules, conditions.moment, conditions.tick, lambda: used.add("time"))
            )
        stack.enter_context(listing_order(backwards=conditions.backwards, note=lambda: used.add("listing")))
        threads = Threads(author, swapped=conditions.swapped, expected=conditions.threads, ordered=conditions.ordered)
        entered = stack.enter_context(threads)
        if conditions.machine:  # the last, because it copies modules as they are now
            stack.enter_context(another_machine(author.modules, conditions.machine, conditions.home))
        yield entered


Place = tuple[str, int]
"""The file and the line of the call."""


class Interruption:
    """Counts the calls of the author's code in its block, in the current thread.

    Args:
        author: whose code it is.
        at: the number of the call, from 0, at which `act` is called; None: at none.
        act: may raise an exception there. If the function has set a signal handler, that is called instead.
        counts: False switches the counter off.
    """

    def __init__(
        self, author: AuthorCode, *, at: int | None = None, act: Callable[[], None] | None = None, counts: bool = True
    ) -> None:
        self._files = author.files
        self._at = sys.maxsize if at is None else at
        self._act = act
        self._counts = counts
        self._inside_c: set[FrameType] = set()
        self.calls: list[Place] = []
        """The place of each call."""
        self.place: Place | None = None
        """The place at which it happened."""
        self.dropped: list[BaseException] = []
        """Exceptions that Python dropped with a warning. If the raised exception is one of them, no code has seen
        it."""
        self.handled: bool = False
        """Whether a signal handler of the function handled it."""

    @property
    def is_planned(self) -> bool:
        """Whether an interruption is planned."""
        return self._act is not None

    def __enter__(self) -> Interruption:
        self._former = sys.getprofile()
        self._owner = os.getpid()
        self._handler = signal.getsignal(signal.SIGTERM)
        if self._counts:
            sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        if self._counts:
            sys.setprofile(self._former)
        self._inside_c.clear()

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        caller = frame.f_back if event == "call" else frame
        if caller is None or event == "return" or caller.f_code.co_filename not in self._files:
            return
        if event in ("c_return", "c_exception"):
            self._inside_c.discard(caller)
            return
        if event == "call" and caller in self._inside_c:
            return  # a callback, such as that of a fork: Python may drop what is raised there
        if event == "c_call":
            self._inside_c.add(caller)
        place = caller.f_code.co_filename, caller.f_lineno
        self.calls.append(place)
        due = len(self.calls) > self._at and self._act is not None and not self.place
        if due and os.getpid() == self._owner and not is_deaf(frame):
            self.place = place
            self._interrupt(caller)

    def _interrupt(self, frame: FrameType) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        self.handled = handler is not self._handler
        if not self.handled and self._act is not None:
            self._act()
        elif callable(handler):
            handler(signal.SIGTERM, frame)


@contextmanager
def silenced() -> Iterator[list[BaseException]]:
    """Silence reports about unfinished work of an interrupted function: coroutines, threads without their files. The
    list then has the exceptions that Python dropped, for instance in a destructor."""
    dropped: list[BaseException] = []

    def drop(unraisable: Any) -> None:
        dropped.append(unraisable.exc_value)

    with warnings.catch_warnings(), patched(sys, unraisablehook=drop), patched(threading, excepthook=lambda _: None):
        warnings.simplefilter("ignore")
        yield dropped


def choose(places: list[Place], most: int) -> list[int]:
    """Return the numbers of up to `most` calls, in order, spread over the lines that make calls."""
    last = {place: number for number, place in enumerate(places)}
    numbers = sorted(last.values())
    if len(numbers) <= most:
        return numbers
    return [numbers[index * (len(numbers) - 1) // (most - 1)] for index in range(most)]


def end() -> None:
    """Interrupt a function as a worker does when its attempt is canceled or lost.

    Raises:
        Interrupted: inside the function.
    """
    raise Interrupted
