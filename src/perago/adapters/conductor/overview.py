"""`ConductorOverview`: what an operator asks of a real Conductor. Everything here only reads."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from perago.adapters.conductor.errors import unreadable
from perago.adapters.conductor.session import Session, json_of
from perago.adapters.http import Answer, CallPolicy
from perago.adapters.http.server_clock import ServerAbout, seconds_ahead
from perago.ports import NotFound
from perago.settings import ConductorSettings

MOST_PENDING = 1000
"""Attempts of one type that are read. Conductor has no order in them."""
_POLICY = CallPolicy(connect=5.0, answer=20.0, tries=2, largest=64 * 1024 * 1024)


@dataclass(frozen=True, slots=True)
class LastPoll:
    """The last poll of a task type in a domain (empty: in none); `time` in milliseconds since the epoch."""

    task_name: str
    domain: str
    worker_id: str
    time: int


class ConductorOverview:
    """Safe to use from several threads; opens no connection before the first call. All calls raise a ServiceError if
    they do not succeed.

    Args:
        settings: where the server is.
        policy: time limits and repetitions.
    """

    def __init__(self, settings: ConductorSettings, *, policy: CallPolicy = _POLICY) -> None:
        self._session = Session(settings, policy)

    def about(self) -> ServerAbout:
        """The version and the clock."""
        sent = time.time()
        try:
            answer = self._get("read the version", "/version")
        except NotFound:
            return ServerAbout(None, None, time.time() - sent)
        received = time.time()
        version = answer.body[:100].decode(errors="replace").strip().strip('"') or None
        return ServerAbout(version, seconds_ahead(answer.headers, sent, received), received - sent)

    def queue_sizes(self) -> Mapping[str, int]:
        """How many attempts wait, by queue: a task type, or `domain:type`. Delayed ones count."""
        operation = "read the sizes of the queues"
        found = json_of(operation, self._session.read(operation, self._session.tasks.all), dict, "queues with sizes")
        return {str(name): size for name, size in found.items() if isinstance(size, int)}

    def last_polls(self) -> Sequence[LastPoll]:
        """Who polled last, for each task type and domain. Conductor remembers one poll of each."""
        operation = "read who polled"
        found = json_of(operation, self._session.read(operation, self._session.tasks.get_all_poll_data), list, "polls")
        try:
            return [
                LastPoll(
                    str(one["queueName"]),
                    str(one.get("domain") or ""),
                    str(one.get("workerId") or ""),
                    int(one["lastPollTime"]),
                )
                for one in found
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise unreadable(operation, "a list of polls", write=False) from error

    def task_definitions(self) -> Sequence[Mapping[str, Any]]:
        """All of them, as JSON."""
        operation = "read the task definitions"
        found = json_of(
            operation, self._session.read(operation, self._session.metadata.get_task_defs), list, "TaskDefs"
        )
        return [one for one in found if isinstance(one, dict) and isinstance(one.get("name"), str)]

    def task_names(self) -> frozenset[str]:
        """The registered task types."""
        return frozenset(one["name"] for one in self.task_definitions())

    def pending(self, task_name: str) -> Sequence[Mapping[str, Any]]:
        """The attempts of a type that have not ended, in all domains, at most `MOST_PENDING`, as JSON."""
        operation = f"read the pending tasks of {task_name}"
        query = [("start", 0), ("count", MOST_PENDING)]
        answer = self._get(operation, f"/admin/task/{quote(task_name, safe='')}", query)
        found: list[Mapping[str, Any]] = json_of(operation, answer, list, "a list of tasks")
        if not all(isinstance(row, dict) for row in found):
            raise unreadable(operation, "a list of tasks", write=False)
        return found

    def close(self) -> None:
        """Give back the connections."""
        self._session.close()

    def _get(self, operation: str, path: str, query: Sequence[tuple[str, int]] = ()) -> Answer:
        """A call that the SDK does not have."""
        return self._session.read(operation, self._session.transport.GET, path, query_params=query, headers={})
