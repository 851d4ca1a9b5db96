"""Keys of a document that its model passes over: pydantic ignores what it does not know, a misspelt name included."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import AliasChoices, AliasPath, BaseModel, BeforeValidator, PlainValidator, RootModel, WrapValidator
from pydantic.fields import FieldInfo

from perago.taskdef.pointer import join_pointer

_RESHAPING = ("before", "wrap", "plain")


def ignored_keys(document: Any, value: Any, pointer: str = "") -> Iterator[str]:
    """JSON pointers to the keys that played no part when `value` was made of `document`, with what was meant perhaps.

    Where validators of the author see the document before its model does, nobody knows what they read: nothing is said.
    """
    if isinstance(value, RootModel):
        if not _is_reshaped(type(value), "root"):
            yield from ignored_keys(document, value.root, pointer)
    elif isinstance(value, BaseModel) and isinstance(document, Mapping):
        yield from _of_model(document, value, pointer)
    elif isinstance(value, list | tuple) and isinstance(document, list | tuple) and len(value) == len(document):
        for index, (part, item) in enumerate(zip(document, value, strict=True)):
            yield from ignored_keys(part, item, join_pointer(pointer, index))
    elif isinstance(value, Mapping) and isinstance(document, Mapping):
        for key, item in value.items():
            if str(key) in document:
                yield from ignored_keys(document[str(key)], item, join_pointer(pointer, str(key)))


def _of_model(document: Mapping[str, Any], value: BaseModel, pointer: str) -> Iterator[str]:
    model = type(value)
    validators = model.__pydantic_decorators__.model_validators.values()
    if any(validator.info.mode in _RESHAPING for validator in validators):
        return
    names = {key: name for name, field in model.model_fields.items() for key in _keys(model, name, field)}
    if model.model_config.get("extra") != "allow":
        for key in document:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1)
                yield f"{join_pointer(pointer, key)}{f' (did you mean {near[0]}?)' if near else ''}"
    for key, name in names.items():
        if key in document and not _is_reshaped(model, name):
            yield from ignored_keys(document[key], getattr(value, name), join_pointer(pointer, key))


def _keys(model: type[BaseModel], name: str, field: FieldInfo) -> Iterator[str]:
    """The keys under which a field is read."""
    config = model.model_config
    alias = field.validation_alias
    if alias is None or config.get("populate_by_name") or config.get("validate_by_name"):
        yield name
    for choice in alias.choices if isinstance(alias, AliasChoices) else (alias,):
        key = choice.path[0] if isinstance(choice, AliasPath) else choice
        if isinstance(key, str):
            yield key


def _is_reshaped(model: type[BaseModel], name: str) -> bool:
    if any(
        isinstance(item, BeforeValidator | WrapValidator | PlainValidator) for item in model.model_fields[name].metadata
    ):
        return True
    validators = model.__pydantic_decorators__.field_validators.values()
    return any(item.info.mode in _RESHAPING and {name, "*"} & set(item.info.fields) for item in validators)
