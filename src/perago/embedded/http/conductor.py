"""Conductor's REST API on the model: enough for the official SDK, curl and perago's own adapter.

Statuses and the fields that clients read are those of the real server; messages are our own. A call that Conductor has
and this does not is answered with 501 and named; one that Conductor does not have either is a 404, as there.
"""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeAlias

from loguru import logger
from pydantic import Field, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from perago.embedded.conductor.model import ConductorModel, check_priority
from perago.embedded.conductor.state import LastPoll
from perago.embedded.conductor.updates import RESULT_STATUSES
from perago.embedded.conductor.wire import (
    SERVICE,
    VALIDATION_FAILED,
    Fields,
    InvalidRequest,
    Malformed,
    bad_request,
    malformed,
    not_found,
    not_modelled,
    validation_failed,
    without_nulls,
)
from perago.embedded.http import requests
from perago.embedded.http.requests import JsonAnswer, unserved_routes
from perago.ports import AccessDenied, NotFound, Refused, ServiceError

API = "/api"

VERSION = "3.32.3"
"""The version that is modelled."""

INSTANCE = "perago"
"""The name in error answers where the real server gives its host."""

POLLS_AT_ONCE = 64
"""Polls beyond these wait for one of them to end, at most five seconds."""
CALLS_AT_ONCE = 16

MAX_WORKFLOWS = 1000
WAIT_SECONDS = 10

_HEALTHY = {"healthResults": [], "suppressedHealthResults": [], "healthy": True}

_STATUS_OF_INJECTED = {AccessDenied: 401, NotFound: 404, Refused: 400}
"""Statuses of port errors that a fault script raises; the model's own errors carry theirs."""

_SHOWN = ("workflowId", "correlationId", "input", "output", "priority", "variables", "tasks", "createTime", "status")

_INTEGER, _FLAG = TypeAdapter(int), TypeAdapter(bool)


