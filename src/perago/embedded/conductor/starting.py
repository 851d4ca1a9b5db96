"""How workflows come into being."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perago.embedded.conductor.errors import not_found, server_error
from perago.embedded.conductor.payloads import copied, size_of, through_json, without_nulls
from perago.embedded.conductor.rows import TaskRow, WorkflowRow
from perago.embedded.conductor.state import State
from perago.embedded.conductor.steps import Step, every_step
from perago.embedded.conductor.taskdefs import with_defaults

OPERATION = "start workflow"


def workflow_definition(state: State, operation: str, name: str, version: int | None, detail: str) -> dict[str, Any]:
    """The definition of that version, or of the highest one; else a 404 that says `detail`."""
    versions = state.workflow_definitions.get(name) or {}
    found = versions.get(max(versions) if versions and version is None else version or 0)
    if found is None:
        raise not_found(operation, detail)
    return found


def create_workflow(
    state: State,
    name: str,
    payload: Mapping[str, Any] | None,
    *,
    version: int | None = None,
    definition: Mapping[str, Any] | None = None,
    correlation_id: str | None = None,
    priority: int = 0,
    task_to_domain: Mapping[str, str] | None = None,
    parent: TaskRow | None = None,
    workflow_id: str | None = None,
) -> WorkflowRow:
    """A running workflow in which nothing is scheduled yet.

    Its task definitions are those of this moment until it ends, and beyond. `definition` is a parsed one that need not
    be registered; `parent` is the attempt that it is the work of. `workflow_id` is an id that is free again, if any.
    """
    if definition is None:
        shown = "null" if version is None else version
        detail = f"No such workflow defined. name={name}, version={shown}"
        definition = workflow_definition(state, OPERATION, name, version, detail)
    own = copied(dict(definition))
    snapshot_definitions(state, own)
    workflow = WorkflowRow(
        workflow_id=workflow_id or state.new_id(),
        definition=own,
        input=_input(own, payload),
        create_time=state.now(),
        priority=priority,
        correlation_id=correlation_id,
        parent_id=parent.workflow_id if parent else None,
        parent_task_id=parent.task_id if parent else None,
        task_to_domain=dict(task_to_domain or {}),
        variables=copied(own["variables"]),
    )
    _check_size(state, workflow)
    state.workflows[workflow.workflow_id] = workflow
    return workflow


def _input(definition: Mapping[str, Any], payload: Mapping[str, Any] | None) -> dict[str, Any]:
    """The payload; `inputTemplate` fills what is missing or null in one that is not empty."""
    given = through_json(OPERATION, payload, what="input")
    template = {key: value for key, value in definition["inputTemplate"].items() if given.get(key) is None}
    return given | copied(template) if given else {}


def snapshot_definitions(state: State, definition: dict[str, Any]) -> None:
    """Give every step its task definition, and a sub-workflow its version, as they are now."""
    for step in every_step(definition["tasks"]):
        if step.get("taskDefinition") is None:
            step["taskDefinition"] = task_definition(state, step)
        param = step.get("subWorkflowParam")
        if param is not None and param.get("version") is None and param.get("workflowDefinition") is None:
            versions = state.workflow_definitions.get(param["name"])
            if not versions:
                detail = f"The Task {param['name']} defined as a sub-workflow has no workflow definition available "
                raise server_error(OPERATION, detail)
            param["version"] = max(versions)


def task_definition(state: State, step: Step) -> dict[str, Any]:
    """The registered one, else the default, which for the server's own tasks neither retries nor times out."""
    known = state.task_definitions.get(step["name"])
    if known is not None:
        return copied(known)
    default = without_nulls(with_defaults({"name": step["name"]}))
    return default if step["type"] == "SIMPLE" else {**default, "retryCount": 0, "responseTimeoutSeconds": 0}


def _check_size(state: State, workflow: WorkflowRow) -> None:
    size = size_of(workflow.input)
    if size > state.limits.maximum:
        raise server_error(
            OPERATION,
            f"The payload size: {size} of workflow: {workflow.workflow_id} is greater than the permissible limit: "
            f"{state.limits.maximum} bytes",
        )
