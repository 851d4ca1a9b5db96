"""Keeping what the embedded services hold in a directory, and taking it up again: `perago dev --state`.

`kept_in` does all of it. The directory holds `state.sqlite`, with one row a record, and the bytes of objects as files.
Changes are written twice a second, each time in one transaction: a process that is killed loses the last moment at
most, and never the file. What there is to keep is known by `perago.embedded.conductor.persistence` and
`perago.embedded.lakefs.persistence`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from perago.embedded.keys import KeyPair
from perago.embedded.lakefs.values import Blob
from perago.settings.roots import own_directory_trouble

if TYPE_CHECKING:
    from perago.embedded.conductor.core import ModelCore
    from perago.embedded.lakefs.server import LakeFSServer

Key: TypeAlias = tuple[str | int | None, ...]
"""What a record is about: its kind, then names and ids."""

Records: TypeAlias = Mapping[Key, Any]
"""JSON values by key."""

FORMAT = 2
SECONDS = 0.5
"""How often changes are looked for."""

_MOST = 10.0
"""A large state is looked at less often, so that this takes a tenth of the time at most."""

_DATABASE, _LOCK, _BLOBS, _OLD_JOURNAL = "state.sqlite", "lock", "blobs", "journal.jsonl"
_OURS = {_LOCK, _BLOBS, _OLD_JOURNAL, *(_DATABASE + end for end in ("", "-wal", "-shm", "-journal"))}
_KEYS: Key = ("keys",)


class StateError(Exception):
    """The directory is in use, belongs to another version, is damaged, or is something else. Nothing in it was changed.

    The message names the file and says what to do.
    """


def grouped(records: Records) -> dict[str, dict[Key, Any]]:
    """The records of each kind, by the rest of their keys."""
    groups: dict[str, dict[Key, Any]] = {}
    for (kind, *rest), value in records.items():
        groups.setdefault(str(kind), {})[tuple(rest)] = value
    return groups


class Source(Protocol):
    """One service, as far as it is kept."""

    def capture(self) -> Mapping[Key, object]:
        """Everything that there is, as values that do not change any more. Quick."""
        ...

    def encode(self, key: Key, captured: object) -> Any:
        """The JSON value of something captured."""
        ...


@contextmanager
def kept_in(
    path: Path, conductor: ModelCore, lakefs: LakeFSServer, keys: KeyPair, on_problem: Callable[[str], None]
) -> Iterator[KeyPair]:
    """Fill both fresh models with what `path` holds and keep what becomes of them.

    Args:
        path: the directory; it is made where it is missing.
        conductor: a fresh model.
        lakefs: a fresh model.
        keys: the key pair of a new state.
        on_problem: told, in another thread, when the state cannot be written, once until it can again.

    Returns:
        The key pair to use: `keys` only if the state is new.

    Raises:
        StateError: the directory cannot be used; nothing in it was changed.
    """
    from perago.embedded.conductor.persistence import ConductorSource
    from perago.embedded.lakefs.persistence import LakeFSSource, kept_blobs

    with StateDirectory(path) as directory:
        kept_conductor, kept_lakefs = ConductorSource(conductor), LakeFSSource(lakefs, directory.keep)
        records = directory.read()
        if records:
            with directory.understood():
                kept_conductor.restore(records)
                kept_lakefs.restore(records, directory.blob)
                keys = KeyPair(**records[_KEYS])
                directory.forget_blobs_except(kept_blobs(records))
        with Persistence(directory, (kept_conductor, kept_lakefs), on_problem, {_KEYS: asdict(keys)}):
            yield keys


class Persistence:
    """Keeps `sources` in `directory` from entering the context to leaving it.

    Requests wait only while rows are copied, a few microseconds for each; the rest happens without any lock. Conductor
    is looked at before lakeFS: a publication without its report is what the attempt protocol recovers from, a report
    without its publication is not.
    """

    def __init__(
        self,
        directory: StateDirectory,
        sources: tuple[Source, ...],
        on_problem: Callable[[str], None],
        constant: Records | None = None,
    ) -> None:
        self._directory = directory
        self._constant = constant or {}
        self._sources = sources
        self._on_problem = on_problem
        self._in_trouble = False
        self._kept: list[Mapping[Key, object]] = [{} for _ in sources]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="perago-persistence", daemon=True)

    def __enter__(self) -> Persistence:
        """Write what the services hold now, and whatever changes from then on.

        Raises:
            StateError: the disk refused.
        """
        try:
            self._write(replace=True)
        except (OSError, sqlite3.Error) as error:
            raise StateError(f"{self._directory.path} cannot be written to: {error}") from error
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._in_trouble = False  # what is not kept now is lost, so it is told whatever was told before
        self.save()

    def save(self) -> None:
        """Write what has changed, or tell why that cannot be."""
        try:
            self._write()
        except Exception as error:  # noqa: BLE001 - nothing that a client sends may end the thread
            if not self._in_trouble:
                self._on_problem(f"the state is not being kept in {self._directory.path}: {error}")
            self._in_trouble = True
        else:
            self._in_trouble = False

    def _run(self) -> None:
        pause = SECONDS
        while not self._stopped.wait(pause):
            begun = time.monotonic()
            self.save()
            pause = max(SECONDS, _MOST * (time.monotonic() - begun))

    def _write(self, *, replace: bool = False) -> None:
        captured = [source.capture() for source in self._sources]
        put: list[tuple[Key, Any]] = [*self._constant.items()] if replace else []
        drop: list[Key] = []
        for source, old, new in zip(self._sources, self._kept, captured, strict=True):
            put += ((key, source.encode(key, new[key])) for key in _changed(old, new))
            drop += old.keys() - new.keys()
        self._directory.write(put, drop, replace=replace)
        self._kept = captured


def _changed(old: Mapping[Key, object], new: Mapping[Key, object]) -> Iterator[Key]:
    missing = object()
    for key, value in new.items():
        known = old.get(key, missing)
        if known is not value and known != value:
            yield key


class StateDirectory:
    """A directory that one process at a time uses, readable by its owner only. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = path / _DATABASE
        self._blobs = path / _BLOBS
        self._open = contextlib.ExitStack()

    def __enter__(self) -> StateDirectory:
        """Make it where it is missing, and lock it.

        Raises:
            StateError: it is in use, is something else, was written by another version, or cannot be made; another
                user could write to it, or a link leads out of it.
        """
        with contextlib.ExitStack() as stack:
            try:
                self._check_owner()
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._check_owner()  # another user may have made it after the first check
                self._check_contents()
                stack.callback(os.close, self._locked())
                self._check_files()
                self._blobs.mkdir(mode=0o700, exist_ok=True)
                os.close(os.open(self._database, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
                self._connection = sqlite3.connect(self._database, check_same_thread=False)
                stack.callback(self._connection.close)
            except (OSError, sqlite3.Error) as error:
                raise StateError(f"{self.path} cannot be used ({error}); choose another directory") from error
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    # ----------------------------------------------------------------------- records

    def read(self) -> Records:
        """All records; none in a new directory. Changes nothing.

        Raises:
            StateError: the file was written by another version, or is damaged.
        """
        with self.understood():
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, FORMAT):
                raise StateError(
                    f"{self._database} has format {version}, but this version of perago reads format {FORMAT}; use the "
                    "version that wrote it, or another directory"
                )
            if version == 0:
                return {}
            rows = self._connection.execute("SELECT key, value FROM records")
            return {tuple(json.loads(key)): json.loads(value) for key, value in rows}

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Turn errors of reading records into a `StateError`."""
        try:
            yield
        except (sqlite3.Error, KeyError, TypeError, ValueError) as error:
            raise StateError(
                f"{self._database} cannot be understood ({type(error).__name__}): it was written by another version of "
                "perago, or is damaged; nothing was changed. Use that version, a backup, or another directory"
            ) from error

    def write(self, put: Iterable[tuple[Key, Any]], drop: Iterable[Key], *, replace: bool = False) -> None:
        """Write one change; with `replace` there is nothing else afterwards.

        Raises:
            OSError, sqlite3.Error: the disk refused; the records are as before.
        """
        if replace:
            self._connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
        with self._connection as transaction:
            if replace:
                transaction.execute("BEGIN IMMEDIATE")
                transaction.execute("CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
                transaction.execute("DELETE FROM records")
                transaction.execute(f"PRAGMA user_version = {FORMAT}")
            transaction.executemany("REPLACE INTO records VALUES (?, ?)", ((_text(k), _text(v)) for k, v in put))
            transaction.executemany("DELETE FROM records WHERE key = ?", ((_text(key),) for key in drop))

    # ------------------------------------------------------------------------- blobs

    def keep(self, blob: Blob) -> None:
        """Make sure that the bytes are in a file of ours. The model itself tells objects apart by MD5 and size.

        Raises:
            OSError: the disk refused.
        """
        path = self._blob_path(blob.checksum, blob.size)
        if blob.size == 0 or path.exists():
            return
        new = path.with_name(f"{path.name}.new")
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
        """Remove the files of objects that no record refers to any more."""
        for path in self._blobs.iterdir():
            checksum, _, size = path.name.partition("-")
            if not size.isdecimal() or (checksum, int(size)) not in kept:
                path.unlink(missing_ok=True)

    def _blob_path(self, checksum: str, size: int) -> Path:
        return self._blobs / f"{checksum}-{size}"

    # -------------------------------------------------------------------------- lock

    def _check_owner(self) -> None:
        if self.path.is_symlink():
            raise StateError(f"{self.path} is a link to {self.path.readlink()}; name the directory itself")
        if trouble := own_directory_trouble(self.path):
            raise StateError(f"{self.path} {trouble}; correct that, or name another directory")

    def _check_contents(self) -> None:
        """Refuse what does not hold a state, and links: perago empties `blobs`, and writes to the other files."""
        found = {path.name for path in self.path.iterdir()}
        if _OLD_JOURNAL in found and _DATABASE not in found:
            raise StateError(
                f"{self.path} was written by an earlier version of perago (it holds {_OLD_JOURNAL}), which this one "
                "does not read; use that version, or name another directory"
            )
        if found - _OURS and _DATABASE not in found:
            raise StateError(
                f"{self.path} is not empty and holds no state of perago dev ({min(found - _OURS)} is in it); "
                "name a new or empty directory"
            )

    def _check_files(self) -> None:
        for name in sorted(_OURS):
            self._check_file(self.path / name)
        if self._blobs.exists():
            for path in self._blobs.iterdir():
                self._check_file(path)

    def _check_file(self, path: Path) -> None:
        """Refuse what leads out of the directory: perago writes to each of these files, or deletes it."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            return
        is_kind = stat.S_ISDIR if path == self._blobs else stat.S_ISREG
        if stat.S_ISLNK(status.st_mode):
            trouble = f"is a link to {path.readlink()}"
        elif not is_kind(status.st_mode):
            trouble = "is neither a file nor a directory that perago dev wrote"
        elif status.st_uid != os.geteuid():
            trouble = "belongs to another user"
        elif path.parent == self.path and path != self._blobs and status.st_nlink > 1:
            trouble = "has a second name, by which another file would change with it"
        else:
            return
        raise StateError(f"{path} {trouble}; nothing was changed. Remove it, or name another directory")

    def _locked(self) -> int:
        import fcntl  # not on Windows, where nothing keeps a state

        self._check_file(self.path / _LOCK)
        descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
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


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _place(blob: Blob, path: Path) -> None:
    """Put the bytes into a new file: a hard link where that is possible, a copy elsewhere.

    Raises:
        OSError: the disk refused, or the file exists. It can be a link to a file that perago must not write to.
    """
    if blob.path is not None:
        with contextlib.suppress(OSError):  # another file system
            os.link(blob.path, path)
            return
    with path.open("xb") as file:
        blob.copy_to(file)
