"""Workflow definitions: what the server stores and what it refuses, and what this model refuses by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from perago.embedded.conductor.context import SYSTEM_TASKS
from perago.embedded.conductor.expressions import find_problems, refuse_unsupported
from perago.embedded.conductor.state import Step, every_step
from perago.embedded.conductor.taskdefs import with_defaults
from perago.embedded.conductor.wire import (
    Fields,
    Int,
    InvalidRequest,
    Long,
    server_error,
    through_json,
    validation_failed,
    without_nulls,
)

OPERATION = "register workflow definition"

WORKER_KIND = "SIMPLE"

REGISTER = "registerWorkflowDef.arg0"
"""Where a definition is in the call that registers it, as its problems name it."""

_UNSUPPORTED_WORKFLOW_FIELDS = (
    "rateLimitConfig",
    "workflowStatusListenerSink",
    "cacheConfig",
)

_UNSUPPORTED_STEP_FIELDS = (
    "onStateChange",
    "defaultExclusiveJoinTask",
    "joinMode",
    "items",
    "cacheConfig",
    "sink",
    "caseValueParam",
    "caseExpression",
    "scriptExpression",
    "rateLimited",
    "joinStatus",
)
"""Fields that would change what a workflow does, in ways that the model does not have."""

_STRUCTURE = (
    "decisionCases",
    "defaultCase",
    "forkTasks",
    "joinOn",
    "loopOver",
    "loopCondition",
    "evaluatorType",
    "expression",
    "subWorkflowParam",
    "dynamicTaskNameParam",
    "dynamicForkJoinTasksParam",
    "dynamicForkTasksParam",
    "dynamicForkTasksInputParamName",
)
"""Fields that mean something to some task types only."""


class SubWorkflowParams(Fields):
    """Which workflow a SUB_WORKFLOW starts."""

    name: str | None = None
    version: int | str | None = None
    task_to_domain: dict[str, Any] | None = None
    workflow_definition: Any = None
    priority: Any = None
    idempotency_key: str | None = None
    idempotency_strategy: str | None = None


class WorkflowTask(Fields):
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
    start_delay: Int = 0
    sub_workflow_param: SubWorkflowParams | None = None
    join_on: list[str] = Field(default_factory=list)
    optional: bool = False
    task_definition: Any = None
    default_exclusive_join_task: list[Any] = Field(default_factory=list)
    async_complete: bool = False
    loop_condition: str | None = None
    loop_over: list[WorkflowTask] = Field(default_factory=list)
    retry_count: Int | None = None
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
        """With the steps inside of it."""
        found = super().stored()
        found["decisionCases"] = {case: _stored(branch) for case, branch in self.decision_cases.items()}
        found["defaultCase"], found["loopOver"] = _stored(self.default_case), _stored(self.loop_over)
        found["forkTasks"] = [_stored(branch) for branch in self.fork_tasks]
        if self.task_definition is not None:
            found["taskDefinition"] = with_defaults(self.task_definition)
        if self.sub_workflow_param is not None:
            found["subWorkflowParam"] = self.sub_workflow_param.stored()
        return found


def _stored(steps: list[WorkflowTask]) -> list[Step]:
    return [step.stored() for step in steps]


class WorkflowDefinition(Fields):
    """A workflow with the server's defaults."""

    create_time: Long = 0
    update_time: Long = 0
    name: str | None = None
    description: str | None = None
    version: Int = 1
    tasks: list[WorkflowTask] = Field(default_factory=list)
    input_parameters: list[Any] = Field(default_factory=list)
    output_parameters: dict[str, Any] = Field(default_factory=dict)
    failure_workflow: str | None = None
    failure_workflow_version: Int | None = None
    schema_version: Int = 2
    restartable: bool = True
    workflow_status_listener_enabled: bool = False
    owner_email: str | None = None
    owner_app: str | None = None
    timeout_policy: Literal["TIME_OUT_WF", "ALERT_ONLY"] = "ALERT_ONLY"
    timeout_seconds: Long = 0
    variables: dict[str, Any] = Field(default_factory=dict)
    input_template: dict[str, Any] = Field(default_factory=dict)
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    enforce_schema: bool = True
    metadata: dict[str, Any] = Field(default_factory=dict)
    masked_fields: list[Any] = Field(default_factory=list)

    def stored(self) -> dict[str, Any]:
        """With its steps."""
        return {**super().stored(), "tasks": _stored(self.tasks)}


