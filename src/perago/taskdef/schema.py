"""JSON Schemas of what goes into a task and comes out of it (docs/design/contract.md 3).

Parameters are described the way they are validated, results the way they are serialised. Every `$ref` is inlined,
because Conductor and the people who read its console cannot follow one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, PydanticUserError, Secret, SecretBytes, SecretStr
from pydantic.json_schema import GenerateJsonSchema

from perago.authoring import Task, TaskDefinitionError

COMMIT_ID_PATTERN = "^[0-9a-f]{64}$"


class _QuietSchema(GenerateJsonSchema):
    """Leaves out a default that has no JSON form, without a warning: it is applied all the same."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - pydantic's own spelling


def input_schema(task: Task) -> dict[str, Any]:
    """What Conductor must send.

    Raises:
        TaskDefinitionError: the parameters model has no JSON Schema, or a recursive one.
    """
    return _envelope(task, "params", _model_schema(task, task.params_model, "params", "validation"), _GIVEN_REF)


def output_schema(task: Task) -> dict[str, Any]:
    """What the task reports.

    Raises:
        TaskDefinitionError: the result model has no JSON Schema, a recursive one, or a secret in it.
    """
    schema = _model_schema(task, task.result_model, "result", "serialization")
    secret = find_secret(task.result_model)
    if secret is not None:
        raise _refused(
            task,
            f"result model {task.result_model.__name__} holds a secret in {secret}, "
            "but results are stored readable in Conductor and in lakeFS",
            "remove the field; return the name under which the secret can be looked up",
        )
    return _envelope(task, "result", schema, _COMMIT)


_COMMIT = {"type": "string", "pattern": COMMIT_ID_PATTERN}
_OUTPUT = {"type": "object", "minProperties": 1}
"""Of a JOIN: what its tasks put out, by reference name (`perago.taskdef.refs`)."""
_GIVEN_REF = {
    "anyOf": [
        _COMMIT,
        {"type": "array", "items": {"anyOf": [_COMMIT, _OUTPUT, {"type": "null"}]}, "minItems": 1},
        _OUTPUT,
    ]
}


def _envelope(task: Task, key: str, schema: dict[str, Any], ref: dict[str, Any]) -> dict[str, Any]:
    properties = {"workspace": _workspace_schema(ref), key: schema} if task.workspace is not None else {key: schema}
    return _closed(properties)


def _workspace_schema(ref: dict[str, Any]) -> dict[str, Any]:
    commit = {"const": "commit"}
    text = {"type": "string", "minLength": 1}
    schema = _closed({"repository": text, "branch": text, "ref": ref})
    schema["properties"] |= {"ref_type": commit, "refType": commit}
    schema["oneOf"] = [{"required": ["ref_type"]}, {"required": ["refType"]}]
    return schema


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": sorted(properties),
        "additionalProperties": False,
    }


def _model_schema(
    task: Task, model: type[BaseModel], key: str, mode: Literal["validation", "serialization"]
) -> dict[str, Any]:
    label = f"{key} model {model.__name__}"
    try:
        schema = inline(model.model_json_schema(mode=mode, schema_generator=_QuietSchema))
        return dict(json.loads(json.dumps(schema, allow_nan=False, ensure_ascii=False).encode()))
    except RecursiveModel as error:
        raise _refused(
            task,
            f"{label}: {error.name} contains itself, so its schema cannot be written without references",
            "replace the recursion by a list of flat items that name their parent",
        ) from None
    except PydanticUserError as error:
        raise _refused(
            task, f"{label} has no JSON Schema: {error.message}", "use types that have a JSON form, defined by now"
        ) from error
    except Exception as error:  # pydantic and the author's schema hooks fail in many ways
        raise _refused(
            task,
            f"{label} has no JSON Schema: {type(error).__name__}: {error}",
            "use defaults and constraints that have a JSON form: finite numbers, text, lists, mappings",
        ) from error


def _refused(task: Task, message: str, fix: str) -> TaskDefinitionError:
    return TaskDefinitionError(f"task {task.name!r}: {message}", file=task.file, line=task.line, fix=fix)


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
        if schema.get("uniqueItems") is True:
            items.sort(key=lambda item: json.dumps(item, sort_keys=True, default=str))
        return items
    return value


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
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from ((name, field.annotation) for name, field in annotation.model_fields.items())
        yield from ((name, field.return_type) for name, field in annotation.model_computed_fields.items())
    elif isinstance(annotation, type) and _has_hints(annotation):
        with contextlib.suppress(NameError):  # names of a function's locals, which pydantic found and we cannot
            yield from typing.get_type_hints(annotation).items()
    for argument in typing.get_args(annotation):
        yield "", argument


def _has_hints(kind: type) -> bool:
    is_typed_dict = issubclass(kind, dict) and hasattr(kind, "__total__")
    is_named_tuple = issubclass(kind, tuple) and hasattr(kind, "_fields")
    return dataclasses.is_dataclass(kind) or is_typed_dict or is_named_tuple
