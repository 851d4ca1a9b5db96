"""The calls that look for workflows and attempts: which run, which belong together, which fit a query."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perago.embedded.conductor.core import ModelCore
from perago.embedded.conductor.indexing import TASK_COLUMNS, WORKFLOW_COLUMNS, Summary, task_summary, workflow_summary
from perago.embedded.conductor.rows import WorkflowRow
from perago.embedded.conductor.searching import Search, found
from perago.embedded.conductor.state import State
from perago.embedded.conductor.views import queue_wait, task_json, workflow_json


class ListingCalls(ModelCore):
    """Lists. Searches answer with `{totalHits, results}`.

    Removed workflows are still found by a search, as the server archives them; attempts that nobody has polled or
    changed are not found yet.
    """

    def running_workflow_ids(self, name: str) -> list[str]:
        """The unfinished workflows of a name, whatever their version, sorted."""
        with self._operation("running_workflow_ids") as state:
            running = [row for row in state.workflows.values() if not row.status.terminal]
            return sorted(row.workflow_id for row in running if row.name == name)

    def workflow_ids_between(self, name: str, version: int, start_time: int, end_time: int) -> list[str]:
        """The workflows of a name and version that were started between two times (ms), both included, sorted."""
        with self._operation("workflow_ids_between") as state:
            rows = [row for row in state.workflows.values() if (row.name, row.version) == (name, version)]
            return sorted(row.workflow_id for row in rows if start_time <= row.create_time <= end_time)

    def correlated_workflows(
        self, name: str, correlation_id: str, *, include_closed: bool = False, include_tasks: bool = False
    ) -> list[dict[str, Any]]:
        """The workflows of a name that were started with this correlation id, sorted by id."""
        with self._operation("correlated_workflows") as state:
            rows = [row for row in state.workflows.values() if (row.name, row.correlation_id) == (name, correlation_id)]
            wanted = sorted(
                (row for row in rows if include_closed or not row.status.terminal), key=lambda row: row.workflow_id
            )
            return [workflow_json(row, state.now(), include_tasks=include_tasks) for row in wanted]

    def search_workflows(self, search: Search) -> dict[str, Any]:
        """Summaries of workflows."""
        with self._operation("search_workflows") as state:
            hits, summaries = found(search, _workflows(state), WORKFLOW_COLUMNS)
            return {"totalHits": hits, "results": summaries}

    def search_workflows_v2(self, search: Search) -> dict[str, Any]:
        """Whole workflows without their attempts; removed ones are left out of the page."""
        with self._operation("search_workflows_v2") as state:
            hits, summaries = found(search, _workflows(state), WORKFLOW_COLUMNS)
            return _rows_of(state, hits, summaries, lambda row: workflow_json(row, state.now(), include_tasks=False))

    def search_tasks(self, search: Search) -> dict[str, Any]:
        """Summaries of attempts."""
        with self._operation("search_tasks") as state:
            hits, summaries = found(search, _tasks(state), TASK_COLUMNS)
            return {"totalHits": hits, "results": summaries}

    def search_tasks_v2(self, search: Search) -> dict[str, Any]:
        """Whole attempts."""
        with self._operation("search_tasks_v2") as state:
            hits, summaries = found(search, _tasks(state), TASK_COLUMNS)
            rows = [state.tasks[summary["taskId"]] for summary in summaries]
            return {"totalHits": hits, "results": [task_json(row, state.now()) for row in rows]}

    def search_workflows_by_tasks(self, search: Search) -> dict[str, Any]:
        """Summaries of the workflows of attempts."""
        with self._operation("search_workflows_by_tasks") as state:
            hits, summaries = found(search, _tasks(state), TASK_COLUMNS)
            return _rows_of(state, hits, summaries, workflow_summary)

    def search_workflows_by_tasks_v2(self, search: Search) -> dict[str, Any]:
        """The workflows of attempts, without these."""
        with self._operation("search_workflows_by_tasks_v2") as state:
            hits, summaries = found(search, _tasks(state), TASK_COLUMNS)
            return _rows_of(state, hits, summaries, lambda row: workflow_json(row, state.now(), include_tasks=False))


def _workflows(state: State) -> list[Summary]:
    """In the order of their start. A child that was removed and came back under its id is there once, as it is now."""
    known = [workflow_summary(row) for row in state.workflows.values()]
    by_id = {summary["workflowId"]: summary for summary in (*state.archived, *known)}
    return sorted(by_id.values(), key=lambda summary: str(summary["startTime"]))


def _tasks(state: State) -> list[Summary]:
    return [task_summary(row, queue_wait(row, state.now())) for row in state.tasks.values() if row.update_time]


def _rows_of(
    state: State, hits: int, summaries: list[Summary], view: Callable[[WorkflowRow], dict[str, Any]]
) -> dict[str, Any]:
    """Each workflow of a page once; what the page loses thereby is taken off the hits."""
    ids = dict.fromkeys(summary["workflowId"] for summary in summaries)
    rows = [state.workflows[workflow_id] for workflow_id in ids if workflow_id in state.workflows]
    return {"totalHits": hits - (len(summaries) - len(rows)), "results": [view(row) for row in rows]}
