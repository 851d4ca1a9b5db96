"""The directory of `--state`: who may use it, the journal, and the bytes of objects as files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container
from pathlib import Path
from types import TracebackType

from perago.embedded.lakefs.blobs import Blob
from perago.embedded.saving.errors import StateError
from perago.embedded.saving.journal import Journal, unfinished

_JOURNAL = "journal.jsonl"
_LOCK = "lock"
_BLOBS = "blobs"
_OURS = {_JOURNAL, unfinished(_JOURNAL), _LOCK, _BLOBS}


class StateDirectory:
    """A directory that one process at a time uses, readable by its owner only. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = Journal(path / _JOURNAL)
        self._blobs = path / _BLOBS
        self._lock = -1

    @property
    def is_new(self) -> bool:
        """Whether nothing has been kept in it yet."""
        return not self.journal.path.exists()

    def __enter__(self) -> StateDirectory:
        """Make it where it is missing, and lock it.

        Raises:
            StateError: it is in use, is something else, or cannot be made.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_contents()
            self._lock = self._locked()
            self._blobs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StateError(f"{self.path} cannot be used: {error.strerror}; choose another directory") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.journal.close()
        os.close(self._lock)

    # ------------------------------------------------------------------------- blobs

    def keep(self, blob: Blob) -> None:
        """Make sure that the bytes are in a file of ours. The model itself tells objects apart by MD5 and size.

        Raises:
            OSError: the disk refused.
        """
        path = self._blob_path(blob.checksum, blob.size)
        if blob.size == 0 or path.exists():
            return
        new = path.with_name(unfinished(path.name))
        new.unlink(missing_ok=True)
        try:
            _place(blob, new)
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)  # half a file would take the space that smaller ones could have
            raise

    def blob(self, checksum: str, size: int) -> Blob:
        """Bytes that were kept.

        Raises:
            StateError: the file is missing or has another size.
        """
        path = self._blob_path(checksum, size)
        if size == 0:
            return Blob(0, checksum, data=b"")
        try:
            found = path.stat().st_size
        except OSError as error:
            raise StateError(f"{path} is missing, so the state is not complete; nothing was changed") from error
        if found != size:
            raise StateError(f"{path} has {found} bytes instead of {size}: it is damaged; nothing was changed")
        return Blob(size, checksum, path=path)

    def forget_blobs_except(self, kept: Container[tuple[str, int]]) -> None:
        """Remove the files of objects that nothing refers to any more."""
        for path in self._blobs.iterdir():
            checksum, _, size = path.name.partition("-")
            if not size.isdecimal() or (checksum, int(size)) not in kept:
                path.unlink(missing_ok=True)

    def _blob_path(self, checksum: str, size: int) -> Path:
        return self._blobs / f"{checksum}-{size}"

    # -------------------------------------------------------------------------- lock

    def _check_contents(self) -> None:
        foreign = sorted({path.name for path in self.path.iterdir()} - _OURS)
        if foreign and self.is_new:
            raise StateError(
                f"{self.path} is not empty and holds no state of perago dev ({foreign[0]} is in it); "
                "name a new or empty directory"
            )

    def _locked(self) -> int:
        import fcntl  # not on Windows, where nothing keeps a state

        descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            whose = f" (process {holder})" if holder else ""
            raise StateError(
                f"{self.path} is in use by another perago dev{whose}; end that one, or name another directory"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor


def _place(blob: Blob, path: Path) -> None:
    """The bytes as a file: the same one under another name where that can be, else a copy."""
    if blob.path is not None:
        with contextlib.suppress(OSError):  # another file system
            os.link(blob.path, path)
            return
    with path.open("wb") as file:
        blob.copy_to(file)
