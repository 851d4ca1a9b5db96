"""Conductor's REST API on the model: enough for the official SDK, curl and perago's own adapter.

Statuses and the fields that clients read are those of the real server; messages differ. A call that this server does
not support is answered with 501 and its name. A call that Conductor does not have either is a 404.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import Parameter, signature
from typing import Any, Literal, TypeAlias, get_origin, get_type_hints

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from loguru import logger
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from perago.embedded import http
from perago.embedded.conductor import wire
from perago.embedded.conductor.model import ConductorModel, check_priority
from perago.embedded.conductor.state import LastPoll
from perago.embedded.conductor.updates import RESULT_STATUSES
from perago.embedded.http import JsonAnswer, unserved_routes
from perago.ports import AccessDenied, NotFound, Refused, ServiceError

API = "/api"

VERSION = "3.32.3"
"""The version that is modeled."""

INSTANCE = "perago"
"""The name in error answers where the real server gives its host."""

POLLS_AT_ONCE = 64
"""Further polls wait for one of them to end, at most five seconds."""
CALLS_AT_ONCE = 16

MAX_WORKFLOWS = 1000
WAIT_SECONDS = 10

NO_CONTENT = object()
"""The return value of a handler for an answer 204."""

_HEALTHY = {"healthResults": [], "suppressedHealthResults": [], "healthy": True}

_STATUS_OF_INJECTED = {AccessDenied: 401, NotFound: 404, Refused: 400}
"""Statuses of port errors that a fault script raises; the model's own errors carry theirs."""

_SHOWN = ("workflowId", "correlationId", "input", "output", "priority", "variables", "tasks", "createTime", "status")

_INTEGER, _FLAG = TypeAdapter(int), TypeAdapter(bool)
_CONVERTERS: Mapping[Any, TypeAdapter[Any]] = {int: _INTEGER, int | None: _INTEGER, bool: _FLAG}

_OTHERWISE_SPELLED = {
    "archive": "archiveWorkflow",
    "resume_sub_workflows": "resumeSubworkflowTasks",
    "workerid": "workerid",
}
"""Parameters of queries that are not the parameters of handlers in camel case."""


class Call(http.Call):
    """A request. The methods raise `Malformed` (500) for missing values and wrong types."""

    @property
    def operation(self) -> str:
        """The call as errors name it."""
        return f"{self.method} {self.path}"

    def argument(self, name: str, kind: Any, default: Any) -> Any:
        """Return the value of a parameter of a handler.

        Its type says where it comes from: an object or a list is the JSON body, bytes are the raw body. Everything
        else is a variable of the path or, in camel case, a parameter of the query; a tuple may be given several times,
        or once with commas. An empty number or flag counts as not given.
        """
        if kind is Call:
            return self
        if kind is bytes:
            return self._body()
        origin = get_origin(kind)
        if origin in (dict, Mapping):
            return self._json(dict, "an object")
        if origin in (list, Sequence):
            return self._json(list, "a list")
        spelled = _OTHERWISE_SPELLED.get(name) or to_camel(name)
        if origin is tuple:
            values = self.query_params.getlist(spelled)
            return tuple(values[0].split(",") if len(values) == 1 else values)
        value, converter = self.parts.get(name, self.query_params.get(spelled)), _CONVERTERS.get(kind)
        if value is None or (converter is not None and not value):
            if default is Parameter.empty:
                raise self._refused(f"the request parameter {spelled} is missing")
            return default
        try:
            return value if converter is None else converter.validate_python(value)
        except ValidationError as error:
            raise self._refused(f"parameter {spelled}: {error.errors()[0]['msg']}, not {value!r}") from None

    def _body(self) -> bytes:
        if not self.raw:
            raise self._refused("Required request body is missing")
        return self.raw

    def _json(self, kind: type, expected: str) -> Any:
        body, content_type = self._body(), self.headers.get("content-type", "")
        if "json" not in content_type.partition(";")[0].lower():
            raise self._refused(f"Content-Type {content_type!r} is not supported; use application/json")
        try:
            value = json.loads(body, parse_float=_number)
        except (ValueError, RecursionError) as error:
            raise wire.malformed(self.operation, str(error) or type(error).__name__) from None
        if not isinstance(value, kind):
            raise wire.malformed(self.operation, f"the body must be {expected}, not {type(value).__name__}")
        return value

    def _refused(self, detail: str) -> wire.Malformed:
        """Return a 500 with just these words."""
        return wire.Malformed(wire.SERVICE, self.operation, detail)


