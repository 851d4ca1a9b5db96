"""Which code is the author's: the task module, and what it uses of the modules beside it."""

from __future__ import annotations

import dis
import itertools
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from perago.authoring import Task

_PACKAGES = ("site-packages", "dist-packages")
_SET_NAMES = {"set", "frozenset", "hash", "union", "intersection", "difference", "symmetric_difference"}
_SET_CODES = {dis.opmap[name] for name in ("BUILD_SET", "SET_ADD", "SET_UPDATE") if name in dis.opmap}
_VIEWS = {"keys", "items"}


class AuthorCode:
    """The modules of a task, as they are loaded now.

    A module is the author's if it lies below the directory that the task module is imported from, not in an
    environment, and the task module reaches it by what its globals refer to.
    """

    def __init__(self, task: Task) -> None:
        self._root = _import_root(task)
        self.modules = self._reached(task.module)
        self.files = frozenset(str(module.__file__) for module in self.modules.values())

    @cached_property
    def uses_sets(self) -> bool:
        """Whether the code mentions sets or `hash`, so that the seed of Python's hashes may matter."""
        return any(map(_mentions_sets, self._code()))

    def _reached(self, name: str) -> Mapping[str, ModuleType]:
        found: dict[str, ModuleType] = {}
        pending = [name]
        while pending:
            module = sys.modules.get(pending.pop())
            if module is None or module.__name__ in found or not self._is_own(module):
                continue
            found[module.__name__] = module
            for value in list(vars(module).values()):
                other = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
                if isinstance(other, str):
                    pending.append(other)
        return found

    def _is_own(self, module: ModuleType) -> bool:
        file = getattr(module, "__file__", None)
        if not file:
            return False
        parts = Path(file).parts
        return Path(file).is_relative_to(self._root) and not any(name in parts for name in _PACKAGES)

    def _code(self) -> Iterator[CodeType]:
        pending = []
        for module in self.modules.values():
            for value in list(vars(module).values()):
                members = [value, *vars(value).values()] if isinstance(value, type) else [value]
                functions = [getattr(each, "__func__", each) for each in members]
                pending += [each.__code__ for each in functions if isinstance(each, FunctionType)]
        while pending:
            code = pending.pop()
            if code.co_filename in self.files:
                yield code
                pending += [each for each in code.co_consts if isinstance(each, CodeType)]


def _import_root(task: Task) -> Path:
    """The directory that holds the task's topmost package, or its module."""
    file = Path(getattr(sys.modules.get(task.module), "__file__", None) or task.file)
    depth = task.module.count(".") + (file.name == "__init__.py")
    return file.parents[depth]


def _mentions_sets(code: CodeType) -> bool:
    """A set that is written out and only asked what it contains is a constant, and does no harm."""
    names = set(code.co_names)
    if names & _SET_NAMES or set(code.co_code[::2]) & _SET_CODES:
        return True
    steps = list(dis.get_instructions(code))
    constant = any(
        isinstance(step.argval, frozenset) and after.opname != "CONTAINS_OP"
        for step, after in itertools.pairwise(steps)
    )
    operators = (step.argrepr.rstrip("=") for step in steps if step.opname == "BINARY_OP")
    return constant or (bool(names & _VIEWS) and any(each in ("&", "|", "-", "^") for each in operators))
