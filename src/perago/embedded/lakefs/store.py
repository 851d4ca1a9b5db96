"""The port `WorkspaceStore` on the modeled server, with faults and conveniences for tests."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from perago import ports
from perago.embedded.faults import FaultScript, faults_around
from perago.embedded.lakefs import commits, objects, references, values
from perago.embedded.lakefs.repository import LakeFSServer, Repository
from perago.embedded.lakefs.trees import ACTIONS_PREFIX, two_dot_diff
from perago.workspace.scan import open_unchanged

SERVICE = "lakeFS"
_COMMIT_ID = re.compile(r"[0-9a-f]{64}")


class InMemoryLakeFS:
    """A lakeFS in this process that implements `perago.ports.WorkspaceStore`.

    `server` is the same model with lakeFS's own operations and options, for tests that need more than an attempt
    does. Faults are triggered by operation name: the name of the port's method. Use it as a context manager, or call
    `close`, to remove the directory that large objects are spooled to.
    """

    def __init__(self, clock: ports.Clock, faults: FaultScript | None = None) -> None:
        self.server: LakeFSServer = LakeFSServer(clock)
        self.faults: FaultScript = faults or FaultScript()
        self._clock = clock

    def __enter__(self) -> InMemoryLakeFS:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---------------------------------------------------------------- the port

    def get_commit(self, repository: str, ref: str) -> ports.Commit:
        """Return the commit that a full commit id or a branch name points at."""
        with self._operation("get_commit", f"get commit {ref!r} of {repository!r}", repository) as repo:
            if _COMMIT_ID.fullmatch(ref):
                return commits.get_commit(repo, ref).commit
            try:
                return commits.get_commit(repo, references.get_branch(repo, ref).commit_id).commit
            except values.Invalid as error:  # no branch can have this name
                raise values.Missing(error.message) from error

    def history(self, repository: str, branch: str, *, until: str, limit: int) -> tuple[ports.Commit, ...]:
        """Return first-parent commits of `branch` after `until`, newest first, at most `limit`."""
        with self._operation("history", f"read the history of {branch!r} in {repository!r}", repository) as repo:
            references.get_branch(repo, branch)
            history: list[ports.Commit] = []
            for record in commits.first_parents(repo, branch):
                if record.commit.id == until or len(history) == limit:
                    break
                history.append(ports.shortened(record.commit) if history else record.commit)
            return tuple(history)

    def ancestry(self, repository: str, commit: str, *, limit: int) -> tuple[ports.Commit, ...]:
        """Return a commit and its first-parent ancestors, newest first, at most `limit`."""
        with self._operation("ancestry", f"read the history of {repository!r}", repository) as repo:
            ancestors = tuple(record.commit for record in islice(commits.first_parents(repo, commit), limit))
            if ancestors[0].id != commit:  # the name of a branch or a tag
                raise values.Missing(f"commit {commit} does not exist")
            return ancestors

    def has_uncommitted_changes(self, repository: str, branch: str) -> bool:
        """Whether a merge into `branch` would be refused as dirty."""
        with self._operation("has_uncommitted_changes", f"diff {branch!r} of {repository!r}", repository) as repo:
            return bool(commits.staged_changes(repo, branch))

    def newest_staged(self, repository: str, branch: str) -> int | None:
        """Return the time at which the newest staged object of `branch` was uploaded."""
        with self._operation("newest_staged", f"diff {branch!r} of {repository!r}", repository) as repo:
            staged = (change.entry for change in commits.staged_changes(repo, branch))
            return max((entry.mtime for entry in staged if entry is not None), default=None)

    def list_objects(
        self, repository: str, commit: str, prefix: str, on_page: ports.OnPage | None = None
    ) -> Sequence[ports.ObjectEntry]:
        """Return every object below `prefix`, as one page."""
        description = f"list {prefix or '/'!r} of {repository!r} at {commit}"
        with self._operation("list_objects", description, repository) as repo:
            entries = [entry.as_listed() for entry in objects.all_objects(repo, commit, prefix)]
        if on_page is not None:
            on_page(entries)
        return entries

    def download(
        self,
        repository: str,
        commit: str,
        workspace: Path,
        placements: Sequence[ports.Placement],
        on_progress: ports.Progress = ports.no_progress,
    ) -> int:
        """Write objects that have a path. All bytes come from this model."""
        with self._port_call("download", f"download from {repository!r} at {commit}"):
            with self.server.lock:
                repo = self.server.repository(repository)
                entries = {entry.path: entry for entry in objects.all_objects(repo, commit)}
            _write_files(entries, workspace, placements, on_progress)
            return 0

    def create_branch(self, repository: str, branch: str, source: str) -> None:
        """Create a hidden branch."""
        with self._operation("create_branch", f"create branch {branch!r} in {repository!r}", repository) as repo:
            references.create_branch(repo, branch, source, hidden=True)

    def upload(
        self, repository: str, branch: str, uploads: Sequence[ports.Upload], on_staged: ports.Staged | None = None
    ) -> None:
        """Stage files."""
        with self._port_call("upload", f"upload to {branch!r} of {repository!r}"):
            for upload in uploads:
                blob = _read_upload(self.server.blobs, upload)
                kind, metadata = upload.content_type, upload.metadata
                with self.server.lock:
                    repo = self.server.repository(repository)
                    objects.put_object(repo, branch, upload.key, blob, content_type=kind, metadata=metadata)
                if on_staged is not None:
                    on_staged(upload)

    def delete_objects(self, repository: str, branch: str, keys: Sequence[str]) -> None:
        """Stage deletions in batches of the size that the server accepts."""
        with self._port_call("delete_objects", f"delete objects on {branch!r} of {repository!r}"), self.server.lock:
            repo, size = self.server.repositories.get(repository), objects.MAX_BATCH
            for start in range(0, len(keys), size):
                objects.delete_objects(repo, branch, keys[start : start + size])

    def commit(
        self, repository: str, branch: str, message: str, metadata: Mapping[str, str], *, allow_empty: bool = False
    ) -> ports.Commit:
        """Commit the staged changes."""
        with self._operation("commit", f"commit {branch!r} of {repository!r}", repository) as repo:
            return commits.commit(repo, branch, message, metadata, allow_empty=allow_empty).commit

    def revert(self, repository: str, branch: str, commit: str) -> None:
        """Undo a merge commit on a branch."""
        with self._operation("revert", f"revert {commit} on {branch!r} of {repository!r}", repository) as repo:
            commits.revert(repo, branch, commit, parent_number=1)

    def diff(self, repository: str, left: str, right: str) -> Mapping[str, int | None]:
        """Return the keys at which two commits differ, with their sizes in `right`."""
        with self._operation("diff", f"compare {left} and {right} of {repository!r}", repository) as repo:
            differences = two_dot_diff(repo.resolve_commit(left).tree, repo.resolve_commit(right).tree)
            removed = values.DiffType.REMOVED
            return {change.path: None if change.type is removed else change.size for change in differences}

    def stat_objects(self, repository: str, commit: str, keys: Collection[str]) -> Mapping[str, ports.ObjectEntry]:
        """Return the objects that a commit has at `keys`."""
        description = f"look for {len(keys)} objects in {commit} of {repository!r}"
        with self._operation("stat_objects", description, repository) as repo:
            commits.get_commit(repo, commit)
            entries = {}
            for key in keys:
                with suppress(values.Missing):
                    entries[key] = objects.stat_object(repo, commit, key).as_listed()
            return entries

    def merge(
        self,
        repository: str,
        source: str,
        branch: str,
        message: str,
        metadata: Mapping[str, str],
        *,
        allow_empty: bool = False,
        within: float | None = None,  # noqa: ARG002 - the model answers immediately
    ) -> str:
        """Merge a commit into a branch, without other options."""
        with self._operation("merge", f"merge {source} into {branch!r} of {repository!r}", repository) as repo:
            return commits.merge(repo, source, branch, message, metadata, allow_empty=allow_empty).commit.id

    def list_branches(self, repository: str, prefix: str) -> tuple[str, ...]:
        """Return all branches whose names begin with `prefix`."""
        with self._operation("list_branches", f"list branches {prefix!r} of {repository!r}", repository) as repo:
            return tuple(sorted(name for name in repo.branches if name.startswith(prefix)))

    def delete_branch(self, repository: str, branch: str) -> None:
        """Delete a branch, unless it no longer exists."""
        description = f"delete branch {branch!r} of {repository!r}"
        with self._operation("delete_branch", description, repository) as repo, suppress(values.Missing):
            references.delete_branch(repo, branch)

    def close(self) -> None:
        """Remove the directory of large objects."""
        self.server.close()

    # ------------------------------------------------------------ conveniences

    def seed(
        self,
        repository: str,
        branch: str,
        tree: Mapping[str, str | bytes | Path | None] | Path,
        *,
        message: str = "Seed",
    ) -> ports.Commit:
        """Put files on a branch and commit them. Create the repository and the branch if they are missing.

        `tree` maps keys to contents (text is UTF-8; a path is a file to read; None, an empty directory, has no effect
        in an object store), or is a directory. Other objects of the branch stay.
        """
        with self.server.lock:
            if repository not in self.server.repositories:
                self.server.create_repository(repository, default_branch=branch)
            repo = self.server.repository(repository)
            if branch not in repo.branches:
                references.create_branch(repo, branch, repo.info.default_branch)
            for key, content in _files_of(tree):
                blob = content if isinstance(content, bytes) else self.server.blobs.of_file(content)
                objects.put_object(repo, branch, key, blob)
            return commits.commit(repo, branch, message, allow_empty=True).commit

    def tree(self, repository: str, ref: str) -> dict[str, bytes]:
        """Return all objects of a ref with their bytes, in byte order."""
        with self.server.lock:
            entries = objects.all_objects(self.server.repository(repository), ref)
        return {entry.path: entry.blob.read() for entry in entries}

    def export(self, repository: str, ref: str, target: Path, *, prefix: str = "") -> None:
        """Write the objects of a ref whose keys begin with `prefix` below a directory, without the prefix. Hooks
        are not part of a workspace, so they are not written.

        Raises:
            ValueError: a key would be outside of `target`, or is not a file name.
        """
        with self.server.lock:
            entries = objects.all_objects(self.server.repository(repository), ref)
        _export_tree([entry for entry in entries if entry.path.startswith(prefix)], target, prefix)

    @contextmanager
    def _operation(self, name: str, description: str, repository: str) -> Iterator[Repository]:
        """Give the repository of an operation, under the lock of the server; see `_port_call`."""
        with self._port_call(name, description), self.server.lock:
            yield self.server.repository(repository)

    @contextmanager
    def _port_call(self, name: str, description: str) -> Iterator[None]:
        """Trigger the faults of an operation, and turn the server's refusals into the port's errors."""
        with faults_around(self.faults, name, service=SERVICE, clock=self._clock):
            try:
                yield
            except values.NotModelled:
                raise
            except values.LakeFSError as error:
                raise _port_error(name, description, error) from error


def _port_error(name: str, description: str, error: values.LakeFSError) -> ports.ServiceError:
    reason = _REFUSALS.get(type(error)) if name == "merge" else None
    if reason is ports.MergeRefusal.HOOK and ports.FENCE_MARKER in error.message:
        reason = ports.MergeRefusal.HEAD_MOVED
    if reason is not None:
        return ports.MergeRefused(SERVICE, description, error.message, reason)
    if name == "revert" and isinstance(error, values.Conflict):
        return ports.RevertConflict(SERVICE, description, error.message)
    kind = next((kind for refusal, kind in _PORT_ERRORS.items() if isinstance(error, refusal)), ports.Refused)
    return kind(SERVICE, description, error.message)


_REFUSALS: Mapping[type[values.LakeFSError], ports.MergeRefusal] = {
    values.HookAborted: ports.MergeRefusal.HOOK,
    values.Conflict: ports.MergeRefusal.CONFLICT,
    values.NoChanges: ports.MergeRefusal.NO_CHANGES,
    values.Dirty: ports.MergeRefusal.DIRTY,
}
"""Why a merge was refused."""

_PORT_ERRORS: Mapping[type[values.LakeFSError], type[ports.ServiceError]] = {
    values.NoChanges: ports.NothingToCommit,
    values.Missing: ports.NotFound,
    values.ImpossibleName: ports.NotFound,
    values.Forbidden: ports.Forbidden,
}


# ---------------------------------------------------------------------- bytes and files


def _read_upload(blobs: values.BlobStore, upload: ports.Upload) -> values.Blob:
    """Return the bytes of a local file, compared with what change detection saw.

    Raises:
        FileChanging: the file vanished, or has another size.
        CorruptTransfer: the MD5 differs.
        OSError: the file cannot be read.
    """
    with os.fdopen(open_unchanged(upload), "rb") as file:
        blob = blobs.of_stream(file)
    if (blob.size, blob.checksum) != (upload.size, upload.checksum):
        current = f"{upload.path} has {blob.size} bytes with MD5 {blob.checksum}"
        announced = f"{upload.size} bytes with MD5 {upload.checksum} were announced"
        problem = f"{current}, but {announced}: it changed while it was being published"
        raise ports.CorruptTransfer(SERVICE, f"upload {upload.key!r}", problem)
    return blob


def _write_files(
    entries: Mapping[str, values.Entry],
    workspace: Path,
    placements: Iterable[ports.Placement],
    on_progress: ports.Progress,
) -> None:
    """Write the placed objects, of `entries` by key: complete under a temporary name first, then renamed.

    Temporary files are in a fresh directory next to the workspace, so that none can collide with a workspace name.

    Raises:
        OSError: the disk failed.
    """
    placed = [(entries[place.entry.key], place.path) for place in placements if place.path is not None]
    if not placed:
        return
    workspace.mkdir(parents=True, exist_ok=True)
    parents: set[str] = set()
    size = 0
    with tempfile.TemporaryDirectory(prefix="incoming-", dir=workspace.parent) as incoming:
        partial = f"{incoming}/object"
        for number, (entry, path) in enumerate(placed, start=1):
            target = os.fspath(path)
            parent = os.path.dirname(target)  # noqa: PTH120 - text is measurably faster for thousands of files
            if parent not in parents:
                path.parent.mkdir(parents=True, exist_ok=True)
                parents.add(parent)
            if entry.is_directory_marker:
                path.mkdir(exist_ok=True)
            else:
                with open(partial, "wb") as file:  # noqa: PTH123 - text is faster than paths, as above
                    entry.blob.copy_to(file)
                os.utime(partial, (entry.mtime, entry.mtime))
                os.replace(partial, target)  # noqa: PTH105 - as above
            size += entry.blob.size
            on_progress(number, size)


def _files_of(tree: Mapping[str, str | bytes | Path | None] | Path) -> Iterator[tuple[str, bytes | Path]]:
    """(key, bytes or file) of a mapping or of a directory, in order. Directories and None have no object."""
    if isinstance(tree, Path):
        if not tree.is_dir():
            raise NotADirectoryError(f"{tree} is not a directory: there is no tree to take from it")
        for path in sorted(tree.rglob("*")):
            if path.is_file():
                yield path.relative_to(tree).as_posix(), path
        return
    for key, content in tree.items():
        if content is not None:
            yield key, content.encode() if isinstance(content, str) else content


def _export_tree(entries: Iterable[values.Entry], target: Path, prefix: str) -> None:
    """Write objects, except hooks, below `target`, which is created, without the beginning of their keys.

    Raises:
        ValueError: a key would be outside of `target`, or is not a file name.
    """
    target.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        key = entry.path[len(prefix) :]
        if not key or entry.path.startswith(ACTIONS_PREFIX):
            continue
        if entry.is_directory_marker:
            (target / _safe(key.rstrip("/"))).mkdir(parents=True, exist_ok=True)
            continue
        path = target / _safe(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            entry.blob.copy_to(file)
        os.utime(path, (entry.mtime, entry.mtime))


def _safe(key: str) -> str:
    parts = key.split("/")
    if "\x00" in key or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"key {key!r} cannot become a file: it has an empty, '.' or '..' part, or a NUL")
    return key
