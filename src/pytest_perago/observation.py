"""Observe the effects of a call of a task function: output, files next to its workspace, values in its module.

The module of the task and the used modules of its package are read: plain values, containers and caches. Authors keep
counters, registers and "already done" marks there. Other places are not observed, and never count as state.

The directories around the workspace, the current directory with its contents, and the top of the home directory are
read before and after the call. Files of Python, pytest and their tools are ignored.
"""

from __future__ import annotations

import ast
import fcntl
import functools
import itertools
import json
import logging
import os
import re
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from types import CellType, FunctionType, ModuleType
from typing import Any, TypeAlias

from pydantic import BaseModel, SecretBytes, SecretStr

from perago.guardrails.function_guardrail import FunctionGuardrail
from perago.text import LISTED, listing
from perago.workspace.scan import open_file, scan_tree

_SCALARS = (bool, int, float, complex, str, bytes, type(None))
_ROWS = (tuple, frozenset, list, set, deque)
_CACHED = type(functools.cache(len))
_KEPT = (*_SCALARS, *_ROWS, dict, bytearray, itertools.count, _CACHED)
_MOST_ITEMS = 10_000
_LONGEST = 60
_HOMES = {"builtins", "collections", "itertools", "functools"}
_IN_PLACE = (list, dict, set, bytearray, deque, _CACHED)
_ABSENT: Any = object()


class Memory:
    """A copy of the values at the time of its creation."""

    def __init__(self, module: str) -> None:
        self._places = {
            (id(owner), name): (owner, name, where, value, _copied(value))
            for owner, name, where, value in _places(module)
            if _size(value) <= _MOST_ITEMS
        }
        self._module = module
        self._names = {
            id(owner): (owner, set(vars(owner))) for holder in _modules(module) for owner, _ in _owners(holder)
        }

    def changes(self) -> list[str]:
        """Describe the differences to the current values."""
        told = []
        for owner, name, where, _, saved in self._places.values():
            value = _current(owner, name)
            if not _same(saved, value):
                told.append(f"{where} was {_shown(saved)}, is {_shown(value)}")
        return told + [f"{where} is new: {_shown(value)}" for _, _, where, value in self._appeared()]

    def restore(self) -> None:
        """Restore all values. Containers are restored in place, because other code can refer to them."""
        for owner, name, _, value, saved in self._places.values():
            if not _same(saved, _current(owner, name)):
                with suppress(Exception):  # a class may refuse
                    _refill(value, saved)
                    setattr(owner, name, value if isinstance(value, _IN_PLACE) else _copied(saved))
        for owner, name, _, _ in list(self._appeared()):
            with suppress(Exception):
                delattr(owner, name)

    def _appeared(self) -> Iterator[tuple[Any, str, str, Any]]:
        """Return the names and values that are new."""
        for place in _places(self._module):
            owner, name = place[:2]
            known = self._names.get(id(owner))
            if known and name not in known[1] and (id(owner), name) not in self._places:
                yield place


def _places(module: str) -> Iterator[tuple[Any, str, str, Any]]:
    """Yield owner, attribute, name for people and value of everything that is observed."""
    for holder in _modules(module):
        for owner, prefix in _owners(holder):
            above = prefix if holder.__name__ == module else f"{holder.__name__}.{prefix}"
            values = dict(vars(owner))
            if isinstance(owner, FunctionType):
                values |= {"__defaults__": owner.__defaults__, "__kwdefaults__": owner.__kwdefaults__}
                for name, cell in zip(owner.__code__.co_freevars, owner.__closure__ or (), strict=True):
                    with suppress(ValueError):  # it is empty
                        if _is_plain(cell.cell_contents):  # a variable of the enclosing function
                            yield cell, "cell_contents", f"{above}{name}", cell.cell_contents
            for name, value in values.items():
                is_special = name.startswith("__") and not isinstance(owner, FunctionType)
                if _is_plain(value) and not is_special:
                    yield owner, name, f"{above}{name}", value


def _modules(name: str) -> Iterator[ModuleType]:
    """Return the module, and the modules of its package that it uses."""
    module = sys.modules.get(name)
    if module is None:
        return
    package = name.partition(".")[0]
    used = {name: module}
    for value in vars(module).values():
        other = value.__name__ if isinstance(value, ModuleType) else _own_type(value).__module__
        if isinstance(other, str) and other.partition(".")[0] == package and other in sys.modules:
            used.setdefault(other, sys.modules[other])
    yield from used.values()


