"""The signature rule: `(workspace: Path, params: Model) -> Model`, or `(params: Model) -> Model`
(docs/design/contract.md 2).

Checked when `@task` is applied, so that a mistake is found at import and not in the first attempt.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from pathlib import Path, PurePath
from types import FunctionType
from typing import Any

from pydantic import BaseModel, RootModel

from perago.authoring.errors import InvalidDeclaration

WITH_WORKSPACE = "(workspace: Path, params: Params) -> Result"
WITHOUT_WORKSPACE = "(params: Params) -> Result"


def require_function(candidate: object, decorator: str = "@task") -> FunctionType:
    """The candidate, if it is a plain function that returns its result. `decorator` is what stands above it.

    Raises:
        InvalidDeclaration: it is something else.
    """
    if not isinstance(candidate, FunctionType):
        raise InvalidDeclaration(
            f"{decorator} decorates a plain function, not {_kind_of_object(candidate)}",
            "write `def name(...)` in the module",
        )
    if candidate.__name__ == "<lambda>":
        raise InvalidDeclaration(
            f"{decorator} decorates a plain function, not a lambda", "write `def name(...)` in the module"
        )
    owner = candidate.__qualname__.rpartition(".")[0]
    if owner and not owner.endswith("<locals>"):
        raise InvalidDeclaration(
            f"{decorator} decorates a plain function, not a method of {owner}", "move it out of the class"
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
        check_kind(parameter, fix)
    _check_names([parameter.name for parameter in parameters], has_workspace, fix)
    for parameter in parameters:
        if parameter.annotation is Parameter.empty:
            raise InvalidDeclaration(f"parameter {parameter.name!r} has no annotation", fix)
    if signature.return_annotation is inspect.Signature.empty:
        raise InvalidDeclaration("the result has no annotation", fix)
    hints = resolve_annotations(function, local_names)
    if has_workspace:
        check_workspace(hints["workspace"])
    return _check_model(hints["params"], "parameter 'params'"), _check_model(hints["return"], "the result")


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


def check_kind(parameter: Parameter, fix: str) -> None:
    wrapper = "; if another decorator stands below, it must use functools.wraps"
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


def resolve_annotations(function: Callable[..., Any], local_names: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations as objects, whether written plainly or as strings.

    Raises:
        InvalidDeclaration: an annotation names something that does not exist at run time, or is not a type.
    """
    try:
        return typing.get_type_hints(function, localns=dict(local_names))
    except NameError as error:
        where = _annotation_with(function, error.name or "")
        raise InvalidDeclaration(
            f"the annotation {where} names {error.name!r}, which is not defined when the module is imported",
            f"import or define {error.name} above the function, and not only under `if TYPE_CHECKING:`",
        ) from None
    except Exception as error:  # noqa: BLE001 - an annotation may be any expression and fail in any way
        raise InvalidDeclaration(
            f"the annotations cannot be read: {type(error).__name__}: {error}", "write plain types as annotations"
        ) from None


def check_workspace(annotation: object) -> None:
    """`workspace` must be exactly `pathlib.Path`."""
    if annotation is Path:
        return
    if _is_optional(annotation):
        why = "is always given, so it cannot be Optional"
    elif annotation is str:
        why = "is a pathlib.Path, not a str"
    elif isinstance(annotation, type) and issubclass(annotation, PurePath):
        why = f"is a pathlib.Path, not a {annotation.__name__}"
    else:
        why = f"is a pathlib.Path, not {_spelled(annotation)}"
    raise InvalidDeclaration(f"parameter 'workspace' {why}", "write `workspace: Path` (from pathlib import Path)")


def _check_model(annotation: object, what: str) -> type[BaseModel]:
    """The annotation, if it is a pydantic model that always is a JSON object.

    Raises:
        InvalidDeclaration: it is anything else; `what` names it, such as `parameter 'params'`.
    """
    declare = "declare a class that inherits from pydantic.BaseModel and use it"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation is BaseModel:
            raise InvalidDeclaration(f"{what} is BaseModel itself, which has no fields", declare)
        _refuse_special_model(annotation, what)
        return annotation
    if annotation is None or annotation is type(None):
        raise InvalidDeclaration(f"{what} is None, not a pydantic model", "return a model; one without fields will do")
    spelled = _spelled(annotation)
    if _is_optional(annotation):
        raise InvalidDeclaration(
            f"{what} is {spelled}, but it is always there", "drop the Optional and use the model alone"
        )
    if _is_union(annotation):
        raise InvalidDeclaration(
            f"{what} is a union, {spelled}, not one model", "use one model with a discriminated union as its field"
        )
    raise InvalidDeclaration(f"{what} is {spelled}, not a pydantic model", declare)


def _refuse_special_model(model: type[BaseModel], what: str) -> None:
    if issubclass(model, RootModel):
        raise InvalidDeclaration(
            f"{what} is the RootModel {model.__name__}, but it travels as a JSON object",
            "wrap the value in a model with one field",
        )
    if model.__pydantic_generic_metadata__["parameters"]:
        raise InvalidDeclaration(
            f"{what} is the generic model {model.__name__} without its type", f"write {model.__name__}[...] with a type"
        )


def _is_union(annotation: object) -> bool:
    return isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union


def _is_optional(annotation: object) -> bool:
    return _is_union(annotation) and type(None) in typing.get_args(annotation)


def _spelled(annotation: object) -> str:
    return inspect.formatannotation(annotation)


def _annotation_with(function: Callable[..., Any], name: str) -> str:
    """Which annotation mentions the name, in words."""
    word = re.compile(rf"\b{re.escape(name)}\b")
    for parameter, annotation in function.__annotations__.items():
        if isinstance(annotation, str) and word.search(annotation):
            return "of the result" if parameter == "return" else f"of parameter {parameter!r}"
    return "of a parameter"
