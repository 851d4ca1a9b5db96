"""Requests about attempts and their queues: polls, updates, logs, sizes."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.conductor.errors import InvalidRequest, not_found
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.conductor.payloads import without_nulls
from perago.embedded.conductor.state import LastPoll
from perago.embedded.conductor.updates import RESULT_STATUSES
from perago.embedded.http.conductor import requests as answers
from perago.embedded.http.conductor.requests import Call, Endpoints, JsonAnswer


class TaskRequests:
    """What is below `/tasks`."""

    def __init__(self, model: ConductorModel) -> None:
        self._model = model

    def routes(self, endpoints: Endpoints, root: str) -> list[Route]:
        """The routes below `root`; the more specific ones first."""
        model, queue = self._model, f"{root}/queue"
        step = f"{root}/{{workflow}}/{{reference}}/{{status}}"
        polls = [
            ("GET", f"{root}/poll/batch/{{name}}", self.poll_batch),
            ("GET", f"{root}/poll/{{name}}", self.poll),
            ("POST", f"{root}/update-v2", self.update_v2),
        ]
        calls = [
            ("GET", f"{queue}/size", self.queue_size),
            ("GET", f"{queue}/sizes", self.queue_sizes),
            ("GET", f"{queue}/all", lambda _: JsonAnswer(model.queue_sizes())),
            ("GET", f"{queue}/polldata", lambda call: _polls(model.last_polls(call.required_text("taskType")))),
            ("POST", root, lambda call: answers.text(model.update_task(call.mapping()))),
            ("GET", f"{root}/{{task}}/log", self.logs),
            ("POST", f"{root}/{{task}}/log", self.add_log),
            ("GET", f"{root}/{{task}}", lambda call: JsonAnswer(model.get_task(call.parts["task"]))),
            ("POST", step, self.update_step),
            ("POST", f"{step}/sync", self.update_step_and_see),
        ]
        return [
            *(endpoints.route(*route, waits=True) for route in polls),
            *(endpoints.route(*route) for route in calls),
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
        return JsonAnswer(polled)

    def update_v2(self, call: Call) -> Response:
        """A result, and a further attempt for the same worker."""
        try:
            return answers.json_or_no_content(self._model.update_task_v2(call.mapping()))
        except InvalidRequest as error:  # which is a 500 in this call
            raise call.refused(error.detail) from None

    def update_step(self, call: Call) -> Response:
        """The open attempt of a step gets a status; without one nothing happens."""
        task_id = self._updated(call)
        return answers.done() if task_id is None else answers.text(task_id)

    def update_step_and_see(self, call: Call) -> Response:
        """The same; answers with the workflow, and with 404 if there was no open attempt."""
        if self._updated(call) is None:
            raise not_found(call.operation, f"Found no running task {call.parts['reference']} to update")
        return JsonAnswer(self._model.workflow(call.parts["workflow"]))

    def _updated(self, call: Call) -> str | None:
        parts = call.parts
        if parts["status"] not in RESULT_STATUSES:
            raise call.refused(f"status {parts['status']!r} is none of {', '.join(RESULT_STATUSES)}")
        worker_id = call.text("workerid") or None
        return self._model.update_task_by_reference(
            parts["workflow"], parts["reference"], parts["status"], call.mapping(), worker_id
        )

    def add_log(self, call: Call) -> Response:
        """One entry; its text is the body as it is."""
        return answers.after(self._model.add_log, call.parts["task"], call.body_text())

    def logs(self, call: Call) -> Response:
        """All entries, or 204."""
        return answers.json_or_no_content(list(self._model.task_logs(call.parts["task"])) or None)

    def queue_size(self, call: Call) -> Response:
        """The size of one queue, as a bare number."""
        return JsonAnswer(self._model.queue_size(call.required_text("taskType"), domain=call.text("domain")))

    def queue_sizes(self, call: Call) -> Response:
        """The sizes of the queues that were asked for."""
        call.required_text("taskType")
        return JsonAnswer({name: self._model.queue_size(name) for name in call.texts("taskType")})


def _polls(polls: tuple[LastPoll, ...]) -> Response:
    return JsonAnswer([_poll(poll) for poll in polls])


def _poll(poll: LastPoll) -> dict[str, Any]:
    fields = {"queueName": poll.task_name, "domain": poll.domain, "workerId": poll.worker_id, "lastPollTime": poll.time}
    return without_nulls(fields)
