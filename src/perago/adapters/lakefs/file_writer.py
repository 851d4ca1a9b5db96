"""From bytes to files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType

from perago.ports import ObjectEntry, Placement

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_MODE = 0o644


class FileWriter:
    """Files grow in a private directory beside the workspace, where no key can name them, and are renamed when done.

    Raises:
        OSError: from every method, if the disk refuses.
    """

    def __init__(self, placements: Sequence[Placement], prefix: str) -> None:
        self._placements = placements
        self._root = _workspace_of(placements, prefix)
        self._directory: str | None = None
        self._numbers = itertools.count()

    def __enter__(self) -> FileWriter:
        for directory in sorted({path.parent for path in self._paths()}):
            directory.mkdir(parents=True, exist_ok=True)
        if self._root is not None:
            self._root.parent.mkdir(parents=True, exist_ok=True)
            self._directory = tempfile.mkdtemp(prefix=f".{self._root.name}-incoming-", dir=self._root.parent)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def write(self, entry: ObjectEntry, path: Path, chunks: Iterable[bytes]) -> None:
        """Make a file of mode 0644 less umask with the object's modification time; `chunks` verify themselves."""
        temporary = f"{self._directory}/{next(self._numbers)}"
        try:
            handle = os.open(temporary, _FLAGS, _MODE)
            try:
                for chunk in chunks:
                    _write_all(handle, chunk)
                os.utime(handle, (entry.mtime, entry.mtime))
            finally:
                os.close(handle)
            os.rename(temporary, path)  # noqa: PTH104 - a thousand files a second, and both are plain strings
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108
            raise

    def _paths(self) -> Iterable[Path]:
        return (placement.path for placement in self._placements if placement.path is not None)


def _write_all(handle: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(handle, view) :]


def _workspace_of(placements: Sequence[Placement], prefix: str) -> Path | None:
    """The directory that keys are relative to; None when there is nothing to place."""
    for placement in placements:
        if placement.path is not None:
            parts = PurePosixPath(placement.entry.key[len(prefix) :]).parts
            if placement.path.parts[-len(parts) :] == parts:
                return placement.path.parents[len(parts) - 1]
            return placement.path.parent
    return None