def _owners(module: ModuleType) -> Iterator[tuple[Any, str]]:
    yield module, ""
    for name, value in list(vars(module).items()):
        if _own_type(value).__module__ == module.__name__ and hasattr(value, "__dict__"):
            yield value, f"{name}."


def _own_type(value: Any) -> type | FunctionType:
    """Return the type that shows where the value was defined. Objects are not asked, because a proxy answers for
    another object."""
    if type(value) is FunctionGuardrail:
        return type(value) if not isinstance(value.function, FunctionType) else value.function
    return value if isinstance(value, type | FunctionType) else type(value)


def _current(owner: Any, name: str) -> Any:
    if isinstance(owner, CellType) or (isinstance(owner, FunctionType) and name.startswith("__")):
        return getattr(owner, name)
    return vars(owner).get(name, _ABSENT)


def _is_plain(value: Any) -> bool:
    """Whether the value has a built-in type. Reading an instance of a derived class could run any code."""
    return isinstance(value, _KEPT) and type(value).__module__ in _HOMES


def _size(value: Any) -> int:
    """Return the number of items. Counting stops shortly above the limit."""
    pending, count = [value], 0
    while pending and count <= _MOST_ITEMS:
        item = pending.pop()
        count += 1
        if _is_plain(item) and isinstance(item, (dict, *_ROWS)):
            count += len(item)
            if count <= _MOST_ITEMS:
                pending += item.values() if isinstance(item, dict) else item
    return count


def _copied(value: Any) -> Any:
    """Return the value with copied containers and the same leaf objects."""
    if not _is_plain(value):
        return value
    if isinstance(value, itertools.count):
        return _copied_count(value)
    if isinstance(value, _CACHED):
        return value.cache_info()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, bytearray):
        return bytes(value)
    for kind in _ROWS:
        if isinstance(value, kind):
            return kind(map(_copied, value))
    return value


def _copied_count(value: Any) -> Any:
    """Return the position of a counter, which only its `repr` shows."""
    try:
        return itertools.count(*ast.literal_eval(f"[{repr(value)[6:-1]}]"))
    except (ValueError, SyntaxError):  # it counts in something else than numbers
        return value


def _same(saved: Any, value: Any) -> bool:
    if saved is value:
        return True
    if isinstance(value, _CACHED):
        return bool(saved == value.cache_info())
    if isinstance(saved, itertools.count):
        return repr(saved) == repr(value)
    if isinstance(saved, dict) and isinstance(value, dict):
        return saved.keys() == value.keys() and all(_same(item, value[key]) for key, item in saved.items())
    if isinstance(saved, tuple | list | deque) and isinstance(value, tuple | list | deque):
        return len(saved) == len(value) and all(map(_same, saved, value))
    if isinstance(saved, (*_SCALARS, set, frozenset)):
        return bool(saved == value)
    return False


def _refill(value: Any, saved: Any) -> None:
    if isinstance(value, list | bytearray):
        value[:] = _copied(saved)
    elif isinstance(value, dict | set):
        value.clear()
        value.update(_copied(saved))
    elif isinstance(value, _CACHED):
        value.cache_clear()
    elif isinstance(value, deque):
        value.clear()
        value.extend(_copied(saved))


def _shown(value: Any) -> str:
    if isinstance(value, _CACHED):
        value = value.cache_info()
    if _size(value) > _MOST_ITEMS:
        return f"a {type(value).__name__} of {len(value):,}"
    text = "gone" if value is _ABSENT else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_EXCERPT = 60
_BEFORE = 20
"""Number of bytes that are shown before the first difference."""
_MOST_EXCERPTS = 3


