"""The signature rule: `(workspace: Path, params: Model) -> Model`, or `(params: Model) -> Model`
(docs/design/contract.md 2).

Checked when `@task` is applied, so that a mistake is found at import and not in the first attempt.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from inspect import Parameter
from types import FunctionType
from typing import Any

from pydantic import BaseModel

from perago.authoring.annotations import check_model, check_workspace, resolve_annotations
from perago.authoring.errors import InvalidDeclaration

WITH_WORKSPACE = "(workspace: Path, params: Params) -> Result"
WITHOUT_WORKSPACE = "(params: Params) -> Result"


def require_function(candidate: object) -> FunctionType:
    """The candidate, if it is a plain function that returns its result.

    Raises:
        InvalidDeclaration: it is something else.
    """
    if not isinstance(candidate, FunctionType):
        raise InvalidDeclaration(
            f"@task decorates a plain function, not {_kind_of_object(candidate)}", "write `def name(...)` in the module"
        )
    if candidate.__name__ == "<lambda>":
        raise InvalidDeclaration(
            "@task decorates a plain function, not a lambda", "write `def name(...)` in the module"
        )
    owner = candidate.__qualname__.rpartition(".")[0]
    if owner and not owner.endswith("<locals>"):
        raise InvalidDeclaration(
            f"@task decorates a plain function, not a method of {owner}", "move it out of the class"
        )
    if inspect.isasyncgenfunction(candidate):
        raise InvalidDeclaration(
            "the function is an async generator", "make it a plain `def` that returns its result once"
        )
    if inspect.iscoroutinefunction(candidate):
        raise InvalidDeclaration("the function is async", "make it a plain `def` and call asyncio.run(...) inside")
    if inspect.isgeneratorfunction(candidate):
        raise InvalidDeclaration("the function is a generator", "return the result once instead of yielding")
    return candidate


def check_signature(
    function: FunctionType, *, has_workspace: bool, local_names: Mapping[str, Any]
) -> tuple[type[BaseModel], type[BaseModel]]:
    """The models of parameters and result.

    Raises:
        InvalidDeclaration: the signature is not exactly the one that the rule asks for.
    """
    expected = WITH_WORKSPACE if has_workspace else WITHOUT_WORKSPACE
    fix = f"write `def {function.__name__}{expected}`"
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    for parameter in parameters:
        _check_kind(parameter, fix)
    _check_names([parameter.name for parameter in parameters], has_workspace, fix)
    for parameter in parameters:
        if parameter.annotation is Parameter.empty:
            raise InvalidDeclaration(f"parameter {parameter.name!r} has no annotation", fix)
    if signature.return_annotation is inspect.Signature.empty:
        raise InvalidDeclaration("the result has no annotation", fix)
    hints = resolve_annotations(function, local_names)
    if has_workspace:
        check_workspace(hints["workspace"])
    return check_model(hints["params"], "parameter 'params'"), check_model(hints["return"], "the result")


def _kind_of_object(candidate: object) -> str:
    if isinstance(candidate, type):
        return f"the class {candidate.__name__}"
    if isinstance(candidate, functools.partial):
        return "a functools.partial"
    if isinstance(candidate, staticmethod | classmethod):
        return f"a {type(candidate).__name__}"
    if inspect.ismethod(candidate):
        return "a bound method"
    return f"an object of type {type(candidate).__name__}"


def _check_kind(parameter: Parameter, fix: str) -> None:
    wrapper = "; if another decorator stands below @task, it must use functools.wraps"
    match parameter.kind:
        case Parameter.VAR_POSITIONAL:
            raise InvalidDeclaration(f"the signature has *{parameter.name}", fix + wrapper)
        case Parameter.VAR_KEYWORD:
            raise InvalidDeclaration(f"the signature has **{parameter.name}", fix + wrapper)
        case Parameter.KEYWORD_ONLY:
            raise InvalidDeclaration(
                f"parameter {parameter.name!r} is keyword-only", f"remove the `*` before it: {fix}"
            )
        case Parameter.POSITIONAL_ONLY:
            raise InvalidDeclaration(
                f"parameter {parameter.name!r} is positional-only", f"remove the `/` after it: {fix}"
            )
    if parameter.default is not Parameter.empty:
        raise InvalidDeclaration(
            f"parameter {parameter.name!r} has a default, but it is always given",
            "remove the default; defaults of single values belong into the params model",
        )


def _check_names(names: Sequence[str], has_workspace: bool, fix: str) -> None:
    expected = ["workspace", "params"] if has_workspace else ["params"]
    if names == expected:
        return
    if has_workspace and "workspace" not in names and names[-1:] == ["params"] and len(names) == 1:
        raise InvalidDeclaration(
            "@task declares a workspace, but the function takes no 'workspace'",
            f"{fix}, or remove workspace=... from @task",
        )
    if not has_workspace and "workspace" in names:
        raise InvalidDeclaration(
            "the function takes 'workspace', but @task declares none",
            "add workspace=WorkspaceSpec(...) to @task, or remove the parameter",
        )
    if sorted(names) == sorted(expected):
        raise InvalidDeclaration(f"the parameters are in the wrong order: {', '.join(names)}", fix)
    if len(names) < len(expected):
        missing = [name for name in expected if name not in names] or expected
        raise InvalidDeclaration(f"the function lacks the parameter {missing[0]!r}", fix)
    if len(names) > len(expected):
        extra = [name for name in names if name not in expected]
        raise InvalidDeclaration(
            f"the function has an extra parameter {extra[0]!r}", f"{fix}; further values belong into the params model"
        )
    wrong, right = next((a, b) for a, b in zip(names, expected, strict=True) if a != b)
    raise InvalidDeclaration(f"parameter {wrong!r} must be named {right!r}", fix)
