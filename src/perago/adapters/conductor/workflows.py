"""`ConductorWorkflows`: starting workflows on a real Conductor server, and looking at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from perago.adapters.conductor import wire_format
from perago.adapters.conductor.errors import unreadable
from perago.adapters.conductor.session import Session, json_of
from perago.adapters.http import CallPolicy
from perago.settings import ConductorSettings

_POLICY = CallPolicy(answer=30.0, tries=3)


class ConductorWorkflows:
    """Opens no connection before the first call. All calls raise a ServiceError if they do not succeed. `policy` has
    time limits, repetitions and the largest answer."""

    def __init__(self, settings: ConductorSettings, *, policy: CallPolicy = _POLICY) -> None:
        self._session = Session(settings, policy)

    def start(self, definition: Mapping[str, Any], payload: Mapping[str, Any]) -> str:
        """Start a workflow with a definition that is not registered; returns its id. Sent once.

        Raises:
            Unclear: the answer was lost, and the workflow may be running.
        """
        operation = f"start a workflow {definition['name']}"
        request = {"name": definition["name"], "version": 1, "input": dict(payload), "workflowDef": dict(definition)}
        body = wire_format.to_json(operation, request)
        answer = self._session.once(operation, self._session.workflows.start_workflow, body)
        workflow_id = answer.body.decode(errors="replace").strip().strip('"')
        if not workflow_id or len(workflow_id.split()) != 1:
            raise unreadable(operation, "a workflow id", write=True)
        return workflow_id

    def workflow(self, workflow_id: str) -> dict[str, Any]:
        """The workflow with its attempts, as JSON."""
        operation = f"read workflow {workflow_id}"
        read = self._session.workflows.get_execution_status
        answer = self._session.read(operation, read, workflow_id, include_tasks="true")
        found: dict[str, Any] = json_of(operation, answer, dict, "a workflow")
        return found

    def task(self, task_id: str) -> dict[str, Any]:
        """One attempt as JSON."""
        operation = f"read task {task_id}"
        answer = self._session.read(operation, self._session.tasks.get_task, task_id)
        found: dict[str, Any] = json_of(operation, answer, dict, "a task")
        return found

    def search_tasks(self, query: str, *, start: int, size: int) -> Sequence[Mapping[str, Any]]:
        """Summaries of the attempts that Conductor's index has for a query (`docs/servers/conductor.md` 9), the latest
        first.

        Args:
            query: as Conductor takes it: `taskType=features.build AND status=COMPLETED`.
            start: how many of the first are left out.
            size: how many at most.
        """
        return self._search("search for tasks", "/tasks/search", query, start, size, "updateTime:DESC")[1]

    def search_workflows(self, query: str, *, start: int, size: int) -> tuple[int, Sequence[Mapping[str, Any]]]:
        """How many workflows Conductor's index has for a query, and summaries of some, the newest first.

        Args:
            query: as Conductor takes it: `status='FAILED'`; empty for all.
            start: how many of the first are left out.
            size: how many at most, 5,000 at most.
        """
        return self._search("search for workflows", "/workflow/search", query, start, size, "startTime:DESC")

    def workflow_versions(self, name: str) -> Sequence[int]:
        """The versions of a workflow definition, the lowest first; none if there is none of that name."""
        operation = f"read the versions of workflow {name}"
        path = f"/metadata/workflow/{quote(name, safe='')}/versions"
        answer = self._session.read(operation, self._session.transport.GET, path, headers={})
        found = json_of(operation, answer, list, "a list of versions")
        return sorted(one["version"] for one in found if isinstance(one, dict) and isinstance(one.get("version"), int))

    def workflow_definition(self, name: str, version: int) -> dict[str, Any]:
        """One version of a workflow definition, as JSON."""
        operation = f"read workflow definition {name} of version {version}"
        answer = self._session.read(operation, self._session.metadata.get, name, version=version)
        found: dict[str, Any] = json_of(operation, answer, dict, "a workflow definition")
        return found

    def log(self, task_id: str) -> Sequence[str]:
        """The entries of an attempt's log, in order."""
        return [str(entry.get("log", "")) for entry in self.log_entries(task_id)]

    def log_entries(self, task_id: str) -> Sequence[Mapping[str, Any]]:
        """The entries of an attempt's log, in order, with `createdTime`, as JSON."""
        operation = f"read the log of task {task_id}"
        answer = self._session.read(operation, self._session.tasks.get_task_logs, task_id)
        if answer.status == 204:
            return ()
        found = json_of(operation, answer, list, "a list of log entries")
        return [entry for entry in found if isinstance(entry, dict)]

    def _search(
        self, operation: str, path: str, query: str, start: int, size: int, sort: str
    ) -> tuple[int, Sequence[Mapping[str, Any]]]:
        given = [("query", query), ("start", start), ("size", size), ("sort", sort), ("freeText", "*")]
        answer = self._session.read(operation, self._session.transport.GET, path, query_params=given, headers={})
        found = json_of(operation, answer, dict, "the result of a search")
        total, rows = found.get("totalHits"), found.get("results")
        if not isinstance(total, int) or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise unreadable(operation, "the result of a search", write=False)
        return total, rows

    def close(self) -> None:
        """Give back the connections."""
        self._session.close()
