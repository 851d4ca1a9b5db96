"""`perago show`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from perago.cli import messages
from perago.cli.progress import working

FILES = 40
LOG_LINES = 40

EXAMPLES = """\b
One argument is the id of an attempt in Conductor, two are a repository and a
commit: its id, the beginning of it as `perago log` prints it, or a branch.
Params and results are not shown.

\b
Examples:
  perago show 1f7a2c34-9a5e-4c1b-8c5e-0d9f6b3a7e21
  perago show my-data 9d1c54aa2f00
  perago show my-data main            what the head of a branch is
  perago show my-data main --all      all its files and lines of its log"""


def command(
    first: Annotated[
        str, typer.Argument(metavar="TASK_ID|REPO", show_default=False, help="A task id, or a repository.")
    ],
    second: Annotated[
        str | None, typer.Argument(metavar="COMMIT", show_default=False, help="With REPO: a commit, or a branch.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="List all changed files and lines of the log.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
) -> None:
    """Show everything about one attempt: how it ended and why, what it published, its files and its log.

    Conductor and lakeFS are only read, and so are the logs of this machine's workers. What one of them does not tell
    is said, and the rest is shown.
    """
    from perago.cli.attempt_sheet import print_sheet
    from perago.history.attempt_facts import attempt_facts

    with working("asking the servers") as tell:
        found = attempt_facts(first, second, None if everything else FILES, messages.service_words, tell)
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        print_sheet(found, None if everything else LOG_LINES)
