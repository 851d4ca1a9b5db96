"""Finding secrets in a result model, however deep (docs/design/contract.md 3)."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

_SECRETS = (SecretStr, SecretBytes, Secret)


def find_secret(model: type[BaseModel]) -> str | None:
    """Where the model can hold a `SecretStr`, `SecretBytes` or `Secret[...]`, like `Result.login.token`, or None."""
    return _find(model, model.__name__, set())


def _find(annotation: Any, path: str, seen: set[int]) -> str | None:
    origin = typing.get_origin(annotation) or annotation
    if isinstance(origin, type) and issubclass(origin, _SECRETS):
        return path
    if id(annotation) in seen:
        return None
    seen.add(id(annotation))
    found = (_find(part, f"{path}.{name}" if name else path, seen) for name, part in _parts(annotation))
    return next((hit for hit in found if hit is not None), None)


def _parts(annotation: Any) -> Iterator[tuple[str, Any]]:
    """The types that a type is made of, with the field name where there is one."""
    if hasattr(annotation, "__value__"):  # a type alias
        yield "", annotation.__value__
    if isinstance(annotation, type):
        yield from _fields(annotation)
    for argument in typing.get_args(annotation):
        yield "", argument


def _fields(kind: type) -> Iterator[tuple[str, Any]]:
    if issubclass(kind, BaseModel):
        yield from ((name, field.annotation) for name, field in kind.model_fields.items())
        yield from ((name, field.return_type) for name, field in kind.model_computed_fields.items())
    elif (
        dataclasses.is_dataclass(kind) or _is_typed_dict(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
    ):
        yield from _hints(kind).items()


def _is_typed_dict(kind: type) -> bool:
    return issubclass(kind, dict) and hasattr(kind, "__total__")


def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except NameError:  # names of a function's locals, which pydantic found and we cannot
        return {}
