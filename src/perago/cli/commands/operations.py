"""`perago signal`, `terminate`, `retry` and `rerun`: answer workflows, end them, or run them again."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from perago.cli import messages
from perago.cli.messages import CommandError, ExitCode
from perago.cli.parameters import Json, argument, option, read_object
from perago.cli.rendering import Renderer, print_json
from perago.ports import OPEN_WORKFLOWS
from perago.text import one_line

if TYPE_CHECKING:
    from perago.diagnosis.operations import Operation

EXAMPLES = {
    "signal": """\b
Conductor loses a signal that comes before the workflow waits for it, so perago
refuses to send one. The sub-workflows of the workflow can wait, too.

\b
Examples:
  perago signal 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11 approval --params '{"by": "ann"}'
  perago signal 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11 approval --params @approval.json""",
    "terminate": """\b
Running attempts are canceled. Their workers stop the functions and publish
nothing. Publications of earlier steps stay on the branch.

\b
On a terminal, perago asks before it ends the workflow. A script gives --yes.

\b
Examples:
  perago terminate 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11
  perago terminate 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11 --yes --reason "wrong input"
  perago rerun 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11       start it again""",
    "retry": """\b
Steps that completed keep their results. Failed and canceled steps get new
attempts with new ids. Publications that will no longer count are undone first.

\b
Examples:
  perago retry 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11
  perago list --status failed                                  finds the id
  perago rerun 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11       every step again""",
    "rerun": """\b
A step that runs again undoes its earlier publication first, so the branch never
has both.

\b
Conductor accepts some reruns that leave the workflow RUNNING for good: from a
JOIN, a static fork, a SWITCH, most branches of a fork, or a step of a loop.
perago refuses them, and names a command that works (perago help fork-and-join).

\b
Examples:
  perago rerun 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11              every step
  perago rerun 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11 --from clean
  perago retry 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11              failed steps only""",
}

EXAMPLES["undo"] = """\b
After a rerun in Conductor itself, the branch can hold publications of steps
that no longer count. `perago rerun` and `perago retry` undo them first.

\b
An operation that was interrupted is continued, or revoked if Conductor did not
run the steps again.

