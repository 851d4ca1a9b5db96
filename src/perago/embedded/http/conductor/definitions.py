"""Requests about task and workflow definitions: `/metadata`."""

from __future__ import annotations

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

    def versions(call: Call) -> Response:
        """Name and version of each, the lowest first; none of an unknown name."""
        found = model.workflow_definitions(call.parts["name"])
        fields = ("name", "version", "createTime", "updateTime")
        return JsonAnswer([{field: each[field] for field in fields if each.get(field)} for each in found])

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
            "GET",
            one,
            lambda call: JsonAnswer(
                model.get_workflow_definition(call.parts["name"], call.optional_integer("version"))
            ),
        ),
        ("GET", f"{one}/versions", versions),
        ("DELETE", f"{one}/{{version}}", delete_workflow),
    ]
    return endpoints.routes(handlers)
