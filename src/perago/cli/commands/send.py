"""`perago send`."""

from __future__ import annotations

from typing import Annotated

import typer

from perago.cli.parameters import IMPORT_LIMIT, Module, Timeout

EXAMPLES = """\b
Examples:
  perago send my_tasks.features --workspace my-data/main --params '{"min_rows": 1}'
  perago send my_tasks.features --workspace my-data/main --params @params.json --follow
  perago send my_tasks.summary --params '{"day": "2026-01-31"}' --follow | jq .total

Prints the id of the workflow; with --follow the result.
Status 0 means that it was started, with --follow that it completed."""


def command(
    module: Module,
    params: Annotated[
        str, typer.Option("--params", "-p", metavar="JSON|@FILE|-", help="The task's parameters, a JSON object.")
    ] = "{}",
    workspace: Annotated[
        str | None,
        typer.Option(
            "--workspace", "-w", metavar="REPO/BRANCH", show_default=False, help="The branch that the task works on."
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Show what happens until it ends. Ctrl-C leaves it running."),
    ] = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Start a workflow of this one task on the configured Conductor.

    The task gets the commit that the branch points at now. The TaskDef must be registered, and a worker must run:
    `perago start`, or `perago dev`, whose printed variables lead to its services.
    """
    from perago.cli.sending import send

    raise typer.Exit(send(module, params, workspace, follow=follow, import_limit=timeout))
