"""Workflows, queues and definitions of a real Conductor server, as operators and scripts read and start them."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from perago.adapters.conductor import queue
from perago.adapters.conductor.session import SERVICE, ConductorClient, Query, json_of
from perago.adapters.http import CallPolicy, ServerAbout
from perago.adapters.http_answers import reading, typed, unreadable
from perago.ports import ENDED_WORKFLOWS, OPEN_WORKFLOWS, NotFound, Refused

MOST_PENDING = 10_000
"""Number of attempts of one type that are read. Conductor returns them in no order."""
_DEFINITIONS = ("metadata", "workflow")
_SCHEDULES = ("scheduler", "schedules")
_PAGE = 1000
_LATEST = 2**53
"""An upper bound of all times and durations in milliseconds."""


STATUSES = (*OPEN_WORKFLOWS, *ENDED_WORKFLOWS)
"""The statuses of a workflow."""
_SEARCHABLE = re.compile(r"""[^'"(),\\\x00-\x1f]{1,200}""")
"""Texts that can be a value of a query. Conductor has no escapes: a quote ends the value, a comma is an error."""
_OPERATOR = re.compile(r"\s(?:AND|OR)\s", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class WorkflowSummary:
    """One workflow in a list. Times are milliseconds since the epoch, 0 for not yet."""

    workflow_id: str
    name: str
    version: int
    status: str
    correlation_id: str
    start_time: int
    end_time: int
    reason: str
    failed_references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkflowQuery:
    """The workflows that a search is for. None of its fields is required.

    `name` and `correlation_id` can contain `*` for any characters. Times are milliseconds since the epoch; `since` is
    part of the period, `until` is not.
    """

    status: str | None = None
    name: str | None = None
    correlation_id: str | None = None
    workflow_id: str | None = None
    since: int | None = None
    until: int | None = None

    def text(self) -> str:
        """Return the query in Conductor's language; empty for all workflows.

        Raises:
            Refused: a value cannot be searched for.
        """
        conditions = {
            "status": self.status,
            "workflowType": self.name,
            "correlationId": self.correlation_id,
            "workflowId": self.workflow_id,
        }
        selected = {field: value for field, value in conditions.items() if value is not None}
        if not all(_SEARCHABLE.fullmatch(value) and not _OPERATOR.search(value) for value in selected.values()):
            limits = "quotes, commas, parentheses, backslashes, AND or OR in a value, or 201 characters"
            raise Refused(SERVICE, "search for this text", f"its language has no {limits}")
        terms = [f"{field}='{value}'" for field, value in selected.items()]
        terms += [] if self.since is None else [f"startTime>{self.since - 1}"]
        terms += [] if self.until is None else [f"startTime<{self.until}"]
        return " AND ".join(terms)


@dataclass(frozen=True, slots=True)
class LastPoll:
    """The last poll of a task type in a domain (empty: in none); `time` in milliseconds since the epoch."""

    task_name: str
    domain: str
    worker_id: str
    time: int


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt that has not ended. Times are in milliseconds since the epoch, `response_timeout` is in seconds.
    Unknown values are empty or 0."""

    task_id: str
    workflow_id: str
    task_name: str
    reference_name: str
    status: str
    domain: str
    worker_id: str
    scheduled: int
    started: int
    updated: int
    response_timeout: int


class ConductorOverview(ConductorClient):
    """Reads the queues, the polls and the definitions. Safe to use from several threads; opens no connection before the
    first call. All calls raise a ServiceError if they do not succeed.

    Args:
        settings: where the server is.
        policy: time limits and retries.
    """

    policy: ClassVar[CallPolicy] = CallPolicy(connect=5.0, answer=20.0, tries=2, largest=64 * 1024 * 1024)

    def about(self) -> ServerAbout:
        """Return the version and the clock of the server."""
        sent = time.time()
        try:
            answer = self.read("read the version", "GET", "version")
        except NotFound:
            return ServerAbout(None, None, time.time() - sent)
        return ServerAbout.of(answer, answer.body[:100].decode(errors="replace").strip().strip('"'), sent)

    def queue_sizes(self) -> Mapping[str, int]:
        """Return the number of waiting attempts, by queue: a task type, or `domain:type`. Delayed attempts count,
        too."""
        sizes = self.get_json("read the sizes of the queues", dict, "a size for each queue", "tasks", "queue", "all")
        return {str(name): size for name, size in sizes.items() if isinstance(size, int)}

    def last_polls(self) -> Sequence[LastPoll]:
        """Return the last poll for each task type and domain. Conductor remembers one poll of each."""
        operation = "read who polled"
        polls = self.get_json(operation, list, "a list of polls", "tasks", "queue", "polldata", "all")
        with reading(SERVICE, operation, "a list of polls"):
            return [
                LastPoll(
                    str(poll["queueName"]),
                    str(poll.get("domain") or ""),
                    str(poll.get("workerId") or ""),
                    _whole(poll["lastPollTime"]),
                )
                for poll in polls
            ]

    def task_definitions(self) -> Sequence[Mapping[str, Any]]:
        """Return all TaskDefs, as JSON."""
        definitions = self.get_json("read the task definitions", list, "a list of TaskDefs", "metadata", "taskdefs")
        return [row for row in definitions if isinstance(row, dict) and isinstance(row.get("name"), str)]

    def workflow_definitions(self) -> Sequence[Mapping[str, Any]]:
        """Return the newest version of every workflow definition, as JSON."""
        operation = "read the workflow definitions"
        newest: dict[str, Mapping[str, Any]] = {}
        definitions = self.get_json(operation, list, "a list of workflow definitions", *_DEFINITIONS)
        with reading(SERVICE, operation, "a list of workflow definitions"):
            for definition in definitions:
                name = typed(typed(definition, dict, "an entry")["name"], str, "name")
                if name not in newest or _version(definition) >= _version(newest[name]):
                    newest[name] = definition
        return list(newest.values())

    def task_names(self) -> frozenset[str]:
        """Return the registered task types."""
        return frozenset(definition["name"] for definition in self.task_definitions())

    def pending(self, task_name: str, start: int = 0) -> Sequence[Mapping[str, Any]]:
        """Return the attempts of a type that have not ended, in all domains, as JSON: 1,000 at most, beginning at
        `start`."""
        operation = f"read the pending tasks of {task_name}"
        path = ("admin", "task", task_name)
        rows = self.get_json(operation, list, "a list of tasks", *path, query={"start": start, "count": _PAGE})
        with reading(SERVICE, operation, "a list of tasks"):
            return [typed(row, dict, "an entry") for row in rows]

    def open_attempts(self, task_name: str, until: float = math.inf) -> tuple[Sequence[OpenAttempt], bool]:
        """Return the attempts of a type that have not ended, in all domains, and whether these are all.

        At most `MOST_PENDING` are read. No page is requested after `until`, on the monotonic clock. Attempts that begin
        or end during the call can be missing.
        """
        attempts: dict[str, OpenAttempt] = {}
        for start in range(0, MOST_PENDING, _PAGE):
            page = self.pending(task_name, start)
            with reading(SERVICE, f"read the pending tasks of {task_name}", "a list of tasks"):
                attempts.update((attempt.task_id, attempt) for attempt in map(_open_attempt, page))
            if len(page) < _PAGE:
                return tuple(attempts.values()), True
            if time.monotonic() > until:
                break
        return tuple(attempts.values()), False


def _open_attempt(row: Mapping[str, Any]) -> OpenAttempt:
    return OpenAttempt(
        task_id=str(row.get("taskId") or ""),
        workflow_id=str(row.get("workflowInstanceId") or ""),
        task_name=str(row.get("taskDefName") or ""),
        reference_name=str(row.get("referenceTaskName") or ""),
        status=str(row.get("status") or ""),
        domain=str(row.get("domain") or ""),
        worker_id=str(row.get("workerId") or ""),
        scheduled=_whole(row.get("scheduledTime")),
        started=_whole(row.get("startTime")),
        updated=_whole(row.get("updateTime")),
        response_timeout=_whole(row.get("responseTimeoutSeconds")),
    )


def _version(definition: Mapping[str, Any]) -> int:
    version = definition.get("version")
    return version if isinstance(version, int) else 0


def _whole(value: Any) -> int:
    """Return a time or a duration of Conductor; 0 if the field is missing.

    Raises:
        TypeError, ValueError, OverflowError: the value is neither.
    """
    number = int(value or 0)
    if not 0 <= number < _LATEST:
        raise ValueError(f"{number} is out of range")
    return number


class ConductorWorkflows(ConductorClient):
    """Starts, reads and ends workflows, and runs them again. Opens no connection before the first call.

    All calls raise a ServiceError if they do not succeed. `policy` has time limits, retries and the largest answer.
    """

    policy: ClassVar[CallPolicy] = CallPolicy(answer=30.0, tries=3)

    def start(
        self, definition: Mapping[str, Any], payload: Mapping[str, Any], correlation_id: str | None = None
    ) -> str:
        """Start a workflow with a definition that is not registered; returns its id. Sent once.

        Raises:
            Unclear: the answer was lost, and the workflow may be running.
        """
        operation = f"start a workflow {definition['name']}"
        request = {"name": definition["name"], "version": 1, "input": dict(payload), "workflowDef": dict(definition)}
        if correlation_id is not None:
            request["correlationId"] = correlation_id
        body = queue.to_json(operation, request)
        answer = self.once(operation, "POST", "workflow", body=body)
        workflow_id = answer.body.decode(errors="replace").strip().strip('"')
        if not workflow_id or len(workflow_id.split()) != 1:
            raise unreadable(SERVICE, operation, "a workflow id", "it is not one word", write=True)
        return workflow_id

    def correlated(self, name: str, ids: Sequence[str]) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return the workflows of a name by correlation id, without their attempts, as JSON."""
        operation = f"look up workflows {name}"
        body = queue.to_json(operation, list(ids))
        answer = self.read(
            operation, "POST", "workflow", name, "correlated", query={"includeClosed": "true"}, body=body
        )
        workflows = json_of(operation, answer, dict, "workflows by correlation id")
        with reading(SERVICE, operation, "workflows by correlation id"):
            return {shared: [typed(row, dict, "a workflow") for row in rows] for shared, rows in workflows.items()}

    def search_tasks(self, query: str, *, start: int, size: int) -> Sequence[Mapping[str, Any]]:
        """Return summaries of the attempts that Conductor's index has for a query, the latest first
        (`docs/dev/servers/conductor.md`, "Measured later").

        Args:
            query: in Conductor's syntax: `taskType=features.build AND status=COMPLETED`.
            start: the number of results to skip.
            size: how many at most.
        """
        return self._search("search for tasks", ("tasks", "search"), query, start, size, "updateTime:DESC")[1]

    def terminate(self, workflow_id: str, reason: str) -> None:
        """End a workflow that has not ended. One that was terminated already stays as it is.

        Raises:
            Refused: it has completed.
        """
        # Repeating it is harmless, so an answer that is lost is no doubt.
        self.read(f"terminate workflow {workflow_id}", "DELETE", "workflow", workflow_id, query={"reason": reason})

    def retry(self, workflow_id: str) -> None:
        """Start new attempts for the failed steps of a workflow that has ended. Sent once."""
        self._again(workflow_id, "retry", {})

    def restart(self, workflow_id: str) -> None:
        """Run every step of a workflow that has ended. Sent once."""
        self._again(workflow_id, "restart", {})

    def rerun(self, workflow_id: str, task_id: str) -> None:
        """Run a workflow that has ended again from one of its attempts. Sent once."""
        self._again(workflow_id, "rerun", {"reRunFromTaskId": task_id})

    def _again(self, workflow_id: str, how: str, body: Mapping[str, Any]) -> None:
        operation = f"{how} workflow {workflow_id}"
        self.once(operation, "POST", "workflow", workflow_id, how, body=queue.to_json(operation, body))

    def update_task_by_reference(
        self, workflow_id: str, reference_name: str, status: str, output: Mapping[str, Any]
    ) -> str | None:
        """Give the open attempt of a step a status, and add to its output. Sent once.

        Returns:
            Its id; None if no attempt was open, because Conductor then answers with success, too.
        """
        operation = f"answer step {reference_name} of workflow {workflow_id}"
        path = ("tasks", workflow_id, reference_name, status)
        answer = self.once(operation, "POST", *path, body=queue.to_json(operation, dict(output)))
        task_id = answer.body.decode(errors="replace").strip().strip('"')
        if task_id and not re.fullmatch(r"[\w-]+", task_id):
            raise unreadable(SERVICE, operation, "a task id", "it is not one word", write=True)
        return task_id or None

    def find_workflows(self, query: WorkflowQuery, *, start: int, size: int) -> tuple[int, Sequence[WorkflowSummary]]:
        """Return the number of workflows that Conductor's index has for a query, and some of them, newest first.

        Args:
            query: the workflows that are wanted.
            start: the number of results to skip.
            size: how many at most, 5,000 at most.

        Raises:
            Refused: a value cannot be searched for.
        """
        operation = "search for workflows"
        total, rows = self._search(operation, ("workflow", "search"), query.text(), start, size, "startTime:DESC")
        with reading(SERVICE, operation, "the result of a search"):
            return total, [_summary(row) for row in rows]

    def workflow_versions(self, name: str) -> Sequence[int]:
        """Return the versions of a workflow definition, the lowest first; empty if no definition has that name."""
        operation = f"read the versions of workflow {name}"
        rows = self.get_json(operation, list, "a list of versions", *_DEFINITIONS, name, "versions")
        return sorted(row["version"] for row in rows if isinstance(row, dict) and isinstance(row.get("version"), int))

    def workflow_definition(self, name: str, version: int) -> dict[str, Any]:
        """Return one version of a workflow definition, as JSON."""
        operation = f"read workflow definition {name} of version {version}"
        return self.get_json(operation, dict, "a workflow definition", *_DEFINITIONS, name, query={"version": version})

    def register_workflow(self, definition: Mapping[str, Any]) -> None:
        """Create or replace one version of a workflow definition. The call is repeated if the answer is lost."""
        operation = f"register workflow {definition['name']}"
        body = queue.to_json(operation, dict(definition))
        self.read(operation, "POST", *_DEFINITIONS, body=body, query={"overwrite": "true"})

    def schedules(self) -> Sequence[Mapping[str, Any]]:
        """Return all schedules.

        Raises:
            NotFound: the scheduler of the server is off.
        """
        operation = "read the schedules"
        rows = self.get_json(operation, list, "a list of schedules", *_SCHEDULES)
        with reading(SERVICE, operation, "a list of schedules"):
            return [typed(row, dict, "a schedule") for row in rows]

    def save_schedule(self, schedule: Mapping[str, Any]) -> None:
        """Create or replace a schedule. The call is repeated if the answer is lost."""
        operation = f"save the schedule {schedule['name']}"
        self.read(operation, "POST", *_SCHEDULES, body=queue.to_json(operation, dict(schedule)))

    def delete_schedule(self, name: str) -> None:
        """Remove a schedule, if it exists."""
        self.read(f"remove the schedule {name}", "DELETE", *_SCHEDULES, name)

    def pause_schedule(self, name: str, reason: str) -> None:
        """Start no further runs of a schedule. Times that pass are not made up."""
        self.read(f"pause the schedule {name}", "PUT", *_SCHEDULES, name, "pause", query={"reason": reason})

    def resume_schedule(self, name: str) -> None:
        """Start the runs of a paused schedule again."""
        self.read(f"resume the schedule {name}", "PUT", *_SCHEDULES, name, "resume")

    def log(self, task_id: str) -> Sequence[str]:
        """Return the entries of an attempt's log, in order."""
        return [str(entry.get("log", "")) for entry in self.log_entries(task_id)]

    def log_entries(self, task_id: str) -> Sequence[Mapping[str, Any]]:
        """Return the entries of an attempt's log, in order, with `createdTime`, as JSON."""
        operation = f"read the log of task {task_id}"
        answer = self.read(operation, "GET", "tasks", task_id, "log")
        if answer.status == 204:
            return ()
        entries = json_of(operation, answer, list, "a list of log entries")
        return [entry for entry in entries if isinstance(entry, dict)]

    def _search(
        self, operation: str, path: tuple[str, str], query: str, start: int, size: int, sort: str
    ) -> tuple[int, Sequence[Mapping[str, Any]]]:
        asked: Query = {"query": query, "start": start, "size": size, "sort": sort, "freeText": "*"}
        page = self.get_json(operation, dict, "the result of a search", *path, query=asked)
        with reading(SERVICE, operation, "the result of a search"):
            rows = typed(page["results"], list, "results")
            return typed(page["totalHits"], int, "totalHits"), [typed(row, dict, "a result") for row in rows]


def _summary(row: Mapping[str, Any]) -> WorkflowSummary:
    return WorkflowSummary(
        workflow_id=str(row["workflowId"]),
        name=str(row["workflowType"]),
        version=int(row.get("version", 0)),
        status=str(row["status"]),
        correlation_id=str(row.get("correlationId") or ""),
        start_time=_milliseconds(row.get("startTime")),
        # The index keeps the previous end of a workflow that runs again.
        end_time=0 if row["status"] in OPEN_WORKFLOWS else _milliseconds(row.get("endTime")),
        reason=str(row.get("reasonForIncompletion") or ""),
        failed_references=tuple(filter(None, str(row.get("failedReferenceTaskNames") or "").split(","))),
    )


def _milliseconds(text: Any) -> int:
    """Return a time of a summary in milliseconds since the epoch; 0 if it has none."""
    return round(datetime.fromisoformat(text).timestamp() * 1000) if text else 0
