"""The seams between an attempt and the two services it works with.

The protocol (`perago.attempt`) and the driver (`perago.driver`) know lakeFS and
Conductor only through what stands here. `perago.adapters` implements it on the
official SDKs, `perago.embedded` in memory; both obey the same words.

Errors carry the one distinction that matters after a failed call: *did it take
effect?* `Unavailable` means certainly not, or that repeating is harmless;
`Unclear` means that only a look tells.
"""

from __future__ import annotations

from perago.ports.clock import Clock
from perago.ports.errors import (
    FENCE_MARKER,
    AccessDenied,
    CorruptTransfer,
    Forbidden,
    MergeRefusal,
    MergeRefused,
    NotFound,
    NothingToCommit,
    Refused,
    RevertConflict,
    ServiceError,
    Unavailable,
    Unclear,
)
from perago.ports.tasks import (
    ANY_WORKFLOW,
    UNTIL_ITS_RETRY_ENDS,
    AttemptRow,
    Delivery,
    DeliveryCheck,
    Report,
    TaskQueue,
    TaskStatus,
    WorkflowRow,
    looped_names,
)
from perago.ports.trace import Trace, trace_of
from perago.ports.workspaces import (
    Commit,
    ObjectEntry,
    OnPage,
    Placement,
    Progress,
    Staged,
    Upload,
    WorkspaceStore,
    no_progress,
    shortened,
)

__all__ = [
    "ANY_WORKFLOW",
    "FENCE_MARKER",
    "UNTIL_ITS_RETRY_ENDS",
    "AccessDenied",
    "AttemptRow",
    "Clock",
    "Commit",
    "CorruptTransfer",
    "Delivery",
    "DeliveryCheck",
    "Forbidden",
    "MergeRefusal",
    "MergeRefused",
    "NotFound",
    "NothingToCommit",
    "ObjectEntry",
    "OnPage",
    "Placement",
    "Progress",
    "Refused",
    "Report",
    "RevertConflict",
    "ServiceError",
    "Staged",
    "TaskQueue",
    "TaskStatus",
    "Trace",
    "Unavailable",
    "Unclear",
    "Upload",
    "WorkflowRow",
    "WorkspaceStore",
    "looped_names",
    "no_progress",
    "shortened",
    "trace_of",
]
