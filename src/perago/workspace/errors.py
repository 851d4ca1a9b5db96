"""What can go wrong with an attempt's local files. Every message is complete: what, where, why, what to do."""

from __future__ import annotations

import errno
from typing import Any

EXHAUSTED = (errno.EMFILE, errno.ENFILE)
"""An `OSError` of this kind says nothing about the file that it was raised for: too many others are open. It is passed
on as it is."""


class WorkspaceError(Exception):
    """Base of everything this package raises on purpose."""


class WorkspaceGone(WorkspaceError):
    """The workspace directory was deleted, replaced, or made inaccessible."""


class UnreadableFile(WorkspaceError):
    """A file or directory of the workspace cannot be read, so its changes cannot be known."""


class FileChanging(WorkspaceError):
    """A file changed, vanished, or turned into something else while it was being read."""


class _Refused(WorkspaceError):
    """An error that says whether a later attempt may fare better."""

    def __init__(self, message: str, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (str(self), self.retryable))


class DirectoryRefused(_Refused):
    """An attempt directory cannot be made: a hostile id (final), an unusable root, or one that is in use."""


class LayoutRefused(_Refused):
    """A listing cannot be laid out on this disk: its names or its size (final), or a disk that is too small
    (retryable, because another host may have a larger one)."""


class NoRoom(LayoutRefused):
    """The disk is too full for a listing. `is_passing`: other attempts and the cache use the space, or a reserve is
    missing that the worker waits for. Otherwise other programs use it, perhaps for good."""

    def __init__(self, message: str, is_passing: bool) -> None:
        super().__init__(message, retryable=True)
        self.is_passing = is_passing

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (str(self), self.is_passing))
