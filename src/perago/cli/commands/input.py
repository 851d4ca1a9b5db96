"""`perago input`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from perago.cli.parameters import checked_branch, read_object, read_refs
from perago.workspace.text import json_text

EXAMPLES = """\b
Examples:
  perago input my-data main --params '{"feature_set": "a"}'
  perago input my-data main --params @params.json --compact
  perago input my-data main --ref @join-output.json
  jq .defaults config.json | perago input my-data main --params -"""


def command(
    repository: Annotated[str, typer.Argument(metavar="REPO", show_default=False, help="A lakeFS repository.")],
    branch: Annotated[
        str, typer.Argument(metavar="BRANCH", callback=checked_branch, show_default=False, help="A branch of it.")
    ],
    params: Annotated[
        str,
        typer.Option("--params", metavar="JSON|@FILE|-", help="The parameters: JSON, a file, or standard input."),
    ] = "{}",
    ref: Annotated[
        str | None,
        typer.Option(
            "--ref",
            metavar="COMMIT|JSON|@FILE|-",
            show_default=False,
            help="A commit instead of the head: its id. Of a list of ids, or of the output of a JOIN, the commit is "
            "taken that continues all others.",
        ),
    ] = None,
    compact: Annotated[bool, typer.Option("--compact", help="On a single line.")] = False,
) -> None:
    """Print the input of a task, ready to start a workflow with.

    The reference is the head of the branch, or what --ref gives. If others advance the branch before the task has
    published, the input is stale: print it right before you use it.
    """
    from perago.cli.services import branch_head, newest_commit

    payload: dict[str, Any] = {
        "workspace": {"repository": repository, "branch": branch, "ref_type": "commit", "ref": ""},
        "params": read_object(params),
    }
    commits = read_refs(ref, repository) if ref is not None else ()
    payload["workspace"]["ref"] = newest_commit(repository, commits) if commits else branch_head(repository, branch)
    text = json_text(payload, indent=None if compact else 2)
    sys.stdout.buffer.write(f"{text}\n".encode())
