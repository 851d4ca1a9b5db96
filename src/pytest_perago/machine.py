"""The machine that user code sees: its random numbers, process id, host name, environment, and order of directory
listings."""

from __future__ import annotations

import glob
import os
import platform
import random
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import ModuleType
from typing import Any

import pytest

from pytest_perago.confinement import patched
from pytest_perago.user_code import module_with, replacing

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
    replaced = {id(module): module_with(module, members) for module, members in functions.items()}
    replaced |= {id(getattr(module, name)): fake for module, fakes in functions.items() for name, fake in fakes.items()}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with replacing(modules, replaced, [module.__name__ for module in functions]):
            yield


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


_GLOBBER: Any = getattr(glob, "_StringGlobber", None)
"""A module that keeps its own reference to `os.scandir`, from Python 3.13 on."""


class _Entries(Iterator[Any], AbstractContextManager["_Entries", None]):
    """The result of `os.scandir`, sorted."""

    def __init__(self, entries: list[os.DirEntry[Any]]) -> None:
        self._entries = iter(entries)

    def __next__(self) -> os.DirEntry[Any]:
        return next(self._entries)

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
