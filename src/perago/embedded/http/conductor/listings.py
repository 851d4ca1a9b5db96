"""Requests that list workflows: running ones, correlated ones."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.conductor.model import ConductorModel
from perago.embedded.http.conductor import answers, bodies
from perago.embedded.http.conductor.call import Call
from perago.embedded.http.conductor.endpoints import Endpoints


class ListingRequests:
    """Lists of workflows below `/workflow`."""

    def __init__(self, model: ConductorModel) -> None:
        self._model = model

    def routes(self, endpoints: Endpoints, root: str) -> list[Route]:
        """The routes below `root`."""
        correlated = f"{root}/{{name}}/correlated"
        return [
            endpoints.route("GET", f"{root}/running/{{name}}", self.running),
            endpoints.route("POST", correlated, self.correlated_with_each),
            endpoints.route("GET", f"{correlated}/{{correlation}}", self.correlated),
        ]

    def running(self, call: Call) -> Response:
        """The ids of unfinished workflows; with two times, those of all that began between them."""
        name, version = call.parts["name"], call.integer("version", 1)
        start = call.optional_integer("startTime", java="java.lang.Long")
        end = call.optional_integer("endTime", java="java.lang.Long")
        if start and end:
            return answers.JsonAnswer(self._model.workflow_ids_between(name, version, start, end))
        return answers.JsonAnswer(self._model.running_workflow_ids(name))

    def correlated(self, call: Call) -> Response:
        """The workflows of one correlation id."""
        name, correlation_id = call.parts["name"], call.parts["correlation"]
        closed, tasks = call.flag("includeClosed", default=False), call.flag("includeTasks", default=False)
        found = self._model.correlated_workflows(name, correlation_id, include_closed=closed, include_tasks=tasks)
        return answers.JsonAnswer(found)

    def correlated_with_each(self, call: Call) -> Response:
        """The workflows of several correlation ids, each with its own."""
        closed, tasks = call.flag("includeClosed", default=False), call.flag("includeTasks", default=False)
        name, ids = call.parts["name"], call.items(bodies.CORRELATION_IDS)
        find = self._model.correlated_workflows
        found = {each: find(name, each, include_closed=closed, include_tasks=tasks) for each in ids}
        return answers.JsonAnswer(found)
