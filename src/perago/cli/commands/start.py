"""`perago start`."""

from __future__ import annotations

from typing import Annotated

import typer

from perago.cli.parameters import IMPORT_LIMIT, Module, Timeout

EXAMPLES = """\b
Examples:
  perago start my_tasks.features
  perago start my_tasks.features -j 4
  perago start my_tasks.features --wait     when the servers may come up later

The first SIGTERM or Ctrl-C lets running attempts finish and ends with status 0;
the second one cancels them."""


def command(
    module: Module,
    jobs: Annotated[int, typer.Option("--jobs", "-j", metavar="N", min=1, max=999, help="Attempts at a time.")] = 1,
    wait: Annotated[bool, typer.Option("--wait", help="Keep trying while a server does not let us in.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Print what functions print, log and report as progress, while they run.")
    ] = False,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Run workers for a task module against the configured servers.

    Module and configuration are validated before any worker starts. Then Conductor and, for a task with a workspace,
    lakeFS must answer. A TaskDef on the server that differs from the module's is warned about and left alone:
    `perago register` replaces it.
    """
    from perago.cli.starting import start_worker

    raise typer.Exit(start_worker(module, jobs, wait=wait, watch=watch, import_limit=timeout))