Handler: TypeAlias = Callable[..., Any]
"""Gets the arguments that its parameters name. A text is answered as such, None without a body, else JSON."""

Table: TypeAlias = list[tuple[str, str, Handler] | tuple[str, str, Handler, int]]
"""Methods, paths, handlers, and the status of success if it is not 200; the more specific paths come first."""


def _number(digits: str) -> float | str:
    """Return a number, or the text as which an infinite one is stored (`docs/dev/servers/conductor.md`, "Payload
    fidelity")."""
    number = float(digits)
    return number if math.isfinite(number) else str(number).replace("inf", "Infinity")


def conductor_app(model: ConductorModel) -> ASGIApp:
    """Return an ASGI application that serves `model` below `/api`, and its health at `/health`.

    Calls run in threads, which end with the server. Calls that can wait for seconds have separate threads, so that they
    do not delay others.
    """
    waiting, quick = CapacityLimiter(POLLS_AT_ONCE), CapacityLimiter(CALLS_AT_ONCE)

    def routes(table: Table, threads: CapacityLimiter = quick) -> list[Route]:
        return [_route(threads, *row) for row in table]

    polls, tasks = _task_calls(model, f"{API}/tasks")
    waits, workflows = _workflow_calls(model, f"{API}/workflow")
    app = Starlette(
        routes=[
            *(Route(path, _health, methods=["GET"]) for path in ("/health", f"{API}/health")),
            *routes([("GET", f"{API}/version", lambda: VERSION)]),
            *routes([("GET", f"{API}/admin/task/{{task_name}}", model.pending_tasks)]),
            *unserved_routes("conductor", API, _unserved),
            *routes(_definition_calls(model, f"{API}/metadata")),
            *routes(_schedule_calls(model, f"{API}/scheduler")),
            *routes([*polls, *waits], waiting),
            *routes([*tasks, *workflows]),
        ],
        exception_handlers={404: _no_such_path, 405: _wrong_method},
    )
    app.router.redirect_slashes = False
    return app


def _route(threads: CapacityLimiter, method: str, path: str, handler: Handler, status: int = 200) -> Route:
    hints = get_type_hints(handler)
    parameters = [(name, hints[name], declared.default) for name, declared in signature(handler).parameters.items()]

    def answer(call: Call) -> Response:
        try:
            payload = handler(**{name: call.argument(name, kind, default) for name, kind, default in parameters})
        except ServiceError as problem:
            return _refusal(problem)
        except NotImplementedError as problem:
            return _error(501, f"{call.operation}: {problem}")
        except Exception as problem:  # noqa: BLE001 - as the real server: a 500, and the next call is served
            logger.opt(exception=problem).warning("{} failed", call.operation)
            return _error(500, f"{type(problem).__name__}: {problem}")
        if isinstance(payload, str):  # such as an id, whatever the client accepts
            return Response(payload, status, {"content-type": "text/plain;charset=UTF-8"})
        if payload is None or payload is NO_CONTENT:
            return Response(status_code=status if payload is None else 204)
        return JsonAnswer(payload, status)

    async def served(request: Request) -> Response:
        call = Call(request, await request.body())
        return await run_sync(answer, call, limiter=threads, abandon_on_cancel=True)

    return Route(path, served, methods=[method])


def _refusal(problem: ServiceError) -> Response:
    """Return the answer for an error of the model, or of its fault script."""
    if isinstance(problem, wire.InvalidRequest) and problem.problems:
        problems = list(problem.problems)
        body = {"status": 400, "message": wire.VALIDATION_FAILED, "retryable": False, "validationErrors": problems}
        return JsonAnswer(body, 400)
    injected = next((code for kind, code in _STATUS_OF_INJECTED.items() if isinstance(problem, kind)), 503)
    return _error(getattr(problem, "status", injected), problem.detail)


def _error(status: int, message: str) -> Response:
    """Return the body of every error but those of a validation."""
    return JsonAnswer({"status": status, "message": message, "instance": INSTANCE, "retryable": False}, status)


async def _health(_: Request) -> Response:  # not on a thread, which it would wait for under load
    return JsonAnswer(_HEALTHY)


