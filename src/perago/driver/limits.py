"""What a deployment allows an attempt."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from perago.settings.values import PublishFence


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes are bytes, times seconds."""

    max_result_bytes: int = 1024 * 1024
    """`PERAGO_MAX_RESULT_BYTES`: a result travels whole in the publication's metadata."""
    max_workspace_bytes: int | None = None
    """`PERAGO_MAX_WORKSPACE_BYTES`; None: no limit."""
    max_workspace_objects: int = 10_000_000
    """`PERAGO_MAX_WORKSPACE_OBJECTS`: of objects below the task's prefix, and of the directories that they need."""
    history: int = 1000
    """Commits that are looked through between the branch head and the input ref."""
    publish_fence: PublishFence = PublishFence.AUTO
    """`PERAGO_PUBLISH_FENCE`: how strictly a publication insists on the publish fence."""
    answer_patience: float = 120.0
    """How long Conductor is asked again while it does not answer, and lakeFS while it does not accept the
    credentials: a worker reads them once, so that a proxy's trouble passes, and wrong ones do not."""
    outage_patience: float = 2700.0
    """How long lakeFS is waited for while it does not answer, or fails itself. Restarts, upgrades and failovers are
    over by then, and a staging branch does not stand still for the hour after which `perago gc` may remove it. A
    task's `timeoutSeconds` ends the wait earlier."""
    rebase_tries: int = 100
    """How often changes are put on another head while others advance the branch. Each try that is lost is one that
    another publisher has won."""
    fail_on_left_files: bool = False
    """An attempt fails if its function leaves files in its current directory; else they are noted."""
    allowed_workspaces: tuple[str, ...] | None = None
    """`PERAGO_ALLOWED_WORKSPACES`: glob patterns `repository/branch` that an input may name; None: any."""

    def allows(self, repository: str, branch: str) -> bool:
        """Whether an input may name this branch. Case counts, and no name holds a slash."""
        if self.allowed_workspaces is None:
            return True
        if "/" in repository or "/" in branch:
            return False
        return any(fnmatchcase(f"{repository}/{branch}", pattern) for pattern in self.allowed_workspaces)
