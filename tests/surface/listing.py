"""Lists the public surface of perago, one fact a line. `test_surface` compares the lines with `public_surface.txt`."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pydantic
import typer.main

import pytest_perago
from perago.attempt import publication
from perago.attempt.events import WorkspaceRef
from perago.attempt.state import Base, Plan, State
from perago.cli.app import COMMANDS, command_of
from perago.cli.app import app as cli
from perago.cli.messages import ExitCode
from perago.settings.variables import VARIABLES
from perago.worker import events
from perago.worker.logs import journalled
from perago.worker.metrics import Metrics
from pytest_perago import kinds, options
from tests.deliveries import make_delivery

ROOT = Path(__file__).resolve().parents[2]
PUBLIC_MODULES = (
    "perago",
    "perago.clients",
    "perago.workflows",
    "perago.testing",
    "perago.testing.strategies",
    "perago.worker.exporters",
    "pytest_perago.kinds",
)


def everything() -> Iterator[str]:
    """List all facts that need no running servers."""
    yield from python_names()
    yield from commands()
    yield from (f"exit {code.value} {code.name}" for code in ExitCode)
    yield from plugin()
    yield from (f"env {name}" for name in environment_variables())
    yield from log_events()
    yield from metric_families()
    yield from (f"commit {key}" for key in publication.metadata(_state(), phase="merge"))


# ------------------------------------------------------------------------------------------ Python


def python_names() -> Iterator[str]:
    """List the public names with their signatures, and the public attributes of classes."""
    for module_name in PUBLIC_MODULES:
        for name in public_names(module_name):
            yield from _python_name(f"{module_name}.{name}", getattr(importlib.import_module(module_name), name))


def public_names(module_name: str) -> list[str]:
    """List the names that a public module exports."""
    module = importlib.import_module(module_name)
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module_name]
    return sorted(name for name in getattr(module, "__all__", own) if not name.startswith("_"))


def _python_name(path: str, value: Any) -> Iterator[str]:
    if not inspect.isclass(value):
        yield f"python {path}{_signature(value)}" if callable(value) else f"python {path}: {type(value).__name__}"
        return
    if issubclass(value, Enum):
        yield f"python {path} = {', '.join(member.name for member in value)}"
        return
    yield f"python {path}{_signature(value)}"
    for name in sorted(dir(value)):
        member = inspect.getattr_static(value, name)
        home = next(base for base in value.__mro__ if name in vars(base)).__module__
        if name.startswith("_") or not home.startswith(("perago", "pytest_perago")):
            continue
        if isinstance(member, staticmethod | classmethod | types.FunctionType):
            yield f"python {path}.{name}{_signature(getattr(value, name))}"
        else:
            yield f"python {path}.{name}"


def _signature(value: Any) -> str:
    if inspect.isclass(value) and issubclass(value, pydantic.BaseModel):
        fields = [f"{name}{'' if field.is_required() else '=...'}" for name, field in value.model_fields.items()]
        return f"({', '.join(fields)})"
    try:
        return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(value)))
    except (TypeError, ValueError):
        return "(...)"


# ------------------------------------------------------------------------------------ command line


def commands() -> Iterator[str]:
    """List the commands with their arguments and options."""
    yield from _parameters("", typer.main.get_command(cli))
    for name in COMMANDS:
        holder = typer.Typer(add_completion=False)
        holder.command(name)(command_of(name)[0])
        yield f"cli {name}"
        yield from _parameters(f"{name} ", typer.main.get_command(holder))


def _parameters(command: str, click_command: Any) -> Iterator[str]:
    for parameter in click_command.params:
        if getattr(parameter, "hidden", False):
            continue
        what = "/".join([*parameter.opts, *parameter.secondary_opts])
        kind = "flag" if getattr(parameter, "is_flag", False) else "value"
        extra = [word for word in ("multiple", "required") if getattr(parameter, word, False)]
        many = ["many"] if getattr(parameter, "nargs", 1) == -1 else []
        yield " ".join([f"cli {command}{what}", kind, *extra, *many])


def shape_of(document: Any, path: str = "") -> Iterator[str]:
    """List the paths of a JSON document with the types of their values."""
    if isinstance(document, Mapping):
        for key, value in document.items():
            yield from shape_of(value, f"{path}.{key}")
    elif isinstance(document, Sequence) and not isinstance(document, str):
        yield f"{path or '.'} list"
        for value in document:
            yield from shape_of(value, f"{path}[]")
    elif document is not None:
        number = isinstance(document, int | float) and not isinstance(document, bool)
        yield f"{path or '.'} {'number' if number else type(document).__name__}"


# ------------------------------------------------------------------------------------------ plugin


def plugin() -> Iterator[str]:
    """List what the pytest plugin registers, and the node ids of the tests that it makes of the sample modules."""
    recorder = _Recorder()
    options.add_options(recorder)  # type: ignore[arg-type]
    options.add_markers(recorder)  # type: ignore[arg-type]
    yield from recorder.lines
    yield from (f"plugin fixture {name}" for name in vars(pytest_perago) if name.startswith("perago_"))
    yield from (f"plugin kind {name}" for name in kinds.KINDS)
    yield from (f"plugin hook {name}" for name in vars(options) if name.startswith("pytest_"))
    command = [sys.executable, "-m", "pytest", "tests/plugin_self", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    yield from (f"plugin test {line}" for line in done.stdout.splitlines() if "::" in line)


class _Recorder:
    """A pytest parser that keeps what it gets."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def getgroup(self, *_: str) -> _Recorder:
        return self

    def addoption(self, *names: str, **_: object) -> None:
        self.lines.append(f"plugin option {'/'.join(names)}")

    def addinivalue_line(self, name: str, line: str) -> None:
        self.lines.append(f"plugin {name.removesuffix('s')} {line.partition(':')[0]}")

    def addini(self, name: str, help: str, type: str | None = None, default: object = None) -> None:  # noqa: A002
        self.lines.append(f"plugin ini {name} {type} {default or ''}".rstrip())


