"""The model of a Conductor server, in the server's vocabulary and JSON spelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perago.embedded.conductor import lifecycle
from perago.embedded.conductor.core import sweep
from perago.embedded.conductor.decider import decide
from perago.embedded.conductor.definition_calls import DefinitionCalls
from perago.embedded.conductor.errors import bad_request, validation_failed
from perago.embedded.conductor.rerun import rerun, restart, retry
from perago.embedded.conductor.searching import search_workflows
from perago.embedded.conductor.starting import OPERATION, create_workflow
from perago.embedded.conductor.state import State
from perago.embedded.conductor.task_calls import MAX_WAIT_SECONDS, TaskCalls
from perago.embedded.conductor.views import WorkflowSummary, summary_of, workflow_json
from perago.embedded.conductor.workflowdefs import parse_workflow_definition

__all__ = ["MAX_WAIT_SECONDS", "ConductorModel", "check_priority"]

MAX_PRIORITY = 99


class ConductorModel(DefinitionCalls, TaskCalls):
    """Definitions, workflows, attempts and queues of one server, in memory; safe to use from several threads.

    Time-outs fire only when a workflow is decided: by `decide`, by `sweep`, by an update of one of its attempts, or,
    with `sweep_seconds`, by the first call after each such period. Until then an overdue attempt is in progress and
    its late result is accepted (`docs/servers/conductor.md` 2). `seed` makes ids and jitter repeatable.

    Every method may raise what `errors` lists. What the model does not have raises `NotImplementedError` and is named.
    """

    def start_workflow(
        self,
        name: str,
        payload: Mapping[str, Any] | None = None,
        *,
        version: int | None = None,
        correlation_id: str | None = None,
        priority: int = 0,
        definition: Mapping[str, Any] | None = None,
        task_to_domain: Mapping[str, str] | None = None,
    ) -> str:
        """Start a workflow with `payload` as its input; returns the workflow id.

        A `definition` (`workflowDef` in the request) is run without being registered, whatever `name` says.
        `task_to_domain` names the domains, separated by commas, that attempts of a task type, or of all (`*`), are for.
        """
        with self._operation("start_workflow") as state:
            check_priority(priority)
            if not name and definition is None:
                raise bad_request(OPERATION, "Workflow name must be specified when searching for a definition")
            parsed = None
            if definition is not None:
                parsed = parse_workflow_definition(definition, 0, path="startWorkflow.arg0.workflowDef")
                parsed["createTime"] = definition.get("createTime") or 0
            workflow = create_workflow(
                state,
                name,
                payload,
                version=version,
                definition=parsed,
                correlation_id=correlation_id,
                priority=priority,
                task_to_domain=task_to_domain,
            )
            decide(state, workflow)
            return workflow.workflow_id

    def workflow(self, workflow_id: str, *, include_tasks: bool = True) -> dict[str, Any]:
        """The workflow and its attempts as JSON."""
        with self._operation("workflow") as state:
            row = state.workflow("read workflow", workflow_id)
            return workflow_json(row, state.now(), include_tasks=include_tasks)

    def workflow_ids(self) -> tuple[str, ...]:
        """All workflows, in the order of their start."""
        with self._operation("workflow_ids") as state:
            return tuple(state.workflows)

    def workflow_summaries(self) -> tuple[WorkflowSummary, ...]:
        """All workflows in brief, in the order of their start."""
        with self._operation("workflow_summaries") as state:
            return tuple(summary_of(row) for row in state.workflows.values())

    def search_workflows(self, query: str = "", *, start: int = 0, size: int = 100, sort: str = "") -> dict[str, Any]:
        """Summaries of workflows: `totalHits` and a page of `results`."""
        with self._operation("search_workflows") as state:
            return search_workflows(state.workflows.values(), query, start=start, size=size, sort=sort)

    def now(self) -> int:
        """The time that the model goes by, in milliseconds since the epoch."""
        return round(self._clock.now() * 1000)

    def decide(self, workflow_id: str) -> None:
        """Evaluate one workflow now, time-outs included."""
        with self._operation("decide") as state:
            decide(state, state.workflow("decide workflow", workflow_id))

    def sweep(self) -> None:
        """Evaluate every running workflow now, time-outs included."""
        with self._operation("sweep") as state:
            sweep(state)

    def terminate_workflow(self, workflow_id: str, reason: str | None = None) -> None:
        """End it; open attempts become CANCELED, their later results are ignored."""
        with self._operation("terminate_workflow") as state:
            lifecycle.terminate(state, state.workflow("terminate workflow", workflow_id), reason)

    def pause_workflow(self, workflow_id: str) -> None:
        """Stop scheduling steps and retries."""
        with self._operation("pause_workflow") as state:
            lifecycle.pause(state, state.workflow("pause workflow", workflow_id))

    def resume_workflow(self, workflow_id: str) -> None:
        """Undo `pause_workflow`."""
        with self._operation("resume_workflow") as state:
            lifecycle.resume(state, state.workflow("resume workflow", workflow_id))

    def retry_workflow(self, workflow_id: str, *, resume_sub_workflows: bool = False) -> None:
        """Give the failed steps of a finished workflow one more attempt each.

        A failed sub-workflow is started anew, or, with `resume_sub_workflows`, its failed steps are retried.
        """
        with self._operation("retry_workflow") as state:
            workflow = state.workflow("retry workflow", workflow_id)
            retry(state, workflow, resume_sub_workflows=resume_sub_workflows)

    def restart_workflow(self, workflow_id: str, *, use_latest_definitions: bool = False) -> None:
        """Begin a finished workflow again, with new task ids."""
        with self._operation("restart_workflow") as state:
            workflow = state.workflow("restart workflow", workflow_id)
            restart(state, workflow, use_latest_definitions=use_latest_definitions)

    def rerun_workflow(
        self,
        workflow_id: str,
        from_task_id: str | None = None,
        *,
        task_input: Mapping[str, Any] | None = None,
        workflow_input: Mapping[str, Any] | None = None,
    ) -> None:
        """Run a finished workflow again from one of its attempts, which keeps its id."""
        with self._operation("rerun_workflow") as state:
            workflow = state.workflow("rerun workflow", workflow_id)
            rerun(state, workflow, from_task_id, task_input, workflow_input)

    def skip_task(self, workflow_id: str, reference_name: str) -> None:
        """Leave out a step that has not begun."""
        with self._operation("skip_task") as state:
            lifecycle.skip(state, state.workflow("skip task", workflow_id), reference_name)

    def await_workflow(self, workflow_id: str, references: Sequence[str] = (), *, wait_seconds: float) -> bool:
        """Wait until a workflow, or an attempt of one of these steps, has finished; False if it takes longer.

        Only steps of the workflow itself are looked at, not those of its sub-workflows.
        """
        end = self._clock.now() + wait_seconds

        def look(state: State) -> bool | None:
            workflow = state.workflow("await workflow", workflow_id)
            ended = [row.reference_name for row in workflow.tasks if row.status.terminal]
            if workflow.status.terminal or any(reference in ended for reference in references):
                return True
            return False if self._is_over(end) else None

        with self._around("await_workflow"):
            return self._look_until(end, look)

    def reset_callbacks(self, workflow_id: str) -> None:
        """Make the delayed attempts of a workflow pollable now."""
        with self._operation("reset_callbacks") as state:
            lifecycle.reset_callbacks(state, state.workflow("reset callbacks", workflow_id))

    def remove_workflow(self, workflow_id: str, *, archive: bool = True) -> None:
        """Forget a finished workflow; with `archive=False` one that still runs, too."""
        with self._operation("remove_workflow") as state:
            lifecycle.remove(state, state.workflow("remove workflow", workflow_id), archive=archive)

    def running_workflow_ids(self, name: str) -> list[str]:
        """The unfinished workflows of a name, whatever their version, sorted."""
        with self._operation("running_workflow_ids") as state:
            running = [row for row in state.workflows.values() if not row.status.terminal]
            return sorted(row.workflow_id for row in running if row.name == name)

    def correlated_workflows(
        self, name: str, correlation_id: str, *, include_closed: bool = False, include_tasks: bool = False
    ) -> list[dict[str, Any]]:
        """The workflows of a name that were started with this correlation id, sorted by id."""
        with self._operation("correlated_workflows") as state:
            rows = [row for row in state.workflows.values() if (row.name, row.correlation_id) == (name, correlation_id)]
            wanted = [row for row in rows if include_closed or not row.status.terminal]
            wanted.sort(key=lambda row: row.workflow_id)
            return [workflow_json(row, state.now(), include_tasks=include_tasks) for row in wanted]


def check_priority(priority: int) -> None:
    """The server looks at the priority before it looks for the definition.

    Raises:
        InvalidRequest: it is out of range (400).
    """
    if not 0 <= priority <= MAX_PRIORITY:
        limit = "minimum 0" if priority < 0 else f"maximum {MAX_PRIORITY}"
        message = f"priority: {priority} should be {limit}"
        problem = {"path": "startWorkflow.arg0.priority", "message": message, "invalidValue": str(priority)}
        raise validation_failed(OPERATION, [problem])
