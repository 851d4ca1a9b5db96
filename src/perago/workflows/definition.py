"""Workflows as Python: declared by `@workflow`, checked when they are built, and sent as Conductor's JSON."""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType, ModuleType
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from perago.authoring.declaration import (
    LARGEST_INT,
    InvalidDeclaration,
    Location,
    TaskDefinitionError,
    calling_line,
    calling_locals,
    check_model,
    declares,
    require_function,
    resolve_annotations,
)
from perago.authoring.task import check_texts
from perago.taskdef.definition import schema_definition
from perago.taskdef.schema import GIVEN_REF, model_schema, result_schema, workspace_schema
from perago.workflows.flow import Flow
from perago.workflows.values import contains_value, sent_name
from perago.workflows.writer import Writer

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R")


class WorkflowDefinitionError(TaskDefinitionError):
    """A workflow cannot be built. `problems` has every mistake, each with its file and line."""

    def __init__(self, name: str, problems: tuple[TaskDefinitionError, ...], file: str, line: int) -> None:
        if len(problems) == 1:
            (only,) = problems
            super().__init__(f"workflow {name!r}: {only.message}", file=only.file, line=only.line, fix=only.fix)
        else:
            listed = "\n".join(str(problem) for problem in problems)
            message = f"workflow {name!r} has {len(problems)} problems:\n{listed}"
            super().__init__(message, file=file, line=line)
        self.problems = problems
        self._given = (name, problems, file, line)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self._given)


@dataclass(frozen=True, slots=True)
class Built:
    """A workflow that was written without a mistake."""

    definition: str
    """Conductor's JSON as text."""
    has_workspace: bool
    publishers: tuple[tuple[str, bool], ...]
    """The steps that may publish, and whether each rebases."""
    functions: Mapping[str, Callable[..., Any]]
    """The task functions of its steps by the name of the task, without those of sub-workflows."""
    parts: tuple[Workflow[Any, Any], ...]
    """Its sub-workflows, without theirs."""
    names: frozenset[tuple[str, int]]
    """Names and versions of the workflow and of all below it."""


