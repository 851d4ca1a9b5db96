"""`perago run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perago.cli.parameters import IMPORT_LIMIT, Module, Timeout

EXAMPLES = """\b
Examples:
  perago run my_tasks.features --example minimal
  perago run my_tasks.features --params '{"min_rows": 1}' --workspace ./sample
  perago run my_tasks.features --params @params.json --workspace ./sample --output ./result
  perago run my_tasks.summary --params '{"day": "2026-01-31"}' | jq .total
  perago run my_tasks.features --workspace ./sample --pdb

The result is printed to standard output, everything else to standard error.
Status 0 means that the task completed."""


def command(
    module: Module,
    params: Annotated[
        str | None,
        typer.Option(
            "--params",
            "-p",
            metavar="JSON|@FILE|-",
            show_default=False,
            help="The task's parameters, a JSON object. Default: {}",
        ),
    ] = None,
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace", "-w", metavar="DIR", show_default=False, help="The task's input files; DIR is only read."
        ),
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(
            "--example",
            "-e",
            metavar="ID",
            show_default=False,
            help="Take params and input files from the task's Example of this id.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            show_default=False,
            help="Write the published tree to DIR, which must be new or empty.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole outcome as JSON (docs/cli.md).")] = False,
    pdb: Annotated[
        bool, typer.Option("--pdb", help="Run the function in this terminal, and debug it where it raises an error.")
    ] = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Run one attempt of a task on in-memory services: no server is needed.

    The attempt is the real one: the input is validated, the files are committed to an in-memory lakeFS and downloaded
    into a private directory, guardrails are checked, the function runs in a worker process, and what it changed is
    published and verified. Nothing is written outside perago's own directories and --output.

    With --pdb, or where the module has a breakpoint(), the function runs in this process instead, so that the debugger
    has the terminal.
    """
    from perago.cli.running import run_once

    status = run_once(
        module, params, workspace, output, example=example, as_json=as_json, pdb=pdb, import_limit=timeout
    )
    raise typer.Exit(status)
