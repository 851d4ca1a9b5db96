"""What there is to keep of a lakeFS, and how it comes back.

Commits never change, so each is written once, with its tree as the difference to its first parent's. When it is read
back the tree is put together again and must have the id that the commit names.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeAlias

from pydantic import TypeAdapter

from perago.embedded.lakefs.repository import Branch, CommitRecord, Repository
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.trees import EMPTY_TREE, Tree
from perago.embedded.lakefs.values import ActionRun, Blob, Entry, RepositoryInfo
from perago.embedded.persistence import Key, Records, StateError, grouped
from perago.ports import Commit

FindBlob: TypeAlias = Callable[[str, int], Blob]
"""The kept bytes of an MD5 and a size."""

_COMMIT = TypeAdapter(Commit)
_TYPES: Mapping[str, TypeAdapter[Any]] = {"repository": TypeAdapter(RepositoryInfo), "run": TypeAdapter(ActionRun)}
_OWN = ("path", "content_type", "mtime", "address")
"""What an entry is written as, beside its metadata and its bytes."""


@dataclass(frozen=True, slots=True)
class _Commit:
    """A commit and the tree that its own is told by."""

    record: CommitRecord
    base: Tree


class LakeFSSource:
    """One lakeFS, as `perago.embedded.persistence.Persistence` sees it. `keep` is told of every object's bytes."""

    def __init__(self, server: LakeFSServer, keep: Callable[[Blob], None]) -> None:
        self._server = server
        self._keep = keep

    def capture(self) -> dict[Key, object]:
        """Everything there is; what staging areas and trees hold does not change, only which of it there is."""
        captured: dict[Key, object] = {}
        with self._server._lock:
            captured.update((("namespace", name), True) for name in self._server._namespaces)
            for name, repository in self._server._repositories.items():
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

        with self._server._lock:
            self._server._namespaces.update(str(name) for (name,) in groups.get("namespace", {}))
            for (name,), info in groups.get("repository", {}).items():
                own = {kind: _below(groups, kind, name) for kind in ("commit", "branch", "staged", "tag", "run")}
                repository = Repository(_TYPES["repository"].validate_python(info), bare=True)
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
                self._server._repositories[str(name)] = repository
            self._server._addresses = itertools.count(max(numbers) + 1)


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
