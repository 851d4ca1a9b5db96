"""Definitions of tasks and workflows: the fields that the server stores and refuses, and the features that this model
refuses by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, StrictStr, field_validator

from perago.conductor_json import every_step
from perago.embedded.conductor import wire
from perago.embedded.conductor.context import SYSTEM_TASKS
from perago.embedded.conductor.expressions import find_problems, refuse_unsupported
from perago.embedded.conductor.state import Step

_TASKS, _WORKFLOWS = "register task definitions", "register workflow definition"
"""The operations, as errors name them."""

WORKER_KIND = "SIMPLE"

UNMODELLED = ("EXCLUSIVE_JOIN", "EVENT", "JDBC", "KAFKA_PUBLISH", "USER_DEFINED")
"""Operators of the server that are refused by name."""

REGISTER = "registerWorkflowDef.arg0"
"""The place of a definition in the call that registers it, as its problems name it."""

_UNSUPPORTED_WORKFLOW_FIELDS = ("rateLimitConfig", "workflowStatusListenerSink", "cacheConfig")

_UNSUPPORTED_STEP_FIELDS = (
    "onStateChange",
    "defaultExclusiveJoinTask",
    "joinMode",
    "items",
    "cacheConfig",
    "sink",
    "scriptExpression",
    "rateLimited",
    "joinStatus",
)
"""Fields that would change a workflow in ways that the model does not support."""


# -------------------------------------------------------------------------------- tasks


class Schema(wire.Fields):
    """A schema of an input or an output, which is stored and never checked."""

    owner_app: str | None = None
    create_time: wire.Long | None = 0
    update_time: wire.Long | None = 0
    created_by: str | None = None
    updated_by: str | None = None
    name: str | None = None
    version: wire.Int = 1
    type: Literal["JSON", "AVRO", "PROTOBUF"] | None = None
    data: dict[str, Any] | None = None
    external_ref: str | None = None


class _WithSchemas(wire.Fields):
    """A definition with a schema of the input and one of the output."""

    create_time: wire.Long | None = 0
    update_time: wire.Long | None = 0
    input_schema: Schema | None = None
    output_schema: Schema | None = None

    def stored(self) -> dict[str, Any]:
        schemas = {"inputSchema": self.input_schema, "outputSchema": self.output_schema}
        fields = {name: schema.stored() for name, schema in schemas.items() if schema is not None}
        return {**super().stored(), **fields}


class TaskDefinition(_WithSchemas):
    """A definition with the server's defaults. With a name only, the one for an unregistered type."""

    name: str | None = None
    description: str | None = None
    retry_count: wire.Int = 3
    retry_logic: Literal["FIXED", "EXPONENTIAL_BACKOFF", "LINEAR_BACKOFF"] = "FIXED"
    retry_delay_seconds: wire.Int = 60
    backoff_scale_factor: wire.Int | None = 1
    max_retry_delay_seconds: wire.Int = 0
    backoff_jitter_ms: wire.Int = 0
    timeout_seconds: wire.Long = 0
    timeout_policy: Literal["RETRY", "TIME_OUT_WF", "ALERT_ONLY"] = "TIME_OUT_WF"
    response_timeout_seconds: wire.Long = 3600
    poll_timeout_seconds: wire.Int | None = None
    total_timeout_seconds: wire.Long = 0
    concurrent_exec_limit: wire.Int | None = None
    rate_limit_per_frequency: wire.Int = 0
    rate_limit_frequency_in_seconds: wire.Int | None = 1
    isolation_group_id: str | None = None
    execution_name_space: str | None = None
    base_type: str | None = None
    input_keys: list[str | None] = Field(default_factory=list)
    output_keys: list[str | None] = Field(default_factory=list)
    runtime_metadata: list[str | None] = Field(default_factory=list)
    input_template: dict[str, Any] = Field(default_factory=dict)
    enforce_schema: bool = False
    owner_email: str | None = None
    owner_app: str | None = None
    task_status_listener_enabled: bool = True


_NOT_NEGATIVE = ("retryCount", "pollTimeoutSeconds", "maxRetryDelaySeconds", "backoffJitterMs", "totalTimeoutSeconds")


def parse_task_definitions(definitions: Any, now: int) -> list[dict[str, Any]]:
    """Return a list of definitions with the stored defaults, created at `now` (ms).

    Raises:
        Malformed: not a list, an unknown enum value or a wrong type (500).
        InvalidRequest: an empty list, or one with at least one invalid definition; then none is stored (400).
    """
    if isinstance(definitions, Mapping | str) or not isinstance(definitions, Sequence):
        raise wire.malformed(_TASKS, "a list of task definitions is needed")
    if not definitions:
        raise wire.validation_failed(_TASKS, [{"path": "registerTaskDef.arg0", "message": "TaskDefList is empty"}])
    stored = [{**with_defaults(definition), "createTime": now, "createdBy": ""} for definition in definitions]
    _refuse_invalid({f"registerTaskDef.arg0[{index}]": definition for index, definition in enumerate(stored)})
    return stored


