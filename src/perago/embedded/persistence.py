"""Keeping the state of the embedded services in a directory, and restoring it: `perago dev --state`.

`kept_in` does all of it. The directory holds `state.sqlite`, with one row a record, and the bytes of objects as files.
Changes are written twice a second, each time in one transaction: a process that is killed loses the last moment at
most, and never the file.
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
from copy import copy
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeAlias

from pydantic import TypeAdapter

from perago.embedded.conductor.core import ModelCore
from perago.embedded.conductor.state import HistoryEntry, Message, State, Status, TaskRow, WorkflowRow
from perago.embedded.lakefs.repository import Branch, CommitRecord, Repository
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.trees import EMPTY_TREE, Tree
from perago.embedded.lakefs.values import ActionRun, Blob, Entry, RepositoryInfo
from perago.embedded.services import KeyPair
from perago.ports import Commit
from perago.settings.sources import own_directory_trouble

Key: TypeAlias = tuple[str | int | None, ...]
"""The key of a record: its kind, then names and ids."""

Records: TypeAlias = Mapping[Key, Any]
"""JSON values by key."""

FORMAT = 2
SECONDS = 0.5
"""Seconds between two looks for changes."""

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


# ----------------------------------------------------------------------------- Conductor

NOT_KEPT = frozenset({"http_handler", "limits", "random", "last_polls", "_clock"})
"""Fields that end with the server: its settings, its random numbers and the last polls."""

KINDS: Mapping[str, TypeAdapter[Any]] = {
    "task_definitions": TypeAdapter(dict[str, Any]),
    "workflow_definitions": TypeAdapter(dict[int, dict[str, Any]]),
    "tasks": TypeAdapter(TaskRow),
    "workflows": TypeAdapter(WorkflowRow),
    "queue": TypeAdapter(Message),
    "logs": TypeAdapter(list[dict[str, Any]]),
    "attention": TypeAdapter(bool),
    "timers": TypeAdapter(int),
    "sub_workflows": TypeAdapter(str),
    "history": TypeAdapter(HistoryEntry),
}
"""The types of what the state's tables hold, by the name of the attribute; attempts come before their workflows."""

_TABLES = tuple(kind for kind in KINDS if kind != "history")
"""Those that are mappings. The history is a list that only grows; its keys are positions."""


class ConductorSource:
    """The state of one Conductor.

    Every attribute of `State` is listed in `KINDS` or in `NOT_KEPT`; a test fails if one is in neither. Rows are read
    back through their own type hints, so a field that is added to a row is kept automatically.
    """

    def __init__(self, model: ModelCore) -> None:
        self._model = model

    def capture(self) -> dict[Key, object]:
        """Every row of every table; the keys begin with the table's name. A row costs a few microseconds of the lock.

        Rows are copied, their payloads are shared with the copies: they are replaced, never changed.
        """
        with self._model._locked() as state:
            rows = [((kind, key), _copied(row)) for kind in _TABLES for key, row in _table(state, kind).items()]
            history = state.history.copy()
        captured: dict[Key, object] = {("history", number): entry for number, entry in enumerate(history)}
        for (kind, key), row in rows:
            captured[kind, *(key if isinstance(key, tuple) else (key,))] = row
        return captured

    def encode(self, key: Key, captured: Any) -> Any:  # noqa: ARG002 - the shape of a source
        """The JSON value of a captured row."""
        if not is_dataclass(captured):
            return captured
        return {field.name: getattr(captured, field.name) for field in fields(captured)}

    def restore(self, records: Records) -> None:
        """Take over what was kept by a model of the same kind. To be called before any other call.

        Raises:
            pydantic.ValidationError: a record is not what this version would have written.
            KeyError: a workflow names an attempt that is not there.
        """
        groups = grouped(records)
        with self._model._locked() as state:
            for kind in _TABLES:
                for parts, value in groups.get(kind, {}).items():
                    _table(state, kind)[parts if len(parts) > 1 else parts[0]] = _restored(state, kind, value)
            history = sorted(groups.get("history", {}).items())
            state.history.extend(KINDS["history"].validate_python(value) for _, value in history)
            _complete_queue(state)


def _table(state: State, kind: str) -> Any:
    return state.queue._messages if kind == "queue" else getattr(state, kind)


def _restored(state: State, kind: str, value: Any) -> Any:
    """A row; a workflow shares the rows of its attempts with the table of all attempts."""
    if kind != "workflows":
        return KINDS[kind].validate_python(value)
    row = KINDS[kind].validate_python({**value, "tasks": []})
    row.tasks.extend(state.tasks[task_id] for task_id in value["tasks"])
    return row


def _copied(row: Any) -> object:
    """Attempts have records of their own, so a workflow has their ids."""
    ids: Any = [task.task_id for task in row.tasks] if isinstance(row, WorkflowRow) else None
    return copy(row) if ids is None else replace(row, tasks=ids)


def _complete_queue(state: State) -> None:
    """Also queue what a poll had taken out but not handed over when the process ended."""
    messages = state.queue._messages
    state.queue._order = itertools.count(1 + max((message.order for message in messages.values()), default=-1))
    for row in state.tasks.values():
        if row.status is Status.SCHEDULED and row.kind == "SIMPLE" and row.task_id not in messages:
            state.queue.push(row, state.now())


# -------------------------------------------------------------------------------- lakeFS

FindBlob: TypeAlias = Callable[[str, int], Blob]
"""The kept bytes of an MD5 and a size."""

