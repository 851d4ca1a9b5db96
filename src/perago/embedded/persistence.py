"""Keep the state of the embedded services in a directory, and restore it: `perago dev --state`.

`persisted` does all of it. The directory holds `state.sqlite`, with one row per record, and the bytes of objects. The
models note which rows have changed. Ten times a second the changed rows are written in one transaction: a killed
process loses at most the last tenth of a second, and never the file.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import TypeAdapter

from perago import __version__
from perago.embedded.conductor.model import ModelCore
from perago.embedded.conductor.state import HistoryEntry, Message, Status, TaskRow, WorkflowRow
from perago.embedded.journal import Journal, Key
from perago.embedded.lakefs.repository import Branch, CommitRecord, LakeFSServer, Repository
from perago.embedded.lakefs.trees import EMPTY_TREE, Tree
from perago.embedded.lakefs.values import ActionRun, Blob, Entry, KeyPair, RepositoryInfo
from perago.ports import Commit
from perago.settings.sources import own_directory_problem

Records: TypeAlias = Mapping[Key, Any]
"""JSON values by key."""

FORMAT = 3
SECONDS = 0.1
"""Seconds between two writes."""

LATE_SECONDS = 1.0
"""A change that is written later than this after its answer is reported."""

MAX_LEVELS = 500
"""Maximum nesting of a record. The models process their values on Python's stack."""

_DATABASE, _LOCK, _BLOBS = "state.sqlite", "lock", "blobs"
_OURS = {_LOCK, _BLOBS, *(_DATABASE + end for end in ("", ".new", "-wal", "-shm", "-journal"))}
_KEYS: Key = ("keys",)


class StateError(Exception):
    """The directory is in use, belongs to another version, is damaged, or is something else. Nothing in it was changed.

    The message names the file and says what to do.
    """


def grouped(records: Records) -> dict[str, dict[Key, Any]]:
    """Return the records of each kind, by the rest of their keys."""
    groups: dict[str, dict[Key, Any]] = {}
    for (kind, *rest), value in records.items():
        groups.setdefault(str(kind), {})[tuple(rest)] = value
    return groups


Source: TypeAlias = "ConductorSource | LakeFSSource"
"""The persistent part of one service."""


@contextmanager
def persisted(
    path: Path, conductor: ModelCore, lakefs: LakeFSServer, keys: KeyPair, on_problem: Callable[[str], None]
) -> Iterator[KeyPair]:
    """Fill both fresh models with the state in `path`, and persist their changes.

    Args:
        path: the directory, which is created if it is missing.
        conductor: a fresh model.
        lakefs: a fresh model.
        keys: the key pair of a new state.
        on_problem: called once, from another thread, when the state cannot be written.

    Returns:
        The key pair to use: `keys` only if the state is new.

    Raises:
        StateError: the directory cannot be used; nothing in it was changed.
    """
    with StateDirectory(path) as directory:
        sources = (ConductorSource(conductor), LakeFSSource(lakefs, directory))
        records = directory.read()
        with directory.understood():
            for source in sources:
                source.restore(records)
            keys = KeyPair(**records[_KEYS]) if records else keys
        directory.forget_blobs_except(referenced_blobs(records))
        directory.prepare(asdict(keys))
        with Persistence(directory, sources, on_problem):
            yield keys


