"""Requests that start a workflow and wait for it."""

from __future__ import annotations

import uuid
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.conductor.coercion import without_nulls
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.http.conductor import answers, bodies
from perago.embedded.http.conductor.call import Call
from perago.embedded.http.conductor.endpoints import Endpoints
from perago.embedded.http.conductor.starting import StartRequest

WAIT_SECONDS = 10
_STRATEGY = "org.conductoross.conductor.model.WorkflowSignalReturnStrategy"
_STRATEGIES = ("TARGET_WORKFLOW", "BLOCKING_WORKFLOW", "BLOCKING_TASK", "BLOCKING_TASK_INPUT")
_COPIED = ("workflowId", "correlationId", "input", "output")


class ExecutionRequests:
    """What is below `/workflow/execute`."""

    def __init__(self, model: ConductorModel) -> None:
        self._model = model

    def routes(self, endpoints: Endpoints, root: str) -> list[Route]:
        """The routes below `root`."""
        return [endpoints.route("POST", f"{root}/execute/{{name}}/{{version}}", self.execute, waits=True)]

    def execute(self, call: Call) -> Response:
        """Start, wait for the end or for certain steps, and tell how far it came."""
        version = call.path_integer("version") or None
        references = [part.strip() for part in (call.text("waitUntilTaskRef") or "").split(",") if part.strip()]
        wait_seconds = call.optional_integer("waitForSeconds") or WAIT_SECONDS
        strategy = _strategy(call)
        request = StartRequest.of(call.bean(bodies.EXECUTE)).named(call.parts["name"], version)
        workflow_id = request.start(self._model)
        waited = self._model.await_workflow(workflow_id, references, wait_seconds=wait_seconds)
        if strategy != "TARGET_WORKFLOW":
            raise NotImplementedError(f"returnStrategy {strategy} is not modelled; use TARGET_WORKFLOW")
        request_id = call.text("requestId") or str(uuid.uuid4())
        return answers.JsonAnswer(_signal(self._model.workflow(workflow_id), request_id, timed_out=not waited))


def _strategy(call: Call) -> str:
    strategy = call.text("returnStrategy") or "TARGET_WORKFLOW"
    if strategy not in _STRATEGIES:
        annotated = f"@org.springframework.web.bind.annotation.RequestParam {_STRATEGY}"
        raise call.refused(
            f"Method parameter 'returnStrategy': Failed to convert value of type 'java.lang.String' to required type "
            f"'{_STRATEGY}'; Failed to convert from type [java.lang.String] to type [{annotated}] "
            f"for value [{strategy}]"
        )
    return strategy


def _signal(workflow: dict[str, Any], request_id: str, *, timed_out: bool) -> dict[str, Any]:
    fields = {
        "responseType": "TARGET_WORKFLOW",
        "targetWorkflowId": workflow["workflowId"],
        "targetWorkflowStatus": workflow["status"],
        "requestId": request_id,
        **{field: workflow.get(field) for field in _COPIED},
        "signalTimeout": timed_out,
        **{
            field: workflow[field] for field in ("priority", "variables", "tasks", "createTime", "status", "updateTime")
        },
    }
    return without_nulls(fields)
