"""Requests about task and workflow definitions: `/metadata`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.conductor.errors import not_found
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.http.conductor import requests as answers
from perago.embedded.http.conductor.requests import Call, Endpoints, JsonAnswer


def definition_routes(model: ConductorModel, endpoints: Endpoints, root: str) -> list[Route]:
    """The routes below `root`; the more specific ones first."""
    tasks, workflows = f"{root}/taskdefs", f"{root}/workflow"
    one = f"{workflows}/{{name}}"

    def task_definition(call: Call) -> Response:
        found = model.get_task_definition(call.parts["name"])
        if found is None:
            raise not_found(call.operation, f"No such taskType found by name: {call.parts['name']}")
        return JsonAnswer(found)

    def create_workflow(call: Call) -> Response:
        overwrite = call.flag("overwrite", default=False)
        return answers.after(model.create_workflow_definition, call.mapping(), overwrite=overwrite)

    def workflow_versions(call: Call) -> Response:
        versions = model.workflow_definitions(call.parts["name"])
        return JsonAnswer([_picked(version, "name", "version", "createTime") for version in versions])

    def delete_workflow(call: Call) -> Response:
        version = call.optional_integer("version") or 0
        return answers.after(model.delete_workflow_definition, call.parts["name"], version)

    handlers = [
        ("GET", tasks, lambda _: JsonAnswer(model.task_definitions())),
        ("POST", tasks, lambda call: answers.after(model.register_task_definitions, call.items())),
        ("PUT", tasks, lambda call: answers.after(model.update_task_definition, call.mapping())),
        ("GET", f"{tasks}/{{name}}", task_definition),
        ("DELETE", f"{tasks}/{{name}}", lambda call: answers.after(model.delete_task_definition, call.parts["name"])),
        ("GET", workflows, lambda _: JsonAnswer(model.workflow_definitions())),
        ("POST", workflows, create_workflow),
        ("PUT", workflows, lambda call: JsonAnswer(model.update_workflow_definitions(call.items()))),
        (
            "POST",
            f"{workflows}/validate",
            lambda call: answers.after(model.validate_workflow_definition, call.mapping()),
        ),
        ("GET", f"{workflows}/names", lambda _: JsonAnswer(list(_latest(model)))),
        ("GET", f"{workflows}/names-and-versions", lambda _: JsonAnswer(_versions(model))),
        ("GET", f"{workflows}/latest-versions", lambda _: JsonAnswer(list(_latest(model).values()))),
        (
            "GET",
            one,
            lambda call: JsonAnswer(
                model.get_workflow_definition(call.parts["name"], call.optional_integer("version"))
            ),
        ),
        ("GET", f"{one}/versions", workflow_versions),
        ("DELETE", f"{one}/{{version}}", delete_workflow),
    ]
    return [endpoints.route(method, path, handler) for method, path, handler in handlers]


def _latest(model: ConductorModel) -> dict[str, Any]:
    """The highest version of each name, in the order of the names."""
    return {definition["name"]: definition for definition in model.workflow_definitions()}


def _versions(model: ConductorModel) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for definition in model.workflow_definitions():
        shown = _picked(definition, "name", "version", "createTime", "updateTime")
        found.setdefault(definition["name"], []).append(shown)
    return found


def _picked(definition: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    return {field: definition[field] for field in fields}
