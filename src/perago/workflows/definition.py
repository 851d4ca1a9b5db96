"""`@workflow`: it declares a workflow, which is checked when it is built, and sent as Conductor's JSON."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any, TypeVar

from pydantic import BaseModel

from perago.authoring.declaration import (
    LARGEST_INT,
    InvalidDeclaration,
    calling_line,
    calling_locals,
    check_model,
    declares,
    require_function,
    resolve_annotations,
)
from perago.authoring.task import check_texts
from perago.taskdef.schema import schema_problems
from perago.workflows.flow import Flow, Workflow
from perago.workflows.schedule import Cron, check_schedule
from perago.workflows.values import FailedWorkflow

P = TypeVar("P", bound=BaseModel)
R = TypeVar("R")
F = TypeVar("F", bound=FailedWorkflow)


_declared: dict[str, list[tuple[object, Workflow[Any, Any]]]] = {}
"""The workflows of each module with the spec that it was imported by. Two functions may share one name."""


def workflows_of(module: ModuleType) -> tuple[Workflow[Any, Any], ...]:
    """Return the workflows that a module itself declares, in the order of their lines."""
    spec = getattr(module, "__spec__", None)  # a reload has another one
    name = module.__name__
    workflows = [declared for imported_by, declared in _declared.get(name, ()) if imported_by is spec]
    workflows += [member for member in vars(module).values() if isinstance(member, Workflow) and member.module == name]
    return tuple(sorted({id(flow): flow for flow in workflows}.values(), key=lambda flow: flow.line))


def complete_input(definition: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with the defaults of those that are not given.

    Conductor fills in no default if the input is empty.

    Raises:
        ValueError: the workflow does not have such a parameter, one is missing, or one has another type.
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
    schema = {**definition.get("inputSchema", {}).get("data", {}), "required": []}  # the SDK writes none
    if problems := list(schema_problems(schema, params, formats=True)):
        raise ValueError(f"{label}: {'; '.join(problems)}")
    return complete


@declares("@workflow", named_only=True)
def workflow(
    *,
    name: str,
    version: int,
    owner_email: str,
    description: str | None = None,
    timeout_seconds: int = 0,
    schedule: Cron | None = None,
    on_failure: Workflow[F, Any] | None = None,
) -> Callable[[Callable[[Flow, P], R]], Workflow[P, R]]:
    """Declare a function `(flow: Flow, given: Model) -> Model | None` as a workflow.

    The function runs once, when the workflow is built: it writes the steps and must not do any work.

    Args:
        name: The name of the workflow in Conductor: letters, digits, `.`, `_`, `-`, at most 128.
        version: The version, from 1. Increase it with each change of a registered definition.
        owner_email: The contact for questions about the workflow.
        description: A text for people.
        timeout_seconds: Seconds after which Conductor ends the workflow; 0: never.
        schedule: The times at which Conductor starts it, as `Cron("0 3 * * *", time_zone="Europe/Berlin")`.
        on_failure: The workflow that runs after a failure or a timeout. Its parameters are a `FailedWorkflow`, and its
            steps continue the last workspace. It does not run after a manual termination.

    Raises:
        TaskDefinitionError: The declaration or the signature breaks a rule; file, line, rule and fix are named.
    """
    declared_at = calling_line()
    try:
        check_texts(name, owner_email, description, kind="workflow")
        _check_number("version", version, 1)
        _check_number("timeout_seconds", timeout_seconds, 0)
        _check_handler(on_failure)
    except InvalidDeclaration as invalid:
        raise declared_at.error(f"@workflow: {invalid.rule}", invalid.fix) from None

    def make(function: Callable[[Flow, Any], Any]) -> Workflow[Any, Any]:
        try:
            plain = require_function(function, "@workflow")
            params, result = _models(plain, calling_locals() if "<locals>" in plain.__qualname__ else {})
            if schedule is not None:
                check_schedule(schedule, params)
        except InvalidDeclaration as invalid:
            raise declared_at.error(f"workflow {name!r}: {invalid.rule}", invalid.fix) from None
        module, code = plain.__module__, plain.__code__
        place = (module, code.co_filename, code.co_firstlineno)
        made: Workflow[Any, Any] = Workflow(
            name,
            version,
            owner_email,
            description,
            timeout_seconds,
            params,
            result,
            plain,
            *place,
            schedule=schedule,
            on_failure=on_failure,
        )
        if "<locals>" not in plain.__qualname__:
            _declared.setdefault(module, []).append((getattr(sys.modules.get(module), "__spec__", None), made))
        return made

    return make


def _check_number(label: str, number: object, least: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= LARGEST_INT:
        raise InvalidDeclaration(f"{label} {number!r} is not a whole number from {least}", f"write {label}={least}")


def _check_handler(on_failure: object) -> None:
    if on_failure is not None and not issubclass(getattr(on_failure, "given", type(None)), FailedWorkflow):
        shown = getattr(on_failure, "name", None) or getattr(on_failure, "__name__", on_failure)
        rule = f"on_failure={shown!r} is not a workflow that takes a FailedWorkflow"
        raise InvalidDeclaration(rule, "give a function with @workflow and `(flow: Flow, failed: FailedWorkflow)`")


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
