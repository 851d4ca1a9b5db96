"""Requests about workflows: start, look, and what can be done to one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.conductor.errors import bad_request, validation_failed
from perago.embedded.conductor.lifecycle import check_priority
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.conductor.payloads import Fields, without_nulls
from perago.embedded.http.conductor import requests as answers
from perago.embedded.http.conductor.requests import Call, Endpoints, Handler, JsonAnswer

WAIT_SECONDS = 10


class StartRequest(Fields):
    """The request that starts a workflow; an idempotency key is taken and passed over, as by the real server."""

    name: str | None = None
    version: int | None = None
    correlation_id: str | None = None
    priority: int = 0
    input: dict[str, Any] | None = None
    workflow_def: dict[str, Any] | None = None
    task_to_domain: dict[str, str] | None = None
    external_input_payload_storage_path: str | None = None

    def start(self, model: ConductorModel, call: Call) -> str:
        """Start it; the id of the workflow."""
        if self.name is None:
            problem = {"path": "startWorkflow.arg0.name", "message": "Workflow name cannot be null or empty"}
            raise validation_failed(call.operation, [problem])
        if self.external_input_payload_storage_path:
            raise NotImplementedError("InMemoryConductor: externalInputPayloadStoragePath is not modelled")
        return model.start_workflow(
            self.name,
            self.input,
            version=self.version,
            correlation_id=self.correlation_id,
            priority=self.priority,
            definition=self.workflow_def,
            task_to_domain=self.task_to_domain,
        )


class RerunRequest(Fields):
    """Where a workflow is run again from, and with what."""

    re_run_from_task_id: str | None = None
    task_input: dict[str, Any] | None = None
    workflow_input: dict[str, Any] | None = None


class WorkflowRequests:
    """What is below `/workflow`."""

    def __init__(self, model: ConductorModel) -> None:
        self._model = model

    def routes(self, endpoints: Endpoints, root: str) -> list[Route]:
        """The routes below `root`; the more specific ones first."""
        one, model = f"{root}/{{workflow}}", self._model
        calls: list[tuple[str, str, Handler]] = [
            ("POST", root, lambda call: answers.text(_start_request(call).start(model, call))),
            ("PUT", f"{root}/decide/{{workflow}}", self._on(model.decide)),
            ("GET", f"{root}/running/{{name}}", self.running),
            ("POST", f"{root}/{{name}}/correlated", self.correlated_with_each),
            ("GET", f"{root}/{{name}}/correlated/{{correlation}}", self.correlated),
            ("GET", one, self.get),
            ("POST", one, self.start_by_name),
            ("DELETE", one, self.terminate),
            ("GET", f"{one}/status", self.status),
            ("GET", f"{one}/tasks", self.tasks),
            ("PUT", f"{one}/skiptask/{{reference}}", self.skip),
            ("PUT", f"{one}/pause", self._on(model.pause_workflow)),
            ("PUT", f"{one}/resume", self._on(model.resume_workflow)),
            ("POST", f"{one}/retry", self.retry),
            ("POST", f"{one}/restart", self.restart),
            ("POST", f"{one}/rerun", self.rerun),
            ("POST", f"{one}/resetcallbacks", self._on(model.reset_callbacks, answers.no_content)),
            ("DELETE", f"{one}/remove", self.remove),
        ]
        execute = endpoints.route("POST", f"{root}/execute/{{name}}/{{version}}", self.execute, waits=True)
        return [execute, *(endpoints.route(*call) for call in calls)]

    @staticmethod
    def _on(act: Callable[[str], None], answer: Callable[[], Response] = answers.done) -> Handler:
        """Does one thing to the workflow of the path."""

        def handler(call: Call) -> Response:
            act(call.parts["workflow"])
            return answer()

        return handler

    # -------------------------------------------------------------------- starts

    def start_by_name(self, call: Call) -> Response:
        """Start with the body as the input; the id of the workflow."""
        priority = call.integer("priority", 0)
        check_priority(priority)
        found = self._model.get_workflow_definition(call.parts["workflow"], call.optional_integer("version"))
        workflow_id = self._model.start_workflow(
            found["name"],
            call.mapping(),
            version=found["version"],
            correlation_id=call.text("correlationId"),
            priority=priority,
        )
        return answers.text(workflow_id)

    def execute(self, call: Call) -> Response:
        """Start, wait for the end or for certain steps, and tell how far it came."""
        references = [part.strip() for part in (call.text("waitUntilTaskRef") or "").split(",") if part.strip()]
        wait_seconds = call.optional_integer("waitForSeconds") or WAIT_SECONDS
        strategy = call.text("returnStrategy") or "TARGET_WORKFLOW"
        if strategy != "TARGET_WORKFLOW":
            raise NotImplementedError(f"returnStrategy {strategy} is not modelled; use TARGET_WORKFLOW")
        named = {"name": call.parts["name"], "version": call.optional_integer("version") or None}
        workflow_id = _start_request(call, named).start(self._model, call)
        waited = self._model.await_workflow(workflow_id, references, wait_seconds=wait_seconds)
        workflow = self._model.workflow(workflow_id)
        shown = ("workflowId", "correlationId", "input", "output", "priority", "variables", "tasks", "createTime")
        fields = {
            "responseType": strategy,
            "targetWorkflowId": workflow_id,
            "targetWorkflowStatus": workflow["status"],
            "requestId": call.text("requestId") or str(uuid.uuid4()),
            "signalTimeout": not waited,
            **{field: workflow.get(field) for field in (*shown, "status", "updateTime")},
        }
        return JsonAnswer(without_nulls(fields))

    # --------------------------------------------------------------------- looks

    def get(self, call: Call) -> Response:
        """The workflow and, unless it is told otherwise, its attempts."""
        include_tasks = call.flag("includeTasks", default=True)
        return JsonAnswer(self._model.workflow(call.parts["workflow"], include_tasks=include_tasks))

    def status(self, call: Call) -> Response:
        """The workflow in few words."""
        fields = ["workflowId", "correlationId", "status"]
        fields += ["output"] if call.flag("includeOutput", default=False) else []
        fields += ["variables"] if call.flag("includeVariables", default=False) else []
        workflow = self._model.workflow(call.parts["workflow"], include_tasks=False)
        return JsonAnswer({field: workflow[field] for field in fields if field in workflow})

    def tasks(self, call: Call) -> Response:
        """One page of the attempts, of some statuses if they are named."""
        start, count, statuses = call.integer("start", 0), call.integer("count", 15), call.texts("status")
        rows = self._model.workflow(call.parts["workflow"])["tasks"]
        found = [row for row in rows if not statuses or row["status"] in statuses]
        return JsonAnswer({"totalHits": len(found), "results": found[start : start + count]})

    def running(self, call: Call) -> Response:
        """The ids of unfinished workflows of a name."""
        if call.text("startTime") and call.text("endTime"):
            raise NotImplementedError("getRunningWorkflow between two times is not modelled")
        return JsonAnswer(self._model.running_workflow_ids(call.parts["name"]))

    def correlated(self, call: Call) -> Response:
        """The workflows of one correlation id."""
        return JsonAnswer(self._correlated(call, call.parts["correlation"]))

    def correlated_with_each(self, call: Call) -> Response:
        """The workflows of several correlation ids, each with its own."""
        return JsonAnswer({str(each): self._correlated(call, str(each)) for each in call.items()})

    def _correlated(self, call: Call, correlation_id: str) -> list[dict[str, Any]]:
        closed, tasks = call.flag("includeClosed", default=False), call.flag("includeTasks", default=False)
        name = call.parts["name"]
        return self._model.correlated_workflows(name, correlation_id, include_closed=closed, include_tasks=tasks)

    # ------------------------------------------------------------------- actions

    def skip(self, call: Call) -> Response:
        """Leave out a step. Input and output for it, which clients send in the body, are not looked at."""
        return answers.after(self._model.skip_task, call.parts["workflow"], call.parts["reference"])

    def terminate(self, call: Call) -> Response:
        """End it."""
        return answers.after(self._model.terminate_workflow, call.parts["workflow"], call.text("reason"))

    def remove(self, call: Call) -> Response:
        """Forget it."""
        archive = call.flag("archiveWorkflow", default=True)
        return answers.after(self._model.remove_workflow, call.parts["workflow"], archive=archive)

    def retry(self, call: Call) -> Response:
        """One more attempt for what failed."""
        resumes = call.flag("resumeSubworkflowTasks", default=False)
        self._model.retry_workflow(call.parts["workflow"], resume_sub_workflows=resumes)
        return answers.no_content()

    def restart(self, call: Call) -> Response:
        """Begin again."""
        latest = call.flag("useLatestDefinitions", default=False)
        self._model.restart_workflow(call.parts["workflow"], use_latest_definitions=latest)
        return answers.no_content()

    def rerun(self, call: Call) -> Response:
        """Go back to an attempt; the id of the workflow."""
        workflow_id = call.parts["workflow"]
        read = RerunRequest.read(call.operation, call.mapping())
        self._model.rerun_workflow(
            workflow_id, read.re_run_from_task_id, task_input=read.task_input, workflow_input=read.workflow_input
        )
        return answers.text(workflow_id)


def _start_request(call: Call, named: Mapping[str, Any] | None = None) -> StartRequest:
    """The request in a body; `named` says more than the body does."""
    body = call.mapping()
    request = StartRequest.read(call.operation, {**body, **(named or {})})
    if "input" in body and body["input"] is None:
        raise bad_request(call.operation, "NULL input passed when starting workflow")
    return request
