"""`perago rerun`."""

from __future__ import annotations

from typing import Annotated

import typer

from perago.cli.parameters import Json
from perago.cli.workflow_operations import WorkflowId, print_operation

EXAMPLES = """\b
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
  perago retry 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11              failed steps only"""


def command(
    workflow_id: WorkflowId,
    step: Annotated[
        str | None,
        typer.Option("--from", metavar="STEP", help="Begin at a step: its reference name, or a task id."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a workflow again: every step, or a step and all that follow it.

    The workflow must have ended.
    """
    from perago.history.operations import operated, rerun

    with operated() as workflows:
        print_operation(rerun(workflows, workflow_id, step), as_json=as_json)
