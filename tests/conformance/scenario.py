"""Scenarios and where they are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from operator import attrgetter
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


@dataclass(frozen=True)
class Request:
    """A call of what a scenario prepared, declared before that exists. Its arguments may be requests, too."""

    called: Requests
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    member: str | None = None

    def __call__(self, prepared: Any) -> Any:
        called = _resolved(self.called, prepared)
        answer = called(*_resolved(self.arguments, prepared), **_resolved(self.options, prepared))
        return answer if self.member is None else answer[self.member]

    def __getattr__(self, name: str) -> Requests:
        """Declare a request to the answer, such as `on.started_by("sub").read()`."""
        return Requests((name,), self)

    def __getitem__(self, member: str) -> Request:
        """Return the request whose value is this member of the answer."""
        return replace(self, member=member)


def _resolved(value: Any, prepared: Any) -> Any:
    """Return a value with the answers of the requests in it, and with the attributes that it names."""
    if isinstance(value, Request):
        return value(prepared)
    if isinstance(value, Requests):
        return attrgetter(".".join(value.path))(prepared if value.source is None else value.source(prepared))
    if isinstance(value, dict):
        return {name: _resolved(each, prepared) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolved(each, prepared) for each in value]
    return value


@dataclass(frozen=True)
class Requests:
    """Declares requests, such as `repo.tree("main")`, before there is a repository. `repo.name` is its name then."""

    path: tuple[str, ...] = field(default=())
    source: Request | None = None
    """The request whose answer has this path; None: what the scenario prepared has it."""

    def __getattr__(self, name: str) -> Requests:
        return Requests((*self.path, name), self.source)

    def __call__(self, *arguments: Any, **options: Any) -> Request:
        return Request(self, arguments, options)

    def each(self, *values: Any) -> list[Request]:
        """One request for each of these arguments."""
        return [self(value) for value in values]


rest = Requests()
"""Requests of a scenario that prepares nothing."""

Declared = dict[str, Callable[[Rest], None]]
"""The type of `SCENARIOS`, in which a module declares scenarios that are only requests. Comments say what they show."""


Send = Callable[..., Callable[[Rest], None]]
"""Makes the body of a scenario of requests."""


def to(prepare: Callable[..., Any], *arguments: Any, **options: Any) -> Send:
    """Return what makes the body of a scenario whose requests go to `prepare(rest, ...)`."""

    def send_to_it(*requests: Callable[[Any], object]) -> Callable[[Rest], None]:
        def body(rest: Rest) -> None:
            prepared = prepare(rest, *arguments, **options)
            for request in requests:
                request(prepared)

        return body

    return send_to_it


send = to(lambda rest: rest)
"""Return the body of a scenario that sends these requests and prepares nothing."""


def each(cases: Mapping[str, Case], body: Callable[[Case], Callable[[Rest], None]]) -> Declared:
    """Return one scenario for each case, under the names of the cases."""
    return {name: body(case) for name, case in cases.items()}


def _register(function: Callable[..., None], name: str, body: Callable[[Rest], None]) -> None:
    if not function.__doc__:
        raise ValueError(f"{function.__module__}.{function.__name__} has no docstring that says what it shows")
    _add(function.__module__, name, body)


def _add(module: str, name: str, body: Callable[[Rest], None]) -> None:
    package, _, file = module.rpartition(".")
    found = Scenario(package.rpartition(".")[2], file.removeprefix("scenarios_"), name, body)
    if (found.server, str(found)) in _FOUND:
        raise ValueError(f"two scenarios are called {found}")
    _FOUND[found.server, str(found)] = found


@cache
def scenarios(server: str) -> tuple[Scenario, ...]:
    """All scenarios of a server, in the order of their names."""
    package: ModuleType = importlib.import_module(f"{__package__}.{server}")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.startswith("scenarios_"):
            imported = importlib.import_module(f"{package.__name__}.{module.name}")
            for name, body in getattr(imported, "SCENARIOS", {}).items():
                _add(imported.__name__, name, body)
    return tuple(found for (kind, _), found in sorted(_FOUND.items()) if kind == server)
