"""`ConductorWorkflows`: starting workflows on a real Conductor server, and looking at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
        operation = "search for tasks"
        search = self._session.tasks.search1
        answer = self._session.read(
            operation, search, query=query, start=start, size=size, sort="updateTime:DESC", free_text="*"
        )
        found = json_of(operation, answer, dict, "the result of a search").get("results")
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise unreadable(operation, "the result of a search", write=False)
        return found

    def log(self, task_id: str) -> Sequence[str]:
        """The entries of an attempt's log, in order."""
        operation = f"read the log of task {task_id}"
        answer = self._session.read(operation, self._session.tasks.get_task_logs, task_id)
        if answer.status == 204:
            return ()
        return [str(entry.get("log", "")) for entry in json_of(operation, answer, list, "a list of log entries")]

    def close(self) -> None:
        """Give back the connections."""
        self._session.close()