def parse_workflow_definition(definition: Any, now: int, *, path: str = REGISTER) -> dict[str, Any]:
    """A definition with the stored defaults, created at `now` (ms). `path` is where the call has it.

    Raises:
        NotImplementedError: an operator, a field or an expression that this model does not have.
        Malformed: no JSON, wrong types (500).
        InvalidRequest: what the server's validation refuses (400).
    """
    definition = through_json(OPERATION, definition, what="definition")
    if definition.get("tasks", []) is None:
        raise server_error(OPERATION, "tasks is null")
    stored = WorkflowDefinition.read(OPERATION, {**definition, "createTime": 0, "updateTime": 0}).stored()
    refuse_unmodelled_fields(definition.get("tasks", []), "tasks")
    problems = list(_problems(stored, path))
    if problems:
        unique = {tuple(problem.items()): problem for problem in problems}  # the server lists no problem twice
        raise validation_failed(OPERATION, list(unique.values()))
    _refuse(definition, _UNSUPPORTED_WORKFLOW_FIELDS, "workflow definition")
    if stored.get("failureWorkflow", "").startswith("$"):
        raise NotImplementedError("InMemoryConductor: failureWorkflow as an expression is not modelled")
    refuse_unsupported(stored["outputParameters"])
    check_steps(stored["tasks"])
    _parse_inner_definitions(stored["tasks"])
    return without_nulls({**stored, "createTime": now})


def parse_dynamic_steps(operation: str, steps: list[Any]) -> list[Step]:
    """The steps that a dynamic fork was given while its workflow runs; refuses what a definition may not have."""
    parsed = [WorkflowTask.read(operation, step).stored() for step in steps]
    refuse_unmodelled_fields(steps, "dynamic tasks")
    check_steps(parsed)
    return parsed


def refuse_unmodelled_fields(steps: Any, where: str) -> None:
    """Raises `NotImplementedError` for a task type or a field that the model does not have."""
    for index, step in enumerate(steps):
        place = f"{where}[{index}]"
        kind = step.get("type") or WORKER_KIND
        task = SYSTEM_TASKS.get(kind)
        if task is None and kind != WORKER_KIND:
            known = ", ".join([WORKER_KIND, *SYSTEM_TASKS])
            raise NotImplementedError(
                f"InMemoryConductor: {place}.type {kind} is not modelled, only {known} are; run this workflow on a "
                "real Conductor"
            )
        meant = frozenset() if task is None else task.fields
        fields = (*_UNSUPPORTED_STEP_FIELDS, *(field for field in _STRUCTURE if field not in meant))
        _refuse(step, fields, f"{place}, a {kind} task")
        inner = [step.get("defaultCase"), step.get("loopOver"), *(step.get("forkTasks") or [])]
        for branch in [*inner, *(step.get("decisionCases") or {}).values()]:
            refuse_unmodelled_fields(branch or [], place)


def _refuse(source: Mapping[str, Any], fields: tuple[str, ...], where: str) -> None:
    for field in fields:
        if source.get(field):
            raise NotImplementedError(f"InMemoryConductor: {where}: {field} is not modelled")


def check_steps(steps: list[Step]) -> None:
    """Raises `NotImplementedError` for what only shows once the definition is known to be valid."""
    for step in every_step(steps):
        if not step.get("name") or not step.get("taskReferenceName"):
            raise NotImplementedError("InMemoryConductor: a step without a name inside of a loop is not modelled")
        refuse_unsupported(step["inputParameters"])
        task = SYSTEM_TASKS.get(step["type"])
        if task is not None:
            task.check(step, f"task {step['taskReferenceName']}")


def _parse_inner_definitions(steps: list[Step]) -> None:
    """Definitions that a sub-workflow brings along are stored like others; the server does not validate them."""
    for step in every_step(steps):
        param = step.get("subWorkflowParam") or {}
        given = param.get("workflowDefinition")
        if isinstance(given, Mapping):
            try:
                parsed = parse_workflow_definition(given, 0)
            except InvalidRequest as error:
                name = step["taskReferenceName"]
                raise NotImplementedError(
                    f"InMemoryConductor: task {name}: invalid workflowDefinition: {error}"
                ) from error
            param["workflowDefinition"] = {**parsed, "createTime": given.get("createTime") or 0}


def _problems(definition: Mapping[str, Any], path: str) -> Iterator[dict[str, str]]:
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
    """What the server's validation says about a step and those inside of it; it does not look into loops."""
    for field in ("name", "taskReferenceName"):
        if not step.get(field):
            yield {"path": f"{path}.{field}", "message": f"WorkflowTask {field} cannot be empty or null"}
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
    """Names are looked at everywhere, expressions at the top level only."""
    references = [step.get("taskReferenceName") for step in every_step(definition["tasks"])]
    for index, reference in enumerate(references):
        if reference in references[:index]:
            yield (
                f"taskReferenceName: {reference} should be unique across tasks for a given workflowDefinition: "
                f"{definition.get('name')}"
            )
    known = frozenset(filter(None, references))
    for step in definition["tasks"]:
        yield from find_problems(step["inputParameters"], str(step.get("name")), known)
