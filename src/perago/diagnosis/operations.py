"""End workflows of the configured Conductor, and run them again. Recoveries that leave a workflow stuck are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from perago.adapters.conductor.overview import ConductorWorkflows
from perago.adapters.conductor.session import NO_SUCH_URL
from perago.adapters.http import COMMAND_POLICY
from perago.configuration import Servers
from perago.diagnosis.undo import FamilyAtRest, SharedBytes, Undoing, open_text, undone_text
from perago.failure import Failure
from perago.ports import ENDED_WORKFLOWS, NotFound, Refused, ServiceError
from perago.settings import ConfigurationError
from perago.text import count, listing, one_line, quoted
from perago.workflows.recovery import Refusal, attempt_of, permissive_retries, rerun_refusal, retry_refusal, revived_by

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
    undone: tuple[str, ...] = ()
    """A text for each branch on which publications were undone before."""


@contextmanager
def operated() -> Iterator[Servers]:
    """Open the configured servers."""
    with Servers(policy=replace(COMMAND_POLICY, answer=30.0)) as servers:
        yield servers


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


def undoing_of(servers: Servers, workflow_id: str, reason: str) -> Undoing:
    """Read the family of a workflow for an operation.

    Raises:
        Failure: Conductor does not have the workflow.
        ServiceError: Conductor did not answer.
    """
    read_workflow(servers.workflows, workflow_id)
    return Undoing(servers, FamilyAtRest(servers.workflows, workflow_id), reason)


def end_family(servers: Servers, undoing: Undoing) -> None:
    """End the workflow of a family that was started, if it has not ended.

    Raises:
        ServiceError: Conductor did not answer, or refused.
    """
    root_id = undoing.family.root_id
    if read_workflow(servers.workflows, root_id)["status"] not in ENDED_WORKFLOWS:
        servers.workflows.terminate(root_id, undoing.reason)


def retry(servers: Servers, workflow_id: str) -> Operation:
    """Start new attempts for the failed steps of a workflow, and undo first what will no longer count.

    Raises:
        Failure: Conductor would not find the steps, has nothing to retry, or a branch cannot be changed.
        ServiceError: a server did not answer, or refused.
    """
    workflows = servers.workflows
    workflow = read_workflow(workflows, workflow_id)
    if (refusal := retry_refusal(workflow)) is not None:
        raise _refused(workflow, "retried", refusal)
    steps = permissive_retries(workflow)
    undone, warnings = _undone_first(
        servers,
        workflow_id,
        "perago retry",
        change=lambda family: family.retry(workflow_id),
        ask=lambda: workflows.retry(workflow_id),
    )
    warnings += _about(steps, lambda names: f"Conductor gives the new attempt of {names} no retries and no timeouts")
    return _after(workflows, workflow, "the failed and canceled steps run again", warnings, undone)


def rerun(servers: Servers, workflow_id: str, step: str | None) -> Operation:
    """Run a workflow again, all steps or those from one attempt on, and undo first what will no longer count.

    Args:
        servers: the configured servers.
        workflow_id: a workflow that has ended.
        step: a reference name, for its last attempt, or a task id; None for all steps.

    Raises:
        Failure: the workflow has no such step, would be stuck, or a branch cannot be changed.
        ServiceError: a server did not answer, or refused.
    """
    workflows = servers.workflows
    workflow = read_workflow(workflows, workflow_id)
    row = None if step is None else attempt_of(workflow, step)
    if step is not None and row is None:
        names = list(dict.fromkeys(quoted(str(task["referenceTaskName"])) for task in workflow["tasks"]))
        known = f"it has {listing(names) or 'none yet'}"
        fix = f"{known}; in a loop, each round has a name of its own, such as 'step__2'"
        raise Failure(f"workflow {workflow_id} has no step {quoted(step)}", fix)
    if (refusal := rerun_refusal(workflow, row)) is not None:
        raise _refused(workflow, "run again" + ("" if row is None else f" from {one_line(str(step))}"), refusal)
    task_id = None if row is None else str(row["taskId"])

    def ask() -> None:
        if task_id is None:
            workflows.restart(workflow_id)
        else:
            workflows.rerun(workflow_id, task_id)

    undone, warnings = _undone_first(
        servers, workflow_id, "perago rerun", change=lambda family: family.rerun(workflow_id, task_id), ask=ask
    )
    if row is None:
        return _after(workflows, workflow, "every step runs again", warnings, undone)
    warnings += _about(revived_by(workflow, row), lambda names: f"Conductor also repeats earlier attempts of {names}")
    done = one_line(f"{row['referenceTaskName']} and the steps after it run again")
    return _after(workflows, workflow, done, warnings, undone)


def _undone_first(
    servers: Servers, workflow_id: str, reason: str, *, change: Callable[[FamilyAtRest], None], ask: Callable[[], None]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Undo the publications that will not count after an operation, then ask Conductor for it. Return what was undone,
    and warnings.

    If Conductor refuses, what was undone is brought back. If there is no answer, it is unknown whether the steps run:
    then `perago undo` continues or revokes the operation.
    """
    undoing = Undoing(servers, FamilyAtRest(servers.workflows, workflow_id), reason)
    change(undoing.family)
    if not undoing.has_branches:
        ask()
        return (), ()
    try:
        servers.settings.require_lakefs()
    except ConfigurationError:
        ask()
        return (), ("lakeFS is not configured here, so nothing was undone before; attempts undo what they can",)
    plan = undoing.plan()
    if plan.open_attempts:
        ask()
        return (), (f"nothing was undone before, because others of the family run: {open_text(plan)}",)
    try:
        outcomes = undoing.carry_out(plan)
    except SharedBytes as error:
        undoing.revoke()
        ask()
        return (), (f"{error.message} A step that runs again replaces its publication if it writes the same bytes",)
    except Failure:
        undoing.revoke()
        raise
    try:
        ask()
    except (Refused, NotFound) as error:
        undoing.revoke()
        fix = f"see what it does: perago show {workflow_id}; or run every step again: perago rerun {workflow_id}"
        raise Failure(f"Conductor refused, so what was undone is back: {error}", fix) from error
    except ServiceError as error:
        fix = f"see whether the workflow runs (perago show {workflow_id}); then continue or revoke: perago undo"
        raise Failure(f"it is unknown whether the steps run again: {error}", f"{fix} {workflow_id}") from error
    return undone_text(plan, outcomes), tuple(note for outcome in outcomes for note in outcome.notes)


