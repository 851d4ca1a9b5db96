"""Requests about workflows: start, look, and what can be done to one or to many. What is below `/workflow`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.conductor.errors import bad_request, validation_failed
from perago.embedded.conductor.model import ConductorModel, check_priority
from perago.embedded.conductor.payloads import Fields, without_nulls
from perago.embedded.http.conductor import requests as answers
from perago.embedded.http.conductor.requests import Call, Endpoints, Handler, JsonAnswer
from perago.ports import ServiceError

MAX_WORKFLOWS = 1000
WAIT_SECONDS = 10
_SHOWN = ("workflowId", "correlationId", "input", "output", "priority", "variables", "tasks", "createTime", "status")


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


def _start_request(call: Call, named: Mapping[str, Any] | None = None) -> StartRequest:
    """The request in a body; `named` says more than the body does."""
    body = call.mapping()
    request = StartRequest.read(call.operation, {**body, **(named or {})})
    if "input" in body and body["input"] is None:
        raise bad_request(call.operation, "NULL input passed when starting workflow")
    return request


def _each(call: Call, act: Callable[[str], None]) -> Response:
    """One thing done to each workflow of a list; a refused one is listed and holds up no other."""
    ids = [str(each) for each in call.items()]
    if not 0 < len(ids) <= MAX_WORKFLOWS:
        message = f"between 1 and {MAX_WORKFLOWS} workflow ids are needed, not {len(ids)}"
        raise validation_failed(call.operation, [{"path": "arg0", "message": message}])
    errors: dict[str, str] = {}
    done: list[str] = []
    for workflow_id in ids:
        try:
            act(workflow_id)
            done.append(workflow_id)
        except ServiceError as error:
            errors[workflow_id] = error.detail
    return JsonAnswer({"bulkErrorResults": errors, "bulkSuccessfulResults": done})


def workflow_routes(model: ConductorModel, endpoints: Endpoints, root: str) -> list[Route]:
    """The routes below `root`; the more specific ones first."""

    def start_by_name(call: Call) -> Response:
        """Start with the body as the input; the id of the workflow."""
        priority, correlation_id = call.integer("priority", 0), call.text("correlationId")
        check_priority(priority)
        found = model.get_workflow_definition(call.parts["workflow"], call.optional_integer("version"))
        options: dict[str, Any] = {"version": found["version"], "correlation_id": correlation_id, "priority": priority}
        return answers.text(model.start_workflow(found["name"], call.mapping(), **options))

    def execute(call: Call) -> Response:
        """Start, wait for the end or for certain steps, and tell how far it came."""
        references = [part.strip() for part in (call.text("waitUntilTaskRef") or "").split(",") if part.strip()]
        wait_seconds = call.optional_integer("waitForSeconds") or WAIT_SECONDS
        strategy = call.text("returnStrategy") or "TARGET_WORKFLOW"
        if strategy != "TARGET_WORKFLOW":
            raise NotImplementedError(f"returnStrategy {strategy} is not modelled; use TARGET_WORKFLOW")
        named = {"name": call.parts["name"], "version": call.optional_integer("version") or None}
        workflow_id = _start_request(call, named).start(model, call)
        waited = model.await_workflow(workflow_id, references, wait_seconds=wait_seconds)
        workflow = model.workflow(workflow_id)
        fields = {
            "responseType": strategy,
            "targetWorkflowId": workflow_id,
            "targetWorkflowStatus": workflow["status"],
            "requestId": call.text("requestId") or str(uuid.uuid4()),
            "signalTimeout": not waited,
            **{field: workflow.get(field) for field in (*_SHOWN, "updateTime")},
        }
        return JsonAnswer(without_nulls(fields))

    def get(call: Call) -> Response:
        """The workflow and, unless it is told otherwise, its attempts."""
        include_tasks = call.flag("includeTasks", default=True)
        return JsonAnswer(model.workflow(call.parts["workflow"], include_tasks=include_tasks))

    def status(call: Call) -> Response:
        """The workflow in few words."""
        fields = ["workflowId", "correlationId", "status"]
        fields += ["output"] if call.flag("includeOutput", default=False) else []
        fields += ["variables"] if call.flag("includeVariables", default=False) else []
        workflow = model.workflow(call.parts["workflow"], include_tasks=False)
        return JsonAnswer({field: workflow[field] for field in fields if field in workflow})

    def tasks(call: Call) -> Response:
        """One page of the attempts, of some statuses if they are named."""
        start, count, statuses = call.integer("start", 0), call.integer("count", 15), call.texts("status")
        rows = model.workflow(call.parts["workflow"])["tasks"]
        found = [row for row in rows if not statuses or row["status"] in statuses]
        return JsonAnswer({"totalHits": len(found), "results": found[start : start + count]})

    def found(call: Call) -> Response:
        """A page of workflows. What `freeText` asks for beside `query` is not looked for."""
        return JsonAnswer(model.search_workflows(**answers.search_of(call, "search for workflows")))

    def running(call: Call) -> Response:
        """The ids of unfinished workflows of a name."""
        if call.text("startTime") and call.text("endTime"):
            raise NotImplementedError("getRunningWorkflow between two times is not modelled")
        return JsonAnswer(model.running_workflow_ids(call.parts["name"]))

    def correlated(call: Call, correlation_id: str) -> list[dict[str, Any]]:
        closed, tasks = call.flag("includeClosed", default=False), call.flag("includeTasks", default=False)
        name = call.parts["name"]
        return model.correlated_workflows(name, correlation_id, include_closed=closed, include_tasks=tasks)

    def correlated_with_each(call: Call) -> Response:
        """The workflows of several correlation ids, each with its own."""
        return JsonAnswer({str(each): correlated(call, str(each)) for each in call.items()})

    def remove(call: Call) -> Response:
        archive = call.flag("archiveWorkflow", default=True)
        return answers.after(model.remove_workflow, call.parts["workflow"], archive=archive)

    def retry(call: Call) -> Response:
        resumes = call.flag("resumeSubworkflowTasks", default=False)
        model.retry_workflow(call.parts["workflow"], resume_sub_workflows=resumes)
        return answers.json_or_no_content()

    def restart(call: Call) -> Response:
        latest = call.flag("useLatestDefinitions", default=False)
        model.restart_workflow(call.parts["workflow"], use_latest_definitions=latest)
        return answers.json_or_no_content()

    def rerun(call: Call) -> Response:
        """Go back to an attempt; the id of the workflow."""
        workflow_id, read = call.parts["workflow"], RerunRequest.read(call.operation, call.mapping())
        inputs = {"task_input": read.task_input, "workflow_input": read.workflow_input}
        model.rerun_workflow(workflow_id, read.re_run_from_task_id, **inputs)
        return answers.text(workflow_id)

    def on(act: Callable[..., None], *parameters: str) -> Handler:
        """Does one thing to the workflow of the path; further arguments are those parameters of the path or query."""

        def handler(call: Call) -> Response:
            given = [call.parts.get(name, call.text(name)) for name in parameters]
            return answers.after(act, call.parts["workflow"], *given)

        return handler

    def reset_callbacks(call: Call) -> Response:
        model.reset_callbacks(call.parts["workflow"])
        return answers.json_or_no_content()

    def restart_each(call: Call) -> Response:
        latest = call.flag("useLatestDefinitions", default=False)
        return _each(call, partial(model.restart_workflow, use_latest_definitions=latest))

    def terminate_each(call: Call) -> Response:
        return _each(call, partial(model.terminate_workflow, reason=call.text("reason")))

    one, bulk = f"{root}/{{workflow}}", f"{root}/bulk"
    calls: list[tuple[str, str, Handler]] = [
        ("PUT", f"{bulk}/pause", lambda call: _each(call, model.pause_workflow)),
        ("PUT", f"{bulk}/resume", lambda call: _each(call, model.resume_workflow)),
        ("POST", f"{bulk}/restart", restart_each),
        ("POST", f"{bulk}/retry", lambda call: _each(call, model.retry_workflow)),
        ("POST", f"{bulk}/terminate", terminate_each),
        ("POST", root, lambda call: answers.text(_start_request(call).start(model, call))),
        ("PUT", f"{root}/decide/{{workflow}}", on(model.decide)),
        ("GET", f"{root}/running/{{name}}", running),
        ("GET", f"{root}/search", found),
        ("POST", f"{root}/{{name}}/correlated", correlated_with_each),
        (
            "GET",
            f"{root}/{{name}}/correlated/{{id}}",
            lambda call: JsonAnswer(correlated(call, call.parts["id"])),
        ),
        ("GET", one, get),
        ("POST", one, start_by_name),
        ("DELETE", one, on(model.terminate_workflow, "reason")),
        ("GET", f"{one}/status", status),
        ("GET", f"{one}/tasks", tasks),
        # Input and output for a skipped step, which clients send in the body, are not looked at.
        ("PUT", f"{one}/skiptask/{{reference}}", on(model.skip_task, "reference")),
        ("PUT", f"{one}/pause", on(model.pause_workflow)),
        ("PUT", f"{one}/resume", on(model.resume_workflow)),
        ("POST", f"{one}/retry", retry),
        ("POST", f"{one}/restart", restart),
        ("POST", f"{one}/rerun", rerun),
        ("POST", f"{one}/resetcallbacks", reset_callbacks),
        ("DELETE", f"{one}/remove", remove),
    ]
    waiting = [("POST", f"{root}/execute/{{name}}/{{version}}", execute)]
    return [*endpoints.routes(waiting, wait=True), *endpoints.routes(calls)]
