"""`ConductorOverview`: what an operator asks of a real Conductor. Everything here only reads."""

from __future__ import annotations

import math
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

MOST_PENDING = 10_000
"""Attempts of one type that are read. Conductor has no order in them."""
_PAGE = 1000
_LATEST = 2**53
"""No time in milliseconds, and no length of time, is as large."""
_POLICY = CallPolicy(connect=5.0, answer=20.0, tries=2, largest=64 * 1024 * 1024)


@dataclass(frozen=True, slots=True)
class LastPoll:
    """The last poll of a task type in a domain (empty: in none); `time` in milliseconds since the epoch."""

    task_name: str
    domain: str
    worker_id: str
    time: int


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt that has not ended. Times are in milliseconds since the epoch, `response_timeout` is in seconds; what
    Conductor does not tell is empty or 0."""

    task_id: str
    workflow_id: str
    status: str
    domain: str
    worker_id: str
    scheduled: int
    updated: int
    response_timeout: int


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
                    _whole(one["lastPollTime"]),
                )
                for one in found
            ]
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise unreadable(operation, "a list of polls", write=False) from error

    def task_definitions(self) -> Sequence[Mapping[str, Any]]:
        """All of them, as JSON."""
        operation = "read the task definitions"
        found = json_of(
            operation, self._session.read(operation, self._session.metadata.get_task_defs), list, "TaskDefs"
        )
        return [one for one in found if isinstance(one, dict) and isinstance(one.get("name"), str)]

    def workflow_definitions(self) -> Sequence[Mapping[str, Any]]:
        """Return the newest version of every workflow definition, as JSON."""
        operation = "read the workflow definitions"
        answer = self._session.read(operation, self._session.metadata.get_all_workflows)
        newest: dict[str, Mapping[str, Any]] = {}
        for one in json_of(operation, answer, list, "workflow definitions"):
            if not isinstance(one, dict) or not isinstance(name := one.get("name"), str):
                raise unreadable(operation, "workflow definitions", write=False)
            if name not in newest or _version(one) >= _version(newest[name]):
                newest[name] = one
        return list(newest.values())

    def task_names(self) -> frozenset[str]:
        """The registered task types."""
        return frozenset(one["name"] for one in self.task_definitions())

    def pending(self, task_name: str, start: int = 0) -> Sequence[Mapping[str, Any]]:
        """The attempts of a type that have not ended, in all domains, 1,000 at most from the place `start` on, as
        JSON."""
        operation = f"read the pending tasks of {task_name}"
        query = [("start", start), ("count", _PAGE)]
        answer = self._get(operation, f"/admin/task/{quote(task_name, safe='')}", query)
        found: list[Mapping[str, Any]] = json_of(operation, answer, list, "a list of tasks")
        if not all(isinstance(row, dict) for row in found):
            raise unreadable(operation, "a list of tasks", write=False)
        return found

    def open_attempts(self, task_name: str, until: float = math.inf) -> tuple[Sequence[OpenAttempt], bool]:
        """The attempts of a type that have not ended, in all domains, and whether these are all: `MOST_PENDING` are
        read, and the reading ends after the moment `until` of the monotonic clock. Attempts that begin or end meanwhile
        may be missing."""
        found: dict[str, OpenAttempt] = {}
        for start in range(0, MOST_PENDING, _PAGE):
            page = self.pending(task_name, start)
            try:
                found.update((one.task_id, one) for one in map(_open_attempt, page))
            except (TypeError, ValueError, OverflowError) as error:
                raise unreadable(f"read the pending tasks of {task_name}", "a list of tasks", write=False) from error
            if len(page) < _PAGE:
                return tuple(found.values()), True
            if time.monotonic() > until:
                break
        return tuple(found.values()), False

    def close(self) -> None:
        """Give back the connections."""
        self._session.close()

    def _get(self, operation: str, path: str, query: Sequence[tuple[str, int]] = ()) -> Answer:
        """A call that the SDK does not have."""
        return self._session.read(operation, self._session.transport.GET, path, query_params=query, headers={})


def _open_attempt(row: Mapping[str, Any]) -> OpenAttempt:
    return OpenAttempt(
        task_id=str(row.get("taskId") or ""),
        workflow_id=str(row.get("workflowInstanceId") or ""),
        status=str(row.get("status") or ""),
        domain=str(row.get("domain") or ""),
        worker_id=str(row.get("workerId") or ""),
        scheduled=_whole(row.get("scheduledTime")),
        updated=_whole(row.get("updateTime")),
        response_timeout=_whole(row.get("responseTimeoutSeconds")),
    )


def _version(definition: Mapping[str, Any]) -> int:
    version = definition.get("version")
    return version if isinstance(version, int) else 0


def _whole(value: Any) -> int:
    """A time or a length of time as Conductor tells it, 0 where it tells none.

    Raises:
        TypeError, ValueError, OverflowError: it is something else.
    """
    number = int(value or 0)
    if not 0 <= number < _LATEST:
        raise ValueError(f"{number} is out of range")
    return number