def parse_changed_task_definition(definition: Any, now: int) -> dict[str, Any]:
    """Return one definition with the stored defaults, changed at `now` (ms). It refuses the same as
    `parse_task_definitions`."""
    changed = {**with_defaults(definition), "updateTime": now, "updatedBy": ""}
    _refuse_invalid({"updateTaskDef.arg0": changed})
    return changed


def _refuse_invalid(definitions: Mapping[str, Mapping[str, Any]]) -> None:
    problems = [(path, *problem) for path, definition in definitions.items() for problem in _problems(definition)]
    listed = [{"path": path + field, "message": text} for path, field, text in problems]
    if listed:
        raise wire.validation_failed(_TASKS, listed)


def with_defaults(definition: Any) -> dict[str, Any]:
    """`definition` with every default filled in.

    Raises:
        NotImplementedError: an input template with an expression beyond this model.
        Malformed: no JSON, wrong types (500).
        ServerError: null (500).
    """
    if definition is None:
        raise wire.server_error(_TASKS, "a task definition is null")
    fields = wire.through_json(_TASKS, definition, what="definition")
    stored = {**TaskDefinition.read(_TASKS, fields).stored(), "createTime": 0, "updateTime": 0}
    refuse_unsupported(stored["inputTemplate"])
    return stored


