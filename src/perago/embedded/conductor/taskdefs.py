"""Task definitions: what the server stores and what it refuses (`docs/servers/conductor.md` 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from perago.embedded.conductor.expressions import refuse_unsupported
from perago.embedded.conductor.wire import Fields, Int, Long, malformed, server_error, through_json, validation_failed

OPERATION = "register task definitions"


class TaskDefinition(Fields):
    """A definition with the server's defaults; with a name alone, what it uses for an unregistered type."""

    create_time: Long = 0
    update_time: Long = 0
    name: str | None = None
    description: str | None = None
    retry_count: Int = 3
    retry_logic: Literal["FIXED", "EXPONENTIAL_BACKOFF", "LINEAR_BACKOFF"] = "FIXED"
    retry_delay_seconds: Int = 60
    backoff_scale_factor: Int = 1
    max_retry_delay_seconds: Int = 0
    backoff_jitter_ms: Int = 0
    timeout_seconds: Long = 0
    timeout_policy: Literal["RETRY", "TIME_OUT_WF", "ALERT_ONLY"] = "TIME_OUT_WF"
    response_timeout_seconds: Long = 3600
    poll_timeout_seconds: Long | None = None
    total_timeout_seconds: Long = 0
    concurrent_exec_limit: Int | None = None
    rate_limit_per_frequency: Int = 0
    rate_limit_frequency_in_seconds: Int = 1
    isolation_group_id: str | None = None
    execution_name_space: str | None = None
    base_type: str | None = None
    input_keys: list[str] = Field(default_factory=list)
    output_keys: list[str] = Field(default_factory=list)
    runtime_metadata: list[Any] = Field(default_factory=list)
    input_template: dict[str, Any] = Field(default_factory=dict)
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    enforce_schema: bool = False
    owner_email: str | None = None
    owner_app: str | None = None
    task_status_listener_enabled: bool = True

    @field_validator("input_schema", "output_schema")
    @classmethod
    def _with_times(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        """Kept as it is, with the two times that the server adds; never looked at."""
        return {"createTime": 0, "updateTime": 0, "version": 1, **schema} if schema else None


_NOT_NEGATIVE = (
    "retryCount",
    "pollTimeoutSeconds",
    "maxRetryDelaySeconds",
    "backoffJitterMs",
    "totalTimeoutSeconds",
)


def parse_task_definitions(definitions: Any, now: int) -> list[dict[str, Any]]:
    """A list of definitions with the stored defaults, created at `now` (ms).

    Raises:
        Malformed: not a list, an unknown enum value or a wrong type (500).
        InvalidRequest: an empty list, or one with at least one invalid definition; then none is stored (400).
    """
    if isinstance(definitions, Mapping | str) or not isinstance(definitions, Sequence):
        raise malformed(OPERATION, "a list of task definitions is needed")
    if not definitions:
        raise validation_failed(OPERATION, [{"path": "registerTaskDef.arg0", "message": "TaskDefList is empty"}])
    stored = [{**with_defaults(definition), "createTime": now, "createdBy": ""} for definition in definitions]
    _refuse_invalid({f"registerTaskDef.arg0[{index}]": definition for index, definition in enumerate(stored)})
    return stored


def parse_changed_task_definition(definition: Any, now: int) -> dict[str, Any]:
    """One definition with the stored defaults, changed at `now` (ms); refuses what `parse_task_definitions` does."""
    changed = {**with_defaults(definition), "updateTime": now, "updatedBy": ""}
    _refuse_invalid({"updateTaskDef.arg0": changed})
    return changed


def _refuse_invalid(definitions: Mapping[str, Mapping[str, Any]]) -> None:
    problems = [problem for path, definition in definitions.items() for problem in _problems(path, definition)]
    if problems:
        raise validation_failed(OPERATION, problems)


def with_defaults(definition: Any) -> dict[str, Any]:
    """`definition` with every default filled in.

    Raises:
        NotImplementedError: an input template with an expression beyond this model.
        Malformed: no JSON, wrong types (500).
        ServerError: null (500).
    """
    if definition is None:
        raise server_error(OPERATION, "a task definition is null")
    given = through_json(OPERATION, definition, what="definition")
    own_times = {"createTime": 0, "updateTime": 0}
    stored = TaskDefinition.read(OPERATION, {**given, **own_times}).stored()
    refuse_unsupported(stored["inputTemplate"])
    return stored


def _problems(path: str, definition: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for field, message in _field_problems(definition):
        yield {"path": f"{path}.{field}", "message": message}
    for message in _timeout_problems(definition):
        yield {"path": path, "message": message}


def _field_problems(definition: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not definition.get("name"):
        yield "name", "TaskDef name cannot be null or empty"
    for field in ("responseTimeoutSeconds", "backoffScaleFactor"):
        if definition[field] < 1:
            yield field, f"TaskDef {field}: {definition[field]} should be minimum 1"
    for field in _NOT_NEGATIVE:
        if (definition.get(field) or 0) < 0:
            yield field, f"TaskDef {field}: {definition[field]} must be >= 0"


def _timeout_problems(definition: Mapping[str, Any]) -> Iterator[str]:
    name, timeout = definition.get("name"), definition["timeoutSeconds"]
    response, total = definition["responseTimeoutSeconds"], definition["totalTimeoutSeconds"]
    if timeout > 0 and response > timeout:
        yield f"TaskDef: {name} responseTimeoutSeconds: {response} must be less than timeoutSeconds: {timeout}"
    if timeout > 0 and 0 < total < timeout:
        yield f"TaskDef: {name} timeoutSeconds: {timeout} must be less than or equal to totalTimeoutSeconds: {total}"
