"""The modelled server: lakeFS's operations with their options, under one lock.

Each method answers as lakeFS 1.84 does (`docs/servers/lakefs.md` 2 and 3) or raises a `LakeFSError` that carries the
real status and words. What lakeFS has and this class does not (imports, branch protection, garbage collection, other
hooks than pre-merge, ...) is not modelled.
"""

from __future__ import annotations

from collections.abc import Mapping

from perago.embedded.lakefs.comparing import ComparingCalls
from perago.embedded.lakefs.fence import FENCE_PATH, HeadFence, PreMergeHook
from perago.embedded.lakefs.objects import ObjectCalls
from perago.embedded.lakefs.publishing import PublishingCalls
from perago.embedded.lakefs.references import ReferenceCalls
from perago.embedded.lakefs.repositories import RepositoryCalls
from perago.ports import Clock


class LakeFSServer(RepositoryCalls, ReferenceCalls, ObjectCalls, ComparingCalls, PublishingCalls):
    """All repositories of one server. Thread-safe."""

    def __init__(
        self, clock: Clock, *, committer: str = "admin", hooks: Mapping[str, PreMergeHook] | None = None
    ) -> None:
        known = {FENCE_PATH: HeadFence()} if hooks is None else hooks
        super().__init__(clock, committer=committer, hooks=known)
