"""Requests about attempts and their queues: polls, updates, logs, sizes. What is below `/tasks`."""

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


def task_routes(model: ConductorModel, endpoints: Endpoints, root: str) -> list[Route]:
    """The routes below `root`; the more specific ones first."""

    def poll(call: Call) -> Response:
        """One attempt, or 204."""
        polled = model.poll_tasks(call.parts["name"], call.text("workerid"), domain=call.text("domain"))
        return answers.json_or_no_content(polled[0] if polled else None)

    def poll_batch(call: Call) -> Response:
        """A list of attempts, however empty."""
        count, wait_seconds = call.integer("count", 1), call.integer("timeout", 100) / 1000
        name, worker, domain = call.parts["name"], call.text("workerid"), call.text("domain")
        return JsonAnswer(model.poll_tasks(name, worker, count=count, wait_seconds=wait_seconds, domain=domain))

    def update_v2(call: Call) -> Response:
        """A result, and a further attempt for the same worker."""
        try:
            return answers.json_or_no_content(model.update_task_v2(call.mapping()))
        except InvalidRequest as error:  # which is a 500 in this call
            raise call.refused(error.detail) from None

    def updated(call: Call) -> str | None:
        """The id of the open attempt of a step, which got a status; None if there is none."""
        workflow_id, reference, status = (call.parts[name] for name in ("workflow", "reference", "status"))
        if status not in RESULT_STATUSES:
            raise call.refused(f"status {status!r} is none of {', '.join(RESULT_STATUSES)}")
        worker_id = call.text("workerid") or None
        return model.update_task_by_reference(workflow_id, reference, status, call.mapping(), worker_id)

    def update_step(call: Call) -> Response:
        """Without an open attempt nothing happens."""
        task_id = updated(call)
        return answers.done() if task_id is None else answers.text(task_id)

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
        """How many attempts were queued anew, as a text."""
        return answers.text(str(model.requeue_pending(call.parts["name"])))

    def logs(call: Call) -> Response:
        """All entries, or 204."""
        return answers.json_or_no_content(list(model.task_logs(call.parts["task"])) or None)

    def found(call: Call) -> Response:
        """A page of attempts that have ended. What `freeText` asks for beside `query` is not looked for."""
        return JsonAnswer(model.search_tasks(**answers.search_of(call, "search for tasks")))

    one, step = f"{root}/{{task}}", f"{root}/{{workflow}}/{{reference}}/{{status}}"
    polls = [
        ("GET", f"{root}/poll/batch/{{name}}", poll_batch),
        ("GET", f"{root}/poll/{{name}}", poll),
        ("POST", f"{root}/update-v2", update_v2),
    ]
    calls = [
        ("GET", f"{root}/queue/size", queue_size),
        ("GET", f"{root}/queue/sizes", queue_sizes),
        ("GET", f"{root}/queue/all", lambda _: JsonAnswer(model.queue_sizes())),
        ("GET", f"{root}/queue/all/verbose", queues_by_shard),
        ("GET", f"{root}/queue/polldata", last_polls),
        ("GET", f"{root}/queue/polldata/all", lambda _: JsonAnswer([_poll(poll) for poll in model.last_polls()])),
        ("POST", f"{root}/queue/requeue/{{name}}", requeue),
        ("POST", root, lambda call: answers.text(model.update_task(call.mapping()))),
        ("GET", f"{root}/search", found),
        ("GET", f"{one}/log", logs),
        ("POST", f"{one}/log", lambda call: answers.after(model.add_log, call.parts["task"], call.body_text())),
        ("GET", one, lambda call: JsonAnswer(model.get_task(call.parts["task"]))),
        ("POST", step, update_step),
        ("POST", f"{step}/sync", update_step_and_see),
    ]
    return [*endpoints.routes(polls, wait=True), *endpoints.routes(calls)]


def _poll(poll: LastPoll) -> dict[str, Any]:
    fields = {"queueName": poll.task_name, "domain": poll.domain, "workerId": poll.worker_id, "lastPollTime": poll.time}
    return without_nulls(fields)
