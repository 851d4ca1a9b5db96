"""`dataclass`, as the standard library has it, for classes that are made quickly.

The standard one compiles up to seven methods for each class. A worker has 260 of them in its own process and as many in
the one that slots are forked from, which took 0.1 s in each before the first task. Here only `__init__` is compiled for
each class, and the other methods are closures. The behavior is that of the standard library, and so are the types that
a type checker sees. Fields cannot be `InitVar`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable
from dataclasses import MISSING, FrozenInstanceError, asdict, field, fields, replace
from operator import attrgetter
from reprlib import recursive_repr
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any

__all__ = ["MISSING", "FrozenInstanceError", "asdict", "dataclass", "field", "fields", "replace"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, eq=True, repr=True, order=False, **options):  # noqa: A002
        """Make a dataclass. The options are those of the standard library, without `init` and `unsafe_hash`."""

        def make(cls):
            own = set(vars(cls)) - ({"__hash__"} if "__eq__" in vars(cls) and cls.__hash__ is None else set())
            inherits = any(map(dataclasses.is_dataclass, cls.__bases__))  # from one that may not be as frozen
            made = dataclasses.dataclass(
                cls, init=not frozen, eq=order, repr=False, order=order, frozen=frozen and inherits, **options
            )
            parameters = made.__dataclass_params__
            parameters.init, parameters.eq, parameters.repr, parameters.frozen = True, eq, repr, frozen
            methods = _of_frozen(made) if frozen else {}
            if eq:
                methods |= _compared(made, frozen=frozen)
            if repr:
                methods["__repr__"] = _shown(made)
            for name in methods.keys() - own:
                setattr(made, name, methods[name])
            return made

        return make if cls is None else make(cls)


class _Factory:
    def __repr__(self) -> str:
        return "<factory>"


_FACTORY = _Factory()
"""The default of a parameter whose value is made by the field's factory."""


def _of_frozen(made: type) -> dict[str, Any]:
    names = tuple(each.name for each in fields(made))

    def assign(self: Any, name: str, value: object) -> None:
        if type(self) is made or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def delete(self: Any, name: str) -> None:
        if type(self) is made or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        object.__delattr__(self, name)

    def state(self: Any) -> list[Any]:  # of a subclass with more fields, too
        return [getattr(self, each.name) for each in fields(self)]

    def restore(self: Any, state: list[Any]) -> None:
        for each, value in zip(fields(self), state, strict=True):
            object.__setattr__(self, each.name, value)

    found = {"__init__": _initializer(made), "__setattr__": assign, "__delattr__": delete}
    return found | ({"__getstate__": state, "__setstate__": restore} if "__slots__" in vars(made) else {})


def _initializer(made: type) -> Callable[..., None]:
    """Return the `__init__` of a frozen class, which assigns without its `__setattr__`. A slot sets itself, in little
    more than half the time."""
    scope: dict[str, Any] = {"_assign": object.__setattr__, "_FACTORY": _FACTORY}
    positional, keywords, body = ["self"], ["*"], ["pass"]
    for each in fields(made):
        name, default = each.name, ""
        value = name
        if each.default_factory is not MISSING:
            scope[f"_make_{name}"] = each.default_factory
            default = "=_FACTORY"
            value = f"_make_{name}()" + (f" if {name} is _FACTORY else {name}" if each.init else "")
        elif each.default is not MISSING:
            scope[f"_default_{name}"] = each.default
            default = f"=_default_{name}"
            value = name if each.init else f"_default_{name}"
        elif not each.init:
            continue
        if each.init:
            (keywords if each.kw_only else positional).append(name + default)
        slot = getattr(made, name, None)
        if isinstance(slot, MemberDescriptorType):
            scope[f"_set_{name}"] = slot.__set__
            body.append(f"_set_{name}(self, {value})")
        else:
            body.append(f"_assign(self, {name!r}, {value})")
    if hasattr(made, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join(positional + (keywords if keywords[1:] else []))
    text = "\n  ".join([f"def make({', '.join(scope)}):\n def __init__({parameters}):", *body]) + "\n return __init__"
    made_here: dict[str, Any] = {}
    # In the module of the class, because tools look up the names in annotations there.
    exec(text, vars(sys.modules[made.__module__]), made_here)  # noqa: S102 - fields of our own classes
    initializer: Callable[..., None] = made_here["make"](**scope)
    initializer.__qualname__, initializer.__module__ = f"{made.__qualname__}.__init__", made.__module__
    initializer.__annotations__ = {each.name: each.type for each in fields(made) if each.init} | {"return": None}
    return initializer


def _compared(made: type, *, frozen: bool) -> dict[str, Any]:
    compared = _values_of(each.name for each in fields(made) if each.compare)
    hashed = _values_of(each.name for each in fields(made) if (each.compare if each.hash is None else each.hash))

    def equals(self: Any, other: object) -> Any:
        return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

    def hash_of(self: Any) -> int:
        return hash(hashed(self))

    return {"__eq__": equals, "__hash__": hash_of if frozen else None}


def _values_of(names: Iterable[str]) -> Callable[[Any], tuple[Any, ...]]:
    match tuple(names):
        case ():
            return lambda _: ()
        case (name,):
            return lambda self: (getattr(self, name),)
        case several:
            return attrgetter(*several)


def _shown(made: type) -> Callable[[Any], str]:
    names = [each.name for each in fields(made) if each.repr]

    @recursive_repr()
    def show(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return show