class Persistence:
    """Writes the changes of `sources` to `directory` during the context.

    Requests wait only while changed rows are copied. The rest happens without any lock. Conductor is read before
    lakeFS, because the attempt protocol recovers from a publication without its report, but not from a report without
    its publication.
    """

    def __init__(
        self, directory: StateDirectory, sources: tuple[Source, ...], on_problem: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._sources = sources
        self._on_problem = on_problem
        self._problem = ""
        self._pending: dict[Key, tuple[Source, object]] = {}
        """The changes that are not written yet."""
        self._complete_until = time.monotonic()
        """The time before which all changes have been written."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="perago-persistence", daemon=True)

    def __enter__(self) -> Persistence:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._problem = ""  # what cannot be written now is lost, so it is reported again
        self.save()

    def save(self) -> None:
        """Write the changes. A failure or a delay is reported once, until it has ended."""
        problem, begun = "", time.monotonic()
        try:
            self._write()
        except Exception as error:  # noqa: BLE001 - nothing that a client sends may end the thread
            problem = "failed"
            report = f"the state is not being kept in {self._directory.path}: {error}"
        else:
            late, self._complete_until = time.monotonic() - self._complete_until, begun
            if late > LATE_SECONDS:
                problem = "late"
                report = f"changes reach {self._directory.path} {late:.1f} s late; a crash would lose that much"
        if problem and problem != self._problem:
            self._on_problem(report)
        self._problem = problem

    def _run(self) -> None:
        while not self._stopped.wait(SECONDS):
            self.save()

    def _write(self) -> None:
        for source in self._sources:
            self._pending.update((key, (source, row)) for key, row in source.take().items())
        if not self._pending:
            return
        put = [(key, source.encode(row)) for key, (source, row) in self._pending.items() if row is not Journal.DELETED]
        drop = [key for key, (_, row) in self._pending.items() if row is Journal.DELETED]
        self._directory.write(put, drop)
        self._pending = {}


class StateDirectory:
    """A directory that one process at a time uses, readable by its owner only. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = path / _DATABASE
        self._blobs = path / _BLOBS
        self._is_new = False
        self._open = contextlib.ExitStack()

    def __enter__(self) -> StateDirectory:
        """Create the directory if it is missing, and lock it.

        Raises:
            StateError: it is in use, is something else, was written by another version, or cannot be created; another
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
                self._is_new = not self._database.exists()
                if not self._is_new:
                    self._connect(stack)
            except (OSError, sqlite3.Error) as error:
                raise StateError(f"{self.path} cannot be used ({error}); choose another directory") from error
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    # ----------------------------------------------------------------------- records

    def read(self) -> Records:
        """Return all records; none in a new directory. Changes nothing.

        Raises:
            StateError: the file was written by another version, or is damaged.
        """
        with self.understood():
            if self._is_new and not any(self._blobs.iterdir()):
                return {}
            if self._is_new or not self._database.stat().st_size:  # sqlite would delete the log of an empty database
                raise ValueError("the database is missing or empty")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version != FORMAT:
                writer = "the version that wrote it"
                if self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'writer'").fetchone():
                    (writer,) = self._connection.execute("SELECT 'perago ' || version FROM writer").fetchone()
                problem = f"{self._database} has format {version}, but this version of perago reads format {FORMAT}"
                raise StateError(f"{problem}; install {writer}, or use another directory")
            rows = self._connection.execute("SELECT key, value FROM records ORDER BY rowid")
            records = {tuple(_value_of(key)): _value_of(value) for key, value in rows}
            if _KEYS not in records:
                raise KeyError(*_KEYS)
            return records

    def _connect(self, stack: contextlib.ExitStack) -> None:
        self._connection = sqlite3.connect(self._database, check_same_thread=False)
        stack.callback(self._connection.close)

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Turn errors of reading records into a `StateError`."""
        try:
            yield
        except (sqlite3.Error, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise StateError(
                f"{self._database} cannot be understood ({type(error).__name__}): it was written by another version of "
                "perago, or is damaged; nothing was changed. Use that version, a backup, or another directory"
            ) from error

    def prepare(self, keys: Mapping[str, str]) -> None:
        """Make the file ready for changes, and keep the key pair in it.

        Raises:
            StateError: the disk refused.
        """
        try:
            if self._is_new:
                self._create(keys)
                self._connect(self._open)
                self._is_new = False
            self._connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
            with self._connection as transaction:
                transaction.execute("DELETE FROM writer")
                transaction.execute("INSERT INTO writer VALUES (?)", (__version__,))
        except (OSError, sqlite3.Error) as error:
            raise StateError(f"{self.path} cannot be written to: {error}") from error

    def _create(self, keys: Mapping[str, str]) -> None:
        """Create the database with its first record as a unit, so that an empty one is always a damaged one."""
        new = self._database.with_name(f"{_DATABASE}.new")
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        with contextlib.closing(sqlite3.connect(new)) as connection, connection:
            connection.executescript(
                "PRAGMA journal_mode = OFF; CREATE TABLE records (key TEXT PRIMARY KEY, value TEXT NOT NULL);"
                f"CREATE TABLE writer (version TEXT NOT NULL); PRAGMA user_version = {FORMAT}"
            )
            connection.execute("INSERT INTO records VALUES (?, ?)", (_text(_KEYS), _text(keys)))
        new.replace(self._database)

    def write(self, put: Iterable[tuple[Key, Any]], drop: Iterable[Key]) -> None:
        """Write one change. Rows keep their order.

        Raises:
            OSError, sqlite3.Error: the disk refused; the records are as before.
        """
        upsert = "INSERT INTO records VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        with self._connection as transaction:
            transaction.executemany(upsert, ((_text(key), _text(value)) for key, value in put))
            transaction.executemany("DELETE FROM records WHERE key = ?", ((_text(key),) for key in drop))

    # ------------------------------------------------------------------------- blobs

    def keep(self, blob: Blob) -> None:
        """Store the bytes in a file of the state. The model identifies objects by MD5 and size.

        Raises:
            OSError: the disk failed.
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
            actual_size = path.stat().st_size
        except OSError as error:
            raise StateError(f"{path} is missing, so the state is not complete; nothing was changed") from error
        if actual_size != size:
            raise StateError(f"{path} has {actual_size} bytes instead of {size}: it is damaged; nothing was changed")
        return Blob(size, checksum, path=path)

    def forget_blobs_except(self, referenced: Container[tuple[str, int]]) -> None:
        """Remove the files of objects that no record refers to any more."""
        for path in self._blobs.iterdir():
            checksum, _, size = path.name.partition("-")
            if not size.isdecimal() or (checksum, int(size)) not in referenced:
                path.unlink(missing_ok=True)

    def _blob_path(self, checksum: str, size: int) -> Path:
        return self._blobs / f"{checksum}-{size}"

    # -------------------------------------------------------------------------- lock

    def _check_owner(self) -> None:
        if self.path.is_symlink():
            raise StateError(f"{self.path} is a link to {self.path.readlink()}; name the directory itself")
        if problem := own_directory_problem(self.path):
            raise StateError(f"{self.path} {problem}; correct that, or name another directory")

    def _check_contents(self) -> None:
        """Refuse a directory without a state, and links, because perago empties `blobs` and writes to the other
        files."""
        names = {path.name for path in self.path.iterdir()}
        if names - _OURS and _DATABASE not in names:
            problem = f"{self.path} is not empty and holds no state of perago dev ({min(names - _OURS)} is in it)"
            raise StateError(f"{problem}; name a new or empty directory")

    def _check_files(self) -> None:
        for name in sorted(_OURS):
            self._check_file(self.path / name)
        if self._blobs.exists():
            for path in self._blobs.iterdir():
                self._check_file(path)

    def _check_file(self, path: Path) -> None:
        """Refuse links out of the directory, because perago writes to each of these files, or deletes it."""
        try:
            status = path.lstat()
        except FileNotFoundError:
            return
        is_kind = stat.S_ISDIR if path == self._blobs else stat.S_ISREG
        if stat.S_ISLNK(status.st_mode):
            problem = f"is a link to {path.readlink()}"
        elif not is_kind(status.st_mode):
            problem = "is neither a file nor a directory that perago dev wrote"
        elif status.st_uid != os.geteuid():
            problem = "belongs to another user"
        elif path.parent == self.path and path != self._blobs and status.st_nlink > 1:
            problem = "has a second name, by which another file would change with it"
        else:
            return
        raise StateError(f"{path} {problem}; nothing was changed. Remove it, or name another directory")

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
            problem = f"{self.path} is in use by another perago dev{whose}"
            raise StateError(f"{problem}; end that one, or name another directory") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _value_of(text: str) -> Any:
    """Read the JSON of a key or a record.

    Raises:
        ValueError: it is not JSON, or nested too deeply to be used.
    """
    value = json.loads(text)
    level = [value] if text.count("[") + text.count("{") > MAX_LEVELS else []
    for _ in range(MAX_LEVELS):
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        level = [inner for inner in level if isinstance(inner, dict | list)]
    if level:
        raise ValueError(f"nested deeper than {MAX_LEVELS} levels")
    return value


def _place(blob: Blob, path: Path) -> None:
    """Put the bytes into a new file: a hard link if that is possible, else a copy.

    Raises:
        OSError: the disk failed, or the file exists. It can be a link to a file that perago must not write to.
    """
    if blob.path is not None:
        with contextlib.suppress(OSError):  # another file system
            os.link(blob.path, path)
            return
    with path.open("xb") as file:
        blob.copy_to(file)


# ----------------------------------------------------------------------------- Conductor

KINDS: Mapping[str, TypeAdapter[Any]] = {
    "task_definitions": TypeAdapter(dict[str, Any]),
    "workflow_definitions": TypeAdapter(dict[int, dict[str, Any]]),
    "schedules": TypeAdapter(dict[str, Any]),
    "tasks": TypeAdapter(TaskRow),
    "workflows": TypeAdapter(WorkflowRow),
    "queue": TypeAdapter(Message),
    "logs": TypeAdapter(dict[str, Any]),
    "timers": TypeAdapter(int),
    "sub_workflows": TypeAdapter(str),
    "history": TypeAdapter(HistoryEntry),
}
"""The types of the rows by the name of the attribute of the state; attempts come before their workflows."""


class ConductorSource:
    """The state of one Conductor.

    `KINDS` has the tables of `State`; a test lists the attributes that are not kept. Rows are read back through their
    own type hints, so a field that is added to a row is kept automatically.
    """

    def __init__(self, model: ModelCore) -> None:
        self._model = model

    def take(self) -> dict[Key, object]:
        """Return the rows that have changed since the last time, or since `restore`.

        Payloads of rows are replaced, never changed, so only workflows are copied. Attempts have records of their own;
        a workflow has their ids.
        """
        with self._model._locked() as state:
            return {key: _copied(row) for key, row in state.journal.take().items()}

    def encode(self, row: Any) -> Any:
        """Return the JSON value of a row."""
        return {field.name: getattr(row, field.name) for field in fields(row)} if is_dataclass(row) else row

    def restore(self, records: Records) -> None:
        """Fill a fresh model with the stored state, and record its changes from now on.

        Raises:
            pydantic.ValidationError: a record is not what this version would have written.
            KeyError: a workflow names an attempt that does not exist.
        """
        groups = grouped(records)
        with self._model._locked() as state:
            tables: dict[str, Any] = {**vars(state), "queue": state.queue.messages}
            for kind, adapter in KINDS.items():
                for parts, value in groups.get(kind, {}).items():
                    ids = value["tasks"] if kind == "workflows" else []
                    row = adapter.validate_python({**value, "tasks": []} if kind == "workflows" else value)
                    if kind == "workflows":
                        row.tasks.extend(state.tasks[task_id] for task_id in ids)
                    table: Any = state.logs_of(str(parts[0])) if kind == "logs" else tables[kind]
                    table[parts if kind == "sub_workflows" else parts[-1]] = row
            state.queue.restore()
            state.attention = {row.workflow_id: False for row in state.workflows.values() if not row.status.terminal}
            state.journal.is_recording = True
            # Also queue attempts that a poll had taken but not handed over when the process ended.
            for row in state.tasks.values():
                if row.status is Status.SCHEDULED and row.kind == "SIMPLE" and row.task_id not in state.queue.messages:
                    state.queue.push(row, state.now())


def _copied(row: Any) -> object:
    if not isinstance(row, WorkflowRow):
        return row
    ids: Any = [task.task_id for task in row.tasks]
    return replace(row, tasks=ids)


# -------------------------------------------------------------------------------- lakeFS

_COMMIT = TypeAdapter(Commit)
_INFO, _RUN = TypeAdapter(RepositoryInfo), TypeAdapter(ActionRun)
_OWN = ("path", "content_type", "mtime", "address")
"""The fields of an entry that are written next to its metadata and its bytes."""


class LakeFSSource:
    """The state of one lakeFS.

    Commits never change, so each is written once, with its tree as the difference to its first parent's. When it is
    read back, the tree is put together again and must have the id that the commit names.
    """

    def __init__(self, server: LakeFSServer, directory: StateDirectory) -> None:
        """`directory`: keeps the bytes of objects."""
        self._server = server
        self._directory = directory

    def take(self) -> dict[Key, object]:
        """Return the rows that have changed since the last time, or since `restore`, as values that do not change."""
        with self._server.lock:
            return {key: self._copied(key, row) for key, row in self._server.journal.take().items()}

    def _copied(self, key: Key, row: object) -> object:
        if isinstance(row, CommitRecord):
            return row, _base(self._server.repositories[str(key[1])], row.commit)
        if isinstance(row, Repository):
            return {"info": _INFO.dump_python(row.info), "protected": row.protected}
        return (row.commit_id, row.hidden) if isinstance(row, Branch) else row

    def encode(self, row: object) -> Any:
        """Return the JSON value of a row.

        Raises:
            OSError: the bytes of an object cannot be kept.
        """
        match row:
            case Entry():
                return self._entry(row)
            case ActionRun():
                return _RUN.dump_python(row, mode="json")
            case (CommitRecord() as record, Tree() as base):
                old, new = base.entries, record.tree.entries
                return {
                    "commit": _COMMIT.dump_python(record.commit, mode="json"),
                    "generation": record.generation,
                    "fraction": record.fraction,
                    "put": [self._entry(entry) for path, entry in new.items() if old.get(path) is not entry],
                    "removed": [path for path in old if path not in new],
                }
        return row

    def _entry(self, entry: Entry) -> dict[str, Any]:
        if not entry.blob.is_elsewhere:
            self._directory.keep(entry.blob)
        own = {name: getattr(entry, name) for name in _OWN}
        blob = {"size": entry.blob.size, "checksum": entry.blob.checksum, "is_elsewhere": entry.blob.is_elsewhere}
        return {**own, **blob, "metadata": dict(entry.metadata)}

    def restore(self, records: Records) -> None:
        """Fill a fresh model with what was kept, and note its changes from now on.

        Raises:
            StateError: bytes are missing, or a commit does not have the tree that it names.
            pydantic.ValidationError, KeyError, TypeError: a record is not what this version would have written.
        """
        groups = grouped(records)
        numbers = [-1]
        """The running numbers in the addresses of objects."""

        def entry_of(value: Mapping[str, Any]) -> Entry:
            numbers.append(int(value["address"].rpartition("/")[2], 16))
            size, checksum = value["size"], value["checksum"]
            blob = Blob(size, checksum) if value["is_elsewhere"] else self._directory.blob(checksum, size)
            return Entry(blob=blob, metadata=value["metadata"], **{name: value[name] for name in _OWN})

        with self._server.lock:
            self._server.namespaces.update((str(name), True) for (name,) in groups.get("namespace", {}))
            for (name,), row in groups.get("repository", {}).items():
                kinds = ("commit", "branch", "staged", "tag", "metadata", "run")
                own = {kind: _below(groups, kind, name) for kind in kinds}
                repository = Repository(self._server, _INFO.validate_python(row["info"]), bare=True)
                repository.protected = tuple(row["protected"])
                for value in sorted(own["commit"].values(), key=itemgetter("generation")):  # parents come first
                    record = _commit(repository, value, entry_of)
                    repository.graph[record.commit.id] = record
                for (branch,), (commit_id, hidden) in own["branch"].items():
                    repository.add_branch(str(branch), commit_id, hidden=hidden)
                for (branch, path), value in own["staged"].items():
                    repository.branches[str(branch)].stage(str(path), None if value is None else entry_of(value))
                repository.tags.update((str(tag), value) for (tag,), value in own["tag"].items())
                repository.metadata.update((str(key), value) for (key,), value in own["metadata"].items())
                repository.runs.update((str(key), _RUN.validate_python(value)) for (key,), value in own["run"].items())
                self._server.repositories[str(name)] = repository
            self._server.addresses = itertools.count(max(numbers) + 1)
            self._server.journal.is_recording = True


def referenced_blobs(records: Records) -> set[tuple[str, int]]:
    """MD5 and size of everything that the records refer to."""
    groups = grouped(records)
    entries = [entry for commit in groups.get("commit", {}).values() for entry in commit["put"]]
    entries += filter(None, groups.get("staged", {}).values())
    return {(entry["checksum"], entry["size"]) for entry in entries}


def _below(groups: Mapping[str, Mapping[Key, Any]], kind: str, name: str | int | None) -> dict[Key, Any]:
    """Return the records of one kind in one repository, by the rest of their keys."""
    return {tuple(rest): value for (owner, *rest), value in groups.get(kind, {}).items() if owner == name}


def _base(repository: Repository, commit: Commit) -> Tree:
    """Return the tree of the first parent."""
    return repository.graph[commit.parents[0]].tree if commit.parents else EMPTY_TREE


def _commit(
    repository: Repository, value: Mapping[str, Any], entry_of: Callable[[Mapping[str, Any]], Entry]
) -> CommitRecord:
    commit = _COMMIT.validate_python(value["commit"])
    base = _base(repository, commit)
    changes: dict[str, Entry | None] = dict.fromkeys(value["removed"])
    changes.update((entry["path"], entry_of(entry)) for entry in value["put"])
    tree = base if base.id == commit.meta_range_id else base.with_changes(changes)
    if commit.meta_range_id == EMPTY_TREE.id:
        tree = EMPTY_TREE
    if tree.id != commit.meta_range_id:
        problem = f"commit {commit.id} of repository {repository.info.name} does not have the tree that it names"
        raise StateError(f"{problem}: the state is damaged; nothing was changed")
    return CommitRecord(commit, tree, value["generation"], value["fraction"])