def _unserved(request: Request, name: str) -> Response:  # noqa: ARG001 - the signature
    return _error(501, f"{name} is not modelled; use a real Conductor")


async def _no_such_path(request: Request, problem: Exception) -> Response:  # noqa: ARG001 - the handler's signature
    return _error(404, f"No static resource {request.url.path.strip('/')}.")


async def _wrong_method(request: Request, problem: Exception) -> Response:  # noqa: ARG001 - the handler's signature
    if request.method == "OPTIONS":
        matching_routes = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
        methods = {"OPTIONS"}.union(*(route.methods for route in matching_routes))
        return Response(headers={"allow": ",".join(sorted(methods))})
    return _error(405, f"Request method '{request.method}' is not supported")


# -------------------------------------------------------------------------- definitions


def _definition_calls(model: ConductorModel, root: str) -> Table:
    """Calls about task and workflow definitions."""
    tasks, workflows = f"{root}/taskdefs", f"{root}/workflow"
    workflow = f"{workflows}/{{name}}"

    def task_definition(call: Call, name: str) -> Any:
        definition = model.get_task_definition(name)
        if definition is None:
            raise wire.not_found(call.operation, f"No such taskType found by name: {name}")
        return definition

    def versions(name: str) -> Any:
        """Return the name and version of each definition, the lowest first, or nothing for an unknown name."""
        fields = ("name", "version", "createTime", "updateTime")
        definitions = model.workflow_definitions(name)
        return [{field: definition[field] for field in fields if definition.get(field)} for definition in definitions]

    return [
        ("GET", tasks, model.task_definitions),
        ("POST", tasks, model.register_task_definitions),
        ("PUT", tasks, model.update_task_definition),
        ("GET", f"{tasks}/{{name}}", task_definition),
        ("DELETE", f"{tasks}/{{name}}", model.delete_task_definition),
        ("GET", workflows, lambda: model.workflow_definitions()),
        ("POST", workflows, model.create_workflow_definition),
        ("PUT", workflows, model.update_workflow_definitions),
        ("GET", workflow, model.get_workflow_definition),
        ("GET", f"{workflow}/versions", versions),
        ("DELETE", f"{workflow}/{{version}}", model.delete_workflow_definition),
    ]


def _schedule_calls(model: ConductorModel, root: str) -> Table:
    """Calls about schedules."""

    def next_few(cron_expression: str, limit: int = 3) -> Any:
        """Return the next times in UTC, whatever the zone of a schedule."""
        return model.next_schedule_times(cron_expression, min(limit, 5))

    schedule = f"{root}/schedules/{{name}}"
    return [
        ("GET", f"{root}/nextFewSchedules", next_few),
        ("GET", f"{root}/schedules", model.schedules),
        ("POST", f"{root}/schedules", model.save_schedule),
        ("GET", schedule, model.schedule),
        ("DELETE", schedule, model.delete_schedule),
        ("PUT", f"{schedule}/pause", model.pause_schedule),
        ("PUT", f"{schedule}/resume", model.resume_schedule),
    ]


# -------------------------------------------------------------------------------- tasks