# ------------------------------------------------------------------------- settings, logs, metrics


def environment_variables() -> Iterator[str]:
    """List the variables that perago reads."""
    yield from VARIABLES


def log_events() -> Iterator[str]:
    """List the events of the supervisor's log with their fields."""
    for event in _sample_events():
        if not isinstance(event, events.UNLOGGED):
            _, _, fields = journalled(event)
            yield f"log {type(event).__name__}: {', '.join(fields)}"


def metric_families() -> Iterator[str]:
    """List the metrics with their labels."""
    metrics = Metrics(["task"])
    for event in _sample_events():
        metrics(event)
    for family, _ in metrics.collect():
        if family.name.startswith("perago"):
            yield f"metric {family.name} {family.kind} {', '.join(sorted(family.labels))}".rstrip()


def _sample_events() -> Iterator[Any]:
    kinds = events.kinds_of(events.Event) | events.kinds_of(events.Watched)
    yield from (_sample(kind) for name, kind in kinds.items() if name != "Watched")


def _sample(kind: Any, within: tuple[Any, ...] = ()) -> Any:
    """Make any value of a type, which does not contain itself."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _sample(
            next((argument for argument in arguments if argument not in (type(None), *within)), type(None)), within
        )
    if origin is typing.Literal:
        return arguments[0]
    if origin is not None:
        return () if origin is tuple else {} if issubclass(origin, Mapping) else []
    if kind is Path:
        return Path("path")
    if inspect.isclass(kind) and issubclass(kind, Enum):
        return next(iter(kind))
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{field.name: _sample(hints[field.name], (*within, kind)) for field in fields(kind)})  # type: ignore[operator]
    return None if kind is Any else kind()


def _state() -> State:
    ref = WorkspaceRef("repository", "main", "ref")
    return State(Plan(make_delivery(), "0", "0" * 12), workspace=ref, base=Base("head"))
