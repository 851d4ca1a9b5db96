"""The steps of a workflow definition: what is read of them, and what is refused by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perago.embedded.conductor.coercion import FieldReader, without_nulls
from perago.embedded.conductor.errors import malformed
from perago.embedded.conductor.expressions import refuse_unsupported
from perago.embedded.conductor.jackson import TASK_DEF, WORKFLOW_TASK, list_of, not_a_bean
from perago.embedded.conductor.steps import Step, every_step
from perago.embedded.conductor.systemtasks import SYSTEM_TASKS
from perago.embedded.conductor.taskdefs import with_defaults

WORKER_KIND = "SIMPLE"

_UNSUPPORTED = (
    "permissive",
    "onStateChange",
    "defaultExclusiveJoinTask",
    "joinMode",
    "items",
    "cacheConfig",
)

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
)
"""Fields that mean something to some task types only."""

_PARAM = "com.netflix.conductor.common.metadata.workflow.SubWorkflowParams"


def parse_steps(operation: str, steps: list[Any], where: str) -> list[Step]:
    """Steps with the stored defaults, those inside of others included. `where` names the list.

    Raises:
        NotImplementedError: a task type or a field that this model does not have.
        Malformed: wrong types (500).
    """
    return [_parse_step(operation, step, f"{where}[{index}]") for index, step in enumerate(steps)]


def _parse_step(operation: str, step: Any, where: str) -> Step:
    if not isinstance(step, Mapping):
        raise malformed(operation, not_a_bean(WORKFLOW_TASK, step))
    kind = step.get("type") or WORKER_KIND
    task = SYSTEM_TASKS.get(kind)
    if task is None and kind != WORKER_KIND:
        known = ", ".join([WORKER_KIND, *SYSTEM_TASKS])
        raise NotImplementedError(
            f"InMemoryConductor: {where}.type {kind} is not modelled, only {known} are; run this workflow on a real "
            "Conductor"
        )
    meant = frozenset() if task is None else task.fields
    for field in (*_UNSUPPORTED, *(field for field in _STRUCTURE if field not in meant)):
        if step.get(field):
            raise NotImplementedError(f"InMemoryConductor: {where}: {field} of a {kind} task is not modelled")
    read = FieldReader(operation, step)
    return without_nulls({**_common(read, kind), **_structure(operation, read, where)})


def _common(read: FieldReader, kind: str) -> dict[str, Any]:
    return {
        "name": read.text("name"),
        "taskReferenceName": read.text("taskReferenceName"),
        "description": read.text("description"),
        "inputParameters": read.mapping("inputParameters"),
        "type": kind,
        "startDelay": read.integer("startDelay", 0),
        "optional": read.boolean("optional", False),
        "defaultExclusiveJoinTask": [],
        "asyncComplete": read.boolean("asyncComplete", False),
        "retryCount": read.optional_integer("retryCount"),
        "onStateChange": {},
        "permissive": False,
        "metadata": read.mapping("metadata"),
        "taskDefinition": _task_definition(read),
    }


def _task_definition(read: FieldReader) -> dict[str, Any] | None:
    """One that is said with the step, and counts instead of the registered one."""
    given = read.bean("taskDefinition", of=TASK_DEF)
    return None if given is None else without_nulls(with_defaults(given))


def _structure(operation: str, read: FieldReader, where: str) -> dict[str, Any]:
    steps = list_of(WORKFLOW_TASK)
    cases = read.mapping("decisionCases", of=f"java.util.LinkedHashMap<java.lang.String,{steps}>")
    return {
        "decisionCases": {
            case: parse_steps(operation, _list(operation, branch), f"{where}.decisionCases.{case}")
            for case, branch in cases.items()
        },
        "defaultCase": parse_steps(operation, read.items("defaultCase", of=steps), f"{where}.defaultCase"),
        "forkTasks": [
            parse_steps(operation, _list(operation, branch), f"{where}.forkTasks[{index}]")
            for index, branch in enumerate(read.items("forkTasks", of=list_of(steps)))
        ],
        "joinOn": read.texts("joinOn"),
        "loopCondition": read.text("loopCondition"),
        "loopOver": parse_steps(operation, read.items("loopOver", of=steps), f"{where}.loopOver"),
        "evaluatorType": read.text("evaluatorType"),
        "expression": read.text("expression"),
        "subWorkflowParam": _param(operation, read),
    }


def _list(operation: str, branch: Any) -> list[Any]:
    return FieldReader(operation, {"branch": branch}).items("branch", of=list_of(WORKFLOW_TASK))


def _param(operation: str, read: FieldReader) -> dict[str, Any] | None:
    given = read.bean("subWorkflowParam", of=_PARAM)
    if given is None:
        return None
    param = FieldReader(operation, given)
    domains = param.mapping("taskToDomain") if given.get("taskToDomain") is not None else None
    fields = {"name": param.text("name"), "version": param.optional_integer("version"), "taskToDomain": domains}
    return without_nulls({**given, **fields})


def step_problems(path: str, step: Step) -> Iterator[dict[str, str]]:
    """What the server's validation says about a step and those inside of it; it does not look into loops."""
    yield from missing(f"{path}.name", step.get("name"), "WorkflowTask name cannot be empty or null")
    message = "WorkflowTask taskReferenceName name cannot be empty or null"
    yield from missing(f"{path}.taskReferenceName", step.get("taskReferenceName"), message)
    task = SYSTEM_TASKS.get(step["type"])
    for problem in () if task is None else task.problems(step):
        yield {"path": path, "message": problem}
    for index, inner in enumerate(step["defaultCase"]):
        yield from step_problems(f"{path}.defaultCase[{index}]", inner)
    for case, branch in step["decisionCases"].items():
        for index, inner in enumerate(branch):
            yield from step_problems(f"{path}.decisionCases[{case}][{index}]", inner)
    for number, branch in enumerate(step["forkTasks"]):
        for index, inner in enumerate(branch):
            yield from step_problems(f"{path}.forkTasks[{number}][{index}]", inner)


def missing(path: str, value: str | None, message: str) -> Iterator[dict[str, str]]:
    """The problem of a text that is null or empty."""
    if not value:
        yield {"path": path, "message": message} | ({} if value is None else {"invalidValue": value})


def refuse_unmodelled(steps: list[Step]) -> None:
    """Raises `NotImplementedError` for what only shows once the definition is known to be valid."""
    for step in every_step(steps):
        if not step.get("name") or not step.get("taskReferenceName"):
            raise NotImplementedError("InMemoryConductor: a step without a name inside of a loop is not modelled")
        refuse_unsupported(step["inputParameters"])
        task = SYSTEM_TASKS.get(step["type"])
        if task is not None:
            task.check(step, f"task {step['taskReferenceName']}")
