"""Noticing that a module's source files have changed, by looking at them twice a second.

A handful of `stat` calls costs nothing, works on every file system, and needs no dependency.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from importlib.util import cache_from_source
from pathlib import Path

SECONDS = 0.5
"""How often to look."""

Fingerprint = tuple[tuple[int, int, int] | None, ...]
"""Modification time, size and inode of each file, None for one that is missing."""

_FRAME = re.compile(r'File "([^"<][^"]*)", line \d+')


class SourceFiles:
    """The files of one module, and how they looked when they were last taken into account."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = tuple(sorted(set(files)))
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether they look different than when this was asked last; asking again says no."""
        now = self._look()
        changed = now != self._seen
        self._seen = now
        return changed

    def replace(self, files: Iterable[str]) -> None:
        """Watch these instead. What both sets have is not looked at anew, so a change in between is not missed."""
        known = dict(zip(self._files, self._seen, strict=True))
        self._files = tuple(sorted(set(files)))
        self._seen = tuple(known[file] if file in known else _print_of(file) for file in self._files)

    def forget_bytecode(self) -> None:
        """Remove the compiled form of each file. Python tells by whole seconds and size whether it is up to date, so an
        edit of the same length within one second would not be run."""
        for file in self._files:
            if file.endswith(".py"):
                with contextlib.suppress(OSError, NotImplementedError):
                    os.unlink(cache_from_source(file))  # noqa: PTH108

    def add_suspects(self, traceback: str) -> None:
        """After a failed import: also the files of its traceback below the current directory, and the directories of
        all, since what is missing may be a file."""
        here = Path.cwd()
        named = {file for file in _FRAME.findall(traceback) if Path(file).is_relative_to(here)}
        files = {*self._files, *named}
        self.replace({*files, str(here), *(str(Path(file).parent) for file in files)})

    def _look(self) -> Fingerprint:
        return tuple(map(_print_of, self._files))


def _print_of(file: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(file)  # noqa: PTH116 - called all the time
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
