"""`perago terminate`, `perago retry` and `perago rerun`: end workflows, or run them again."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from perago.cli import messages
from perago.cli.messages import CommandError, ExitCode
from perago.cli.parameters import Json, argument, option
from perago.cli.rendering import Renderer, print_json
from perago.text import one_line

if TYPE_CHECKING:
    from perago.diagnosis.operations import Operation

EXAMPLES = {
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
attempts with new ids.

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

WorkflowId = Annotated[str, argument("WORKFLOW_ID", "The id of the workflow in Conductor.")]


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

    with operations.operated() as workflows:
        workflow = operations.read_workflow(workflows, workflow_id)
        if not yes and workflow["status"] in ("RUNNING", "PAUSED"):
            words = f"{one_line(str(workflow['workflowName']))} {workflow_id} is {workflow['status']}"
            _confirm(f"{words}, {operations.running_steps(workflow)}")
        print_operation(operations.terminate(workflows, workflow, reason[:500]), as_json=as_json)


def _confirm(words: str) -> None:
    """Ask on the terminal.

    Raises:
        CommandError: there is no terminal, or the answer is not yes.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandError(ExitCode.USAGE, "there is no terminal to ask on, so nothing was terminated", "give --yes")
    sys.stderr.write(f"{words}\nTerminate it? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError(ExitCode.FAILURE, "nothing was terminated")


def retry(workflow_id: WorkflowId, as_json: Json = False) -> None:
    """Run the failed steps of a workflow again.

    The workflow must have ended. perago refuses a retry that Conductor cannot carry out, and names a working command.
    """
    from perago.diagnosis import operations

    with operations.operated() as workflows:
        print_operation(operations.retry(workflows, workflow_id), as_json=as_json)


def rerun(
    workflow_id: WorkflowId,
    step: Annotated[str | None, option("--from STEP", "Begin at a step: its reference name, or a task id.")] = None,
    as_json: Json = False,
) -> None:
    """Run a workflow again: every step, or a step and all that follow it.

    The workflow must have ended.
    """
    from perago.diagnosis import operations

    with operations.operated() as workflows:
        print_operation(operations.rerun(workflows, workflow_id, step), as_json=as_json)


def print_operation(operation: Operation, *, as_json: bool) -> None:
    """Print a workflow after an operation, and its warnings to standard error."""
    if as_json:
        print_json(asdict(operation))
    else:
        out = Renderer()
        out.line(f"{one_line(operation.name)} {operation.workflow_id}: {out.status(operation.status)}")
        out.line(f"  {operation.done}")
    for text in operation.warnings:
        messages.warning(text)
