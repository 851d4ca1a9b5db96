"""Replace a file atomically: at any time it has its complete old or its complete new content."""

from __future__ import annotations

import os
import secrets
import time
from glob import escape
from pathlib import Path

_ABANDONED_AFTER = 600.0
"""Seconds after which a temporary file is considered abandoned, because a write takes milliseconds."""


def replace_file(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write this content and mode to `path`. Its directory must exist.

    Without `mode` a file keeps the mode that it has, and the umask decides about a new one. Temporary files of killed
    processes next to the file are removed.

    Raises:
        OSError: it cannot be written.
    """
    _remove_abandoned(path)
    if mode is None and path.exists():
        mode = path.stat().st_mode & 0o777
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with new.open("xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)  # while it is empty
            file.write(content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    for left in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        try:
            if left.stat().st_mtime < time.time() - _ABANDONED_AFTER:
                left.unlink()
        except FileNotFoundError:  # another process was faster
            continue
