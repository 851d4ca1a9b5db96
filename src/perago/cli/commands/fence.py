"""`perago fence`."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from perago.cli.errors import ExitCode
from perago.failure import Failure
from perago.text import one_line

if TYPE_CHECKING:
    from perago.driver.fencing import FenceStatus


EXAMPLES = """\b
The publish fence is a small pre-merge hook in the branch itself, in
_lakefs_actions/. It lets a publication through only on the head that it was
built on, so two workers can never both publish. Tasks never see it.

\b
There is nothing to install by default: the first publication to a branch
brings the fence along (PERAGO_PUBLISH_FENCE=auto).

\b
Examples:
  perago fence install my-data main
  perago fence status my-data main
  perago fence remove my-data main"""


class Action(StrEnum):
    """An action on the fence."""

    INSTALL = "install"
    STATUS = "status"
    REMOVE = "remove"


def command(
    action: Annotated[Action, typer.Argument(show_default=False, help="What to do with the fence.")],
    repository: Annotated[str, typer.Argument(metavar="REPO", show_default=False, help="A lakeFS repository.")],
    branch: Annotated[str, typer.Argument(metavar="BRANCH", show_default=False, help="A branch of it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the state as JSON.")] = False,
) -> None:
    """Guard the publications to a branch, or look whether they are guarded.

    `install` and `remove` make one commit on the branch each, if there is anything to change; staged work of others
    is never committed along. `status` also tries the fence on a scratch branch, since a server can have its hooks
    switched off, and exits with 1 when publications are not guarded. The words are those of an attempt's record:
    enforced, not enforced, absent, altered.
    """
    from perago.cli.services import store_of
    from perago.driver.fencing import fence_status, install_fence, remove_fence
    from perago.ports import MergeRefused

    act = {Action.INSTALL: install_fence, Action.STATUS: fence_status, Action.REMOVE: remove_fence}[action]
    try:
        with store_of(repository, branch) as store:
            status = act(store, repository, branch)
    except MergeRefused as error:
        message = f"lakeFS refused the merge into {branch} of {repository}: {error.detail}"
        advice = "commit or reset what others have staged on the branch if that is the reason, and try again"
        raise Failure(message, advice) from error
    print_status(status, repository, branch, as_json=as_json)
    if action is not Action.REMOVE and not status.holds:
        raise typer.Exit(ExitCode.FAILURE)


def print_status(found: FenceStatus, repository: str, branch: str, *, as_json: bool) -> None:
    """Print one line, or a JSON object.

    Args:
        found: What was found on the branch.
        repository: The lakeFS repository.
        branch: Its branch.
        as_json: Print the object instead of the line.
    """
    if as_json:
        content = {
            "repository": repository,
            "branch": branch,
            "head": found.head,
            "fence": found.state.value,
        }
        sys.stdout.write(json.dumps(content) + "\n")
        return
    from perago.attempt.events import FenceState
    from perago.attempt.publication import FENCE_PATH

    install = f"perago fence install {repository} {branch}"
    words = {
        FenceState.ABSENT: f"a worker's first publication brings it along, and so does: {install}",
        FenceState.ALTERED: f"{FENCE_PATH} has another text than this version ships; replace it with: {install}",
        FenceState.NOT_ENFORCED: "the server runs no hooks; its configuration switches them on with actions.enabled",
        FenceState.ENFORCED: "the server refuses a publication on another head than it was built on",
    }[found.state]
    line = f"{branch} of {repository} at {found.head[:12]}: publish fence {found.state} ({words})"
    sys.stdout.write(f"{one_line(line)}\n")
