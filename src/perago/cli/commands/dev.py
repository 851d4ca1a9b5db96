"""`perago dev`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perago.cli.parameters import IMPORT_LIMIT, Modules, Timeout

EXAMPLES = """\b
Examples:
  perago dev my_tasks.features
  perago dev my_tasks.clean my_tasks.features -w ./sample
  perago dev my_tasks.features -w ./sample --state .perago-dev   to be continued

Then paste the curl line that it prints, and open the page to see what happens.
Edit a module: its worker is started anew when no attempt is running. Ctrl-C lets
running attempts finish, a second one cancels them."""


def command(
    modules: Modules,
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace",
            "-w",
            metavar="DIR",
            show_default=False,
            help="Files to commit to branch main of the repository dev; DIR is only read.",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", metavar="N", min=1, max=99, help="Attempts at a time, for each module.")
    ] = 1,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="PORT",
            min=0,
            max=65535,
            show_default=False,
            help="Port on 127.0.0.1; 0 for any free one. Default: 7777, or any free one if that is taken.",
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="DIR",
            show_default=False,
            help="Keep everything in DIR and go on from there the next time. Default: nothing is kept.",
        ),
    ] = None,
    timeout: Timeout = IMPORT_LIMIT,
) -> None:
    """Develop task modules on an embedded Conductor and lakeFS.

    Starts both on this machine with a page to watch them, registers the TaskDefs, makes a workflow of one task
    for every module, and runs real workers, which are started anew when their module changes. Prints where everything
    is and the lines that start a workflow. It speaks to no other server, even if one is configured.
    """
    from perago.cli.dev.developing import DevOptions, develop

    raise typer.Exit(develop(DevOptions(tuple(modules), workspace, jobs, port, state, timeout)))
