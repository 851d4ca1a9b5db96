"""Scenarios and where they are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType

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
    about: str
    """One line: what it shows."""
    tell: Callable[[Rest], None]

    def __str__(self) -> str:
        return f"{self.group}.{self.name}"


def scenario(tell: Callable[[Rest], None]) -> Callable[[Rest], None]:
    """Register a function `(rest) -> None` whose docstring says in one line what it shows."""
    package, _, module = tell.__module__.rpartition(".")
    server, group = package.rpartition(".")[2], module.removeprefix("scenarios_")
    about = (tell.__doc__ or "").strip().partition("\n")[0]
    if not about:
        raise ValueError(f"{tell.__module__}.{tell.__name__} has no docstring that says what it shows")
    found = Scenario(server, group, tell.__name__, about, tell)
    if (server, str(found)) in _FOUND:
        raise ValueError(f"two scenarios are called {found}")
    _FOUND[server, str(found)] = found
    return tell


@cache
def scenarios(server: str) -> tuple[Scenario, ...]:
    """All scenarios of a server, in the order of their names."""
    package: ModuleType = importlib.import_module(f"{__package__}.{server}")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("scenarios_"):
            importlib.import_module(f"{package.__name__}.{module.name}")
    return tuple(found for (kind, _), found in sorted(_FOUND.items()) if kind == server)