@dataclass(frozen=True, eq=False)
class Workflow(Generic[P, R]):
    """A workflow that was declared with `@workflow`."""

    name: str
    version: int
    owner_email: str
    description: str | None
    timeout_seconds: int
    given: type[P]
    """The model of its parameters."""
    result: type[BaseModel] | None
    function: Callable[[Flow, P], R]
    module: str
    file: str
    line: int

    def definition(self) -> dict[str, Any]:
        """Return Conductor's JSON. The same module always gives the same JSON, and the caller can change it.

        Raises:
            WorkflowDefinitionError: the workflow has mistakes; all are listed.
        """
        definition: dict[str, Any] = json.loads(self._build().definition)
        return definition

    def _build(self) -> Built:
        """Write the workflow, once.

        Raises:
            WorkflowDefinitionError: it has mistakes; all are listed.
        """
        built = self._built
        for name in _building.get():
            if name in built.names:
                raise _endless(*name)
        return built

    @cached_property
    def _built(self) -> Built:
        name = (self.name, self.version)
        if name in _building.get():
            raise _endless(*name)
        with _names(name):
            return self._write()

    def _write(self) -> Built:
        writer = Writer(self.given)
        output: dict[str, Any] = {}
        try:
            returned = self.function(Flow(writer), cast("P", writer.params))
            writer.end = self._location
            output = writer.output(returned, self.result)
            writer.check_runs()
            if not writer.current.tasks:
                writer.report("the workflow has no step, which Conductor refuses", "add one")
        except WorkflowDefinitionError as error:  # of a sub-workflow
            writer.problems += error.problems
        except InvalidDeclaration as invalid:
            writer.problems.append(self._place_of(invalid).error(invalid.rule, invalid.fix))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the author's code may fail in any way
            problem, fix = f"{type(error).__name__}: {error}", "correct this line"
            if isinstance(error, ValidationError) and any(contains_value(detail["input"]) for detail in error.errors()):
                problem = f"{error.title} is called with a value that exists only when the workflow runs"
                fix = f"write flow.value({error.title}, ...)"
            writer.problems.append(self._place_of(error).error(problem, fix))
        else:
            for name in self.given.model_fields:
                if name not in writer.used:
                    self._report(
                        writer, f"no step uses the parameter {self.given.__name__}.{name}", "use it, or remove it"
                    )
        writer.problems += writer.unopened
        inputs, schemas = self._inputs(writer), self._schemas(writer)
        if writer.problems:
            different = {str(problem): problem for problem in writer.problems}  # each branch of a fork has the same
            raise WorkflowDefinitionError(self.name, tuple(different.values()), self.file, self.line)
        place = ["workspace"] if writer.has_workspace else []
        definition = {
            "name": self.name,
            "version": self.version,
            "schemaVersion": 2,
            "description": self.description,
            "ownerEmail": self.owner_email,
            "timeoutSeconds": self.timeout_seconds,
            "timeoutPolicy": "TIME_OUT_WF" if self.timeout_seconds else "ALERT_ONLY",
            "inputParameters": [*place, *inputs],
            "inputTemplate": {key: template[0] for key, template in inputs.items() if template is not None},
            "tasks": writer.tasks(),
            "outputParameters": output,
            **schemas,
        }
        text = json.dumps({key: value for key, value in definition.items() if value is not None}, allow_nan=False)
        functions, parts = dict(writer.functions), tuple(writer.parts.values())
        names = frozenset({(self.name, self.version)}).union(*(part._built.names for part in parts))
        return Built(text, writer.has_workspace, writer.publishers, functions, parts, names)

    def _inputs(self, writer: Writer) -> dict[str, tuple[Any] | None]:
        """The keys of the input, each with the JSON of its default, which Conductor fills in."""
        inputs: dict[str, tuple[Any] | None] = {}
        for name, field in self.given.model_fields.items():
            key, label = sent_name(name, field), f"{self.given.__name__}.{name}"
            if key is None or key == "workspace":
                self._report(writer, f"{label} cannot be sent as {key!r}", "give the field another name")
                continue
            inputs[key] = None
            if field.is_required():
                continue
            adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
            try:
                default, again = (
                    adapter.dump_python(
                        field.get_default(call_default_factory=True, validated_data={}),
                        mode="json",
                        by_alias=True,
                        warnings=False,
                    )
                    for _ in range(2)
                )
                json.dumps(default, allow_nan=False)
            except Exception as error:  # noqa: BLE001 - factories and serializers of the author may fail in any way
                rule = f"{label} has no default that JSON can hold: {type(error).__name__}: {error}"
                self._report(writer, rule, "make it a required field")
                continue
            if default != again:
                self._report(writer, f"{label} has another default each time", "make it a required field")
            inputs[key] = (default,)
        return inputs

    def _schemas(self, writer: Writer) -> dict[str, Any]:
        """The JSON Schemas of the input and the output, which `perago register` compares with those on the server."""
        place = {"workspace": workspace_schema(GIVEN_REF)} if writer.has_workspace else {}
        output = {"workspace": workspace_schema({})} if writer.has_workspace else {}
        try:
            params = model_schema(self.given, "parameter", "validation")
            if self.result is not None:
                output["result"] = result_schema(self.result)
        except InvalidDeclaration as invalid:
            self._report(writer, invalid.rule, invalid.fix)
            return {}
        params["properties"] = {**place, **params.get("properties", {})}
        params["required"] = sorted([*place, *params.get("required", ())])
        returned = {"type": "object", "properties": output, "required": sorted(output)}
        return {
            "inputSchema": schema_definition(f"{self.name}.input", params),
            "outputSchema": schema_definition(f"{self.name}.output", returned),
        }

    def _report(self, writer: Writer, rule: str, fix: str) -> None:
        """Note a problem at the line of the declaration."""
        writer.problems.append(self._location.error(rule, fix))

    @property
    def _location(self) -> Location:
        return Location(self.file, self.line)

    def _place_of(self, error: BaseException) -> Location:
        """Return the innermost line of the author's module in the traceback of the error."""
        place = self._location
        for frame, line in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename == self.file:
                place = Location(self.file, line)
        return place


_building: ContextVar[tuple[tuple[str, int], ...]] = ContextVar("building", default=())
"""The names and versions of the workflows that are being built, from the outside in."""


def _endless(name: str, version: int) -> InvalidDeclaration:
    return InvalidDeclaration(
        f"version {version} of workflow {name!r} would run itself, and never end",
        "write a loop, or give the inner workflow another name",
    )


@contextlib.contextmanager
def _names(name: tuple[str, int]) -> Iterator[None]:
    token = _building.set((*_building.get(), name))
    try:
        yield
    finally:
        _building.reset(token)


