"""What a function leaves beside its workspace: there a worker loses it, or fills its disk with it.

Looked at are the directories around the workspace, the current directory with what is below, and the top of the home
directory, shortly before and after the call. What Python, pytest and the tools around it write is passed over.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

_MOST_DIRECTORIES = 100
_MOST_ENTRIES = 500
_MOST_DESCRIPTORS = 1024
_AROUND = 5
"""Directories above a workspace that belong to its attempt, or to the root of all attempts."""

_TOOLS = re.compile(
    r"__pycache__|.*\.pyc|\.pytest_cache|\.coverage.*|coverage\.xml|htmlcov|\.hypothesis|\.mypy_cache|\.ruff_cache|\.git"
    r"|\.perago-attempt\.json"
)
_NEVER_INSIDE = ("venv", "node_modules", "site-packages")

Stamp: TypeAlias = tuple[int, int, int] | None
"""Size, modification time and inode of a file; None for a directory, whose entries tell more than its time."""


class Surroundings:
    """How it looks around a workspace when this is made; without one, around the current directory."""

    def __init__(self, workspace: Path | None) -> None:
        self._here, self._home = _directory(Path.cwd), _directory(Path.home)
        around = workspace.resolve().parents[:_AROUND] if workspace is not None else ()
        self._attempt, self._workspace = ("", "") if workspace is None else (str(around[0]), workspace.name)
        self._around = frozenset(str(each) for each in around)
        self._own = set(_open_files())
        self._seen = {directory: self._entries(directory) for directory in self._around}
        if self._home != self._here:
            self._seen[str(self._home)] = self._entries(str(self._home))
        self._look_below(str(self._here))

    def differences(self) -> dict[Path, bool]:
        """What has appeared (True) or changed (False) since. Files in a directory that has appeared are not named."""
        found: dict[Path, bool] = {}
        for directory, before in self._seen.items():
            for name, stamp in self._entries(directory).items():
                if name not in before:
                    found[Path(directory, name)] = True
                elif stamp != before[name] and stamp is not None and stamp[2] not in self._own:
                    found[Path(directory, name)] = False
        return found

    def confirmed(self, found: dict[Path, bool], again: dict[Path, bool], *, alone: bool) -> list[Path]:
        """What the function wrote, sorted. Other processes may write to the same directories, but not to those of the
        attempt: what has only changed, or has appeared while this process is not `alone`, must come from a call that
        found `again`, too."""
        places = {path.parent for path in again} | set(again)
        return sorted(
            path
            for path, is_new in found.items()
            if (is_new and alone) or str(path.parent) in self._around or places & {path, path.parent}
        )

    def shown(self, path: Path) -> str:
        """A path as the author knows it."""
        if str(path.parent) in self._around:
            return f"{path.name} beside the workspace"
        if path.is_relative_to(self._here):
            return f"{path.relative_to(self._here)} in the current directory"
        return f"~/{path.relative_to(self._home)}"

    def _look_below(self, top: str) -> None:
        """Nearest directories first, so that a large project is seen as far as the limits go."""
        passed_over = {tempfile.gettempdir(), str(self._home), *self._around} - {top}
        left, entries = [top], 0
        while left and len(self._seen) < _MOST_DIRECTORIES and entries < _MOST_ENTRIES:
            directory = left.pop(0)
            found = self._entries(directory)
            if directory != top and (directory in passed_over or "pyvenv.cfg" in found):
                continue
            self._seen[directory] = found
            entries += len(found)
            below = sorted(name for name, stamp in found.items() if stamp is None and not name.startswith("."))
            left += [f"{directory}/{name}" for name in below if name not in _NEVER_INSIDE]

    def _entries(self, directory: str) -> dict[str, Stamp]:
        is_home = directory == str(self._home)
        found: dict[str, Stamp] = {}
        with suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                if _TOOLS.fullmatch(entry.name) or (is_home and entry.name.startswith(".")):
                    continue
                with suppress(OSError):
                    status = None if entry.is_dir(follow_symlinks=False) else entry.stat(follow_symlinks=False)
                    found[entry.name] = status and (status.st_size, status.st_mtime_ns, status.st_ino)
        if directory == self._attempt:
            found.pop(self._workspace, None)
        return found


def _open_files() -> Iterator[int]:
    """Inodes of files that this process has open already, such as its redirected output or a log."""
    for descriptor in range(_MOST_DESCRIPTORS):
        with suppress(OSError):
            yield os.fstat(descriptor).st_ino


def _directory(find: Callable[[], Path]) -> Path:
    """A directory; where there is none, a path that has no entries."""
    try:
        return find().resolve()
    except (OSError, RuntimeError):
        return Path(os.devnull)
