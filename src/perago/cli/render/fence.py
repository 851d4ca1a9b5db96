"""The state of a publish fence, on standard output."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from perago.attempt.events import FenceState

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
            "enforced": found.enforced,
        }
        sys.stdout.write(json.dumps(content) + "\n")
        return
    sys.stdout.write(f"{branch} of {repository} at {found.head[:12]}: {_words(found, repository, branch)}\n")


def _words(found: FenceStatus, repository: str, branch: str) -> str:
    if found.state is FenceState.ABSENT:
        return f"no publish fence (put one there with: perago fence install {repository} {branch})"
    if found.state is FenceState.ALTERED:
        return (
            "the publish fence has another text than this version ships, so it is not relied on (replace it with: "
            f"perago fence install {repository} {branch})"
        )
    if not found.enforced:
        return "the publish fence is there, but the server does not run it (are hooks switched off: actions.enabled?)"
    return "the publish fence is there, and the server obeys it"
