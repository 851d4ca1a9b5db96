"""`perago input`."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer

from perago.cli.boundary import Failure
from perago.cli.exit_codes import ExitCode
from perago.cli.json_input import read_object
from perago.workspace.text import json_text

EXAMPLES = """\b
Examples:
  perago input my-data main --params '{"feature_set": "a"}'
  perago input my-data main --params @params.json --compact
  jq .defaults config.json | perago input my-data main --params -"""

_BRANCH = re.compile(r"\w[-\w]*", re.ASCII)  # reference/lakefs.md 2
_COMMIT = re.compile(r"[0-9a-f]{64}")


def _branch(name: str) -> str:
    if _COMMIT.fullmatch(name):
        raise typer.BadParameter("that is a commit id; name the branch that the result shall go to.")
    if not _BRANCH.fullmatch(name):
        raise typer.BadParameter(f"{name!r} cannot be a branch: letters, digits, _ and - only.")
    return name


def command(
    repository: Annotated[str, typer.Argument(metavar="REPO", show_default=False, help="A lakeFS repository.")],
    branch: Annotated[
        str, typer.Argument(metavar="BRANCH", callback=_branch, show_default=False, help="A branch of it.")
    ],
    params: Annotated[
        str,
        typer.Option("--params", metavar="JSON|@FILE|-", help="The parameters: JSON, a file, or standard input."),
    ] = "{}",
    compact: Annotated[bool, typer.Option("--compact", help="On a single line.")] = False,
) -> None:
    """Print the input of a task, ready to start a workflow with.

    The reference is the commit that the branch points at now. Whoever advances the branch before the task has
    published makes the input stale: print it right before you use it.
    """
    payload: dict[str, Any] = {
        "workspace": {"repository": repository, "branch": branch, "ref_type": "commit", "ref": ""},
        "params": read_object(params),
    }
    payload["workspace"]["ref"] = _head(repository, branch)
    text = json_text(payload, indent=None if compact else 2)
    sys.stdout.buffer.write(f"{text}\n".encode())


def _head(repository: str, branch: str) -> str:
    from perago.settings import load_settings

    lakefs = load_settings().require_lakefs()
    from perago.adapters.lakefs import LakeFSStore
    from perago.ports import NotFound

    store = LakeFSStore(lakefs)
    try:
        return store.get_commit(repository, branch).id
    except NotFound as error:
        message = f"{lakefs.endpoint_url} has no branch {branch} in a repository {repository}: {error.detail}"
        raise Failure(ExitCode.FAILURE, message, "check both names, and that the address is the right one") from error
    finally:
        store.close()
