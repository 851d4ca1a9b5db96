"""What the annotations of a task function must be."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, RootModel

from perago.authoring.errors import InvalidDeclaration


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


def check_model(annotation: object, what: str) -> type[BaseModel]:
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
