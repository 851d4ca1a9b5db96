"""`perago input`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

from perago.cli.parameters import Repository, argument, checked_branch, option, read_object, read_refs
from perago.failure import Failure
from perago.text import json_text

EXAMPLES = """\b
Examples:
  perago input my-data main --params '{"feature_set": "a"}'
  perago input my-data main --params @params.json --compact
  perago input my-data main --ref @join-output.json
  jq .defaults config.json | perago input my-data main --params -"""


def command(
    repository: Repository,
    branch: Annotated[str, argument("BRANCH", "A branch of the repository.", callback=checked_branch)],
    params: Annotated[str, option("--params JSON|@FILE|-", "The parameters: JSON, a file, or standard input.")] = "{}",
    ref: Annotated[
        str | None,
        option(
            "--ref COMMIT|JSON|@FILE|-",
            "A commit id instead of the head. Of a list of ids, or of the output of a JOIN, perago takes the "
            "commit that continues all others.",
        ),
    ] = None,
    compact: Annotated[bool, option("--compact", "Print a single line.")] = False,
) -> None:
    """Print the input of a task, ready to start a workflow with.

    The reference is the head of the branch, or the commit of --ref. The input is stale if another client advances the
    branch before the task has published, so print it right before you use it.
    """
    from perago.cli.services import branch_head
    from perago.taskdef.payload import workspace_block

    task_params = read_object(params)
    commits = read_refs(ref, repository) if ref is not None else ()
    head = newest_commit(repository, commits) if commits else branch_head(repository, branch)
    payload = {"workspace": workspace_block(repository, branch, head), "params": task_params}
    text = json_text(payload, indent=None if compact else 2)
    sys.stdout.buffer.write(f"{text}\n".encode())


def newest_commit(repository: str, commits: Sequence[str]) -> str:
    """Return the commit that continues all others, as an attempt finds it. A single commit must exist.

    Raises:
        Failure: there is no such commit, or lakeFS does not have one of the commits.
    """
    from perago.attempt.joins import PAGE, NotOneLine, newest_of
    from perago.configuration import Servers
    from perago.ports import NotFound

    with Servers() as servers:
        try:
            return newest_of(commits, lambda commit: servers.store.ancestry(repository, commit, limit=PAGE))
        except NotOneLine as error:
            raise Failure(str(error)) from error
        except NotFound as error:
            message = f"{servers.settings.require_lakefs().shown} does not have all of these commits: {error.detail}"
            raise Failure(message, "check the repository, the ids and LAKECTL_SERVER_ENDPOINT_URL") from error
