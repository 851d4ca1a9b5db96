"""End workflows of the configured Conductor, and run them again. Recoveries that leave a workflow stuck are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from perago.adapters.conductor.session import NO_SUCH_URL
from perago.failure import Failure
from perago.ports import ENDED_WORKFLOWS, NotFound
from perago.text import count, listing, one_line, quoted
from perago.workflows.recovery import Refusal, attempt_of, permissive_retries, rerun_refusal, retry_refusal, revived_by

if TYPE_CHECKING:
    from perago.adapters.conductor import ConductorWorkflows

Json = Mapping[str, Any]
IN_PROGRESS = "IN_PROGRESS"


@dataclass(frozen=True, slots=True)
class Operation:
    """A workflow after an operation: its status then, what happens next, and warnings."""

    workflow_id: str
    name: str
    status: str
    done: str
    warnings: tuple[str, ...] = ()


@contextmanager
def operated() -> Iterator[ConductorWorkflows]:
    """Open the configured Conductor."""
    from perago.adapters.http import COMMAND_POLICY
    from perago.configuration import Servers

    with Servers(policy=replace(COMMAND_POLICY, answer=30.0)) as servers:
        yield servers.workflows


def read_workflow(workflows: ConductorWorkflows, workflow_id: str) -> Json:
    """Return a workflow with its attempts.

    Raises:
        Failure: Conductor does not have it.
        ServiceError: Conductor did not answer.
    """
    try:
        return workflows.workflow(workflow_id)
    except NotFound as error:
        if NO_SUCH_URL in error.detail:
            raise
        problem = f"Conductor has no workflow {quoted(workflow_id)}: {error.detail}"
        raise Failure(problem, "give the id of a workflow, as perago list prints it") from error


def running_steps(workflow: Json) -> str:
    """Describe the attempts that are with a worker."""
    rows = [row for row in workflow["tasks"] if row["status"] == IN_PROGRESS and row.get("workerId")]
    named = listing([one_line(f"{row['referenceTaskName']} on {row['workerId']}") for row in rows], 5)
    return f"{count(len(rows), 'running attempt')}: {named}" if rows else "no attempt is with a worker"


def terminate(workflows: ConductorWorkflows, workflow: Json, reason: str) -> Operation:
    """End a workflow.

    Raises:
        Failure: it has ended already.
        ServiceError: Conductor did not answer, or refused.
    """
    if workflow["status"] in ENDED_WORKFLOWS:
        raise _refused(workflow, "terminated", Refusal(f"it has ended already: {workflow['status']}", ""))
    workflows.terminate(workflow["workflowId"], reason)
    return _after(workflows, workflow, "running attempts are canceled, and their unpublished changes are lost")


def retry(workflows: ConductorWorkflows, workflow_id: str) -> Operation:
    """Start new attempts for the failed steps of a workflow.

    Raises:
        Failure: Conductor would not find the steps, or has nothing to retry.
        ServiceError: Conductor did not answer, or refused.
    """
    workflow = read_workflow(workflows, workflow_id)
    if (refusal := retry_refusal(workflow)) is not None:
        raise _refused(workflow, "retried", refusal)
    steps = permissive_retries(workflow)
    workflows.retry(workflow_id)
    warnings = _about(steps, lambda names: f"Conductor gives the new attempt of {names} no retries and no timeouts")
    return _after(workflows, workflow, "the failed and canceled steps run again", warnings)


def rerun(workflows: ConductorWorkflows, workflow_id: str, step: str | None) -> Operation:
    """Run a workflow again: all steps, or those from one attempt on.

    Args:
        workflows: the Conductor.
        workflow_id: a workflow that has ended.
        step: a reference name, for its last attempt, or a task id; None for all steps.

    Raises:
        Failure: the workflow has no such step, or would be stuck.
        ServiceError: Conductor did not answer, or refused.
    """
    workflow = read_workflow(workflows, workflow_id)
    row = None if step is None else attempt_of(workflow, step)
    if step is not None and row is None:
        names = list(dict.fromkeys(quoted(str(each["referenceTaskName"])) for each in workflow["tasks"]))
        known = f"it has {listing(names) or 'none yet'}"
        fix = f"{known}; in a loop, each round has a name of its own, such as 'step__2'"
        raise Failure(f"workflow {workflow_id} has no step {quoted(step)}", fix)
    if (refusal := rerun_refusal(workflow, row)) is not None:
        raise _refused(workflow, "run again" + ("" if row is None else f" from {one_line(str(step))}"), refusal)
    if row is None:
        workflows.restart(workflow_id)
        return _after(workflows, workflow, "every step runs again")
    workflows.rerun(workflow_id, row["taskId"])
    name = row["referenceTaskName"]
    warnings = _about(revived_by(workflow, row), lambda names: f"Conductor also repeats earlier attempts of {names}")
    return _after(workflows, workflow, one_line(f"{name} and the steps after it run again"), warnings)


def _about(steps: Sequence[str], words: Callable[[str], str]) -> tuple[str, ...]:
    return (one_line(words(listing(steps))),) if steps else ()


def _refused(workflow: Json, done: str, refusal: Refusal) -> Failure:
    words = f"workflow {workflow['workflowId']} cannot be {done}: {one_line(refusal.problem)}"
    return Failure(words, one_line(refusal.fix))


def _after(workflows: ConductorWorkflows, workflow: Json, done: str, warnings: tuple[str, ...] = ()) -> Operation:
    status = str(workflows.workflow(workflow["workflowId"])["status"])
    if status in ENDED_WORKFLOWS and workflow["status"] in ENDED_WORKFLOWS:
        # Conductor accepts a retry while it still ends the workflow, and then cancels the new attempts.
        again = f"it has ended again already: {status}; if that is unexpected, run the command again"
        warnings = (*warnings, again)
    return Operation(str(workflow["workflowId"]), str(workflow["workflowName"]), status, done, warnings)
