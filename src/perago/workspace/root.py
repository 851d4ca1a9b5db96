"""Whether a directory can be the workspace root. Only looks; makes nothing."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from perago.settings.roots import open_to_others


def check_root(root: Path) -> list[str]:
    """Everything that keeps `root` from being used as workspace root; empty if nothing does.

    A root that does not exist is fine where it can be made. The root itself may be a symlink; nothing below may.
    """
    problems = _encoding()
    try:
        status = root.stat()
    except FileNotFoundError:
        return problems + (_cannot_be_made(root) or _open(root))
    except OSError as error:
        return [*problems, f"The workspace root {root} cannot be looked at ({error.strerror})."]
    if not stat.S_ISDIR(status.st_mode):
        return [*problems, f"The workspace root {root} is not a directory. Set PERAGO_WORKSPACE_ROOT to one."]
    return problems + _unsafe(root, status)


def _encoding() -> list[str]:
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return []
    return [f"File names are written as {encoding} here, but object keys are UTF-8. Set PYTHONUTF8=1."]


def _cannot_be_made(root: Path) -> list[str]:
    if root.is_symlink():
        return [f"The workspace root {root} is a symlink to nothing. Make its target, or delete it."]
    above = next((parent for parent in root.absolute().parents if os.path.lexists(parent)), Path("/"))
    if not above.is_dir():
        return [f"The workspace root {root} cannot be made: {above} is not a directory."]
    if not _writable(above):
        return [f"The workspace root {root} cannot be made: {above} is not writable for this user."]
    return []


def _unsafe(root: Path, status: os.stat_result) -> list[str]:
    problems = []
    advice = "Set PERAGO_WORKSPACE_ROOT to a directory of this user's own; one inside that does not exist yet is made."
    if status.st_uid != os.geteuid():
        problems.append(f"The workspace root {root} belongs to user {status.st_uid}, not to {os.geteuid()}. {advice}")
    else:
        problems += _open(root)
    if not _writable(root):
        problems.append(f"The workspace root {root} is not writable for this user. {advice}")
    return problems


def _open(root: Path) -> list[str]:
    trouble = open_to_others(root)
    return [] if trouble is None else [f"The workspace root {root} {trouble}."]


def _writable(directory: Path) -> bool:
    return os.access(directory, os.R_OK | os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