def _task_calls(model: ConductorModel, root: str) -> tuple[Table, Table]:
    """Calls about attempts and their queues: those that can wait for seconds, and the others."""

    def poll(task_name: str, workerid: str | None = None, domain: str | None = None) -> Any:
        """Return one attempt, or 204."""
        return next(iter(model.poll_tasks(task_name, workerid, domain=domain)), NO_CONTENT)

    def poll_batch(
        task_name: str, workerid: str | None = None, domain: str | None = None, count: int = 1, timeout: int = 100
    ) -> Any:
        """Return a list of attempts, however empty."""
        return model.poll_tasks(task_name, workerid, count=count, wait_seconds=timeout / 1000, domain=domain)

    def update_v2(call: Call, result: dict[str, Any]) -> Any:
        """Return a result, and a further attempt for the same worker."""
        try:
            return model.update_task_v2(result) or NO_CONTENT
        except wire.InvalidRequest as error:  # which is a 500 in this call
            raise wire.Malformed(wire.SERVICE, call.operation, error.detail) from None

    def update_step(
        call: Call, workflow_id: str, reference: str, status: str, output: dict[str, Any], workerid: str | None = None
    ) -> str | None:
        """Return the id of the open attempt of a step, which got a status; without one nothing happens."""
        if status not in RESULT_STATUSES:
            detail = f"status {status!r} is not one of {', '.join(RESULT_STATUSES)}"
            raise wire.Malformed(wire.SERVICE, call.operation, detail)
        return model.update_task_by_reference(workflow_id, reference, status, output, workerid or None)

    def update_step_and_see(
        call: Call, workflow_id: str, reference: str, status: str, output: dict[str, Any], workerid: str | None = None
    ) -> Any:
        """Do the same, but answer with the workflow, or with 404 if there was no open attempt."""
        if update_step(call, workflow_id, reference, status, output, workerid) is None:
            raise wire.not_found(call.operation, f"Found no running task {reference} to update")
        return model.workflow(workflow_id)

    def queue_size(task_type: str, domain: str | None = None) -> int:
        return model.queue_size(task_type, domain=domain)

    def queue_sizes(call: Call, task_type: tuple[str, ...]) -> Any:
        """Return the sizes of the queues that were asked for."""
        call.argument("task_type", str, Parameter.empty)
        return {name: model.queue_size(name) for name in task_type}

    def queues_by_shard() -> Any:
        """Return all sizes. No attempt is ever unacknowledged, because polled attempts have left the queue."""
        return {name: {"a": {"size": size, "uacked": 0}} for name, size in model.queue_sizes().items()}

    def last_polls(task_type: str) -> Any:
        return list(map(_poll, model.last_polls(task_type)))

    def requeue(task_name: str) -> str:
        """Return the number of attempts that were queued again, as a text."""
        return str(model.requeue_pending(task_name))

    def add_log(task_id: str, text: bytes) -> None:
        model.add_log(task_id, text.decode("utf-8", "replace"))

    def logs(task_id: str) -> Any:
        """Return all entries, or 204."""
        return list(model.task_logs(task_id)) or NO_CONTENT

    task, step = f"{root}/{{task_id}}", f"{root}/{{workflow_id}}/{{reference}}/{{status}}"
    polls: Table = [
        ("GET", f"{root}/poll/batch/{{task_name}}", poll_batch),
        ("GET", f"{root}/poll/{{task_name}}", poll),
        ("POST", f"{root}/update-v2", update_v2),
    ]
    calls: Table = [
        ("GET", f"{root}/queue/size", queue_size),
        ("GET", f"{root}/queue/sizes", queue_sizes),
        ("GET", f"{root}/queue/all", model.queue_sizes),
        ("GET", f"{root}/queue/all/verbose", queues_by_shard),
        ("GET", f"{root}/queue/polldata", last_polls),
        ("GET", f"{root}/queue/polldata/all", lambda: list(map(_poll, model.last_polls()))),
        ("POST", f"{root}/queue/requeue/{{task_name}}", requeue),
        ("POST", root, model.update_task),
        ("GET", f"{root}/search", _search(model.search_tasks)),
        ("GET", f"{task}/log", logs),
        ("POST", f"{task}/log", add_log),
        ("GET", task, model.get_task),
        ("POST", step, update_step),
        ("POST", f"{step}/sync", update_step_and_see),
    ]
    return polls, calls


def _search(find: Callable[..., Any]) -> Handler:
    """A page of what a query finds. The model does not have the search for `freeText` in addition to `query`."""

    def search(call: Call, query: str = "", sort: str = "", start: int = 0, size: int = 100) -> Any:
        if call.query_params.get("freeText") not in (None, "*"):
            raise wire.not_modelled("search", "freeText")
        return find(query, start=start, size=size, sort=sort)

    return search


def _poll(poll: LastPoll) -> dict[str, Any]:
    fields = {"queueName": poll.task_name, "domain": poll.domain, "workerId": poll.worker_id, "lastPollTime": poll.time}
    return wire.without_nulls(fields)


# ---------------------------------------------------------------------------- workflows


