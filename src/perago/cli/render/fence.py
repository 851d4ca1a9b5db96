"""The state of a publish fence, on standard output."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from perago.attempt.events import FenceState
from perago.attempt.fence import FENCE_PATH
from perago.workspace.text import one_line

if TYPE_CHECKING:
    from perago.driver.fencing import FenceStatus


def status(found: FenceStatus, repository: str, branch: str, *, as_json: bool) -> None:
    """One line, or a JSON object."""
    if as_json:
        content = {
            "repository": repository,
            "branch": branch,
            "head": found.head,
            "fence": found.state.value,
        }
        sys.stdout.write(json.dumps(content) + "\n")
        return
    install = f"perago fence install {repository} {branch}"
    words = {
        FenceState.ABSENT: f"a worker's first publication brings it along, and so does: {install}",
        FenceState.ALTERED: f"{FENCE_PATH} has another text than this version ships; replace it with: {install}",
        FenceState.NOT_ENFORCED: "the server runs no hooks; its configuration switches them on with actions.enabled",
        FenceState.ENFORCED: "the server refuses a publication on another head than it was built on",
    }[found.state]
    line = f"{branch} of {repository} at {found.head[:12]}: publish fence {found.state} ({words})"
    sys.stdout.write(f"{one_line(line)}\n")
