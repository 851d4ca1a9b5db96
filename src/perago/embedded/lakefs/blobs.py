"""The bytes of objects: small ones in memory, large ones in a private directory on disk."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from perago.embedded.lakefs.errors import LakeFSError

SPOOL_THRESHOLD = 1024 * 1024
"""Objects above this many bytes go to disk."""

CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Blob:
    """Immutable bytes with their hex MD5. Without `data` and `path` they are in a block store that is not ours."""

    size: int
    checksum: str
    data: bytes | None = None
    path: Path | None = None

    @property
    def is_elsewhere(self) -> bool:
        """Whether the bytes cannot be read: an object was linked to an address of the block store."""
        return self.data is None and self.path is None

    def read(self) -> bytes:
        """All of it, in memory."""
        with self.open() as source:
            return source.read()

    def open(self) -> BinaryIO:
        """A reader positioned at the start.

        Raises:
            LakeFSError: the bytes are elsewhere.
        """
        if self.is_elsewhere:
            raise LakeFSError("No data: this object was linked to an address, and the model has no block store", 410)
        return io.BytesIO(self.data or b"") if self.path is None else self.path.open("rb")

    def chunks(self, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """`length` bytes (default: the rest) from `start`, piece by piece."""
        left = self.size - start if length is None else length
        with self.open() as source:
            source.seek(start)
            while left > 0 and (piece := source.read(min(CHUNK, left))):
                left -= len(piece)
                yield piece

    def copy_to(self, target: BinaryIO) -> None:
        """Write all of it to `target`."""
        if self.data is not None:
            target.write(self.data)
            return
        with self.open() as source:
            shutil.copyfileobj(source, target, CHUNK)


class BlobStore:
    """Makes blobs and owns the directory of the large ones."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._numbers = itertools.count()

    def of_bytes(self, data: bytes) -> Blob:
        """A blob of bytes at hand."""
        if len(data) > SPOOL_THRESHOLD:
            return self.of_stream(io.BytesIO(data))
        return Blob(len(data), hashlib.md5(data, usedforsecurity=False).hexdigest(), data=data)

    def of_file(self, path: Path) -> Blob:
        """A copy of a local file."""
        with path.open("rb") as source:
            return self.of_open_file(source)

    def of_open_file(self, source: BinaryIO) -> Blob:
        """A copy of a file that is open."""
        if os.fstat(source.fileno()).st_size <= SPOOL_THRESHOLD:
            return self.of_bytes(source.read())
        return self.of_stream(source)

    def of_stream(self, source: BinaryIO) -> Blob:
        """A copy of everything that `source` still has."""
        with self.sink() as sink:
            while piece := source.read(CHUNK):
                sink.write(piece)
            return sink.finish()

    def sink(self) -> BlobSink:
        """A blob in the making."""
        return BlobSink(self)

    def new_path(self) -> Path:
        """A fresh path in the private directory."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="perago-lakefs-"))
        return self._directory / str(next(self._numbers))

    def close(self) -> None:
        """Remove the private directory. Blobs on disk cannot be read afterwards."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None


class BlobSink:
    """Takes bytes piece by piece; `finish` gives the blob. Leaving the `with` block unfinished drops them."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._digest = hashlib.md5(usedforsecurity=False)
        self._size = 0
        self._pieces: list[bytes] = []
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._finished = False

    def __enter__(self) -> BlobSink:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._path is not None and not self._finished:
            self._path.unlink(missing_ok=True)

    @property
    def on_disk(self) -> bool:
        """Whether writing means waiting for the disk."""
        return self._file is not None

    def write(self, piece: bytes) -> None:
        """Append; moves to disk once the object has become large."""
        self._digest.update(piece)
        self._size += len(piece)
        if self._file is not None:
            self._file.write(piece)
            return
        self._pieces.append(piece)
        if self._size > SPOOL_THRESHOLD:
            self._path = self._store.new_path()
            self._file = self._path.open("wb")
            self._file.writelines(self._pieces)
            self._pieces.clear()

    def finish(self) -> Blob:
        """The blob of everything written."""
        self._finished = True
        if self._file is None:
            return Blob(self._size, self._digest.hexdigest(), data=b"".join(self._pieces))
        self._file.close()
        return Blob(self._size, self._digest.hexdigest(), path=self._path)