class StartRequest(wire.Fields):
    """The request that starts a workflow. An idempotency key is ignored, as by the real server."""

    name: str | None = None
    payload: dict[str, Any] | None = Field(None, alias="input")
    version: wire.Int | None = None
    correlation_id: str | None = None
    priority: wire.Int = 0
    definition: dict[str, Any] | None = Field(None, alias="workflowDef")
    task_to_domain: dict[str, str] | None = None
    external_input_payload_storage_path: str | None = Field(None, exclude=True)
    created_by: str | None = Field(None, exclude=True)
    idempotency_key: str | None = Field(None, exclude=True)
    idempotency_strategy: Literal["FAIL", "RETURN_EXISTING", "FAIL_ON_RUNNING"] | None = Field(None, exclude=True)

    def start(self, model: ConductorModel, call: Call) -> str:
        """Start it; the id of the workflow."""
        if self.name is None:
            problem = {"path": "startWorkflow.arg0.name", "message": "Workflow name cannot be null or empty"}
            raise wire.validation_failed(call.operation, [problem])
        if self.external_input_payload_storage_path:
            raise NotImplementedError("InMemoryConductor: externalInputPayloadStoragePath is not modelled")
        return model.start_workflow(**self.model_dump())


class RerunRequest(wire.Fields):
    """The step that a workflow is run again from, and its inputs."""

    re_run_from_task_id: str | None = None
    task_input: dict[str, Any] | None = None
    workflow_input: dict[str, Any] | None = None


def _start_request(call: Call, body: dict[str, Any], named: Mapping[str, Any] | None = None) -> StartRequest:
    """Return the request in a body; `named` says more than the body does."""
    request = StartRequest.read(call.operation, {**body, **(named or {})})
    if "input" in body and body["input"] is None:
        raise wire.bad_request(call.operation, "NULL input passed when starting workflow")
    return request


def _each(ids: list[Any], act: Callable[[str], None]) -> dict[str, Any]:
    """Apply an operation to each workflow of a list. A refused workflow is listed and does not stop the others."""
    if not 0 < len(ids) <= MAX_WORKFLOWS:
        message = f"between 1 and {MAX_WORKFLOWS} workflow ids are needed, not {len(ids)}"
        raise wire.validation_failed("bulk operation", [{"path": "arg0", "message": message}])
    errors: dict[str, str] = {}
    done: list[str] = []
    for workflow_id in map(str, ids):
        try:
            act(workflow_id)
            done.append(workflow_id)
        except ServiceError as error:
            errors[workflow_id] = error.detail
    return {"bulkErrorResults": errors, "bulkSuccessfulResults": done}


