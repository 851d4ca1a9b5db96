"""The calls about task and workflow definitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perago.embedded.conductor.core import ModelCore
from perago.embedded.conductor.errors import InvalidRequest, conflict, not_found, server_error, validation_failed
from perago.embedded.conductor.payloads import copied
from perago.embedded.conductor.starting import workflow_definition
from perago.embedded.conductor.taskdefs import parse_changed_task_definition, parse_task_definitions
from perago.embedded.conductor.workflowdefs import parse_workflow_definition

_REGISTER, _UPDATE = "registerWorkflowDef", "updateWorkflowDef"


class DefinitionCalls(ModelCore):
    """What people do to definitions; running attempts keep those they were scheduled with."""

    def register_task_definitions(self, definitions: Sequence[Mapping[str, Any]]) -> None:
        """Create or replace task definitions; one bad one rejects the whole list."""
        with self._operation("register_task_definitions") as state:
            for definition in parse_task_definitions(definitions, state.now()):
                state.task_definitions[definition["name"]] = definition

    def update_task_definition(self, definition: Mapping[str, Any]) -> None:
        """Replace one that exists, which keeps its `createTime`; another one is a 404."""
        with self._operation("update_task_definition") as state:
            changed = parse_changed_task_definition(definition, state.now())
            existing = state.task_definitions.get(changed["name"])
            if existing is None:
                raise not_found("update task definition", f"No such task by name {changed['name']}")
            kept = {field: existing[field] for field in ("createTime", "createdBy")}
            state.task_definitions[changed["name"]] = changed | kept

    def get_task_definition(self, name: str) -> dict[str, Any] | None:
        """The stored definition with its defaults, or None."""
        with self._operation("get_task_definition") as state:
            return copied(state.task_definitions.get(name))

    def task_definitions(self) -> list[dict[str, Any]]:
        """All stored definitions."""
        with self._operation("task_definitions") as state:
            return copied(list(state.task_definitions.values()))

    def delete_task_definition(self, name: str) -> None:
        """Forget a definition; an unknown one is a 500 (`docs/servers/conductor.md` 7.11)."""
        with self._operation("delete_task_definition") as state:
            if state.task_definitions.pop(name, None) is None:
                raise server_error("delete task definition", "No such task definition")

    def create_workflow_definition(self, definition: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Register a workflow; a second one of the same name and version is a 409 unless `overwrite`."""
        with self._operation("create_workflow_definition") as state:
            parsed = parse_workflow_definition(definition, state.now())
            name, version = parsed["name"], parsed["version"]
            if overwrite:
                parsed = _changed(parsed, definition, state.now())
            elif version in state.workflow_definitions[name]:
                raise conflict("register workflow definition", f"Workflow with {name}.{version} already exists!")
            state.workflow_definitions[name][version] = parsed

    def update_workflow_definitions(self, definitions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Create or replace workflow definitions, all or none; the names of those stored, as the server lists them."""
        with self._operation("update_workflow_definitions") as state:
            if not definitions:
                problem = {"path": f"{_UPDATE}.arg0", "message": "WorkflowDefList is empty"}
                raise validation_failed("update workflow definitions", [problem])
            parsed = _parse_all(definitions, state.now())
            for changed in parsed:
                state.workflow_definitions[changed["name"]][changed["version"]] = changed
            return {"bulkErrorResults": {}, "bulkSuccessfulResults": [changed["name"] for changed in parsed]}

    def get_workflow_definition(self, name: str, version: int | None = None) -> dict[str, Any]:
        """The stored definition, by default the highest version."""
        with self._operation("get_workflow_definition") as state:
            shown = "null" if version is None else version
            detail = f"No such workflow found by name: {name}, version: {shown}"
            return copied(workflow_definition(state, "read workflow definition", name, version, detail))

    def workflow_definitions(self, name: str | None = None) -> list[dict[str, Any]]:
        """All stored definitions, or all versions of one name, the lowest first."""
        with self._operation("workflow_definitions") as state:
            names = sorted(state.workflow_definitions) if name is None else [name]
            known = [state.workflow_definitions.get(name, {}) for name in names]
            return copied([versions[version] for versions in known for version in sorted(versions)])

    def delete_workflow_definition(self, name: str, version: int) -> None:
        """Forget one version; an unknown one is a 500 (`docs/servers/conductor.md` 7.11)."""
        with self._operation("delete_workflow_definition") as state:
            if state.workflow_definitions.get(name, {}).pop(version, None) is None:
                detail = f"No such workflow definition: {name} version: {version}"
                raise server_error("delete workflow definition", detail)


def _parse_all(definitions: Sequence[Mapping[str, Any]], now: int) -> list[dict[str, Any]]:
    parsed: list[dict[str, Any]] = []
    problems: list[dict[str, str]] = []
    for index, definition in enumerate(definitions):
        try:
            parsed.append(_changed(parse_workflow_definition(definition, now), definition, now))
        except InvalidRequest as error:
            problems.extend(_of_call(error, f"{_UPDATE}.arg0[{index}]").problems)
    if problems:
        raise validation_failed("update workflow definitions", problems)
    return parsed


def _changed(parsed: dict[str, Any], definition: Mapping[str, Any], now: int) -> dict[str, Any]:
    """An update sets `updateTime` and leaves `createTime` as it was sent, 0 if it was not."""
    return parsed | {"createTime": definition.get("createTime") or 0, "updateTime": now}


def _of_call(error: InvalidRequest, path: str) -> InvalidRequest:
    """The same refusal with the paths of another call's argument."""
    prefix = f"{_REGISTER}.arg0"
    problems = [{**problem, "path": path + problem["path"].removeprefix(prefix)} for problem in error.problems]
    return validation_failed(error.operation, problems)
