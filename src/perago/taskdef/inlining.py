"""Replacing `$ref` by what it refers to, in the JSON Schemas that pydantic writes.

A schema is walked by the meaning of its keywords: a property that is called `$ref`, or a default that looks like
a schema, is left alone. Orders without meaning (`required`, the default of a set) are made stable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_PREFIX = "#/$defs/"
_SCHEMA_MAPS = {"properties", "patternProperties", "dependentSchemas"}
_DATA = {"default", "const", "enum", "examples"}


class RecursiveModel(Exception):
    """A definition contains itself; `name` is the model."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def inline(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema without `$ref` and `$defs`.

    Raises:
        RecursiveModel: a definition contains itself.
        ValueError: a `$ref` points outside the schema.
    """
    definitions = schema.get("$defs", {})
    body = {key: value for key, value in schema.items() if key != "$defs"}
    return _schema(body, definitions, ())


def _schema(node: Mapping[str, Any], definitions: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    reference = node.get("$ref")
    target = {} if reference is None else _target(reference, definitions, path)
    own = {key: _keyword(key, value, definitions, path) for key, value in node.items() if key != "$ref"}
    walked = target | own
    if "default" in walked:
        walked["default"] = _ordered(walked["default"], walked)
    return walked


def _target(reference: str, definitions: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    name = reference.removeprefix(_PREFIX)
    if name not in definitions:
        raise ValueError(f"the reference {reference!r} points outside the schema")
    if name in path:
        raise RecursiveModel(name)
    return _schema(definitions[name], definitions, (*path, name))


def _keyword(key: str, value: Any, definitions: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    if key in _DATA:
        return value
    if key == "required":
        return sorted(value)
    if key == "discriminator":  # its mapping is made of references; each branch already tells by its const
        return {name: item for name, item in value.items() if name != "mapping"}
    if key in _SCHEMA_MAPS:
        return {name: _any(item, definitions, path) for name, item in value.items()}
    return _any(value, definitions, path)


def _any(value: Any, definitions: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return _schema(value, definitions, path)
    if isinstance(value, list):
        return [_any(item, definitions, path) for item in value]
    return value


def _ordered(value: Any, schema: Mapping[str, Any]) -> Any:
    """A default in which the items of sets have a stable order."""
    for option in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        value = _ordered(value, option)
    if isinstance(value, Mapping):
        rest = schema.get("additionalProperties")
        other = rest if isinstance(rest, Mapping) else {}
        return {key: _ordered(item, schema.get("properties", {}).get(key, other)) for key, item in value.items()}
    if isinstance(value, list):
        items = [_ordered(item, schema.get("items", {})) for item in value]
        return sorted(items, key=_sort_key) if schema.get("uniqueItems") is True else items
    return value


def _sort_key(item: Any) -> str:
    return json.dumps(item, sort_keys=True, default=str)
