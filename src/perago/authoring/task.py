"""`@task`: makes a plain function a task that Conductor can ask for (docs/design/contract.md 2)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar

from pydantic import BaseModel

from perago.authoring.controls import TaskControls
from perago.authoring.environment import canonical_patterns
from perago.authoring.errors import InvalidDeclaration
from perago.authoring.examples import Example
from perago.authoring.metrics import Metric, checked_metrics
from perago.authoring.paths import canonical_pattern
from perago.authoring.signature import check_signature, require_function
from perago.authoring.source import Location, calling_line, calling_locals, declares
from perago.authoring.workspace import WorkspaceSpec

F = TypeVar("F", bound=Callable[..., Any])

TASK_ATTRIBUTE = "__perago_task__"
"""Where a decorated function keeps its `Task`. functools.wraps copies it onto wrappers: see `get_task`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_EMAIL = re.compile(r"[^@\s<>]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


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
    metrics: tuple[Metric, ...] = ()
    """The numbers that the function may report."""


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
    metrics: Iterable[Metric] = (),
) -> Callable[[F], F]:
    """Declare a function as the task type `name`. The function itself is returned unchanged.

    Args:
        name: the task type in Conductor: letters, digits, `.`, `_`, `-`, at most 128.
        owner_email: whom to ask about it.
        workspace: the versioned tree it works on; without one it only maps params to a result.
        controls: retries, time-outs and limits; see `TaskControls` for the defaults.
        examples: cases from which the test toolkit makes tests.
        environment: patterns such as `LAKECTL_*` for variables that perago withholds from functions (`CONDUCTOR_*`,
            `LAKECTL_*` and `OTEL_EXPORTER_OTLP_*HEADERS`) and that this one needs.
        scratch_files: glob patterns such as `spark-warehouse/**` for files that the function may leave in its current
            directory, which is removed with the attempt.
        metrics: the numbers that the function may report by `current().count`, `.gauge` and `.observe`.

    Raises:
        TaskDefinitionError: the declaration or the signature breaks a rule; file, line, rule and fix are named.
    """
    declared_at = calling_line()
    controls = controls or TaskControls()
    try:
        _check_texts(name, owner_email, description)
        _check_workspace_and_controls(workspace, controls)
        checked_environment = canonical_patterns(environment)
        checked_scratch_files = _checked_scratch_files(scratch_files)
        checked_examples = _checked_examples(examples, has_workspace=workspace is not None)
        all_metrics = checked_metrics(metrics)
    except InvalidDeclaration as invalid:
        raise declared_at.error(f"@task: {invalid.rule}", invalid.fix) from None

    def decorate(function: F) -> F:
        code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
        location = Location(code.co_filename, code.co_firstlineno) if code is not None else declared_at
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
        declared = Task(
            name=name,
            description=description,
            owner_email=owner_email,
            workspace=workspace,
            controls=controls,
            examples=checked_examples,
            function=plain,
            params_model=models[0],
            result_model=models[1],
            module=inspect.unwrap(plain).__module__,
            file=location.file,
            line=location.line,
            environment=checked_environment,
            scratch_files=checked_scratch_files,
            metrics=all_metrics,
        )
        setattr(plain, TASK_ATTRIBUTE, declared)
        return function

    return decorate


def get_task(function: object) -> Task | None:
    """The task that `function` was declared as, or None.

    A wrapper around a task function is not a task, even if it copied the function's attributes.
    """
    found = inspect.getattr_static(function, TASK_ATTRIBUTE, None)
    return found if isinstance(found, Task) and found.function is function else None


def _refuse_second_task(function: FunctionType) -> None:
    other = inspect.getattr_static(function, TASK_ATTRIBUTE, None)
    if isinstance(other, Task):
        raise InvalidDeclaration(
            f"the function is already the task {other.name!r}", "keep one @task and write a second function"
        )


def _check_texts(name: object, email: object, description: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidDeclaration(
            f"name {name!r} is not a task name: letters, digits, '.', '_' and '-', beginning with a letter or digit, "
            "at most 128 (it becomes part of paths and URLs)",
            'write it like name="features.build"',
        )
    if not isinstance(email, str) or not _EMAIL.fullmatch(email):
        raise InvalidDeclaration(
            f"owner_email {email!r} is not an e-mail address", 'write it like owner_email="data@example.com"'
        )
    if description is not None and not isinstance(description, str):
        raise InvalidDeclaration(
            f"description must be a str, not {type(description).__name__}", "write it as text or leave it out"
        )
    if description is not None and any("\ud800" <= character <= "\udfff" for character in description):
        raise InvalidDeclaration("description contains half of a surrogate pair, which has no UTF-8 form", "remove it")


def _check_workspace_and_controls(workspace: WorkspaceSpec | None, controls: TaskControls) -> None:
    _check_type("workspace", workspace, WorkspaceSpec, optional=True)
    _check_type("controls", controls, TaskControls)
    if controls.publish_budget is not None and workspace is None:
        raise InvalidDeclaration(
            "publish_budget is set, but a task without a workspace publishes nothing", "remove publish_budget"
        )


def _check_type(name: str, value: object, expected: type, *, optional: bool = False) -> None:
    if isinstance(value, expected) or (optional and value is None):
        return
    given = f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
    raise InvalidDeclaration(
        f"{name} must be {expected.__name__}(...), not {given}", f"write {name}={expected.__name__}(...)"
    )


def _checked_scratch_files(patterns: object) -> tuple[str, ...]:
    fix = 'write scratch_files=["spark-warehouse/**"], or leave it out'
    if isinstance(patterns, str) or not isinstance(patterns, Iterable):
        raise InvalidDeclaration(f"scratch_files must be a list of glob patterns, not {type(patterns).__name__}", fix)
    try:
        return tuple(map(canonical_pattern, patterns))
    except ValueError as error:
        raise InvalidDeclaration(f"scratch_files: {error}", fix) from None


def _checked_examples(declared: object, *, has_workspace: bool) -> tuple[Example, ...]:
    if isinstance(declared, Example) or not isinstance(declared, Iterable):
        raise InvalidDeclaration(
            f"examples must be a list of Example(...), not {type(declared).__name__}", "write examples=[Example(...)]"
        )
    examples = tuple(declared)
    seen: set[str] = set()
    for index, example in enumerate(examples):
        _check_type(f"examples[{index}]", example, Example)
        if example.id in seen:
            raise InvalidDeclaration(f"two examples have the id {example.id!r}", "give each example an id of its own")
        seen.add(example.id)
        if not has_workspace and (example.tree is not None or example.expect in ("pre", "post")):
            raise InvalidDeclaration(
                f"example {example.id!r} needs a workspace, but @task declares none",
                "remove tree and expect='pre'/'post' from the example, or add workspace=WorkspaceSpec(...)",
            )
    return examples
