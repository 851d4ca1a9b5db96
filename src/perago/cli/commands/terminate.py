"""`perago terminate`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from perago.cli.messages import CommandError, ExitCode
from perago.cli.parameters import Json
from perago.cli.workflow_operations import WorkflowId, print_operation
from perago.text import one_line

EXAMPLES = """\b
Running attempts are canceled. Their workers stop the functions and publish
nothing. Publications of earlier steps stay on the branch.

\b
On a terminal, perago asks before it ends the workflow. A script gives --yes.

\b
Examples:
  perago terminate 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11
  perago terminate 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11 --yes --reason "wrong input"
  perago rerun 4a6c1f0e-8f5d-4c0e-9d0b-2f6a5f4f7c11       start it again"""


def command(
    workflow_id: WorkflowId,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="The reason that Conductor keeps.")
    ] = "terminated with perago terminate",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="End it without a question.")] = False,
    as_json: Json = False,
) -> None:
    """End a workflow that has not ended.

    It ends with the status TERMINATED, and `perago retry` or `perago rerun` can continue it later.
    """
    from perago.history.operations import operated, read_workflow, running_steps, terminate

    with operated() as workflows:
        workflow = read_workflow(workflows, workflow_id)
        if not yes and workflow["status"] in ("RUNNING", "PAUSED"):
            words = f"{one_line(str(workflow['workflowName']))} {workflow_id} is {workflow['status']}"
            _confirm(f"{words}, {running_steps(workflow)}")
        print_operation(terminate(workflows, workflow, reason[:500]), as_json=as_json)


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
