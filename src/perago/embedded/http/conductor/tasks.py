"""Requests about attempts: polls, updates, logs."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.conductor.errors import InvalidRequest, not_found
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.conductor.results import RESULT_STATUSES
from perago.embedded.http.conductor import answers, bodies
from perago.embedded.http.conductor.call import Call
from perago.embedded.http.conductor.endpoints import Endpoints


class TaskRequests:
    """What is below `/tasks`, but for the queues."""

    def __init__(self, model: ConductorModel) -> None:
        self._model = model

    def routes(self, endpoints: Endpoints, root: str) -> list[Route]:
        """The routes below `root`; the more specific ones first."""
        step = f"{root}/{{workflow}}/{{reference}}/{{status}}"
        return [
            endpoints.route("GET", f"{root}/poll/batch/{{name}}", self.poll_batch, waits=True),
            endpoints.route("GET", f"{root}/poll/{{name}}", self.poll, waits=True),
            endpoints.route("POST", f"{root}/update-v2", self.update_v2, waits=True),
            endpoints.route("POST", root, self.update),
            endpoints.route("GET", f"{root}/{{task}}/log", self.logs),
            endpoints.route("POST", f"{root}/{{task}}/log", self.add_log),
            endpoints.route("GET", f"{root}/{{task}}", self.get),
            endpoints.route("POST", step, self.update_step),
            endpoints.route("POST", f"{step}/sync", self.update_step_and_see),
        ]

    def poll(self, call: Call) -> Response:
        """One attempt, or 204."""
        polled = self._model.poll_tasks(call.parts["name"], call.text("workerid"), domain=call.text("domain"))
        return answers.json_or_no_content(polled[0] if polled else None)

    def poll_batch(self, call: Call) -> Response:
        """A list of attempts, however empty."""
        polled = self._model.poll_tasks(
            call.parts["name"],
            call.text("workerid"),
            count=call.integer("count", 1),
            wait_seconds=call.integer("timeout", 100) / 1000,
            domain=call.text("domain"),
        )
        return answers.JsonAnswer(polled)

    def get(self, call: Call) -> Response:
        """One attempt."""
        return answers.JsonAnswer(self._model.get_task(call.parts["task"]))

    def update(self, call: Call) -> Response:
        """A result; the id that was sent comes back whether it counted or not."""
        return answers.text(self._model.update_task(call.bean(bodies.RESULT)))

    def update_v2(self, call: Call) -> Response:
        """A result, and a further attempt for the same worker."""
        result = call.bean(bodies.RESULT_V2)
        try:
            return answers.json_or_no_content(self._model.update_task_v2(result))
        except InvalidRequest as error:
            raise call.refused(_argument_refused(error, result)) from None

    def update_step(self, call: Call) -> Response:
        """The open attempt of a step gets a status; without one nothing happens."""
        status, worker_id = _status(call), call.text("workerid") or None
        output = call.mapping(bodies.OUTPUT)
        workflow, reference = call.parts["workflow"], call.parts["reference"]
        return answers.done(self._model.update_task_by_reference(workflow, reference, status, output, worker_id))

    def update_step_and_see(self, call: Call) -> Response:
        """The same; answers with the workflow, and with 404 if there was no open attempt."""
        status, worker_id = _status(call), call.text("workerid")
        output = call.mapping(bodies.OUTPUT_SYNC)
        workflow, reference = call.parts["workflow"], call.parts["reference"]
        if self._model.update_task_by_reference(workflow, reference, status, output, worker_id) is None:
            raise not_found(call.operation, f"Found no running task {reference} of workflow {workflow} to update")
        return answers.JsonAnswer(self._model.workflow(workflow))

    def add_log(self, call: Call) -> Response:
        """One entry; its text is the body as it is."""
        self._model.add_log(call.parts["task"], call.body_text(bodies.LOG))
        return answers.done()

    def logs(self, call: Call) -> Response:
        """All entries, or 204."""
        return answers.json_or_no_content(list(self._model.task_logs(call.parts["task"])) or None)


def _status(call: Call) -> str:
    status = call.parts["status"]
    if status not in RESULT_STATUSES:
        java = bodies.RESULT_STATUS
        variable = f"@org.springframework.web.bind.annotation.PathVariable {java}"
        raise call.refused(
            f"Method parameter 'status': Failed to convert value of type 'java.lang.String' to required type '{java}'; "
            f"Failed to convert from type [java.lang.String] to type [{variable}] for value [{status}]"
        )
    return status


def _argument_refused(error: InvalidRequest, result: Mapping[str, object]) -> str:
    """Spring's words for what the bean validation found before the method was called."""
    found = [_field_refused(problem, result) for problem in error.problems]
    count = f" with {len(found)} errors" if len(found) > 1 else ""
    return f"Validation failed for argument [0] in {bodies.RESULT_V2.signature}{count}: {''.join(found)}"


def _field_refused(problem: Mapping[str, str], result: Mapping[str, object]) -> str:
    field = problem["path"].rpartition(".")[2]
    value = "null" if result.get(field) is None else result[field]
    codes = f"NotEmpty.taskResult.{field},NotEmpty.{field},NotEmpty.java.lang.String,NotEmpty"
    resolvable = "org.springframework.context.support.DefaultMessageSourceResolvable"
    arguments = f"{resolvable}: codes [taskResult.{field},{field}]; arguments []; default message [{field}]"
    return (
        f"[Field error in object 'taskResult' on field '{field}': rejected value [{value}]; codes [{codes}]; "
        f"arguments [{arguments}]; default message [{problem['message']}]] "
    )
