"""Requests about many workflows at once: `/workflow/bulk`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.conductor.errors import validation_failed
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.http.conductor import answers, bodies
from perago.embedded.http.conductor.call import Body, Call
from perago.embedded.http.conductor.endpoints import Endpoints
from perago.ports import ServiceError

MAX_WORKFLOWS = 1000


class BulkRequests:
    """Does one thing to each workflow of a list; a refused one is listed and holds up no other."""

    def __init__(self, model: ConductorModel) -> None:
        self._model = model

    def routes(self, endpoints: Endpoints, root: str) -> list[Route]:
        """The routes below `root`."""
        return [
            endpoints.route("PUT", f"{root}/pause", self.pause),
            endpoints.route("PUT", f"{root}/resume", self.resume),
            endpoints.route("POST", f"{root}/restart", self.restart),
            endpoints.route("POST", f"{root}/retry", self.retry),
            endpoints.route("POST", f"{root}/terminate", self.terminate),
            endpoints.route("DELETE", f"{root}/remove", self.remove),
            endpoints.route("DELETE", f"{root}/terminate-remove", self.terminate_and_remove),
        ]

    def pause(self, call: Call) -> Response:
        """Stop scheduling."""
        return self._each(call, "pauseWorkflow", bodies.bulk("pauseWorkflow"), self._model.pause_workflow)

    def resume(self, call: Call) -> Response:
        """Go on."""
        return self._each(call, "resumeWorkflow", bodies.bulk("resumeWorkflow"), self._model.resume_workflow)

    def restart(self, call: Call) -> Response:
        """Begin again."""
        latest = call.flag("useLatestDefinitions", default=False)
        act = partial(self._model.restart_workflow, use_latest_definitions=latest)
        return self._each(call, "restart", bodies.bulk("restart", "boolean"), act)

    def retry(self, call: Call) -> Response:
        """One more attempt for what failed."""
        return self._each(call, "retry", bodies.bulk("retry"), self._model.retry_workflow)

    def terminate(self, call: Call) -> Response:
        """End them."""
        act = partial(self._model.terminate_workflow, reason=call.text("reason"))
        return self._each(call, "terminate", bodies.bulk("terminate", "java.lang.String"), act)

    def remove(self, call: Call) -> Response:
        """Forget them."""
        call.flag("archiveWorkflow", default=True)
        body = bodies.bulk("deleteWorkflow", "boolean")
        return self._each(call, "deleteWorkflow", body, self._model.remove_workflow)

    def terminate_and_remove(self, call: Call) -> Response:
        """End them and forget them; each step that succeeds is listed, so an id comes twice."""
        call.flag("archiveWorkflow", default=True)
        act = partial(self._model.terminate_workflow, reason=call.text("reason"))
        body = bodies.bulk("terminateRemove", "boolean", "java.lang.String")
        return self._each(call, "terminateRemove", body, act, self._model.remove_workflow)

    @staticmethod
    def _each(call: Call, method: str, body: Body, *acts: Callable[[str], Any]) -> Response:
        ids = call.items(body)
        if not ids or len(ids) > MAX_WORKFLOWS:
            too_many = f"Cannot process more than {MAX_WORKFLOWS} workflows. Please use multiple requests."
            message = too_many if ids else "WorkflowIds list cannot be null."
            raise validation_failed(call.operation, [{"path": f"{method}.arg0", "message": message}])
        errors: dict[str, str] = {}
        done: list[str] = []
        for workflow_id in ids:
            try:
                for act in acts:
                    act(workflow_id)
                    done.append(workflow_id)
            except ServiceError as error:
                errors[workflow_id] = error.detail
        return answers.JsonAnswer({"bulkErrorResults": errors, "bulkSuccessfulResults": done})
