"""The code of a task's author: its modules, and the values in them that a call of its function has changed.

The state that is read is that of the task's module and of the used modules of its package: plain values, containers and
caches. Authors keep counters, registers and "already done" marks there. Other places are not observed, and never count
as state.
"""

from __future__ import annotations

import ast
import builtins
import dis
import functools
import itertools
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

from perago.authoring import Task
from perago.guardrails.evaluation import Phase
from perago.guardrails.function_guardrail import FunctionGuardrail
from pytest_perago.confinement import patched

_PACKAGES = ("site-packages", "dist-packages")
_SET_NAMES = {"set", "frozenset", "hash", "union", "intersection", "difference", "symmetric_difference"}
_SET_CODES = {dis.opmap[name] for name in ("BUILD_SET", "SET_ADD", "SET_UPDATE") if name in dis.opmap}
_VIEWS = {"keys", "items"}


def own_guardrails(task: Task) -> list[tuple[Phase, FunctionGuardrail]]:
    """Return the guardrails that the author has written as functions, with their phases."""
    spec = task.workspace
    phases = ((Phase.PRE, spec.pre), (Phase.POST, spec.post)) if spec is not None else ()
    return [(phase, rule) for phase, rules in phases for rule in rules if isinstance(rule, FunctionGuardrail)]


class UserCode:
    """The modules of a task, as they are loaded now.

    A module is user code if it is below the directory that the task module is imported from, and is not in an
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
def rebound(modules: Iterable[ModuleType], replacements: Mapping[int, Any]) -> Iterator[None]:
    """Replace objects in the globals of the modules. `replacements` maps the id of each object to its replacement."""
    names = [(vars(module), name, id(value)) for module in modules for name, value in list(vars(module).items())]
    former = [(owner, name, owner[name]) for owner, name, key in names if key in replacements]
    for owner, name, value in former:
        owner[name] = replacements[id(value)]
    try:
        yield
    finally:
        for owner, name, value in former:
            if owner.get(name) is replacements[id(value)]:
                owner[name] = value


@contextmanager
def replacing(
    modules: Mapping[str, ModuleType],
    replaced: Mapping[int, Any],
    names: Iterable[str],
    others: Iterable[ModuleType] = (),
) -> Iterator[None]:
    """Replace objects in the globals of all modules. Imports of `names` inside functions of user modules also get the
    replacements."""
    real_import = builtins.__import__

    def imports(name: str, namespace: Any = None, *rest: Any, **more: Any) -> Any:
        module = real_import(name, namespace, *rest, **more)
        is_own = name in names and namespace is not None and namespace.get("__name__") in modules
        return replaced.get(id(module), module) if is_own else module

    with rebound([*modules.values(), *others], replaced), patched(builtins, __import__=imports):
        yield


def module_with(real: ModuleType, members: Mapping[str, Any]) -> ModuleType:
    """Return a copy of a module with these members in place of its own."""
    copy = ModuleType(real.__name__, real.__doc__)
    vars(copy).update({**vars(real), **members})
    return copy


# ------------------------------------------------------------------------- values that calls change

_SCALARS = (bool, int, float, complex, str, bytes, type(None))
_ROWS = (tuple, frozenset, list, set, deque)
_CACHED = type(functools.cache(len))
_OBSERVED_TYPES = (*_SCALARS, *_ROWS, dict, bytearray, itertools.count, _CACHED)
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
        lines = []
        for owner, name, where, _, saved in self._places.values():
            value = _current(owner, name)
            if not _same(saved, value):
                lines.append(f"{where} was {_shown(saved)}, is {_shown(value)}")
        return lines + [f"{where} is new: {_shown(value)}" for _, _, where, value in self._appeared()]

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
    return isinstance(value, _OBSERVED_TYPES) and type(value).__module__ in _HOMES


def _size(value: Any) -> int:
    """Return the number of items. Counting stops shortly above the limit."""
    pending, count = [value], 0
    while pending and count <= _MOST_ITEMS:
        part = pending.pop()
        count += 1
        if _is_plain(part) and isinstance(part, (dict, *_ROWS)):
            count += len(part)
            if count <= _MOST_ITEMS:
                pending += part.values() if isinstance(part, dict) else part
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
        return {key: _copied(part) for key, part in value.items()}
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
        return saved.keys() == value.keys() and all(_same(part, value[key]) for key, part in saved.items())
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
