"""What a call to lakeFS or Conductor can end in other than its result."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class ServiceError(Exception):
    """A call to lakeFS or Conductor that did not bring what was asked for.

    `service` is `"lakeFS"` or `"Conductor"`, `operation` the call in plain words
    (`"merge into main"`), `detail` what the service or the network said, free of
    secrets.
    """

    def __init__(self, service: str, operation: str, detail: str) -> None:
        super().__init__(f"{service}: {operation}: {detail}")
        self.service = service
        self.operation = operation
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.service, self.operation, self.detail))


class Unavailable(ServiceError):
    """The service did not do it: unreachable, overloaded, or failing (429, 5xx, time-out of a read)."""


class Unclear(ServiceError):
    """A write was sent and no usable answer came back: it may have taken effect. Look before repeating."""


class AccessDenied(ServiceError):
    """Credentials missing, wrong, or without the permission (401, 403)."""


class Forbidden(AccessDenied):
    """lakeFS's own word that these credentials may not do this, or that the branch is protected (403). Waiting does not
    change it."""


class NotFound(ServiceError):
    """The repository, branch, commit or task that the call names does not exist."""


FENCE_MARKER = "perago-publish-fence"
"""Stands in every refusal of perago's own pre-merge hook: only it tells that 412 from another hook's."""


class MergeRefusal(StrEnum):
    """Why lakeFS refused a merge (`docs/servers/lakefs.md` 1.3)."""

    HEAD_MOVED = "head moved"  # 412 carrying the marker text of perago's publish fence
    HOOK = "hook"  # 412 of another pre-merge hook
    CONFLICT = "conflict"  # 409: both sides changed one path
    NO_CHANGES = "no changes"  # 400: this source has been merged already
    DIRTY = "uncommitted changes"  # 400: objects are staged on the target


class Refused(ServiceError):
    """The service understood the call and said no for good (any other 4xx)."""


class MergeRefused(Refused):
    """lakeFS refused a merge; `reason` says which of the known refusals it was."""

    def __init__(self, service: str, operation: str, detail: str, reason: MergeRefusal) -> None:
        super().__init__(service, operation, detail)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.service, self.operation, self.detail, self.reason))


class NothingToCommit(Refused):
    """The branch has no staged changes (400 `no changes`)."""


class RevertConflict(Refused):
    """Later changes are in the way of a revert (409)."""


class CorruptTransfer(ServiceError):
    """An object's bytes do not match its recorded size or checksum."""
