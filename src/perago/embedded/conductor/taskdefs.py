"""Task definitions: what the server stores and what it refuses (`reference/conductor.md` 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from perago.embedded.conductor.coercion import FieldReader, without_nulls
from perago.embedded.conductor.errors import malformed, server_error, validation_failed
from perago.embedded.conductor.expressions import refuse_unsupported
from perago.embedded.conductor.jackson import SCHEMA_DEF, TASK_DEF, list_of, not_a_bean, wrong_token
from perago.embedded.conductor.wire import through_json

OPERATION = "register task definitions"

TIMEOUT_POLICIES = ("RETRY", "TIME_OUT_WF", "ALERT_ONLY")
RETRY_LOGICS = ("FIXED", "EXPONENTIAL_BACKOFF", "LINEAR_BACKOFF")
SCHEMA_TYPES = ("JSON", "AVRO", "PROTOBUF")

_NO_DEFINITION = (
    'Cannot invoke "com.netflix.conductor.common.metadata.tasks.TaskDef.setCreatedBy(String)" because '
    '"taskDefinition" is null'
)

_NOT_NEGATIVE = ("pollTimeoutSeconds", "maxRetryDelaySeconds", "backoffJitterMs", "totalTimeoutSeconds")


def parse_task_definitions(definitions: Any, now: int) -> list[dict[str, Any]]:
    """A list of definitions with the stored defaults, created at `now` (ms).

    Raises:
        Malformed: not a list, an unknown enum value or a wrong type (500).
        InvalidRequest: an empty list, or one with at least one invalid definition; then none is stored (400).
    """
    if isinstance(definitions, Mapping | str) or not isinstance(definitions, Sequence):
        raise malformed(OPERATION, wrong_token(list_of(TASK_DEF), definitions))
    if not definitions:
        raise validation_failed(OPERATION, [{"path": "registerTaskDef.arg0", "message": "TaskDefList is empty"}])
    stored = [{**with_defaults(definition), "createTime": now, "createdBy": ""} for definition in definitions]
    _refuse_invalid({f"registerTaskDef.arg0[{index}]": definition for index, definition in enumerate(stored)})
    return [without_nulls(definition) for definition in stored]


def parse_changed_task_definition(definition: Any, now: int) -> dict[str, Any]:
    """One definition with the stored defaults, changed at `now` (ms); refuses what `parse_task_definitions` does."""
    changed = {**with_defaults(definition), "updateTime": now, "updatedBy": ""}
    _refuse_invalid({"updateTaskDef.arg0": changed})
    return without_nulls(changed)


def _refuse_invalid(definitions: Mapping[str, Mapping[str, Any]]) -> None:
    problems = [problem for path, definition in definitions.items() for problem in _problems(path, definition)]
    if problems:
        raise validation_failed(OPERATION, problems)


def with_defaults(definition: Any) -> dict[str, Any]:
    """`definition` with every default filled in; given a name alone, what the server uses for an unregistered type.

    A text is taken for the name.

    Raises:
        NotImplementedError: an input template with an expression beyond this model.
        Malformed: no JSON, wrong types (500).
        ServerError: null (500).
    """
    if definition is None:
        raise server_error(OPERATION, _NO_DEFINITION)
    if isinstance(definition, str) and definition:
        definition = {"name": definition}
    if not isinstance(definition, Mapping):
        raise malformed(OPERATION, not_a_bean(TASK_DEF, definition))
    read = FieldReader(OPERATION, through_json(OPERATION, definition, what="definition"))
    refuse_unsupported(read.mapping("inputTemplate"))
    return {
        "createTime": 0,
        "updateTime": 0,
        "name": read.text("name"),
        "description": read.text("description"),
        **_retry_fields(read),
        **_timeout_fields(read),
        **_limit_fields(read),
        **_payload_fields(read),
        "ownerEmail": read.text("ownerEmail"),
        "ownerApp": read.text("ownerApp"),
        "taskStatusListenerEnabled": read.boolean("taskStatusListenerEnabled", True),
    }


def _retry_fields(read: FieldReader) -> dict[str, Any]:
    return {
        "retryCount": read.integer("retryCount", 3),
        "retryLogic": read.choice("retryLogic", "FIXED", RETRY_LOGICS, of=f"{TASK_DEF}$RetryLogic"),
        "retryDelaySeconds": read.integer("retryDelaySeconds", 60),
        "backoffScaleFactor": read.integer("backoffScaleFactor", 1),
        "maxRetryDelaySeconds": read.integer("maxRetryDelaySeconds", 0),
        "backoffJitterMs": read.integer("backoffJitterMs", 0),
    }


def _timeout_fields(read: FieldReader) -> dict[str, Any]:
    return {
        "timeoutSeconds": read.integer("timeoutSeconds", 0, bits=64),
        "timeoutPolicy": read.choice("timeoutPolicy", "TIME_OUT_WF", TIMEOUT_POLICIES, of=f"{TASK_DEF}$TimeoutPolicy"),
        "responseTimeoutSeconds": read.integer("responseTimeoutSeconds", 3600, bits=64),
        "pollTimeoutSeconds": read.optional_integer("pollTimeoutSeconds"),
        "totalTimeoutSeconds": read.integer("totalTimeoutSeconds", 0, bits=64),
    }


def _limit_fields(read: FieldReader) -> dict[str, Any]:
    per_frequency = read.optional_integer("rateLimitPerFrequency")
    frequency = read.optional_integer("rateLimitFrequencyInSeconds")
    return {
        "concurrentExecLimit": read.optional_integer("concurrentExecLimit"),
        "rateLimitPerFrequency": 0 if per_frequency is None else per_frequency,
        "rateLimitFrequencyInSeconds": 1 if frequency is None else frequency,
        "isolationGroupId": read.text("isolationGroupId"),
        "executionNameSpace": read.text("executionNameSpace"),
        "baseType": read.text("baseType"),
    }


def _payload_fields(read: FieldReader) -> dict[str, Any]:
    return {
        "inputKeys": read.texts("inputKeys"),
        "outputKeys": read.texts("outputKeys"),
        "runtimeMetadata": read.items("runtimeMetadata"),
        "inputTemplate": read.mapping("inputTemplate"),
        "inputSchema": _schema(read, "inputSchema"),
        "outputSchema": _schema(read, "outputSchema"),
        "enforceSchema": read.boolean("enforceSchema", False),
    }


def _schema(read: FieldReader, field: str) -> dict[str, Any] | None:
    """Kept as it is, but for the two times that the server adds; never looked at."""
    schema = read.bean(field, of=SCHEMA_DEF)
    if not schema:
        return None
    fields = FieldReader(OPERATION, schema)
    fields.text("name")
    fields.optional_choice("type", SCHEMA_TYPES, of=f"{SCHEMA_DEF}$Type")
    return {"createTime": 0, "updateTime": 0, **schema, "version": fields.integer("version", 1)}


def _problems(path: str, definition: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for field, message in _field_problems(definition):
        problem = {"path": f"{path}.{field}", "message": message}
        yield problem if definition[field] is None else {**problem, "invalidValue": str(definition[field])}
    for message in _timeout_problems(definition):
        yield {"path": path, "message": message}


def _field_problems(definition: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not definition["name"]:
        yield "name", "TaskDef name cannot be null or empty"
    if definition["retryCount"] < 0:
        yield "retryCount", "TaskDef retryCount: 0 must be >= 0"
    response = definition["responseTimeoutSeconds"]
    if response < 1:
        yield "responseTimeoutSeconds", f"TaskDef responseTimeoutSeconds: {response} should be minimum 1 second"
    if definition["backoffScaleFactor"] < 1:
        yield "backoffScaleFactor", "Backoff scale factor. Applicable for LINEAR_BACKOFF"
    for field in _NOT_NEGATIVE:
        if (definition[field] or 0) < 0:
            yield field, f"TaskDef {field}: 0 must be >= 0"


def _timeout_problems(definition: Mapping[str, Any]) -> Iterator[str]:
    name, timeout = definition["name"], definition["timeoutSeconds"]
    response, total = definition["responseTimeoutSeconds"], definition["totalTimeoutSeconds"]
    if timeout > 0 and response > timeout:
        yield f"TaskDef: {name} responseTimeoutSeconds: {response} must be less than timeoutSeconds: {timeout}"
    if timeout > 0 and 0 < total < timeout:
        yield f"TaskDef: {name} timeoutSeconds: {timeout} must be less than or equal to totalTimeoutSeconds: {total}"
