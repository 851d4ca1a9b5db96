"""The publish fence: a pre-merge hook that makes the merge a compare-and-swap on the branch head.

Before lakeFS moves the branch it runs the action files that lie in the SOURCE commit of the merge, on the merge commit
that it is about to publish, and again for every try of its own (`reference/lakefs.md` 1.1, 1.5). The script compares
that commit's first parent, the head of this very moment, with the head that the publisher built on. So one copy in a
branch fences everything that is staged from it, and a commit that was seen to carry it cannot lose it.

A merge that names no expected head passes: people may go on merging by hand.
"""

from __future__ import annotations

import hashlib

from perago.attempt.events import FenceState
from perago.attempt.publication import EXPECTED_HEAD
from perago.ports import FENCE_MARKER

FENCE_PATH = "_lakefs_actions/perago-publish-fence.yaml"

FENCE_TEXT = f"""\
# perago's publish fence. Put here by `perago fence install`, which also says how to remove it. Do not edit it: perago
# compares its checksum. A merge whose metadata names the head that it was built on ({EXPECTED_HEAD}) is let through on
# that head only. A merge that names none is let through.
name: perago publish fence
description: Publish only on the head that the publication was built on.
on:
  pre-merge:
    branches:
      - "*"
hooks:
  - id: expected_head
    type: lua
    properties:
      script: |
        local expected = action.commit.metadata["{EXPECTED_HEAD}"]
        local found = action.commit.parents[1]
        if expected ~= nil and expected ~= found then
          require("hook").fail("{FENCE_MARKER}: head moved: expected " .. expected .. ", found " .. tostring(found))
        end
"""

FENCE_CHECKSUM = hashlib.md5(FENCE_TEXT.encode(), usedforsecurity=False).hexdigest()
"""As lakeFS lists it."""


def fence_state(checksum: str | None) -> FenceState:
    """What the checksum of the file at `FENCE_PATH` says; None: there is no such file."""
    if checksum is None:
        return FenceState.ABSENT
    return FenceState.INSTALLED if checksum == FENCE_CHECKSUM else FenceState.ALTERED
