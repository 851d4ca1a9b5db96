"""`@task`: makes a plain function a task that Conductor can ask for (docs/design/contract.md 2)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar

from pydantic import BaseModel

from perago.authoring.controls import TaskControls
from perago.authoring.errors import InvalidDeclaration
from perago.authoring.examples import Example
from perago.authoring.metadata import Metadata, check_metadata
from perago.authoring.signature import check_signature, require_function
from perago.authoring.source import Location, calling_line, calling_locals, declares
from perago.authoring.workspace import WorkspaceSpec

F = TypeVar("F", bound=Callable[..., Any])

TASK_ATTRIBUTE = "__perago_task__"
"""Where a decorated function keeps its `Task`. functools.wraps copies it onto wrappers: see `get_task`."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A task function with everything that was declared about it."""

    name: str
    description: str | None
    owner_email: str
    workspace: WorkspaceSpec | None
    controls: TaskControls
    examples: tuple[Example, ...]
    function: Callable[..., Any]
    params_model: type[BaseModel]
    result_model: type[BaseModel]
    module: str
    file: str
    line: int
    environment: tuple[str, ...] = ()
    """Patterns for the withheld variables that the function gets all the same."""
    scratch_files: tuple[str, ...] = ()
    """Patterns for the files that the function may leave in its current directory."""


@declares("@task", named_only=True)
def task(
    *,
    name: str,
    owner_email: str,
    description: str | None = None,
    workspace: WorkspaceSpec | None = None,
    controls: TaskControls | None = None,
    examples: Iterable[Example] = (),
    environment: Iterable[str] = (),
    scratch_files: Iterable[str] = (),
) -> Callable[[F], F]:
    """Declare a function as the task type `name`. The function itself is returned unchanged.

    Args:
        name: the task type in Conductor: letters, digits, `.`, `_`, `-`, at most 128.
        owner_email: whom to ask about it.
        workspace: the versioned tree it works on; without one it only maps params to a result.
        controls: retries, time-outs and limits; see `TaskControls` for the defaults.
        examples: cases from which the test toolkit makes tests.
        environment: patterns such as `LAKECTL_*` for variables that perago withholds from functions (`CONDUCTOR_*` and
            `LAKECTL_*`) and that this one needs.
        scratch_files: glob patterns such as `spark-warehouse/**` for files that the function may leave in its current
            directory, which is removed with the attempt.

    Raises:
        TaskDefinitionError: the declaration or the signature breaks a rule; file, line, rule and fix are named.
    """
    declared_at = calling_line()
    controls = controls or TaskControls()
    metadata = Metadata(name, owner_email, description, workspace, controls, examples, environment, scratch_files)
    try:
        checked = check_metadata(metadata)
    except InvalidDeclaration as invalid:
        raise declared_at.error(f"@task: {invalid.rule}", invalid.fix) from None

    def decorate(function: F) -> F:
        location = _location(function, declared_at)
        try:
            plain = require_function(function)
            _refuse_second_task(plain)
            local_names = calling_locals() if "<locals>" in plain.__qualname__ else {}
            models = check_signature(plain, has_workspace=workspace is not None, local_names=local_names)
        except InvalidDeclaration as invalid:
            label = getattr(function, "__name__", "")
            raise location.error(
                f"task {name!r}{f' (function {label})' if label else ''}: {invalid.rule}", invalid.fix
            ) from None
        setattr(plain, TASK_ATTRIBUTE, _task(checked, plain, models, location))
        return function

    return decorate


def get_task(function: object) -> Task | None:
    """The task that `function` was declared as, or None.

    A wrapper around a task function is not a task, even if it copied the function's attributes.
    """
    found = inspect.getattr_static(function, TASK_ATTRIBUTE, None)
    return found if isinstance(found, Task) and found.function is function else None


def _task(
    metadata: Metadata, function: FunctionType, models: tuple[type[BaseModel], type[BaseModel]], location: Location
) -> Task:
    return Task(
        name=metadata.name,
        description=metadata.description,
        owner_email=metadata.owner_email,
        workspace=metadata.workspace,
        controls=metadata.controls,
        examples=tuple(metadata.examples),
        function=function,
        params_model=models[0],
        result_model=models[1],
        module=inspect.unwrap(function).__module__,
        file=location.file,
        line=location.line,
        environment=tuple(metadata.environment),
        scratch_files=tuple(metadata.scratch_files),
    )


def _location(function: object, declared_at: Location) -> Location:
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    return Location(code.co_filename, code.co_firstlineno) if code is not None else declared_at


def _refuse_second_task(function: FunctionType) -> None:
    other = inspect.getattr_static(function, TASK_ATTRIBUTE, None)
    if isinstance(other, Task):
        raise InvalidDeclaration(
            f"the function is already the task {other.name!r}", "keep one @task and write a second function"
        )
