"""Scenarios and where they are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import Any, TypeVar

from .rest import Rest

_FOUND: dict[tuple[str, str], Scenario] = {}


@dataclass(frozen=True)
class Scenario:
    """A conversation with a server that shows one behaviour of it."""

    server: str
    """`lakefs` or `conductor`."""
    group: str
    """What it is about: the name of its module without `scenarios_`."""
    name: str
    body: Callable[[Rest], None]

    def __str__(self) -> str:
        return f"{self.group}.{self.name}"


def scenario(body: Callable[[Rest], None]) -> Callable[[Rest], None]:
    """Register a function `(rest) -> None` whose docstring says in one line what it shows."""
    _register(body, body.__name__, body)
    return body


Case = TypeVar("Case")
Prepared = TypeVar("Prepared")


def scenario_with(
    prepare: Callable[..., Prepared], *arguments: Any, **options: Any
) -> Callable[[Callable[[Prepared], None]], Callable[[Prepared], None]]:
    """Register a function that gets `prepare(rest, ...)`: a started workflow or a repository with these arguments."""

    def register(body: Callable[[Prepared], None]) -> Callable[[Prepared], None]:
        _register(body, body.__name__, lambda rest: body(prepare(rest, *arguments, **options)))
        return body

    return register


def scenario_for_each(
    cases: Mapping[str, Case],
) -> Callable[[Callable[[Rest, Case], None]], Callable[[Rest, Case], None]]:
    """Register one scenario for each case: a function `(rest, case) -> None`, under the names of the cases."""

    def register(body: Callable[[Rest, Case], None]) -> Callable[[Rest, Case], None]:
        for name, case in cases.items():
            _register(body, name, partial(_with_case, body, case))
        return body

    return register


def _with_case(body: Callable[[Rest, Case], None], case: Case, rest: Rest) -> None:
    body(rest, case)


def _register(function: Callable[..., None], name: str, body: Callable[[Rest], None]) -> None:
    package, _, module = function.__module__.rpartition(".")
    server, group = package.rpartition(".")[2], module.removeprefix("scenarios_")
    if not function.__doc__:
        raise ValueError(f"{function.__module__}.{function.__name__} has no docstring that says what it shows")
    found = Scenario(server, group, name, body)
    if (server, str(found)) in _FOUND:
        raise ValueError(f"two scenarios are called {found}")
    _FOUND[server, str(found)] = found


@cache
def scenarios(server: str) -> tuple[Scenario, ...]:
    """All scenarios of a server, in the order of their names."""
    package: ModuleType = importlib.import_module(f"{__package__}.{server}")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("scenarios_"):
            importlib.import_module(f"{package.__name__}.{module.name}")
    return tuple(found for (kind, _), found in sorted(_FOUND.items()) if kind == server)
