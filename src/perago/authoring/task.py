"""The `@task` decorator, the Task that it declares, and its arguments: examples and variables of the environment.

Variables of Conductor and lakeFS and the headers of OpenTelemetry contain credentials. Functions do not need them,
because perago does the transfers.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, TypeVar

from pydantic import BaseModel, field_validator, model_validator

from perago.authoring.context import Metric, checked_metrics
from perago.authoring.controls import TaskControls
from perago.authoring.declaration import (
    Declaration,
    InvalidDeclaration,
    Location,
    calling_line,
    calling_locals,
    check_signature,
    declared_list,
    declares,
    require_function,
)
from perago.authoring.workspace import WorkspaceSpec, canonical_path, canonical_pattern
from perago.secret_names import WITHHELD, is_withheld

_PATTERN = re.compile(r"[A-Za-z0-9_*?\[\]!-]+")


def canonical_patterns(patterns: object) -> tuple[str, ...]:
    """Return the `environment=` of `@task` as a tuple of glob patterns for names of variables.

    Raises:
        InvalidDeclaration: it is not a list of patterns, or one of them matches no withheld variable.
    """
    fix = 'write environment=["LAKECTL_*"], or leave it out'
    declared = declared_list("environment", "patterns", patterns, fix)
    for pattern in declared:
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
            raise InvalidDeclaration(f"environment: {pattern!r} is not a pattern for names of variables", fix)
        literal, *_ = re.split(r"[*?\[]", pattern, maxsplit=1)
        prefixes = (withheld.partition("*")[0] for withheld in WITHHELD)
        if not any(prefix.startswith(literal) or literal.startswith(prefix) for prefix in prefixes):
            raise InvalidDeclaration(
                f"environment: {pattern!r} matches no withheld variable: only {', '.join(WITHHELD)} are withheld; "
                "the function gets all other variables anyway",
                fix,
            )
    return declared


def withheld(environment: Iterable[str], allowed: Iterable[str] = ()) -> list[str]:
    """Return the names in `environment` that a function must not see. `allowed` has the patterns that its task
    requests."""
    patterns = tuple(allowed)
    return [
        name
        for name in environment
        if is_withheld(name) and not any(fnmatchcase(name, pattern) for pattern in patterns)
    ]


def asked_for(environment: Mapping[str, str], allowed: Iterable[str]) -> dict[str, str]:
    """The withheld variables that a task gets because it requests them."""
    names = set(withheld(environment)) - set(withheld(environment, tuple(allowed)))
    return {name: environment[name] for name in sorted(names)}


TreeMapping: TypeAlias = Mapping[str, str | bytes | None]
"""A mapping of paths to contents; None makes a directory."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Example(Declaration):
    """Parameters and a workspace tree, with the expected outcome.

    `params` are not checked here, but by the generated tests, against the task's model.
    """

    id: str
    """The name of the case in test ids: letters, digits, `.`, `_` and `-`."""
    params: Mapping[str, Any]
    """The params as JSON, as a workflow would send them. A model is converted to that."""
    tree: TreeMapping | str | os.PathLike[str] | None = None
    """The input tree, or the path of a directory relative to the task module. Mapping keys are canonical paths."""
    expect: Literal["completed", "pre", "post", "failed", "terminal"] = "completed"
    result: Any = None
    """The expected result as JSON, or as a model; None: any."""

    if TYPE_CHECKING:  # what may be given is more than what is kept

        def __init__(
            self,
            *,
            id: str,  # noqa: A002 - the name of the field
            params: Mapping[str, Any] | BaseModel,
            tree: TreeMapping | str | os.PathLike[str] | None = None,
            expect: Literal["completed", "pre", "post", "failed", "terminal"] = "completed",
            result: Any = None,
        ) -> None: ...

    @field_validator("id")
    @classmethod
    def _id_is_printable_everywhere(cls, value: str) -> str:
        if not _ID.fullmatch(value):
            raise ValueError(
                f"{value!r} must be letters, digits, '.', '_' or '-', begin with a letter or digit, at most 128"
            )
        return value

    @field_validator("params", mode="before")
    @classmethod
    def _params_are_sent_as_json(cls, value: object) -> object:
        return _sent(value) if isinstance(value, BaseModel) else value

    @field_validator("result", mode="before")
    @classmethod
    def _a_result_is_reported_as_json(cls, value: object) -> object:
        return _as_json(value, round_trip=False) if isinstance(value, BaseModel) else value

    @field_validator("params", "result")
    @classmethod
    def _values_can_be_sent(cls, value: object) -> object:
        import json  # what declares no example need not load it

        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"must be JSON, as a workflow would send it: {error}") from None
        return value

    @field_validator("tree", mode="plain")
    @classmethod
    def _tree_is_a_mapping_or_a_directory(cls, tree: object) -> object:
        if isinstance(tree, Mapping):
            return _canonical_tree(tree)
        if not isinstance(tree, str | os.PathLike | None):
            kind = type(tree).__name__
            raise ValueError(f"must be a mapping of path to content, or the path of a directory, not {kind}")  # noqa: TRY004
        if tree is not None and (not os.fspath(tree) or Path(tree).is_absolute()):
            raise ValueError("a directory is written relative to the task module, such as 'cases/a'")
        return tree

    @model_validator(mode="after")
    def _only_a_completed_example_has_a_result(self) -> Self:
        if self.result is not None and self.expect != "completed":
            raise ValueError(f"result is set, but expect={self.expect!r} has no result")
        return self


