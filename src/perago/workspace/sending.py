"""Files on their way to lakeFS, which must still be what the scan of the workspace saw."""

from __future__ import annotations

import errno
import os
import stat

from perago.ports import Upload
from perago.workspace.descent import open_file
from perago.workspace.errors import EXHAUSTED, FileChanging
from perago.workspace.text import quoted

_CHANGES = {
    errno.ENOENT: "vanished",
    errno.ELOOP: "became a symbolic link",
    errno.ENOTDIR: "lost a directory on the way to it, which is a symbolic link or a file now,",
}


def open_unchanged(upload: Upload) -> int:
    """Open a file for reading, if it still has the kind and size that the scan saw. Never follow a link or wait on a
    FIFO.

    Raises:
        FileChanging: the file vanished or changed.
        OSError: too many files are open.
    """
    try:
        handle = open_file(*upload.place)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        what = _CHANGES.get(error.errno or 0) or f"became unreadable ({error.strerror})"
        raise changed_since_scan(upload, what) from error
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode) and status.st_size == upload.size:
        return handle
    os.close(handle)
    is_file = stat.S_ISREG(status.st_mode)
    what = (
        f"changed its size from {upload.size} to {status.st_size} bytes" if is_file else "ceased to be a regular file"
    )
    raise changed_since_scan(upload, what)


def changed_since_scan(upload: Upload, what: str) -> FileChanging:
    """Build the error for a file of which `what` happened since the scan."""
    return FileChanging(
        f"The file {quoted(upload.place[1])} {what} between the scan of the workspace and its upload. The task "
        "function must end every thread and process that writes there before it returns."
    )