_declared: dict[str, list[tuple[object, Workflow[Any, Any]]]] = {}
"""The workflows of each module with the spec that it was imported by. Two functions may share one name."""


def workflows_of(module: ModuleType) -> tuple[Workflow[Any, Any], ...]:
    """Return the workflows that a module itself declares, in the order of their lines."""
    spec = getattr(module, "__spec__", None)  # a reload has another one
    known = [one for of, one in _declared.get(module.__name__, ()) if of is spec]
    bound = [one for one in vars(module).values() if isinstance(one, Workflow) and one.module == module.__name__]
    return tuple(sorted({id(one): one for one in (*known, *bound)}.values(), key=lambda one: one.line))


def complete_input(definition: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with the defaults of those that are not given.

    Conductor fills in no default if the input is empty.

    Raises:
        ValueError: the workflow does not have such a parameter, or one is missing.
    """
    known = [key for key in definition["inputParameters"] if key != "workspace"]
    label, listed = f"workflow {definition['name']}", ", ".join(known) or "no parameters"
    for name in params:
        if name not in known:
            raise ValueError(f"{label} has no parameter {name!r}; it takes {listed}")
    complete = {**definition["inputTemplate"], **params}
    missing = [name for name in known if name not in complete]
    if missing:
        raise ValueError(f"{label} needs the parameter {missing[0]!r}; it takes {listed}")
    return complete


@declares("@workflow", named_only=True)
def workflow(
    *, name: str, version: int, owner_email: str, description: str | None = None, timeout_seconds: int = 0
) -> Callable[[Callable[[Flow, P], R]], Workflow[P, R]]:
    """Declare a function `(flow: Flow, given: Model) -> Model | None` as a workflow.

    The function runs once, when the workflow is built: it writes the steps and must not do any work.

    Args:
        name: The name of the workflow in Conductor: letters, digits, `.`, `_`, `-`, at most 128.
        version: The version, from 1. Increase it with each change of a registered definition.
        owner_email: The contact for questions about the workflow.
        description: A text for people.
        timeout_seconds: Seconds after which Conductor ends the workflow; 0: never.

    Raises:
        TaskDefinitionError: The declaration or the signature breaks a rule; file, line, rule and fix are named.
    """
    declared_at = calling_line()
    try:
        check_texts(name, owner_email, description, kind="workflow")
        _check_number("version", version, 1)
        _check_number("timeout_seconds", timeout_seconds, 0)
    except InvalidDeclaration as invalid:
        raise declared_at.error(f"@workflow: {invalid.rule}", invalid.fix) from None

    def make(function: Callable[[Flow, Any], Any]) -> Workflow[Any, Any]:
        try:
            plain = require_function(function, "@workflow")
            params, result = _models(plain, calling_locals() if "<locals>" in plain.__qualname__ else {})
        except InvalidDeclaration as invalid:
            raise declared_at.error(f"workflow {name!r}: {invalid.rule}", invalid.fix) from None
        module, code = plain.__module__, plain.__code__
        place = (module, code.co_filename, code.co_firstlineno)
        made: Workflow[Any, Any] = Workflow(
            name, version, owner_email, description, timeout_seconds, params, result, plain, *place
        )
        if "<locals>" not in plain.__qualname__:
            _declared.setdefault(module, []).append((getattr(sys.modules.get(module), "__spec__", None), made))
        return made

    return make


def _check_number(label: str, number: object, least: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= LARGEST_INT:
        raise InvalidDeclaration(f"{label} {number!r} is not a whole number from {least}", f"write {label}={least}")


def _models(function: FunctionType, local_names: Mapping[str, Any]) -> tuple[type[BaseModel], type[BaseModel] | None]:
    """The models of the parameters and of the result.

    Raises:
        InvalidDeclaration: the signature is not that of a workflow.
    """
    parameters = list(inspect.signature(function).parameters)
    if len(parameters) != 2:
        raise InvalidDeclaration(
            f"the function takes {len(parameters)} parameters, not two",
            f"write `def {function.__name__}(flow: Flow, given: Given) -> Report`",
        )
    hints = resolve_annotations(function, local_names)
    params = check_model(hints.get(parameters[1]), f"parameter {parameters[1]!r}")
    returned = hints.get("return", type(None))
    return params, None if returned is type(None) else check_model(returned, "the result")
