"""An attempt of the past as Conductor has it: its input, how it ended, and the TaskDef of the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from perago.adapters.conductor.errors import NO_SUCH_URL
from perago.ports import NotFound
from perago.taskdef.refs import commits_of
from perago.workspace.text import listing, one_line, quoted

_WAITING = ("SCHEDULED", "IN_PROGRESS")
_FINAL = "FAILED_WITH_TERMINAL_ERROR"


class NotReplayable(Exception):
    """There is no such attempt, or it cannot be run again. `fix` says what to do, if there is something."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


class Records(Protocol):
    """What is asked of Conductor. Every method may raise any `ServiceError`."""

    def task(self, task_id: str) -> Mapping[str, Any]:
        """One attempt as JSON."""
        ...

    def workflow(self, workflow_id: str) -> Mapping[str, Any]:
        """A workflow with its attempts as JSON."""
        ...

    def search_tasks(self, query: str, *, start: int, size: int) -> Sequence[Mapping[str, Any]]:
        """Summaries of attempts, the latest first."""
        ...


@dataclass(frozen=True, slots=True)
class PastWorkspace:
    """The workspace of the input, and the commit that the attempt reported."""

    repository: str
    branch: str
    refs: tuple[str, ...]
    """The commits of the input: one, or those of a JOIN."""
    output_ref: str | None


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """An attempt that has ended. Times are milliseconds since the epoch."""

    task_id: str
    task_name: str
    workflow_id: str
    workflow_name: str
    reference_name: str
    status: str
    reason: str
    params: Mapping[str, Any]
    result: Any
    workspace: PastWorkspace | None
    started: int
    ended: int
    definition: Mapping[str, Any] | None
    """The TaskDef of the time; None where Conductor had none."""

    @property
    def seconds(self) -> float | None:
        """How long it took, from its first poll to its report."""
        return (self.ended - self.started) / 1000 if self.ended > self.started > 0 else None

    @property
    def ending(self) -> str:
        """How it ended, in the words of `Example.expect`."""
        if self.status == "COMPLETED":
            return "completed"
        phase, other = ("pre", "terminal") if self.status == _FINAL else ("post", "failed")
        return phase if self.reason.startswith(f"{phase} guardrail") else other


def find_attempt(records: Records, task_id: str) -> PastAttempt:
    """The attempt with this task id.

    Raises:
        NotReplayable: there is none, it has not ended, or its input is not in Conductor.
        ServiceError: Conductor did not answer.
    """
    try:
        row = records.task(task_id)
    except NotFound as error:
        if NO_SUCH_URL in error.detail:
            raise
        raise NotReplayable(
            f"Conductor has no task {quoted(task_id)}: {error.detail}",
            "give the id of a task, not of a workflow; a workflow that was removed or archived takes its tasks along",
        ) from error
    return attempt_from(row)


def find_step(records: Records, workflow_id: str, step: str) -> PastAttempt:
    """The last attempt of a step of a workflow.

    Raises:
        NotReplayable: there is none, it has not ended, or its input is not in Conductor.
        ServiceError: Conductor did not answer.
    """
    try:
        rows = records.workflow(workflow_id).get("tasks") or ()
    except NotFound as error:
        if NO_SUCH_URL in error.detail:
            raise
        raise NotReplayable(f"Conductor has no workflow {quoted(workflow_id)}: {error.detail}") from error
    found = [row for row in rows if row.get("referenceTaskName") == step]
    if not found:
        names = list(dict.fromkeys(quoted(str(row.get("referenceTaskName"))) for row in rows))
        raise NotReplayable(
            f"workflow {workflow_id} has no task with the reference name {quoted(step)}",
            f"it has: {listing(names) or 'none yet'}; in a loop each round has its own, such as 'step__2'",
        )
    return attempt_from(found[-1])


def attempt_from(row: Mapping[str, Any]) -> PastAttempt:
    """The attempt in a task as Conductor shows it.

    Raises:
        NotReplayable: it has not ended, or was no attempt of a perago task.
    """
    task_id, status = str(row.get("taskId")), str(row.get("status"))
    if status in _WAITING:
        raise NotReplayable(f"task {task_id} has not ended yet: it is {status}", "wait for its end")
    if row.get("externalInputPayloadStoragePath"):
        raise NotReplayable(
            f"Conductor moved the input of task {task_id} to external storage, which perago does not read",
            "inputs beyond about 3 MB are moved; write such data to the workspace",
        )
    payload = row.get("inputData") or {}
    params = payload.get("params")
    if not isinstance(params, Mapping):
        raise NotReplayable(
            f"the input of task {task_id} ({one_line(str(row.get('taskDefName')))}) has no params, so it is no attempt "
            "of a perago task"
        )
    output = row.get("outputData") or {}
    return PastAttempt(
        task_id=task_id,
        task_name=str(row.get("taskDefName")),
        workflow_id=str(row.get("workflowInstanceId")),
        workflow_name=str(row.get("workflowType") or ""),
        reference_name=str(row.get("referenceTaskName")),
        status=status,
        reason=str(row.get("reasonForIncompletion") or ""),
        params=params,
        result=output.get("result"),
        workspace=_workspace(task_id, payload.get("workspace"), output.get("workspace")),
        started=int(row.get("startTime") or 0),
        ended=int(row.get("endTime") or 0),
        definition=row.get("taskDefinition") or None,
    )


def _workspace(task_id: str, block: Any, output: Any) -> PastWorkspace | None:
    if block is None:
        return None
    problems: list[str] = []
    refs: tuple[str, ...] = ()
    if not isinstance(block, Mapping) or not all(isinstance(block.get(key), str) for key in ("repository", "branch")):
        problems.append("/workspace: names no repository and branch")
    else:
        refs = commits_of(block.get("ref"), block["repository"], problems)
    if problems:
        raise NotReplayable(f"the input of task {task_id} is not valid: {'; '.join(problems)}")
    ref = output.get("ref") if isinstance(output, Mapping) else None
    return PastWorkspace(block["repository"], block["branch"], refs, ref if isinstance(ref, str) else None)