@dataclass(frozen=True, slots=True)
class Output:
    """The output of a call or an attempt: the result as JSON and files by paths or keys; or the reason why it
    failed."""

    result: Any
    files: Mapping[str, bytes]
    problem: str = ""

    def difference(self, other: Output, first: str = "first run", second: str = "second run") -> list[tuple[str, str]]:
        """Return the differences, as facts of a failure.

        Args:
            other: the state after the second call. first, second: the names of the two.
        """
        facts = []
        if self.problem != other.problem:
            facts += [(first, self.problem or "completed"), (second, other.problem or "completed")]
        if self.result != other.result:
            facts += [(first, repr(self.result)), (second, repr(other.result))]
        missing, extra = sorted(self.files.keys() - other.files.keys()), sorted(other.files.keys() - self.files.keys())
        if missing or extra:
            facts += [(first, listing(missing) or "no other file"), (second, listing(extra) or "no other file")]
        for key in self.changed(other)[:_MOST_EXCERPTS]:
            one, two = self.files[key], other.files[key]
            pairs = enumerate(zip(one, two, strict=False))
            difference = next((index for index, (a, b) in pairs if a != b), min(len(one), len(two)))
            start = max(0, difference - _BEFORE)
            facts += [(first, f"{key}: {_excerpt(one, start)}"), (second, f"{key}: {_excerpt(two, start)}")]
        return facts

    def changed(self, other: Output) -> list[str]:
        """Return the files of both outputs whose contents differ, sorted."""
        return [key for key in sorted(self.files.keys() & other.files.keys()) if self.files[key] != other.files[key]]

    def without(self, *ids: str) -> Output:
        """Return the output without the ids of the attempt."""

        def replaced(content: bytes) -> bytes:
            for number, each in enumerate(ids):
                content = content.replace(each.encode(), b"<id %d>" % number)
            return content

        result = json.loads(replaced(json.dumps(self.result).encode()))
        return Output(result, {key: replaced(content) for key, content in self.files.items()}, self.problem)

    def named(self, other: Output) -> str:
        """Describe the differences briefly: names of files, and the result."""
        names = sorted({*self.changed(other), *(self.files.keys() ^ other.files.keys())})
        words = [*names[:LISTED], f"{len(names) - LISTED} more files"] if len(names) > LISTED else names
        return ", ".join([*words, *(["the result"] if self.result != other.result else [])])


def read_files(root: Path) -> dict[str, bytes]:
    """Read the regular files below a directory, without following links."""
    found = {}
    for path in scan_tree(root).files:
        with os.fdopen(open_file(root, path), "rb") as file:
            found[path] = file.read()
    return found


def _excerpt(content: bytes, start: int) -> str:
    part = content[start : start + _EXCERPT]
    if len(part) == len(content):
        return repr(content)
    return f"{'...' if start else ''}{part!r}... ({len(content):,} bytes)"


_MOST_DIRECTORIES = 100
_MOST_ENTRIES = 500
_MOST_DESCRIPTORS = 1024
_AROUND = 2
"""Number of directories above a workspace that belong to its attempt or to the root of all attempts."""

_TOOLS = re.compile(
    r"__pycache__|.*\.pyc|\.pytest_cache|\.coverage.*|coverage\.xml|htmlcov|\.hypothesis|\.mypy_cache|\.ruff_cache|\.git"
    r"|\.perago-attempt\.json"
)
_NEVER_INSIDE = ("venv", "node_modules", "site-packages")

Stamp: TypeAlias = tuple[int, int, int] | None
"""Return size, modification time and inode of a file. None for a directory, whose entries matter more than its time."""


