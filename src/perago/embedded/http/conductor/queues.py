"""Requests about the task queues: sizes, last polls, requeueing."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from perago.embedded.conductor.coercion import without_nulls
from perago.embedded.conductor.model import ConductorModel
from perago.embedded.conductor.state import LastPoll
from perago.embedded.http.conductor import answers
from perago.embedded.http.conductor.call import Call
from perago.embedded.http.conductor.endpoints import Endpoints

_NO_TYPES = 'Cannot invoke "java.util.List.iterator()" because "taskDefNames" is null'


class QueueRequests:
    """Everything below `/tasks/queue`."""

    def __init__(self, model: ConductorModel) -> None:
        self._model = model

    def routes(self, endpoints: Endpoints, root: str) -> list[Route]:
        """The routes below `root`."""
        queue = f"{root}/queue"
        return [
            endpoints.route("GET", f"{queue}/size", self.size),
            endpoints.route("GET", f"{queue}/sizes", self.sizes),
            endpoints.route("GET", f"{queue}/all", self.all),
            endpoints.route("GET", f"{queue}/all/verbose", self.all_verbose),
            endpoints.route("GET", f"{queue}/polldata", self.poll_data),
            endpoints.route("GET", f"{queue}/polldata/all", self.all_poll_data),
            endpoints.route("POST", f"{queue}/requeue/{{name}}", self.requeue),
        ]

    def size(self, call: Call) -> Response:
        """The size of one queue, as a bare number."""
        return answers.JsonAnswer(self._model.queue_size(call.required_text("taskType"), domain=call.text("domain")))

    def sizes(self, call: Call) -> Response:
        """The sizes of the queues that were asked for."""
        names = call.texts("taskType")
        if names is None:
            raise call.refused(_NO_TYPES)
        return answers.JsonAnswer({name: self._model.queue_size(name) for name in names})

    def all(self, call: Call) -> Response:  # noqa: ARG002 - as all handlers
        """The sizes of all queues that have messages."""
        return answers.JsonAnswer(self._model.queue_sizes())

    def all_verbose(self, call: Call) -> Response:  # noqa: ARG002
        """The same by shard. Nothing is ever unacknowledged: what was polled has left the queue."""
        sizes = self._model.queue_sizes()
        return answers.JsonAnswer({name: {"a": {"size": size, "uacked": 0}} for name, size in sizes.items()})

    def poll_data(self, call: Call) -> Response:
        """Who polled last for a type."""
        return answers.JsonAnswer([_poll_json(poll) for poll in self._model.last_polls(call.required_text("taskType"))])

    def all_poll_data(self, call: Call) -> Response:  # noqa: ARG002
        """Who polled last for each type."""
        return answers.JsonAnswer([_poll_json(poll) for poll in self._model.last_polls()])

    def requeue(self, call: Call) -> Response:
        """Queue the open attempts of a type anew; how many there are."""
        return answers.text(str(self._model.requeue_pending(call.parts["name"])))


def _poll_json(poll: LastPoll) -> dict[str, Any]:
    return without_nulls(
        {
            "queueName": poll.task_name,
            "domain": poll.domain,
            "workerId": poll.worker_id,
            "lastPollTime": poll.time,
        }
    )