def _problems(definition: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the field of each problem with a dot, empty for several fields, and the server's words."""
    if not definition.get("name"):
        yield ".name", "TaskDef name cannot be null or empty"
    for field in ("responseTimeoutSeconds", "backoffScaleFactor"):
        if definition[field] < 1:
            yield f".{field}", f"TaskDef {field}: {definition[field]} should be minimum 1"
    for field in _NOT_NEGATIVE:
        if (definition.get(field) or 0) < 0:
            yield f".{field}", f"TaskDef {field}: {definition[field]} must be >= 0"
    name, timeout = f"TaskDef: {definition.get('name')}", definition["timeoutSeconds"]
    response, total = definition["responseTimeoutSeconds"], definition["totalTimeoutSeconds"]
    if timeout > 0 and response > timeout:
        yield "", f"{name} responseTimeoutSeconds: {response} must be less than timeoutSeconds: {timeout}"
    if timeout > 0 and 0 < total < timeout:
        yield "", f"{name} timeoutSeconds: {timeout} must be less than or equal to totalTimeoutSeconds: {total}"


# ---------------------------------------------------------------------------- workflows


class SubWorkflowParams(wire.Fields):
    """The workflow that a SUB_WORKFLOW starts."""

    name: str | None = None
    version: wire.Int | None = None
    task_to_domain: dict[str, str | None] | None = None
    workflow_definition: dict[str, Any] | StrictStr | None = None
    priority: Any = None
    idempotency_key: str | None = None
    idempotency_strategy: str | None = None


class WorkflowTask(wire.Fields):
    """One step with the server's defaults."""

    name: str | None = None
    task_reference_name: str | None = None
    description: str | None = None
    input_parameters: dict[str, Any] = Field(default_factory=dict)
    type: str = WORKER_KIND
    dynamic_task_name_param: str | None = None
    dynamic_fork_join_tasks_param: str | None = None
    dynamic_fork_tasks_param: str | None = None
    dynamic_fork_tasks_input_param_name: str | None = None
    decision_cases: dict[str, list[WorkflowTask]] = Field(default_factory=dict)
    default_case: list[WorkflowTask] = Field(default_factory=list)
    fork_tasks: list[list[WorkflowTask]] = Field(default_factory=list)
    start_delay: wire.Int = 0
    sub_workflow_param: SubWorkflowParams | None = None
    join_on: list[str | None] = Field(default_factory=list)
    optional: bool = False
    task_definition: Any = None
    default_exclusive_join_task: list[Any] = Field(default_factory=list)
    async_complete: bool = False
    loop_condition: str | None = None
    loop_over: list[WorkflowTask] = Field(default_factory=list)
    retry_count: wire.Int | None = None
    case_value_param: str | None = None
    case_expression: str | None = None
    evaluator_type: str | None = None
    expression: str | None = None
    on_state_change: dict[str, Any] = Field(default_factory=dict)
    permissive: bool = False
    metadata: dict[str, Any] = Field(default_factory=dict)

    @field_validator("type")
    @classmethod
    def _type_or_worker(cls, kind: str) -> str:
        return kind or WORKER_KIND

    def stored(self) -> dict[str, Any]:
        """Yield the step and its inner steps."""
        fields = super().stored()
        fields["decisionCases"] = {case: _stored(branch) for case, branch in self.decision_cases.items()}
        fields["defaultCase"], fields["loopOver"] = _stored(self.default_case), _stored(self.loop_over)
        fields["forkTasks"] = [_stored(branch) for branch in self.fork_tasks]
        if self.task_definition is not None:  # a text is the name
            is_name = isinstance(self.task_definition, str)
            fields["taskDefinition"] = with_defaults(
                {"name": self.task_definition} if is_name else self.task_definition
            )
        if self.sub_workflow_param is not None:
            fields["subWorkflowParam"] = self.sub_workflow_param.stored()
        return fields


def _stored(steps: list[WorkflowTask]) -> list[Step]:
    return [step.stored() for step in steps]


class WorkflowDefinition(_WithSchemas):
    """A workflow with the server's defaults."""

    created_by: str | None = None
    updated_by: str | None = None
    name: str | None = None
    description: str | None = None
    version: wire.Int = 1
    tasks: list[WorkflowTask] = Field(default_factory=list)
    input_parameters: list[str | None] = Field(default_factory=list)
    output_parameters: dict[str, Any] = Field(default_factory=dict)
    failure_workflow: str | None = None
    failure_workflow_version: wire.Int | None = None
    schema_version: wire.Int = 2
    restartable: bool = True
    workflow_status_listener_enabled: bool = False
    owner_email: str | None = None
    owner_app: str | None = None
    timeout_policy: Literal["TIME_OUT_WF", "ALERT_ONLY"] = "ALERT_ONLY"
    timeout_seconds: wire.Long = 0
    variables: dict[str, Any] = Field(default_factory=dict)
    input_template: dict[str, Any] = Field(default_factory=dict)
    enforce_schema: bool = True
    metadata: dict[str, Any] = Field(default_factory=dict)
    masked_fields: list[str | None] = Field(default_factory=list)

    def stored(self) -> dict[str, Any]:
        """Return it with its steps."""
        return {**super().stored(), "tasks": _stored(self.tasks)}


def parse_workflow_definition(definition: Any, now: int, *, path: str = REGISTER) -> dict[str, Any]:
    """Return a definition with the stored defaults, created at `now` (ms). `path` is its place in the call.

    Raises:
        NotImplementedError: an operator, a field or an expression that this model does not support.
        Malformed: not JSON, wrong types (500).
        InvalidRequest: refused by the server's validation (400).
    """
    definition = wire.through_json(_WORKFLOWS, definition, what="definition")
    tasks = definition.get("tasks", [])
    if tasks is None or (isinstance(tasks, list) and None in tasks):
        raise wire.server_error(_WORKFLOWS, "tasks or one of them is null")
    stored = WorkflowDefinition.read(_WORKFLOWS, definition).stored()
    refuse_unmodelled_fields(tasks, "tasks")
    problems = list(_workflow_problems(stored, path))
    if problems:
        unique = {tuple(problem.items()): problem for problem in problems}  # the server lists no problem twice
        raise wire.validation_failed(_WORKFLOWS, list(unique.values()))
    _refuse(definition, _UNSUPPORTED_WORKFLOW_FIELDS, "workflow definition")
    if stored.get("failureWorkflow", "").startswith("$"):
        raise NotImplementedError("InMemoryConductor: failureWorkflow as an expression is not modelled")
    refuse_unsupported(stored["outputParameters"])
    check_steps(stored["tasks"])
    _parse_inner_definitions(stored["tasks"])
    return wire.without_nulls({**stored, "createTime": now})


def parse_dynamic_steps(steps: list[Any], where: str) -> list[Step]:
    """Return the steps that a dynamic fork got while its workflow runs. Refuse steps that a definition must not
    have."""
    parsed = [WorkflowTask.read("fork dynamically", step).stored() for step in steps]
    refuse_unmodelled_fields(steps, f"dynamic tasks of {where}")
    check_steps(parsed)
    loop = next((step for step in every_step(parsed) if len(step["loopOver"]) > 1), None)
    if loop is not None:  # the real server never gets to the second one
        raise wire.not_modelled(f"dynamic tasks of {where}", f"a loop of several steps ({loop['taskReferenceName']})")
    return parsed


def refuse_unmodelled_fields(steps: Any, where: str) -> None:
    """Raises `NotImplementedError` for a task type or a field that the model does not have."""
    for index, step in enumerate(steps):
        place = f"{where}[{index}]"
        kind = step.get("type") or WORKER_KIND
        task = SYSTEM_TASKS.get(kind)
        if task is None and kind != WORKER_KIND:
            known = f"only {', '.join([WORKER_KIND, *SYSTEM_TASKS])} are; run this workflow on a real Conductor"
            raise NotImplementedError(f"InMemoryConductor: {place}.type {kind} is not modelled, {known}")
        named = step.get("name")
        operator = SYSTEM_TASKS.get(named)
        if kind == WORKER_KIND and (named in UNMODELLED if operator is None else not operator.by_name):
            raise NotImplementedError(f"InMemoryConductor: {place}: a worker's task named {named} is not modelled")
        meant = frozenset() if task is None else task.fields
        others = {field for system_task in SYSTEM_TASKS.values() for field in system_task.fields} - meant
        _refuse(step, (*_UNSUPPORTED_STEP_FIELDS, *sorted(others)), f"{place}, a {kind} task")
        inner = [step.get("defaultCase"), step.get("loopOver"), *(step.get("forkTasks") or [])]
        for branch in [*inner, *(step.get("decisionCases") or {}).values()]:
            refuse_unmodelled_fields(branch or [], place)


def _refuse(source: Mapping[str, Any], fields: tuple[str, ...], where: str) -> None:
    for field in fields:
        if source.get(field):
            raise NotImplementedError(f"InMemoryConductor: {where}: {field} is not modelled")


def check_steps(steps: list[Step]) -> None:
    """Raise `NotImplementedError` for features that can only be checked in a valid definition."""
    for step in every_step(steps):
        if not step.get("name") or not step.get("taskReferenceName"):
            raise NotImplementedError("InMemoryConductor: a step without a name or reference name is not modelled")
        refuse_unsupported(step["inputParameters"])
        task = SYSTEM_TASKS.get(step["type"])
        if task is not None:
            task.check(step, f"task {step['taskReferenceName']}")


def _parse_inner_definitions(steps: list[Step]) -> None:
    """Definitions that a sub-workflow brings along are stored like others; the server does not validate them."""
    for step in every_step(steps):
        param = step.get("subWorkflowParam") or {}
        inner_definition = param.get("workflowDefinition")
        if isinstance(inner_definition, Mapping):
            try:
                parsed = parse_workflow_definition(inner_definition, 0)
            except wire.InvalidRequest as error:
                place = f"task {step['taskReferenceName']}"
                raise NotImplementedError(f"InMemoryConductor: {place}: invalid workflowDefinition: {error}") from error
            param["workflowDefinition"] = {**parsed, "createTime": inner_definition.get("createTime") or 0}


def _workflow_problems(definition: Mapping[str, Any], path: str) -> Iterator[dict[str, str]]:
    if not definition.get("name"):
        yield {"path": f"{path}.name", "message": "WorkflowDef name cannot be null or empty"}
    if definition["schemaVersion"] != 2:
        yield {"path": f"{path}.schemaVersion", "message": "workflowDef schemaVersion: 2 is only supported"}
    if not definition["tasks"]:
        yield {"path": f"{path}.tasks", "message": "WorkflowTask list cannot be empty"}
    for index, step in enumerate(definition["tasks"]):
        yield from _step_problems(f"{path}.tasks[{index}]", step)
    for message in _reference_problems(definition):
        yield {"path": path, "message": message}


def _step_problems(path: str, step: Step) -> Iterator[dict[str, str]]:
    """Yield the problems that the server's validation finds in a step and its inner steps, but not in loops."""
    for field in ("name", "taskReferenceName"):
        if not step.get(field):
            yield {"path": f"{path}.{field}", "message": f"WorkflowTask {field} cannot be empty or null"}
    if step["startDelay"] < 0:
        yield {"path": f"{path}.startDelay", "message": "must be greater than or equal to 0"}
    task = SYSTEM_TASKS.get(step["type"])
    for problem in () if task is None else task.problems(step):
        yield {"path": path, "message": problem}
    branches = {
        "defaultCase": step["defaultCase"],
        **{f"decisionCases[{case}]": branch for case, branch in step["decisionCases"].items()},
        **{f"forkTasks[{number}]": branch for number, branch in enumerate(step["forkTasks"])},
    }
    for name, branch in branches.items():
        for index, inner in enumerate(branch):
            yield from _step_problems(f"{path}.{name}[{index}]", inner)


def _reference_problems(definition: Mapping[str, Any]) -> Iterator[str]:
    """Names are checked everywhere, expressions at the top level only."""
    references = [step.get("taskReferenceName") for step in every_step(definition["tasks"])]
    for index, reference in enumerate(references):
        if reference in references[:index]:
            where = f"across tasks for a given workflowDefinition: {definition.get('name')}"
            yield f"taskReferenceName: {reference} should be unique {where}"
    known = frozenset(filter(None, references))
    for step in definition["tasks"]:
        yield from find_problems(step["inputParameters"], str(step.get("name")), known)