def _sent(params: BaseModel) -> object:
    """Return the JSON of a model as a workflow sends it.

    Raises:
        ValueError: its JSON means something else, such as that of a secret, which is masked.
    """
    import json

    document = _as_json(params, round_trip=True)
    name = type(params).__name__
    try:
        same = type(params).model_validate_json(json.dumps(document)) == params
    except Exception as error:
        raise ValueError(f"{name} refuses its own JSON ({_first_line(error)}); give the JSON as a mapping") from error
    if not same:
        raise ValueError(f"{name} hides or changes a value when it is written as JSON; give the JSON as a mapping")
    return document


def _as_json(model: BaseModel, *, round_trip: bool) -> object:
    import json

    try:
        return json.loads(model.model_dump_json(by_alias=True, round_trip=round_trip, warnings=False))
    except Exception as error:  # a serializer or a computed field of the author may fail in any way
        raise ValueError(f"{type(model).__name__} cannot be written as JSON: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _canonical_tree(tree: Mapping[object, object]) -> dict[str, object]:
    canonical = {canonical_path(path): content for path, content in tree.items()}
    if len(canonical) < len(tree):
        raise ValueError("two keys are the same path after normalising")
    for path, content in canonical.items():
        if content is not None and not isinstance(content, str | bytes):
            text = f"; write it as text: {str(content)!r}" if isinstance(content, int | float) else ""
            raise ValueError(f"the content of {path!r} must be str, bytes or None, not {type(content).__name__}{text}")
        if isinstance(content, str) and any("\ud800" <= character <= "\udfff" for character in content):
            raise ValueError(f"the content of {path!r} has no UTF-8 form; write it as bytes")
        parents = path.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            parent = "/".join(parents[:depth])
            if canonical.get(parent) is not None:
                raise ValueError(f"{parent!r} is a file, so {path!r} cannot be below it")
    return canonical


F = TypeVar("F", bound=Callable[..., Any])

TASK_ATTRIBUTE = "__perago_task__"
"""The attribute of a decorated function that has its `Task`. functools.wraps copies it onto wrappers: see
`get_task`."""

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
    """Patterns for withheld variables that the function gets nevertheless."""
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
        owner_email: the contact for questions about the task.
        workspace: the versioned tree it works on; without one it only maps params to a result.
        controls: retries, timeouts and limits; see `TaskControls` for the defaults.
        examples: cases from which the test toolkit makes tests.
        environment: patterns such as `LAKECTL_*` for variables that perago withholds from functions (`CONDUCTOR_*`,
            `LAKECTL_*`, `OTEL_EXPORTER_OTLP_*HEADERS`, `OPENLINEAGE_API_KEY` and `OPENLINEAGE__*`) and that this one
            needs.
        scratch_files: glob patterns such as `spark-warehouse/**` for files that the function may leave in its current
            directory, which is removed with the attempt.
        metrics: the numbers that the function may report by `current().count`, `.gauge` and `.observe`.

    Raises:
        TaskDefinitionError: the declaration or the signature breaks a rule; file, line, rule and fix are named.
    """
    declared_at = calling_line()
    controls = controls or TaskControls()
    try:
        check_texts(name, owner_email, description)
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
            which = f"task {name!r}{f' (function {label})' if label else ''}"
            raise location.error(f"{which}: {invalid.rule}", invalid.fix) from None
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
    """Return the task that `function` was declared as, or None.

    A wrapper around a task function is not a task, even if it has copied the function's attributes.
    """
    attribute = inspect.getattr_static(function, TASK_ATTRIBUTE, None)
    return attribute if isinstance(attribute, Task) and attribute.function is function else None


def _refuse_second_task(function: FunctionType) -> None:
    other = inspect.getattr_static(function, TASK_ATTRIBUTE, None)
    if isinstance(other, Task):
        raise InvalidDeclaration(
            f"the function is already the task {other.name!r}", "keep one @task and write a second function"
        )


def check_texts(name: object, email: object, description: object, kind: str = "task") -> None:
    """Check the name, the owner and the description of a task or a workflow.

    Raises:
        InvalidDeclaration: a text cannot be sent to Conductor.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidDeclaration(
            f"name {name!r} is not a {kind} name: letters, digits, '.', '_' and '-', beginning with a letter or digit, "
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
    actual = f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
    raise InvalidDeclaration(
        f"{name} must be {expected.__name__}(...), not {actual}", f"write {name}={expected.__name__}(...)"
    )


def _checked_scratch_files(patterns: object) -> tuple[str, ...]:
    fix = 'write scratch_files=["spark-warehouse/**"], or leave it out'
    try:
        return tuple(map(canonical_pattern, declared_list("scratch_files", "glob patterns", patterns, fix)))
    except ValueError as error:
        raise InvalidDeclaration(f"scratch_files: {error}", fix) from None


def _checked_examples(declared: object, *, has_workspace: bool) -> tuple[Example, ...]:
    fix = "write examples=[Example(...)]"
    examples = declared_list("examples", "Example(...)", declared, fix, but=Example)
    ids: set[str] = set()
    for index, example in enumerate(examples):
        _check_type(f"examples[{index}]", example, Example)
        if example.id in ids:
            raise InvalidDeclaration(f"two examples have the id {example.id!r}", "give each example an id of its own")
        ids.add(example.id)
        if not has_workspace and (example.tree is not None or example.expect in ("pre", "post")):
            raise InvalidDeclaration(
                f"example {example.id!r} needs a workspace, but @task declares none",
                "remove tree and expect='pre'/'post' from the example, or add workspace=WorkspaceSpec(...)",
            )
    return examples