_COMMIT = TypeAdapter(Commit)
_TYPES: Mapping[str, TypeAdapter[Any]] = {"repository": TypeAdapter(RepositoryInfo), "run": TypeAdapter(ActionRun)}
_OWN = ("path", "content_type", "mtime", "address")
"""The fields of an entry that are written beside its metadata and its bytes."""


@dataclass(frozen=True, slots=True)
class _Commit:
    """A commit and the tree that its own is told by."""

    record: CommitRecord
    base: Tree


class LakeFSSource:
    """The state of one lakeFS. `keep` is called with every object's bytes.

    Commits never change, so each is written once, with its tree as the difference to its first parent's. When it is
    read back, the tree is put together again and must have the id that the commit names.
    """

    def __init__(self, server: LakeFSServer, keep: Callable[[Blob], None]) -> None:
        self._server = server
        self._keep = keep

    def capture(self) -> dict[Key, object]:
        """Everything there is; what staging areas and trees hold does not change, only which of it there is."""
        captured: dict[Key, object] = {}
        with self._server.lock:
            captured.update((("namespace", name), True) for name in self._server.namespaces)
            for name, repository in self._server.repositories.items():
                captured["repository", name] = repository.info
                captured["metadata", name] = repository.metadata.copy()
                captured["protected", name] = repository.protected
                captured.update((("tag", name, tag), commit_id) for tag, commit_id in repository.tags.items())
                captured.update((("run", name, number), run) for number, run in enumerate(repository.runs))
                for commit_id, record in repository.graph._records.items():
                    captured["commit", name, commit_id] = _Commit(record, _base(repository, record.commit))
                for branch in repository.branches.values():
                    captured["branch", name, branch.name] = (branch.commit_id, branch.hidden)
                    captured.update((("staged", name, branch.name, path), it) for path, it in branch.staged.items())
        return captured

    def encode(self, key: Key, captured: object) -> Any:
        """The JSON value of something captured.

        Raises:
            OSError: the bytes of an object cannot be kept.
        """
        if isinstance(captured, Entry):
            return self._entry(captured)
        if not isinstance(captured, _Commit):
            adapter = _TYPES.get(str(key[0]))
            return captured if adapter is None else adapter.dump_python(captured, mode="json")
        old, new = captured.base.entries, captured.record.tree.entries
        return {
            "commit": _COMMIT.dump_python(captured.record.commit, mode="json"),
            "generation": captured.record.generation,
            "fraction": captured.record.fraction,
            "put": [self._entry(entry) for path, entry in new.items() if old.get(path) is not entry],
            "removed": [path for path in old if path not in new],
        }

    def _entry(self, entry: Entry) -> dict[str, Any]:
        if not entry.blob.is_elsewhere:
            self._keep(entry.blob)
        own = {name: getattr(entry, name) for name in _OWN}
        blob = {"size": entry.blob.size, "checksum": entry.blob.checksum, "is_elsewhere": entry.blob.is_elsewhere}
        return {**own, **blob, "metadata": dict(entry.metadata)}

    def restore(self, records: Records, blob: FindBlob) -> None:
        """Take over what was kept. To be called before any other call.

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
            found = Blob(size, checksum) if value["is_elsewhere"] else blob(checksum, size)
            return Entry(blob=found, metadata=value["metadata"], **{name: value[name] for name in _OWN})

        with self._server.lock:
            self._server.namespaces.update(str(name) for (name,) in groups.get("namespace", {}))
            for (name,), info in groups.get("repository", {}).items():
                own = {kind: _below(groups, kind, name) for kind in ("commit", "branch", "staged", "tag", "run")}
                repository = Repository(self._server, _TYPES["repository"].validate_python(info), bare=True)
                for value in sorted(own["commit"].values(), key=itemgetter("generation")):  # parents come first
                    record = _commit(repository, value, entry_of)
                    repository.graph._records[record.commit.id] = record
                for (branch,), (commit_id, hidden) in own["branch"].items():
                    repository.branches[str(branch)] = Branch(str(branch), commit_id, hidden)
                for (branch, path), value in own["staged"].items():
                    staged = None if value is None else entry_of(value)
                    repository.branches[str(branch)].stage(str(path), staged)
                repository.tags.update({str(tag): value for (tag,), value in own["tag"].items()})
                repository.metadata.update(groups["metadata"][name,])
                repository.protected = tuple(groups["protected"][name,])
                runs = sorted(own["run"].items())
                repository.runs.extend(_TYPES["run"].validate_python(value) for _, value in runs)
                self._server.repositories[str(name)] = repository
            self._server.addresses = itertools.count(max(numbers) + 1)


def kept_blobs(records: Records) -> set[tuple[str, int]]:
    """MD5 and size of everything that the records refer to."""
    groups = grouped(records)
    entries = [entry for commit in groups.get("commit", {}).values() for entry in commit["put"]]
    entries += filter(None, groups.get("staged", {}).values())
    return {(entry["checksum"], entry["size"]) for entry in entries}


def _below(groups: Mapping[str, Mapping[Key, Any]], kind: str, name: str | int | None) -> dict[Key, Any]:
    """The records of one kind in one repository, by the rest of their keys."""
    return {tuple(rest): value for (owner, *rest), value in groups.get(kind, {}).items() if owner == name}


def _base(repository: Repository, commit: Commit) -> Tree:
    """The tree of the first parent."""
    return repository.graph.record(commit.parents[0]).tree if commit.parents else EMPTY_TREE


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
        raise StateError(
            f"commit {commit.id} of repository {repository.info.name} does not have the tree that it names: the state "
            "is damaged; nothing was changed"
        )
    return CommitRecord(commit, tree, value["generation"], value["fraction"])