def _workflow_calls(model: ConductorModel, root: str) -> tuple[Table, Table]:
    """Calls about workflows: those that can wait for seconds, and the others."""

    def start(call: Call, body: dict[str, Any]) -> str:
        return _start_request(call, body).start(model, call)

    def start_by_name(
        name: str,
        body: dict[str, Any],
        version: int | None = None,
        correlation_id: str | None = None,
        priority: int = 0,
    ) -> str:
        """Start with the body as the input; the id of the workflow."""
        check_priority(priority)
        definition = model.get_workflow_definition(name, version)
        number = definition["version"]
        return model.start_workflow(name, body, version=number, correlation_id=correlation_id, priority=priority)

    def execute(
        call: Call,
        name: str,
        version: int,
        body: dict[str, Any],
        wait_until_task_ref: str = "",
        wait_for_seconds: int = 0,
        return_strategy: str = "",
        request_id: str = "",
    ) -> Any:
        """Start the workflow, wait for its end or for certain steps, and return its progress."""
        references = [part.strip() for part in wait_until_task_ref.split(",") if part.strip()]
        strategy = return_strategy or "TARGET_WORKFLOW"
        if strategy != "TARGET_WORKFLOW":
            raise NotImplementedError(f"returnStrategy {strategy} is not modelled; use TARGET_WORKFLOW")
        workflow_id = _start_request(call, body, {"name": name, "version": version or None}).start(model, call)
        waited = model.await_workflow(workflow_id, references, wait_seconds=wait_for_seconds or WAIT_SECONDS)
        workflow = model.workflow(workflow_id)
        fields = {
            "responseType": strategy,
            "targetWorkflowId": workflow_id,
            "targetWorkflowStatus": workflow["status"],
            "requestId": request_id or str(uuid.uuid4()),
            "signalTimeout": not waited,
            **{field: workflow.get(field) for field in (*_SHOWN, "updateTime")},
        }
        return wire.without_nulls(fields)

    def status(workflow_id: str, include_output: bool = False, include_variables: bool = False) -> Any:
        """Return the workflow in brief."""
        optional = {"output": include_output, "variables": include_variables}
        fields = ["workflowId", "correlationId", "status", *(field for field in optional if optional[field])]
        workflow = model.workflow(workflow_id, include_tasks=False)
        return {field: workflow[field] for field in fields if field in workflow}

    def tasks(workflow_id: str, status: tuple[str, ...], start: int = 0, count: int = 15) -> Any:
        """Return one page of the attempts, of some statuses if they are named."""
        rows = [row for row in model.workflow(workflow_id)["tasks"] if not status or row["status"] in status]
        return {"totalHits": len(rows), "results": rows[start : start + count]}

    def running(name: str, start_time: str = "", end_time: str = "") -> Any:
        """Return the ids of unfinished workflows of a name."""
        if start_time and end_time:
            raise NotImplementedError("getRunningWorkflow between two times is not modelled")
        return model.running_workflow_ids(name)

    def correlated_with_each(
        name: str, ids: list[Any], include_closed: bool = False, include_tasks: bool = False
    ) -> Any:
        """Return the workflows of several correlation ids, each with its own."""
        filters = {"include_closed": include_closed, "include_tasks": include_tasks}
        return {shared_id: model.correlated_workflows(name, shared_id, **filters) for shared_id in map(str, ids)}

    def rerun(call: Call, workflow_id: str, body: dict[str, Any]) -> str:
        """Go back to an attempt; the id of the workflow."""
        read = RerunRequest.read(call.operation, body)
        inputs = {"task_input": read.task_input, "workflow_input": read.workflow_input}
        model.rerun_workflow(workflow_id, read.re_run_from_task_id, **inputs)
        return workflow_id

    def bulk_handler(act: Callable[[str], None]) -> Handler:
        def act_on_each(ids: list[Any]) -> Any:
            return _each(ids, act)

        return act_on_each

    def restart_each(ids: list[Any], use_latest_definitions: bool = False) -> Any:
        return _each(ids, partial(model.restart_workflow, use_latest_definitions=use_latest_definitions))

    def terminate_each(ids: list[Any], reason: str | None = None) -> Any:
        return _each(ids, partial(model.terminate_workflow, reason=reason))

    workflow_path, bulk = f"{root}/{{workflow_id}}", f"{root}/bulk"
    calls: Table = [
        ("PUT", f"{bulk}/pause", bulk_handler(model.pause_workflow)),
        ("PUT", f"{bulk}/resume", bulk_handler(model.resume_workflow)),
        ("POST", f"{bulk}/restart", restart_each),
        ("POST", f"{bulk}/retry", bulk_handler(model.retry_workflow)),
        ("POST", f"{bulk}/terminate", terminate_each),
        ("POST", root, start),
        ("PUT", f"{root}/decide/{{workflow_id}}", model.decide),
        ("GET", f"{root}/running/{{name}}", running),
        ("GET", f"{root}/search", _search(model.search_workflows)),
        ("POST", f"{root}/{{name}}/correlated", correlated_with_each),
        ("GET", f"{root}/{{name}}/correlated/{{correlation_id}}", model.correlated_workflows),
        ("GET", workflow_path, model.workflow),
        ("POST", f"{root}/{{name}}", start_by_name),
        ("DELETE", workflow_path, model.terminate_workflow),
        ("GET", f"{workflow_path}/status", status),
        ("GET", f"{workflow_path}/tasks", tasks),
        # The input and output of a skipped step, which clients send in the body, are ignored.
        ("PUT", f"{workflow_path}/skiptask/{{reference_name}}", model.skip_task),
        ("PUT", f"{workflow_path}/pause", model.pause_workflow),
        ("PUT", f"{workflow_path}/resume", model.resume_workflow),
        ("POST", f"{workflow_path}/retry", model.retry_workflow, 204),
        ("POST", f"{workflow_path}/restart", model.restart_workflow, 204),
        ("POST", f"{workflow_path}/rerun", rerun),
        ("POST", f"{workflow_path}/resetcallbacks", model.reset_callbacks, 204),
        ("DELETE", f"{workflow_path}/remove", model.remove_workflow),
    ]
    waiting: Table = [("POST", f"{root}/execute/{{name}}/{{version}}", execute)]
    return waiting, calls