class Call(requests.Call):
    """A request. The methods raise `Malformed` (500) for what is missing or of the wrong type."""

    @property
    def operation(self) -> str:
        """The call as errors name it."""
        return f"{self.method} {self.path}"

    def text(self, name: str) -> str | None:
        """A text parameter."""
        return self.given.get(name)

    def required_text(self, name: str) -> str:
        """A text parameter that must be there, however empty."""
        value = self.text(name)
        if value is None:
            raise self.refused(f"the request parameter {name} is missing")
        return value

    def texts(self, name: str) -> list[str]:
        """A parameter that is given several times, or once with commas."""
        values = self.given.getlist(name)
        return values[0].split(",") if len(values) == 1 else values

    def integer(self, name: str, default: int) -> int:
        """A whole number; an empty one is not given."""
        value = self.optional_integer(name)
        return default if value is None else value

    def optional_integer(self, name: str) -> int | None:
        """A whole number of the path or the query, or None if it is empty or not given."""
        value = self.parts.get(name) or self.text(name)
        return self._converted(_INTEGER, name, value) if value else None

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean; an empty one is not given."""
        value = self.text(name)
        return self._converted(_FLAG, name, value) if value else default

    def _converted(self, kind: TypeAdapter[Any], name: str, value: str) -> Any:
        try:
            return kind.validate_python(value)
        except ValidationError as error:
            raise self.refused(f"parameter {name}: {error.errors()[0]['msg']}, not {value!r}") from None

    def mapping(self) -> dict[str, Any]:
        """The body as an object."""
        value = self._json()
        if not isinstance(value, dict):
            raise malformed(self.operation, f"the body must be an object, not {type(value).__name__}")
        return value

    def items(self) -> list[Any]:
        """The body as a list."""
        value = self._json()
        if not isinstance(value, list):
            raise malformed(self.operation, f"the body must be a list, not {type(value).__name__}")
        return value

    def body(self) -> bytes:
        """The body, which must not be empty."""
        if not self.raw:
            raise self.refused("Required request body is missing")
        return self.raw

    def _json(self) -> Any:
        body = self.body()
        kind = self.headers.get("content-type", "")
        if "json" not in kind.partition(";")[0].lower():
            raise self.refused(f"Content-Type {kind!r} is not supported; use application/json")
        try:
            return json.loads(body, parse_float=_number)
        except (ValueError, RecursionError) as error:
            raise malformed(self.operation, str(error) or type(error).__name__) from None

    def refused(self, words: str) -> Malformed:
        """A 500 with just these words."""
        return Malformed(SERVICE, self.operation, words)


Handler: TypeAlias = Callable[[Call], Response]
Table: TypeAlias = list[tuple[str, str, Handler]]
"""Methods, paths and handlers; the more specific paths come first."""


def _number(digits: str) -> float | str:
    """A number beyond all is stored as a text (`docs/dev/servers/conductor.md` 2 "Payload fidelity")."""
    number = float(digits)
    return number if math.isfinite(number) else str(number).replace("inf", "Infinity")


def conductor_app(model: ConductorModel) -> ASGIApp:
    """An ASGI application that serves `model` below `/api`, and its health at `/health`.

    Calls run in threads of their own. Those that can wait for seconds have other threads, so that they hold up no call.
    """
    waiting = ThreadPoolExecutor(POLLS_AT_ONCE, thread_name_prefix="perago-conductor-poll")
    quick = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="perago-conductor")

    def routes(table: Table, threads: ThreadPoolExecutor = quick) -> list[Route]:
        return [Route(path, partial(_served, handler, threads), methods=[method]) for method, path, handler in table]

    def pending(call: Call) -> Response:
        """The attempts of a type that have not ended."""
        start, count = call.integer("start", 0), call.integer("count", 100)
        return JsonAnswer(model.pending_tasks(call.parts["name"], start=start, count=count))

    polls, tasks = _task_calls(model, f"{API}/tasks")
    waits, workflows = _workflow_calls(model, f"{API}/workflow")
    app = Starlette(
        routes=[
            Route("/health", _health, methods=["GET"]),
            Route(f"{API}/health", _health, methods=["GET"]),
            *routes(
                [("GET", f"{API}/version", lambda _: _text(VERSION)), ("GET", f"{API}/admin/task/{{name}}", pending)]
            ),
            *unserved_routes("conductor", API, _unserved),
            *routes(_definition_calls(model, f"{API}/metadata")),
            *routes([*polls, *waits], waiting),
            *routes([*tasks, *workflows]),
        ],
        exception_handlers={404: _no_such_path, 405: _wrong_method},
    )
    app.router.redirect_slashes = False
    return app


async def _served(handler: Handler, threads: ThreadPoolExecutor, request: Request) -> Response:
    call = Call(request, await request.body())
    return await asyncio.get_running_loop().run_in_executor(threads, _answer, handler, call)


def _answer(handler: Handler, call: Call) -> Response:
    try:
        return handler(call)
    except ServiceError as problem:
        return _refusal(problem)
    except NotImplementedError as problem:
        return _error(501, f"{call.operation}: {problem}")
    except Exception as problem:  # noqa: BLE001 - as the real server: a 500, and the next call is served
        logger.opt(exception=problem).warning("{} failed", call.operation)
        return _error(500, f"{type(problem).__name__}: {problem}")


def _refusal(problem: ServiceError) -> Response:
    """The answer for an error of the model, or of its fault script."""
    if isinstance(problem, InvalidRequest) and problem.problems:
        problems = list(problem.problems)
        body = {"status": 400, "message": VALIDATION_FAILED, "retryable": False, "validationErrors": problems}
        return JsonAnswer(body, 400)
    injected = next((code for kind, code in _STATUS_OF_INJECTED.items() if isinstance(problem, kind)), 503)
    return _error(getattr(problem, "status", injected), problem.detail)


def _error(status: int, message: str) -> Response:
    """The body of every error but those of a validation."""
    return JsonAnswer({"status": status, "message": message, "instance": INSTANCE, "retryable": False}, status)


async def _health(request: Request) -> Response:  # noqa: ARG001 - the endpoint's signature
    return JsonAnswer(_HEALTHY)


def _unserved(request: Request, name: str) -> Response:  # noqa: ARG001 - the signature
    return _error(501, f"{name} is not modelled; use a real Conductor")


async def _no_such_path(request: Request, problem: Exception) -> Response:  # noqa: ARG001 - the handler's signature
    return _error(404, f"No static resource {request.url.path.strip('/')}.")


async def _wrong_method(request: Request, problem: Exception) -> Response:  # noqa: ARG001 - the handler's signature
    if request.method == "OPTIONS":
        found = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
        methods = {"OPTIONS"}.union(*(route.methods for route in found))
        return Response(headers={"allow": ",".join(sorted(methods))})
    return _error(405, f"Request method '{request.method}' is not supported")


# ------------------------------------------------------------------------------ answers


def _text(content: str) -> Response:
    """A text such as an id, whatever the client accepts."""
    return Response(content, headers={"content-type": "text/plain;charset=UTF-8"})


def _after(act: Callable[..., None], *arguments: Any, status: int = 200, **options: Any) -> Response:
    """Success without a body, once `act` has been called."""
    act(*arguments, **options)
    return Response(status_code=status)


def _json_or_no_content(content: Any) -> Response:
    """The content as JSON; 204 for None."""
    return Response(status_code=204) if content is None else JsonAnswer(content)


def _search(call: Call, where: str) -> dict[str, Any]:
    """The arguments of a search. What `freeText` asks for beside `query` is not modelled."""
    if call.text("freeText") not in (None, "*"):
        raise not_modelled(where, "freeText")
    texts = {name: call.text(name) or "" for name in ("query", "sort")}
    return {**texts, "start": call.integer("start", 0), "size": call.integer("size", 100)}


# -------------------------------------------------------------------------- definitions


def _definition_calls(model: ConductorModel, root: str) -> Table:
    """Calls about task and workflow definitions."""
    tasks, workflows = f"{root}/taskdefs", f"{root}/workflow"
    one = f"{workflows}/{{name}}"

    def task_definition(call: Call) -> Response:
        found = model.get_task_definition(call.parts["name"])
        if found is None:
            raise not_found(call.operation, f"No such taskType found by name: {call.parts['name']}")
        return JsonAnswer(found)

    def create_workflow(call: Call) -> Response:
        overwrite = call.flag("overwrite", default=False)
        return _after(model.create_workflow_definition, call.mapping(), overwrite=overwrite)

    def versions(call: Call) -> Response:
        """Name and version of each, the lowest first; none of an unknown name."""
        found = model.workflow_definitions(call.parts["name"])
        fields = ("name", "version", "createTime", "updateTime")
        return JsonAnswer([{field: each[field] for field in fields if each.get(field)} for each in found])

    def delete_workflow(call: Call) -> Response:
        version = call.optional_integer("version") or 0
        return _after(model.delete_workflow_definition, call.parts["name"], version)

    return [
        ("GET", tasks, lambda _: JsonAnswer(model.task_definitions())),
        ("POST", tasks, lambda call: _after(model.register_task_definitions, call.items())),
        ("PUT", tasks, lambda call: _after(model.update_task_definition, call.mapping())),
        ("GET", f"{tasks}/{{name}}", task_definition),
        ("DELETE", f"{tasks}/{{name}}", lambda call: _after(model.delete_task_definition, call.parts["name"])),
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


# -------------------------------------------------------------------------------- tasks


def _task_calls(model: ConductorModel, root: str) -> tuple[Table, Table]:
    """Calls about attempts and their queues: those that can wait for seconds, and the others."""

    def poll(call: Call) -> Response:
        """One attempt, or 204."""
        polled = model.poll_tasks(call.parts["name"], call.text("workerid"), domain=call.text("domain"))
        return _json_or_no_content(polled[0] if polled else None)

    def poll_batch(call: Call) -> Response:
        """A list of attempts, however empty."""
        count, wait_seconds = call.integer("count", 1), call.integer("timeout", 100) / 1000
        name, worker, domain = call.parts["name"], call.text("workerid"), call.text("domain")
        return JsonAnswer(model.poll_tasks(name, worker, count=count, wait_seconds=wait_seconds, domain=domain))

    def update_v2(call: Call) -> Response:
        """A result, and a further attempt for the same worker."""
        try:
            return _json_or_no_content(model.update_task_v2(call.mapping()))
        except InvalidRequest as error:  # which is a 500 in this call
            raise call.refused(error.detail) from None

    def updated(call: Call) -> str | None:
        """The id of the open attempt of a step, which got a status; None without one."""
        workflow_id, reference, status = (call.parts[name] for name in ("workflow", "reference", "status"))
        if status not in RESULT_STATUSES:
            raise call.refused(f"status {status!r} is not one of {', '.join(RESULT_STATUSES)}")
        worker_id = call.text("workerid") or None
        return model.update_task_by_reference(workflow_id, reference, status, call.mapping(), worker_id)

    def update_step(call: Call) -> Response:
        """Without an open attempt nothing happens."""
        task_id = updated(call)
        return Response() if task_id is None else _text(task_id)

    def update_step_and_see(call: Call) -> Response:
        """The same; answers with the workflow, and with 404 if there was no open attempt."""
        if updated(call) is None:
            raise not_found(call.operation, f"Found no running task {call.parts['reference']} to update")
        return JsonAnswer(model.workflow(call.parts["workflow"]))

    def queue_size(call: Call) -> Response:
        return JsonAnswer(model.queue_size(call.required_text("taskType"), domain=call.text("domain")))

    def queue_sizes(call: Call) -> Response:
        """The sizes of the queues that were asked for."""
        call.required_text("taskType")
        return JsonAnswer({name: model.queue_size(name) for name in call.texts("taskType")})

    def queues_by_shard(_: Call) -> Response:
        """All sizes. No attempt is ever unacknowledged: what was polled has left the queue."""
        return JsonAnswer({name: {"a": {"size": size, "uacked": 0}} for name, size in model.queue_sizes().items()})

    def last_polls(call: Call) -> Response:
        return JsonAnswer([_poll(poll) for poll in model.last_polls(call.required_text("taskType"))])

    def requeue(call: Call) -> Response:
        """Return the number of attempts that were queued again, as a text."""
        return _text(str(model.requeue_pending(call.parts["name"])))

    def add_log(call: Call) -> Response:
        return _after(model.add_log, call.parts["task"], call.body().decode("utf-8", "replace"))

    def logs(call: Call) -> Response:
        """All entries, or 204."""
        return _json_or_no_content(list(model.task_logs(call.parts["task"])) or None)

    def found(call: Call) -> Response:
        """A page of attempts that have ended. What `freeText` asks for beside `query` is not looked for."""
        return JsonAnswer(model.search_tasks(**_search(call, "search for tasks")))

    one, step = f"{root}/{{task}}", f"{root}/{{workflow}}/{{reference}}/{{status}}"
    polls: Table = [
        ("GET", f"{root}/poll/batch/{{name}}", poll_batch),
        ("GET", f"{root}/poll/{{name}}", poll),
        ("POST", f"{root}/update-v2", update_v2),
    ]
    calls: Table = [
        ("GET", f"{root}/queue/size", queue_size),
        ("GET", f"{root}/queue/sizes", queue_sizes),
        ("GET", f"{root}/queue/all", lambda _: JsonAnswer(model.queue_sizes())),
        ("GET", f"{root}/queue/all/verbose", queues_by_shard),
        ("GET", f"{root}/queue/polldata", last_polls),
        ("GET", f"{root}/queue/polldata/all", lambda _: JsonAnswer([_poll(poll) for poll in model.last_polls()])),
        ("POST", f"{root}/queue/requeue/{{name}}", requeue),
        ("POST", root, lambda call: _text(model.update_task(call.mapping()))),
        ("GET", f"{root}/search", found),
        ("GET", f"{one}/log", logs),
        ("POST", f"{one}/log", add_log),
        ("GET", one, lambda call: JsonAnswer(model.get_task(call.parts["task"]))),
        ("POST", step, update_step),
        ("POST", f"{step}/sync", update_step_and_see),
    ]
    return polls, calls


def _poll(poll: LastPoll) -> dict[str, Any]:
    fields = {"queueName": poll.task_name, "domain": poll.domain, "workerId": poll.worker_id, "lastPollTime": poll.time}
    return without_nulls(fields)


# ---------------------------------------------------------------------------- workflows


class StartRequest(Fields):
    """The request that starts a workflow; an idempotency key is taken and passed over, as by the real server."""

    name: str | None = None
    payload: dict[str, Any] | None = Field(None, alias="input")
    version: int | None = None
    correlation_id: str | None = None
    priority: int = 0
    definition: dict[str, Any] | None = Field(None, alias="workflowDef")
    task_to_domain: dict[str, str] | None = None
    external_input_payload_storage_path: str | None = None

    def start(self, model: ConductorModel, call: Call) -> str:
        """Start it; the id of the workflow."""
        if self.name is None:
            problem = {"path": "startWorkflow.arg0.name", "message": "Workflow name cannot be null or empty"}
            raise validation_failed(call.operation, [problem])
        if self.external_input_payload_storage_path:
            raise NotImplementedError("InMemoryConductor: externalInputPayloadStoragePath is not modelled")
        return model.start_workflow(**self.model_dump(exclude={"external_input_payload_storage_path"}))


class RerunRequest(Fields):
    """The step that a workflow is run again from, and its inputs."""

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


def _workflow_calls(model: ConductorModel, root: str) -> tuple[Table, Table]:
    """Calls about workflows: those that can wait for seconds, and the others."""

    def start_by_name(call: Call) -> Response:
        """Start with the body as the input; the id of the workflow."""
        priority, correlation_id = call.integer("priority", 0), call.text("correlationId")
        check_priority(priority)
        found = model.get_workflow_definition(call.parts["workflow"], call.optional_integer("version"))
        options: dict[str, Any] = {"version": found["version"], "correlation_id": correlation_id, "priority": priority}
        return _text(model.start_workflow(found["name"], call.mapping(), **options))

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
        fields += ["output"] if call.flag("includeOutput") else []
        fields += ["variables"] if call.flag("includeVariables") else []
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
        return JsonAnswer(model.search_workflows(**_search(call, "search for workflows")))

    def running(call: Call) -> Response:
        """The ids of unfinished workflows of a name."""
        if call.text("startTime") and call.text("endTime"):
            raise NotImplementedError("getRunningWorkflow between two times is not modelled")
        return JsonAnswer(model.running_workflow_ids(call.parts["name"]))

    def correlated(call: Call, correlation_id: str) -> list[dict[str, Any]]:
        closed, tasks = call.flag("includeClosed"), call.flag("includeTasks")
        name = call.parts["name"]
        return model.correlated_workflows(name, correlation_id, include_closed=closed, include_tasks=tasks)

    def correlated_with_each(call: Call) -> Response:
        """The workflows of several correlation ids, each with its own."""
        return JsonAnswer({str(each): correlated(call, str(each)) for each in call.items()})

    def remove(call: Call) -> Response:
        archive = call.flag("archiveWorkflow", default=True)
        return _after(model.remove_workflow, call.parts["workflow"], archive=archive)

    def rerun(call: Call) -> Response:
        """Go back to an attempt; the id of the workflow."""
        workflow_id, read = call.parts["workflow"], RerunRequest.read(call.operation, call.mapping())
        inputs = {"task_input": read.task_input, "workflow_input": read.workflow_input}
        model.rerun_workflow(workflow_id, read.re_run_from_task_id, **inputs)
        return _text(workflow_id)

    def on(act: Callable[..., None], *parameters: str, status: int = 200, **flags: str) -> Handler:
        """Does one thing to the workflow of the path.

        Args:
            act: gets the id of the workflow.
            parameters: names of further arguments in the path or the query.
            status: of an answer, which has no body.
            flags: options of `act`, with the names of the parameters that give them.
        """

        def handler(call: Call) -> Response:
            given = [call.parts.get(name, call.text(name)) for name in parameters]
            options = {option: call.flag(name) for option, name in flags.items()}
            return _after(act, call.parts["workflow"], *given, status=status, **options)

        return handler

    def restart_each(call: Call) -> Response:
        latest = call.flag("useLatestDefinitions")
        return _each(call, partial(model.restart_workflow, use_latest_definitions=latest))

    def terminate_each(call: Call) -> Response:
        return _each(call, partial(model.terminate_workflow, reason=call.text("reason")))

    one, bulk = f"{root}/{{workflow}}", f"{root}/bulk"
    calls: Table = [
        ("PUT", f"{bulk}/pause", lambda call: _each(call, model.pause_workflow)),
        ("PUT", f"{bulk}/resume", lambda call: _each(call, model.resume_workflow)),
        ("POST", f"{bulk}/restart", restart_each),
        ("POST", f"{bulk}/retry", lambda call: _each(call, model.retry_workflow)),
        ("POST", f"{bulk}/terminate", terminate_each),
        ("POST", root, lambda call: _text(_start_request(call).start(model, call))),
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
        ("POST", f"{one}/retry", on(model.retry_workflow, status=204, resume_sub_workflows="resumeSubworkflowTasks")),
        (
            "POST",
            f"{one}/restart",
            on(model.restart_workflow, status=204, use_latest_definitions="useLatestDefinitions"),
        ),
        ("POST", f"{one}/rerun", rerun),
        ("POST", f"{one}/resetcallbacks", on(model.reset_callbacks, status=204)),
        ("DELETE", f"{one}/remove", remove),
    ]
    waiting: Table = [("POST", f"{root}/execute/{{name}}/{{version}}", execute)]
    return waiting, calls
