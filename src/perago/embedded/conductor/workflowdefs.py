"""Workflow definitions: what the server stores and what it refuses, and what this model refuses by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perago.embedded.conductor.coercion import FieldReader, without_nulls
from perago.embedded.conductor.errors import InvalidRequest, server_error, validation_failed
from perago.embedded.conductor.expressions import find_problems, refuse_unsupported
from perago.embedded.conductor.jackson import WORKFLOW_DEF, WORKFLOW_TASK, list_of
from perago.embedded.conductor.stepdefs import missing, parse_steps, refuse_unmodelled, step_problems
from perago.embedded.conductor.steps import Step, every_step
from perago.embedded.conductor.wire import through_json

OPERATION = "register workflow definition"

_UNSUPPORTED_WORKFLOW_FIELDS = ("rateLimitConfig", "workflowStatusListenerSink")

REGISTER = "registerWorkflowDef.arg0"
"""Where a definition is in the call that registers it, as its problems name it."""


def parse_workflow_definition(definition: Any, now: int, *, path: str = REGISTER) -> dict[str, Any]:
    """A definition with the stored defaults, created at `now` (ms). `path` is where the call has it.

    Raises:
        NotImplementedError: an operator, a field or an expression that this model does not have.
        Malformed: no JSON, wrong types (500).
        InvalidRequest: what the server's validation refuses (400).
    """
    definition = through_json(OPERATION, definition, what="definition")
    read = FieldReader(OPERATION, definition)
    if definition.get("tasks", []) is None:
        raise server_error(OPERATION, "HV000028: Unexpected exception during isValid call.")
    stored = _workflow_fields(read)
    stored["tasks"] = parse_steps(OPERATION, read.items("tasks", of=list_of(WORKFLOW_TASK)), "tasks")
    problems = _unique(_problems(stored, path))
    if problems:
        raise validation_failed(OPERATION, problems)
    _refuse(definition, _UNSUPPORTED_WORKFLOW_FIELDS, "workflow definition")
    if (stored["failureWorkflow"] or "").startswith("$"):
        raise NotImplementedError("InMemoryConductor: failureWorkflow as an expression is not modelled")
    refuse_unsupported(stored["outputParameters"])
    refuse_unmodelled(stored["tasks"])
    _parse_inner_definitions(stored["tasks"])
    return without_nulls({**stored, "createTime": now})


def _workflow_fields(read: FieldReader) -> dict[str, Any]:
    return {
        "createTime": 0,
        "updateTime": 0,
        "name": read.text("name"),
        "description": read.text("description"),
        "version": read.integer("version", 1),
        "tasks": [],
        "inputParameters": read.items("inputParameters"),
        "outputParameters": read.mapping("outputParameters"),
        "failureWorkflow": read.text("failureWorkflow"),
        "failureWorkflowVersion": read.optional_integer("failureWorkflowVersion"),
        "schemaVersion": read.integer("schemaVersion", 2),
        "restartable": read.boolean("restartable", True),
        "workflowStatusListenerEnabled": read.boolean("workflowStatusListenerEnabled", False),
        "ownerEmail": read.text("ownerEmail"),
        "ownerApp": read.text("ownerApp"),
        "timeoutPolicy": read.choice(
            "timeoutPolicy", "ALERT_ONLY", ("TIME_OUT_WF", "ALERT_ONLY"), of=f"{WORKFLOW_DEF}$TimeoutPolicy"
        ),
        "timeoutSeconds": read.integer("timeoutSeconds", 0, bits=64),
        "variables": read.mapping("variables"),
        "inputTemplate": read.mapping("inputTemplate"),
        "enforceSchema": read.boolean("enforceSchema", True),
        "metadata": read.mapping("metadata"),
        "maskedFields": read.items("maskedFields"),
    }


def _refuse(source: Mapping[str, Any], fields: tuple[str, ...], where: str) -> None:
    for field in fields:
        if source.get(field):
            raise NotImplementedError(f"InMemoryConductor: {where}: {field} is not modelled")


def _unique(problems: Iterator[dict[str, str]]) -> list[dict[str, str]]:
    """The server lists no problem twice."""
    listed: list[dict[str, str]] = []
    for problem in problems:
        if problem not in listed:
            listed.append(problem)
    return listed


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
    yield from missing(f"{path}.name", definition["name"], "WorkflowDef name cannot be null or empty")
    if definition["schemaVersion"] != 2:
        yield {
            "path": f"{path}.schemaVersion",
            "message": "workflowDef schemaVersion: 2 is only supported",
            "invalidValue": str(definition["schemaVersion"]),
        }
    if not definition["tasks"]:
        yield {"path": f"{path}.tasks", "message": "WorkflowTask list cannot be empty"}
    for index, step in enumerate(definition["tasks"]):
        yield from step_problems(f"{path}.tasks[{index}]", step)
    for message in _reference_problems(definition):
        yield {"path": path, "message": message}


def _reference_problems(definition: Mapping[str, Any]) -> Iterator[str]:
    """Names are looked at everywhere, expressions at the top level only."""
    references = [step.get("taskReferenceName") for step in every_step(definition["tasks"])]
    for index, reference in enumerate(references):
        if reference in references[:index]:
            yield (
                f"taskReferenceName: {reference} should be unique across tasks for a given workflowDefinition: "
                f"{definition['name']}"
            )
    known = frozenset(filter(None, references))
    for step in definition["tasks"]:
        yield from find_problems(step["inputParameters"], str(step.get("name")), known)