\b
Examples:
  perago undo 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11 --dry-run
  perago undo 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11 --reason "wrong input"
  perago undo 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11 --terminate"""

WorkflowId = Annotated[str, argument("WORKFLOW_ID", "The id of the workflow in Conductor.")]


def signal(
    workflow_id: WorkflowId,
    name: Annotated[str, argument("NAME", "The name of the step that waits.")],
    params: Annotated[str, option("--params JSON|@FILE|-", "The signal: JSON, a file, or standard input.")] = "{}",
    as_json: Json = False,
) -> None:
    """Answer a step of a workflow that waits for a signal.

    The types of the signal are checked before it is sent. The command fails if the step has not taken it.
    """
    from perago.diagnosis import operations
    from perago.workflows.waiting import send_signal

    content = read_object(params)
    with operations.operated() as servers:
        workflow = operations.read_workflow(servers.workflows, workflow_id)
        wait = send_signal(servers.workflows, workflow, name, content)
    if as_json:
        print_json({"workflow_id": wait.workflow_id, "step": wait.reference, "taken": True})
    else:
        Renderer().line(one_line(f"step {wait.reference} of workflow {wait.workflow_id} has taken the signal"))


def terminate(
    workflow_id: WorkflowId,
    reason: Annotated[
        str, option("--reason TEXT", "The reason that Conductor keeps.")
    ] = "terminated with perago terminate",
    yes: Annotated[bool, option("--yes -y", "End it without a question.")] = False,
    as_json: Json = False,
) -> None:
    """End a workflow that has not ended.

    It ends with the status TERMINATED, and `perago retry` or `perago rerun` can continue it later.
    """
    from perago.diagnosis import operations

    with operations.operated() as servers:
        workflows = servers.workflows
        workflow = operations.read_workflow(workflows, workflow_id)
        if not yes and workflow["status"] in OPEN_WORKFLOWS:
            state = f"{one_line(str(workflow['workflowName']))} {workflow_id} is {workflow['status']}"
            _confirm(f"{state}, {operations.running_steps(workflow)}")
        print_operation(operations.terminate(workflows, workflow, reason[:500]), as_json=as_json)


def _confirm(state: str) -> None:
    """Ask on the terminal.

    Raises:
        CommandError: there is no terminal, or the answer is not yes.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandError(ExitCode.USAGE, "there is no terminal to ask on, so nothing was terminated", "give --yes")
    sys.stderr.write(f"{state}\nTerminate it? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError(ExitCode.FAILURE, "nothing was terminated")


def retry(workflow_id: WorkflowId, as_json: Json = False) -> None:
    """Run the failed steps of a workflow again.

    The workflow must have ended. perago refuses a retry that Conductor cannot carry out, and names a working command.
    """
    from perago.diagnosis import operations

    with operations.operated() as servers:
        print_operation(operations.retry(servers, workflow_id), as_json=as_json)


def rerun(
    workflow_id: WorkflowId,
    step: Annotated[str | None, option("--from STEP", "Begin at a step: its reference name, or a task id.")] = None,
    as_json: Json = False,
) -> None:
    """Run a workflow again: every step, or a step and all that follow it.

    The workflow must have ended.
    """
    from perago.diagnosis import operations

    with operations.operated() as servers:
        print_operation(operations.rerun(servers, workflow_id, step), as_json=as_json)


def undo(
    workflow_id: WorkflowId,
    reason: Annotated[str, option("--reason TEXT", "The reason that the commit records.")] = "perago undo",
    dry_run: Annotated[bool, option("--dry-run", "Show the plan, and change nothing.")] = False,
    terminate: Annotated[bool, option("--terminate", "End the workflow first, if it has not ended.")] = False,
    wait: Annotated[float, option("--wait SECONDS", "How long to wait for open attempts.")] = 60.0,
    as_json: Json = False,
) -> None:
    """Remove what a workflow has published and no longer counts.

    It reads the workflow with its sub-workflows, and shows which publications Conductor counts. It waits until no
    attempt is open. Then it undoes the others in one commit for each branch.
    """
    from perago.diagnosis import operations
    from perago.diagnosis.undo import undone_text, wait_until_at_rest

    with operations.operated() as servers:
        servers.settings.require_lakefs()
        undoing = operations.undoing_of(servers, workflow_id, reason[:500])
        if terminate and not dry_run:
            operations.end_family(servers, undoing)
        plan = undoing.plan() if dry_run else wait_until_at_rest(undoing, time.time() + wait)
        outcomes = () if dry_run else undoing.carry_out(plan)
    done = undone_text(plan, outcomes) if outcomes else ()
    if as_json:
        print_json({**asdict(plan), "done": done})
        return
    out = Renderer()
    for branch in plan.branches:
        out.line(f"{branch.repository}/{branch.branch} since {branch.ref[:12]}")
        for commit in branch.commits:
            out.line(one_line(f"  {commit.commit[:12]}  {commit.standing:<14}  {commit.step}  {commit.message}"))
        for operation in branch.revoked:
            out.line(f"  {operation[:12]}  is revoked, because Conductor counts what it has undone")
        for name in branch.leftovers:
            out.line(f"  staging branch {name} of an attempt that has ended")
    for attempt in plan.open_attempts:
        out.line(one_line(f"open: {attempt}"))
    if done:
        for text in done:
            out.line(text)
    elif not plan.is_needed:
        out.line("nothing to undo")
    elif dry_run:
        out.line("dry run: nothing was changed")


def print_operation(operation: Operation, *, as_json: bool) -> None:
    """Print a workflow after an operation, and its warnings to standard error."""
    if as_json:
        print_json(asdict(operation))
    else:
        out = Renderer()
        out.line(f"{one_line(operation.name)} {operation.workflow_id}: {out.status(operation.status)}")
        out.line(f"  {operation.done}")
        for text in operation.undone:
            out.line(f"  {text}")
    for text in operation.warnings:
        messages.warning(text)
