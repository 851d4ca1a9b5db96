"""What there is to keep of a lakeFS, and how it comes back.

Commits never change, so each is written once, with its tree as the difference to its first parent's. When it is read
back the tree is put together again and must have the id that the commit names.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeAlias

from pydantic import TypeAdapter

from perago.embedded.lakefs.blobs import Blob
from perago.embedded.lakefs.graph import CommitRecord
from perago.embedded.lakefs.repository import Branch, Repository
from perago.embedded.lakefs.server import LakeFSServer
from perago.embedded.lakefs.tree import EMPTY_TREE, Tree
from perago.embedded.lakefs.values import ActionRun, Entry, RepositoryInfo
from perago.embedded.persistence import Key, Records, StateError, grouped
from perago.ports import Commit

FindBlob: TypeAlias = Callable[[str, int], Blob]
"""The kept bytes of an MD5 and a size."""

_INFO = TypeAdapter(RepositoryInfo)
_COMMIT = TypeAdapter(Commit)
_RUN = TypeAdapter(ActionRun)


@dataclass(frozen=True, slots=True)
class _Commit:
    """A commit and the tree that its own is told by."""

    record: CommitRecord
    base: CommitRecord | None


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
                captured.update(_captured_commits(name, repository))
                captured.update(_captured_branches(name, repository))
        return captured

    def encode(self, key: Key, captured: object) -> Any:  # noqa: ARG002 - the shape that the keeper calls
        """The JSON value of something captured.

        Raises:
            OSError: the bytes of an object cannot be kept.
        """
        match captured:
            case _Commit():
                return self._commit(captured)
            case RepositoryInfo():
                return _INFO.dump_python(captured, mode="json")
            case ActionRun():
                return _RUN.dump_python(captured, mode="json")
            case Entry():
                return self._entry(captured)
            case _:
                return captured

    def _commit(self, captured: _Commit) -> dict[str, Any]:
        old = captured.base.tree.entries if captured.base is not None else {}
        new = captured.record.tree.entries
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
        return {
            "is_elsewhere": entry.blob.is_elsewhere,
            "path": entry.path,
            "size": entry.blob.size,
            "checksum": entry.blob.checksum,
            "content_type": entry.content_type,
            "metadata": dict(entry.metadata),
            "mtime": entry.mtime,
            "address": entry.address,
        }

    def restore(self, records: Records, blob: FindBlob) -> None:
        """Take over what was kept. To be called before anybody else calls.

        Raises:
            StateError: bytes are missing, or a commit does not have the tree that it names.
            pydantic.ValidationError, KeyError, TypeError: a record is not what this version would have written.
        """
        groups = grouped(records)
        highest = -1
        with self._server._lock:
            self._server._namespaces.update(str(name) for (name,) in groups.get("namespace", {}))
            for (name,), info in groups.get("repository", {}).items():
                restoring = _Restoring(str(name), blob)
                repository = Repository(_INFO.validate_python(info), bare=True)
                restoring.commits(repository, _below(groups, "commit", name))
                restoring.branches(repository, _below(groups, "branch", name), _below(groups, "staged", name))
                repository.tags.update({str(tag): value for (tag,), value in _below(groups, "tag", name).items()})
                repository.metadata.update(groups["metadata"][name,])
                repository.protected = tuple(groups["protected"][name,])
                runs = sorted(_below(groups, "run", name).items())
                repository.runs.extend(_RUN.validate_python(value) for _, value in runs)
                self._server._repositories[str(name)] = repository
                highest = max(highest, restoring.highest_address)
            self._server._addresses = itertools.count(highest + 1)


def kept_blobs(records: Records) -> set[tuple[str, int]]:
    """MD5 and size of everything that the records refer to."""
    groups = grouped(records)
    entries = [entry for commit in groups.get("commit", {}).values() for entry in commit["put"]]
    entries += filter(None, groups.get("staged", {}).values())
    return {(entry["checksum"], entry["size"]) for entry in entries}


def _captured_commits(name: str, repository: Repository) -> Iterator[tuple[Key, _Commit]]:
    records = repository.graph._records
    for commit_id, record in records.items():
        parents = record.commit.parents
        yield ("commit", name, commit_id), _Commit(record, records[parents[0]] if parents else None)


def _captured_branches(name: str, repository: Repository) -> Iterator[tuple[Key, object]]:
    for branch in repository.branches.values():
        yield ("branch", name, branch.name), (branch.commit_id, branch.hidden)
        yield from ((("staged", name, branch.name, path), staged) for path, staged in branch.staged.items())


def _below(groups: Mapping[str, Mapping[Key, Any]], kind: str, name: str | int | None) -> dict[Key, Any]:
    """The records of one kind in one repository, by the rest of their keys."""
    return {tuple(rest): value for (owner, *rest), value in groups.get(kind, {}).items() if owner == name}


class _Restoring:
    """Puts one repository together."""

    def __init__(self, name: str, blob: FindBlob) -> None:
        self._name = name
        self._blob = blob
        self.highest_address = -1
        """The highest running number in an object's address."""

    def commits(self, repository: Repository, kept: Mapping[Key, Any]) -> None:
        """Add the commits; parents come before their children."""
        records = repository.graph._records
        for value in sorted(kept.values(), key=itemgetter("generation")):
            record = self._commit(repository, value)
            records[record.commit.id] = record

    def branches(self, repository: Repository, kept: Mapping[Key, Any], staged: Mapping[Key, Any]) -> None:
        """Add the branches, with what is staged on them."""
        for (name,), (commit_id, hidden) in kept.items():
            repository.branches[str(name)] = Branch(str(name), commit_id, hidden)
        for (name, path), value in staged.items():
            repository.branches[str(name)].stage(str(path), None if value is None else self._entry(value))

    def _commit(self, repository: Repository, value: Mapping[str, Any]) -> CommitRecord:
        commit = _COMMIT.validate_python(value["commit"])
        base = repository.graph.record(commit.parents[0]).tree if commit.parents else EMPTY_TREE
        changes: dict[str, Entry | None] = dict.fromkeys(value["removed"])
        changes.update((entry["path"], self._entry(entry)) for entry in value["put"])
        tree = _tree(base, changes, commit.meta_range_id)
        if tree.id != commit.meta_range_id:
            raise StateError(
                f"commit {commit.id} of repository {self._name} does not have the tree that it names: the state is "
                "damaged; nothing was changed"
            )
        return CommitRecord(commit, tree, value["generation"], value["fraction"])

    def _blob_of(self, value: Mapping[str, Any]) -> Blob:
        size, checksum = value["size"], value["checksum"]
        return Blob(size, checksum) if value["is_elsewhere"] else self._blob(checksum, size)

    def _entry(self, value: Mapping[str, Any]) -> Entry:
        number = int(value["address"].rpartition("/")[2], 16)
        self.highest_address = max(self.highest_address, number)
        return Entry(
            path=value["path"],
            blob=self._blob_of(value),
            content_type=value["content_type"],
            metadata=value["metadata"],
            mtime=value["mtime"],
            address=value["address"],
        )


def _tree(base: Tree, changes: Mapping[str, Entry | None], tree_id: str) -> Tree:
    if tree_id == EMPTY_TREE.id:
        return EMPTY_TREE
    return base if base.id == tree_id else base.with_changes(changes)