class NearbyFiles:
    """A record of the files around a workspace or, without a workspace, around the current directory."""

    def __init__(self, workspace: Path | None) -> None:
        self._here, self._home = _directory(Path.cwd), _directory(Path.home)
        around = workspace.resolve().parents[:_AROUND] if workspace is not None else ()
        self._attempt, self._workspace = ("", "") if workspace is None else (str(around[0]), workspace.name)
        self._around = frozenset(str(each) for each in around)
        self._own = set(_open_files())
        self._entries_of = {directory: self._entries(directory) for directory in self._around}
        if self._home != self._here:
            self._entries_of[str(self._home)] = self._entries(str(self._home))
        self._look_below(str(self._here))

    def differences(self) -> dict[Path, bool]:
        """Return the paths that have appeared (True) or changed (False) since. Files in a new directory are not
        listed."""
        found: dict[Path, bool] = {}
        for directory, before in self._entries_of.items():
            for name, stamp in self._entries(directory).items():
                if name not in before:
                    found[Path(directory, name)] = True
                elif stamp != before[name] and stamp is not None and stamp[2] not in self._own:
                    found[Path(directory, name)] = False
        return found

    def confirmed(self, found: dict[Path, bool], again: dict[Path, bool], *, alone: bool) -> list[Path]:
        """Return the paths that the function wrote, sorted. Other processes can write to the same directories, but not
        to those of the attempt. So a path that was only changed, or that appeared while this process was not `alone`,
        must come from a call that found it `again`, too."""
        places = {path.parent for path in again} | set(again)
        return sorted(
            path
            for path, is_new in found.items()
            if (is_new and alone) or str(path.parent) in self._around or places & {path, path.parent}
        )

    def shown(self, path: Path) -> str:
        """A path as the author knows it."""
        if str(path.parent) in self._around:
            return f"{path.name} beside the workspace"
        if path.is_relative_to(self._here):
            return f"{path.relative_to(self._here)} in the current directory"
        return f"~/{path.relative_to(self._home)}"

    def _look_below(self, top: str) -> None:
        """Yield the files, nearest directories first, because the limits can cut a large project."""
        passed_over = {tempfile.gettempdir(), str(self._home), *self._around} - {top}
        left, entries = [top], 0
        while left and len(self._entries_of) < _MOST_DIRECTORIES and entries < _MOST_ENTRIES:
            directory = left.pop(0)
            found = self._entries(directory)
            if directory != top and (directory in passed_over or "pyvenv.cfg" in found):
                continue
            self._entries_of[directory] = found
            entries += len(found)
            below = sorted(name for name, stamp in found.items() if stamp is None and not name.startswith("."))
            left += [f"{directory}/{name}" for name in below if name not in _NEVER_INSIDE]

    def _entries(self, directory: str) -> dict[str, Stamp]:
        is_home = directory == str(self._home)
        found: dict[str, Stamp] = {}
        with suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                if _TOOLS.fullmatch(entry.name) or (is_home and entry.name.startswith(".")):
                    continue
                with suppress(OSError):
                    status = None if entry.is_dir(follow_symlinks=False) else entry.stat(follow_symlinks=False)
                    found[entry.name] = status and (status.st_size, status.st_mtime_ns, status.st_ino)
        if directory == self._attempt:
            found.pop(self._workspace, None)
        return found


def _open_files() -> Iterator[int]:
    """Return the inodes of files that this process has open, such as its redirected output or a log."""
    for descriptor in range(_MOST_DESCRIPTORS):
        with suppress(OSError):
            yield os.fstat(descriptor).st_ino


_SHORTEST_SECRET = 6
"""Minimum length of a secret that is searched, because shorter ones occur inside other words."""


def secrets_of(value: Any, name: str = "params") -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each `SecretStr` and `SecretBytes` in a model."""
    if isinstance(value, SecretStr | SecretBytes):
        secret = value.get_secret_value()
        text = secret.decode(errors="replace") if isinstance(secret, bytes) else secret
        if len(text) >= _SHORTEST_SECRET:
            yield name, text
    elif isinstance(value, BaseModel):
        for field, item in value:
            yield from secrets_of(item, f"{name}.{field}")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from secrets_of(item, f"{name}[{key!r}]")
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from secrets_of(item, name)


class _Tee:
    """A stream that passes all texts on, and records them."""

    def __init__(self, stream: Any, texts: list[str]) -> None:
        self._stream = stream
        self._texts = texts

    def write(self, text: str) -> Any:
        self._texts.append(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def printed() -> Iterator[list[str]]:
    """Yield the texts that Python code prints and logs in the block. The texts are printed, too."""
    texts: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(f"{handler.format(record)}\n")  # type: ignore[method-assign]
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with redirect_stdout(_Tee(sys.stdout, texts)), redirect_stderr(_Tee(sys.stderr, texts)):
            yield texts
    finally:
        root.removeHandler(handler)


def open_for_writing(root: Path) -> list[str]:
    """Return the files below a directory that this process has open for writing, sorted. The list is empty except on
    Linux."""
    top, found = f"{root.resolve()}{os.sep}", set()
    with suppress(OSError), os.scandir("/proc/self/fd") as descriptors:
        for entry in descriptors:
            with suppress(OSError):
                path = os.readlink(entry.path)  # noqa: PTH115 - a descriptor is not always a path
                flags = fcntl.fcntl(int(entry.name), fcntl.F_GETFL)
                if path.startswith(top) and flags & (os.O_WRONLY | os.O_RDWR):
                    found.add(path.removeprefix(top))
    return sorted(found)


def _directory(find: Callable[[], Path]) -> Path:
    """A directory, or a path without entries."""
    try:
        return find().resolve()
    except (OSError, RuntimeError):
        return Path(os.devnull)