def _about(steps: Sequence[str], warning_of: Callable[[str], str]) -> tuple[str, ...]:
    return (one_line(warning_of(listing(steps))),) if steps else ()


def _refused(workflow: Json, done: str, refusal: Refusal) -> Failure:
    message = f"workflow {workflow['workflowId']} cannot be {done}: {one_line(refusal.problem)}"
    return Failure(message, one_line(refusal.fix))


def _after(
    workflows: ConductorWorkflows,
    workflow: Json,
    done: str,
    warnings: tuple[str, ...] = (),
    undone: tuple[str, ...] = (),
) -> Operation:
    now = workflows.workflow(workflow["workflowId"])
    status = str(now["status"])
    if status in ENDED_WORKFLOWS and workflow["status"] in ENDED_WORKFLOWS:
        warnings = (*warnings, _ended_again(workflow, now))
    return Operation(str(workflow["workflowId"]), str(workflow["workflowName"]), status, done, warnings, undone)


def _ended_again(before: Json, now: Json) -> str:
    """Describe a workflow that has ended again right after an operation."""
    earlier = {row["taskId"]: row["status"] for row in before["tasks"]}
    changed = [row for row in now["tasks"] if earlier.get(row["taskId"]) != row["status"]]
    reason = f" ({now['reasonForIncompletion']})" if now.get("reasonForIncompletion") else ""
    steps = listing([f"{row['referenceTaskName']} {row['status']}" for row in changed], 5)
    text = f"it has ended again already: {now['status']}{reason}; attempts of this run: {steps or 'none'}"
    if changed and all(row["status"] == "CANCELED" for row in changed):
        # Conductor accepts a retry while it still ends the workflow, and then cancels the new attempts.
        text += "; Conductor has canceled them, because it was still ending the workflow: run the command again"
    return one_line(text)
