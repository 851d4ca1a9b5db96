"""`perago fence`."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from perago.cli.messages import ExitCode
from perago.cli.parameters import FormerPart, Place, argument, option, parts_of_place
from perago.failure import Failure
from perago.text import one_line, short

EXAMPLES = """\b
The publish fence is a small pre-merge hook in the branch itself, in
_lakefs_actions/. It accepts a publication only on the head that it was built
on, so two workers can never both publish. Tasks never see it.

\b
There is nothing to install by default: the first publication to a branch
installs the fence (PERAGO_PUBLISH_FENCE=auto).

\b
Examples:
  perago fence install my-data/main
  perago fence status my-data/main
  perago fence remove my-data/main"""


class Action(StrEnum):
    """An action on the fence."""

    INSTALL = "install"
    STATUS = "status"
    REMOVE = "remove"


def command(
    action: Annotated[Action, argument("install|status|remove", "What to do with the fence.")],
    place: Place,
    former: FormerPart = None,
    as_json: Annotated[bool, option("--json", "Print the state as JSON.")] = False,
) -> None:
    """Guard the publications to a branch, or check whether they are guarded.

    `install` and `remove` each make one commit on the branch if there is something to change. They never commit staged
    work of other clients. `status` also tries the fence on a scratch branch, because a server can have its hooks
    switched off. It exits with 1 if publications are not guarded. The states are enforced, not enforced, absent and
    altered, as in the record of an attempt.
    """
    from perago.attempt.events import FenceState
    from perago.attempt.publication import FENCE_PATH
    from perago.cli.services import store_of
    from perago.driver.fencing import fence_status, install_fence, remove_fence
    from perago.ports import MergeRefused

    repository, branch = parts_of_place(place, former)
    act = {Action.INSTALL: install_fence, Action.STATUS: fence_status, Action.REMOVE: remove_fence}[action]
    try:
        with store_of(repository, branch) as store:
            status = act(store, repository, branch)
    except MergeRefused as error:
        message = f"lakeFS refused the merge into {branch} of {repository}: {error.detail}"
        raise Failure(message, "if the branch has uncommitted changes, commit or reset them, and try again") from error
    if as_json:
        content = {"repository": repository, "branch": branch, "head": status.head, "fence": status.state.value}
        sys.stdout.write(json.dumps(content) + "\n")
    else:
        install = f"perago fence install {repository}/{branch}"
        explanation = {
            FenceState.ABSENT: f"the first publication of a worker installs it, and so does: {install}",
            FenceState.ALTERED: f"{FENCE_PATH} differs from the text of this version; replace it with: {install}",
            FenceState.NOT_ENFORCED: "the server runs no hooks; set actions.enabled in its configuration",
            FenceState.ENFORCED: "the server refuses a publication on another head than it was built on",
        }[status.state]
        line = f"{branch} of {repository} at {short(status.head)}: publish fence {status.state} ({explanation})"
        sys.stdout.write(f"{one_line(line)}\n")
    if action is not Action.REMOVE and not status.holds:
        raise typer.Exit(ExitCode.FAILURE)
