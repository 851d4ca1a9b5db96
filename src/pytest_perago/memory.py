"""What a task module remembers from call to call: values of its globals, classes, functions and objects.

Only plain values, containers and caches are looked at, of the module and of those of its package that it uses. That is
where people keep counters, registers and "already done" marks; what lies elsewhere is not seen, and never taken for
state.
"""

from __future__ import annotations

import ast
import functools
import itertools
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from types import CellType, FunctionType, ModuleType
from typing import Any

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
    """The values as they are when it is made."""

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
        """What is different now, in words."""
        told = []
        for owner, name, where, _, saved in self._places.values():
            value = _current(owner, name)
            if not _same(saved, value):
                told.append(f"{where} was {_shown(saved)}, is {_shown(value)}")
        return told + [f"{where} is new: {_shown(value)}" for _, _, where, value in self._appeared()]

    def restore(self) -> None:
        """Make everything as it was, containers in place, because others may hold them."""
        for owner, name, _, value, saved in self._places.values():
            if not _same(saved, _current(owner, name)):
                with suppress(Exception):  # a class may refuse
                    _refill(value, saved)
                    setattr(owner, name, value if isinstance(value, _IN_PLACE) else _copied(saved))
        for owner, name, _, _ in list(self._appeared()):
            with suppress(Exception):
                delattr(owner, name)

    def _appeared(self) -> Iterator[tuple[Any, str, str, Any]]:
        """What has a name that its owner did not have."""
        for place in _places(self._module):
            owner, name = place[:2]
            known = self._names.get(id(owner))
            if known and name not in known[1] and (id(owner), name) not in self._places:
                yield place


def _places(module: str) -> Iterator[tuple[Any, str, str, Any]]:
    """Owner, attribute, name for people and value of everything that is looked at."""
    for holder in _modules(module):
        for owner, prefix in _owners(holder):
            above = prefix if holder.__name__ == module else f"{holder.__name__}.{prefix}"
            values = dict(vars(owner))
            if isinstance(owner, FunctionType):
                values |= {"__defaults__": owner.__defaults__, "__kwdefaults__": owner.__kwdefaults__}
                yield from _enclosed(owner, above)
            for name, value in values.items():
                is_special = name.startswith("__") and not isinstance(owner, FunctionType)
                if _is_plain(value) and not is_special:
                    yield owner, name, f"{above}{name}", value


def _enclosed(function: FunctionType, above: str) -> Iterator[tuple[Any, str, str, Any]]:
    """The variables that a function has from the function around it."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # it is empty
            if _is_plain(cell.cell_contents):
                yield cell, "cell_contents", f"{above}{name}", cell.cell_contents


def _modules(name: str) -> Iterator[ModuleType]:
    """The module, and those of its package whose things it uses."""
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
    """What says where the value was written; objects are not asked, because proxies answer for others."""
    return value if isinstance(value, type | FunctionType) else type(value)


def _current(owner: Any, name: str) -> Any:
    if isinstance(owner, CellType) or (isinstance(owner, FunctionType) and name.startswith("__")):
        return getattr(owner, name)
    return vars(owner).get(name, _ABSENT)


def _is_plain(value: Any) -> bool:
    """Whether it is a value or container of Python's own. What others derive may do anything when it is looked at."""
    return isinstance(value, _KEPT) and type(value).__module__ in _HOMES


def _size(value: Any) -> int:
    """How many items there are; no more than a little above the limit is counted."""
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
    """The value with its containers copied, and everything else as it is."""
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
    """A counter tells where it is by its `repr` alone."""
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
