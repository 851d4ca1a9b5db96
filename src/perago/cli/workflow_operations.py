"""Arguments and output that the commands share which end workflows or run them again."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli import messages
from perago.cli.rendering import Renderer, print_json
from perago.text import one_line

if TYPE_CHECKING:
    from perago.history.operations import Operation

WorkflowId = Annotated[str, typer.Argument(metavar="WORKFLOW_ID", help="The id of the workflow in Conductor.")]


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
