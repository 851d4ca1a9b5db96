"""JSON Schemas of what goes into a task and comes out of it (docs/design/contract.md 3).

Parameters are described the way they are validated, results the way they are serialised. Every `$ref` is inlined,
because Conductor and the people who read its console cannot follow one.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from perago.authoring import Task, TaskDefinitionError
from perago.taskdef.inlining import RecursiveModel, inline
from perago.taskdef.secret import find_secret

COMMIT_ID_PATTERN = "^[0-9a-f]{64}$"


class _QuietSchema(GenerateJsonSchema):
    """Leaves out a default that has no JSON form, without a warning: it is applied all the same."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - pydantic's own spelling


def input_schema(task: Task) -> dict[str, Any]:
    """What Conductor must send.

    Raises:
        TaskDefinitionError: the parameters model has no JSON Schema, or a recursive one.
    """
    return _envelope(task, "params", _model_schema(task, task.params_model, "params", "validation"))


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
    return _envelope(task, "result", schema)


def _envelope(task: Task, key: str, schema: dict[str, Any]) -> dict[str, Any]:
    properties = {"workspace": _workspace_schema(), key: schema} if task.workspace is not None else {key: schema}
    return _closed(properties)


def _workspace_schema() -> dict[str, Any]:
    commit = {"const": "commit"}
    text = {"type": "string", "minLength": 1}
    schema = _closed(
        {"repository": text, "branch": text, "ref": {"type": "string", "pattern": COMMIT_ID_PATTERN}},
    )
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
