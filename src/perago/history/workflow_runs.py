"""Read a past run of a workflow as one attempt: its parameters, its result, and all that its steps published."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from perago.adapters.conductor.session import NO_SUCH_URL
from perago.history.attempts import (
    NotReplayable,
    Past,
    PastAttempt,
    Records,
    attempt_from,
    gone_is_told,
    input_commit,
    past_workspace,
    published_since,
)
from perago.history.redaction import note, schema_of, strike_out
from perago.ports import NotFound, WorkspaceStore
from perago.testing.cases import WORKFLOW
from perago.text import quoted

_MOST_WORKFLOWS = 1000
_FAILED = ("FAILED", "FAILED_WITH_TERMINAL_ERROR", "TIMED_OUT")
"""Not the steps that were canceled because of another one, and not optional ones."""
_MOVED = "was moved to external storage by Conductor, and perago does not read that"
_SMALLER = "write large results to the workspace, and capture a run with smaller ones"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run of a workflow, with the attempts of its steps and sub-workflows."""

    run: PastAttempt
    steps: tuple[PastAttempt, ...]
    schemas: Mapping[str, Any]
    """Its schemas in the places in which a TaskDef has those of params and result."""

    @property
    def cases(self) -> str:
        """The directory of its cases.

        Raises:
            NotReplayable: the name of the workflow cannot be one of perago.
        """
        if not _NAME.fullmatch(self.run.task_name):
            raise NotReplayable(f"the name {quoted(self.run.task_name)} cannot be that of a workflow in Python")
        return self.run.task_name + WORKFLOW

    def secrets(self) -> dict[str, str]:
        """Return the values that the schemas of the steps mark as secrets, by their places."""
        found: dict[str, str] = {}
        for step in self.steps:
            for what, value in (("params", step.params), ("result", step.result)):
                pointer = f"/steps/{step.reference_name}/{what}"
                for place, secret in strike_out(value, schema_of(step.definition, what), pointer)[1].items():
                    if secret not in found.values():
                        note([secret], place, found)  # retries and sub-workflows repeat the names of steps
        return found

    def look_up(self, store: WorkspaceStore | None) -> Past:
        """Read the input commit, and what the steps have published.

        Raises:
            NotReplayable: lakeFS no longer has it.
            ServiceError: lakeFS did not answer.
        """
        workspace = self.run.workspace
        if workspace is None or store is None:
            return Past(self.run, "")
        with gone_is_told(self.run):
            ref = input_commit(store, workspace)
            return Past(self.run, "", ref, published_since(store, workspace, ref, self.steps))


def find_run(records: Records, workflow_id: str) -> PastRun:
    """Return the run of a workflow.

    Raises:
        NotReplayable: it does not exist, or has no input in Conductor.
        ServiceError: Conductor did not answer.
    """
    try:
        row = records.workflow(workflow_id)
    except NotFound as error:
        if NO_SUCH_URL in error.detail:
            raise
        raise NotReplayable(f"Conductor has no workflow {quoted(workflow_id)}: {error.detail}") from error
    given = row.get("input")
    if row.get("externalInputPayloadStoragePath") or not isinstance(given, Mapping):
        raise NotReplayable(f"workflow {workflow_id} has no input in Conductor, which has moved or lost it")
    if row.get("externalOutputPayloadStoragePath"):
        raise NotReplayable(f"the output of workflow {workflow_id} {_MOVED}", _SMALLER)
    label = f"workflow {workflow_id}"
    steps = sorted(_steps(records, row), key=lambda step: step.ended)
    reasons = [step.reason for step in steps if step.status in _FAILED and step.reason]
    reason = reasons[-1] if reasons else str(row.get("reasonForIncompletion") or "")
    definition = row.get("workflowDefinition") or {}
    data = (definition.get("inputSchema") or {}).get("data") or {}
    run = PastAttempt(
        task_id=workflow_id,
        task_name=str(row.get("workflowName") or definition.get("name")),
        workflow_id=workflow_id,
        workflow_name=str(row.get("workflowName") or ""),
        reference_name="",
        status=str(row.get("status")),
        reason="" if row.get("status") == "COMPLETED" else reason,
        params={key: value for key, value in given.items() if key != "workspace"},
        result=(row.get("output") or {}).get("result"),
        workspace=past_workspace(label, given.get("workspace"), None),
        started=int(row.get("startTime") or 0),
        ended=int(row.get("endTime") or 0),
        definition=None,
        is_workflow=True,
    )
    schemas = {
        "inputSchema": {"data": {"properties": {"params": data}}},
        "outputSchema": definition.get("outputSchema") or {},
    }
    return PastRun(run, tuple(steps), schemas)


def _steps(records: Records, workflow: Mapping[str, Any]) -> Iterator[PastAttempt]:
    """Yield the attempts of a workflow and of its sub-workflows that have ended.

    Raises:
        NotReplayable: there are too many.
    """
    waiting, read = [workflow], 0
    while waiting:
        for row in waiting.pop().get("tasks") or ():
            if inner := row.get("subWorkflowId"):
                read += 1
                if read > _MOST_WORKFLOWS:
                    raise NotReplayable(f"the workflow has more than {_MOST_WORKFLOWS:,} sub-workflows")
                waiting.append(records.workflow(inner))
            elif row.get("endTime") and _is_attempt(row):
                yield attempt_from(row)


def _is_attempt(row: Mapping[str, Any]) -> bool:
    """Whether a task is an attempt of a perago task.

    Raises:
        NotReplayable: Conductor has moved its output, which names its publication.
    """
    is_work = (row.get("workflowTask") or {}).get("type", "SIMPLE") == "SIMPLE"
    if is_work and row.get("externalOutputPayloadStoragePath"):
        raise NotReplayable(f"the output of task {row.get('taskId')} {_MOVED}", _SMALLER)
    has_params = isinstance((row.get("inputData") or {}).get("params"), Mapping)
    return has_params or bool(is_work and row.get("externalInputPayloadStoragePath"))
