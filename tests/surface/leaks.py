"""List the types that authors get through public names, but cannot import from a public module.

The walk follows signatures, attributes (also those that `__init__` sets), generic arguments, and bases that have public
names of their own. Names that begin with an underscore are private: attributes, parameters and bases.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any

from .listing import PUBLIC_MODULES, public_names

_OWN = ("perago", "pytest_perago")
_SPECIAL = ("__init__", "__call__", "__enter__", "__iter__", "__getitem__")
"""Special methods with signatures that authors use."""
_FUNCTIONS = (types.FunctionType, staticmethod, classmethod, property, functools.cached_property)


def leaks(*modules: str) -> dict[str, list[str]]:
    """Map each type that is not public to the places in these modules that name it."""
    return {name: sorted(places) for name, places in sorted(_Walk(modules or PUBLIC_MODULES).leaks.items())}


class _Walk:
    def __init__(self, modules: tuple[str, ...]) -> None:
        self.leaks: dict[str, set[str]] = {}
        public = {
            f"{module}.{name}": getattr(importlib.import_module(module), name)
            for module in modules
            for name in public_names(module)
        }
        self._public = set(map(id, public.values()))
        for place, value in public.items():
            self._value(place, value)

    def _value(self, place: str, value: Any) -> None:
        if inspect.isclass(value):
            for base in value.__bases__:
                adds = vars(base).keys() - set(dir(base.__base__))
                if not base.__name__.startswith("_") and any(not name.startswith("_") for name in adds):
                    self._type(f"{place} (base)", base)
            for name, attribute, module in _attributes(value):
                self._member(f"{place}.{name}", attribute, module)
        elif isinstance(value, types.FunctionType):
            self._member(place, value, place.rpartition(".")[0])
        else:
            self._type(place, value)

    def _member(self, place: str, member: Any, module: str) -> None:
        """Follow an annotation, or all annotations of a function."""
        if isinstance(member, property | functools.cached_property):
            member = member.fget if isinstance(member, property) else member.func
        if isinstance(member, staticmethod | classmethod):
            member = member.__func__
        if not isinstance(member, types.FunctionType):
            self._type(place, _resolved(member, module))
            return
        member = inspect.unwrap(member)
        module = member.__module__ if member.__module__ in sys.modules else module
        for name, annotation in inspect.get_annotations(member).items():
            if not name.startswith("_"):
                self._type(place if name == "return" else f"{place}({name})", _resolved(annotation, module))

    def _type(self, place: str, annotation: Any) -> None:
        """Follow a type with its arguments, and note a class of perago that is not public."""
        origin = typing.get_origin(annotation)
        if isinstance(annotation, list):
            parts = tuple(annotation)
        else:
            parts = () if origin is typing.Literal else typing.get_args(annotation)
        for part in (*parts, *([] if origin in (None, typing.Generic) else [origin])):
            self._type(place, part)
        is_own = getattr(annotation, "__module__", "").startswith(_OWN)
        if inspect.isclass(annotation) and origin is None and is_own and id(annotation) not in self._public:
            self.leaks.setdefault(f"{annotation.__module__}.{annotation.__qualname__}", set()).add(place)


def _attributes(owner: type) -> Iterator[tuple[str, Any, str]]:
    """Yield the public attributes of a class: name, annotation or function, and the module that declares it."""
    attributes: dict[str, tuple[Any, str]] = {}
    for base in reversed(owner.__mro__):
        if base.__module__.startswith(_OWN):
            functions = {name: value for name, value in vars(base).items() if isinstance(value, _FUNCTIONS)}
            named = {**inspect.get_annotations(base), **dict(_instance_attributes(base)), **functions}
            attributes.update({name: (value, base.__module__) for name, value in named.items()})
    for name, (value, module) in attributes.items():
        if not name.startswith("_") or name in _SPECIAL:
            yield name, value, module


def _instance_attributes(owner: type) -> Iterator[tuple[str, Any]]:
    """Yield `self.name: T = ...`, and `self.name = parameter`, of `__init__`."""
    init = inspect.unwrap(vars(owner).get("__init__", object.__init__))
    if not isinstance(init, types.FunctionType) or init.__code__.co_filename == "<string>":  # of a dataclass
        return
    parameters = inspect.get_annotations(init)
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(init)))):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            yield node.target.attr, ast.unparse(node.annotation)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id in parameters:
            for target in node.targets:
                if isinstance(target, ast.Attribute):
                    yield target.attr, parameters[node.value.id]


def _resolved(annotation: Any, module: str) -> Any:
    """Evaluate an annotation, also with the names that its module imports for type checkers only."""
    if not isinstance(annotation, str):
        return annotation
    source = sys.modules[module]
    names = {**vars(builtins), **vars(source)}
    for node in ast.walk(ast.parse(annotation, mode="eval")):
        if isinstance(node, ast.Name) and node.id not in names:
            names[node.id] = _imported(node.id, ast.parse(inspect.getsource(source)))
    return eval(annotation, names)


def _imported(name: str, source: ast.Module) -> Any:
    for node in ast.walk(source):
        if isinstance(node, ast.ImportFrom) and name in [alias.asname or alias.name for alias in node.names]:
            return getattr(importlib.import_module(str(node.module)), name)
    return Any  # a local name, or a name of an overload
