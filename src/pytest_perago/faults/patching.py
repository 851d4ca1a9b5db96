"""Putting something in the place of attributes for the length of a block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def patched(owner: Any, **members: Any) -> Iterator[None]:
    """The owner, such as a module or a class, has these members meanwhile."""
    former = {name: vars(owner)[name] for name in members}
    for name, member in members.items():
        setattr(owner, name, member)
    try:
        yield
    finally:
        for name, member in former.items():
            setattr(owner, name, member)


@contextmanager
def rebound(modules: Iterable[ModuleType], stand_ins: Mapping[int, Any]) -> Iterator[None]:
    """The globals of the modules mean the stand-ins, given by the ids of what they stand for."""
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
