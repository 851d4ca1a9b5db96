"""Requests that search for workflows and attempts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.conductor.errors import validation_failed
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.conductor.searching import Search
from perago.embedded.http.conductor import answers
from perago.embedded.http.conductor.call import Call
from perago.embedded.http.conductor.endpoints import Endpoints, Handler

MAX_RESULTS = 5000


def search_routes(model: ConductorModel, endpoints: Endpoints, root: str) -> list[Route]:
    """The routes below `root`: `/workflow/search...` and `/tasks/search...`."""
    workflows, tasks = f"{root}/workflow", f"{root}/tasks"
    by_tasks, by_tasks_v2 = model.search_workflows_by_tasks, model.search_workflows_by_tasks_v2
    return [
        endpoints.route("GET", f"{workflows}/search", _handler(model.search_workflows, "searchWorkflows")),
        endpoints.route("GET", f"{workflows}/search-v2", _handler(model.search_workflows_v2, "searchWorkflowsV2")),
        endpoints.route("GET", f"{workflows}/search-by-tasks", _handler(by_tasks, "searchWorkflowsByTasks")),
        endpoints.route("GET", f"{workflows}/search-by-tasks-v2", _handler(by_tasks_v2, "searchWorkflowsByTasksV2")),
        endpoints.route("GET", f"{tasks}/search", _handler(model.search_tasks)),
        endpoints.route("GET", f"{tasks}/search-v2", _handler(model.search_tasks_v2)),
    ]


def _handler(find: Callable[[Search], dict[str, Any]], limited: str | None = None) -> Handler:
    """Answers with what `find` finds; `limited` is the Java method whose validation limits the page."""

    def handler(call: Call) -> Response:
        search = _search(call)
        if limited is not None and search.size > MAX_RESULTS:
            message = f"Cannot return more than {MAX_RESULTS} workflows. Please use pagination."
            problem = {"path": f"{limited}.arg1", "message": message, "invalidValue": str(search.size)}
            raise validation_failed(call.operation, [problem])
        return answers.JsonAnswer(find(search))

    return handler


def _search(call: Call) -> Search:
    start, size = call.integer("start", 0), call.integer("size", 100)
    conditions = [call.text("query") or ""]
    classifiers = ",".join(filter(None, (part.strip() for part in (call.text("classifier") or "").split(","))))
    conditions += [f"classifier IN ({classifiers})"] if classifiers else []
    conditions += ['parentWorkflowId=""'] if call.flag("topLevelOnly", default=False) else []
    return Search(
        query=" AND ".join(filter(None, conditions)),
        free_text=call.text("freeText") or "*",
        start=start,
        size=size,
        sort=(call.text("sort") or "").split("|"),
    )
