"""Requests about task and workflow definitions: `/metadata`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.conductor.errors import not_found
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.http.conductor import answers, bodies
from perago.embedded.http.conductor.call import Call
from perago.embedded.http.conductor.endpoints import Endpoints


class DefinitionRequests:
    """Everything below `/metadata`."""

    def __init__(self, model: ConductorModel) -> None:
        self._model = model

    def routes(self, endpoints: Endpoints, root: str) -> list[Route]:
        """The routes below `root`; the more specific ones first."""
        tasks, workflows = f"{root}/taskdefs", f"{root}/workflow"
        return [
            endpoints.route("GET", tasks, self.list_task_definitions),
            endpoints.route("POST", tasks, self.register_task_definitions),
            endpoints.route("PUT", tasks, self.update_task_definition),
            endpoints.route("GET", f"{tasks}/{{name}}", self.get_task_definition),
            endpoints.route("DELETE", f"{tasks}/{{name}}", self.delete_task_definition),
            endpoints.route("GET", workflows, self.list_workflow_definitions),
            endpoints.route("POST", workflows, self.create_workflow_definition),
            endpoints.route("PUT", workflows, self.update_workflow_definitions),
            endpoints.route("POST", f"{workflows}/validate", self.validate_workflow_definition),
            endpoints.route("GET", f"{workflows}/names", self.workflow_names),
            endpoints.route("GET", f"{workflows}/names-and-versions", self.names_and_versions),
            endpoints.route("GET", f"{workflows}/latest-versions", self.latest_versions),
            endpoints.route("GET", f"{workflows}/{{name}}", self.get_workflow_definition),
            endpoints.route("GET", f"{workflows}/{{name}}/versions", self.workflow_versions),
            endpoints.route("DELETE", f"{workflows}/{{name}}/{{version}}", self.delete_workflow_definition),
        ]

    def list_task_definitions(self, call: Call) -> Response:  # noqa: ARG002 - as all handlers
        """All of them."""
        return answers.JsonAnswer(self._model.task_definitions())

    def register_task_definitions(self, call: Call) -> Response:
        """Create or replace a list."""
        self._model.register_task_definitions(call.items(bodies.TASK_DEFINITIONS))
        return answers.done()

    def update_task_definition(self, call: Call) -> Response:
        """Replace one."""
        self._model.update_task_definition(call.bean(bodies.TASK_DEFINITION))
        return answers.done()

    def get_task_definition(self, call: Call) -> Response:
        """One of them."""
        name = call.parts["name"]
        found = self._model.get_task_definition(name)
        if found is None:
            raise not_found(call.operation, f"No such taskType found by name: {name}")
        return answers.JsonAnswer(found)

    def delete_task_definition(self, call: Call) -> Response:
        """Forget one."""
        self._model.delete_task_definition(call.parts["name"])
        return answers.done()

    def list_workflow_definitions(self, call: Call) -> Response:  # noqa: ARG002
        """All versions of all."""
        return answers.JsonAnswer(self._model.workflow_definitions())

    def create_workflow_definition(self, call: Call) -> Response:
        """Create one, or replace it where that is wanted."""
        overwrite = call.flag("overwrite", default=False)
        self._model.create_workflow_definition(call.bean(bodies.WORKFLOW_DEFINITION), overwrite=overwrite)
        return answers.done()

    def update_workflow_definitions(self, call: Call) -> Response:
        """Create or replace a list."""
        stored = self._model.update_workflow_definitions(call.items(bodies.WORKFLOW_DEFINITIONS))
        return answers.JsonAnswer(stored)

    def validate_workflow_definition(self, call: Call) -> Response:
        """Refuse what creating it would refuse."""
        self._model.validate_workflow_definition(call.bean(bodies.VALIDATED_DEFINITION))
        return answers.done()

    def workflow_names(self, call: Call) -> Response:  # noqa: ARG002
        """The names alone."""
        return answers.JsonAnswer(sorted({definition["name"] for definition in self._model.workflow_definitions()}))

    def names_and_versions(self, call: Call) -> Response:  # noqa: ARG002
        """The versions of every name."""
        found: dict[str, list[dict[str, Any]]] = {}
        for definition in self._model.workflow_definitions():
            found.setdefault(definition["name"], []).append(_summary(definition))
        return answers.JsonAnswer(found)

    def latest_versions(self, call: Call) -> Response:  # noqa: ARG002
        """The highest version of each."""
        latest = {definition["name"]: definition for definition in self._model.workflow_definitions()}
        return answers.JsonAnswer(list(latest.values()))

    def get_workflow_definition(self, call: Call) -> Response:
        """One version."""
        version = call.optional_integer("version")
        return answers.JsonAnswer(self._model.get_workflow_definition(call.parts["name"], version))

    def workflow_versions(self, call: Call) -> Response:
        """The versions of one name; without the time of their last change, unlike `names_and_versions`."""
        versions = self._model.workflow_definitions(call.parts["name"])
        return answers.JsonAnswer([_picked(version, ("name", "version", "createTime")) for version in versions])

    def delete_workflow_definition(self, call: Call) -> Response:
        """Forget one version."""
        self._model.delete_workflow_definition(call.parts["name"], call.path_integer("version"))
        return answers.done()


def _summary(definition: Mapping[str, Any]) -> dict[str, Any]:
    return _picked(definition, ("name", "version", "createTime", "updateTime"))


def _picked(definition: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    return {field: definition[field] for field in fields}
