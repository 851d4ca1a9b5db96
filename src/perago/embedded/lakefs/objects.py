"""The modelled server's calls about objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from perago.embedded.lakefs.repository import Repository, check_branch_name, check_length, check_path, check_ref
from perago.embedded.lakefs.state import ServerState
from perago.embedded.lakefs.values import (
    Blob,
    CommonPrefix,
    DeleteError,
    Entry,
    Invalid,
    LakeFSError,
    Missing,
    Page,
    PathExists,
    ReadOnly,
    fold,
    page_of,
    paths_from,
)

MAX_BATCH = 1000
DEFAULT_CONTENT_TYPE = "application/octet-stream"


class ObjectCalls(ServerState):
    """Stage, read, list, copy and delete objects. Paths are opaque text (`docs/servers/lakefs.md` 2, Paths)."""

    def put_object(
        self,
        repository: str,
        branch: str,
        path: str,
        content: bytes | Blob,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        force: bool = False,
    ) -> Entry:
        """Stage an object. The names of user metadata become lower case, as HTTP headers do.

        Raises:
            Missing: unknown repository or branch.
            Invalid: a path that lakeFS refuses.
            PathExists: `if_absent` and there is an object.
            ReadOnly, Forbidden: the repository is read-only, or the branch protected.
        """
        blob = self.blobs.of_bytes(content) if isinstance(content, bytes) else content
        lowered = {name.lower(): value for name, value in (metadata or {}).items()}
        kind = DEFAULT_CONTENT_TYPE if content_type is None else content_type
        with self._open_to_write(repository, force) as repo:
            return _put(repo, branch, self._new_entry(repo, path, blob, kind, lowered), if_absent=if_absent)

    def check_upload(self, repository: str, branch: str, path: str, *, if_absent: bool = False) -> None:
        """Refuse an upload before its bytes are read, for the reasons that lakeFS knows by then.

        Raises:
            Missing: unknown repository or branch.
            PathExists: `if_absent` and there is an object.
        """
        with self._open(repository) as repo:
            _check_put(repo, branch, path, if_absent=if_absent)

    def new_address(self, repository: str) -> str:
        """An address of the block store at which a client may put the bytes of one object.

        Raises:
            Missing: no such repository.
        """
        with self._open(repository) as repo:
            address = self._new_address(repo)
            self._linkable.add(address)
            return address

    def link_object(
        self,
        repository: str,
        branch: str,
        path: str,
        address: str,
        blob: Blob,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        mtime: int | None = None,
        if_absent: bool = False,
        force: bool = False,
    ) -> Entry:
        """Stage an object whose bytes a client says it has put at an address. They cannot be read here.

        Raises:
            Missing, PathExists, ReadOnly, Forbidden: as `put_object`.
            Invalid: a path that lakeFS refuses, or an address of this block store that was not given by `new_address`.
        """
        kind = DEFAULT_CONTENT_TYPE if content_type is None else content_type
        with self._open_to_write(repository, force) as repo:
            if address.startswith(repo.info.storage_namespace) and address not in self._linkable:
                raise Invalid("address is not signed: link address invalid")
            entry = Entry(path, blob, kind, metadata or {}, self._now() if mtime is None else mtime, address)
            return _put(repo, branch, entry, if_absent=if_absent)

    def copy_object(
        self, repository: str, branch: str, path: str, *, source: str, source_ref: str = "", force: bool = False
    ) -> Entry:
        """Stage a copy of the object at `source` of `source_ref` (by default the branch itself) with bytes of its own.

        Raises:
            Missing: unknown repository, branch, ref or object.
            Invalid, ReadOnly, Forbidden: as `put_object`.
        """
        with self._open(repository) as repo:
            repo.branch(branch, f"branch '{branch}' not found")
            original = _stat(repo, source_ref or branch, source)
        with self._open_to_write(repository, force) as repo:
            copy = self._new_entry(repo, path, original.blob, original.content_type, original.metadata)
            return _put(repo, branch, copy)

    def set_user_metadata(self, repository: str, branch: str, path: str, metadata: Mapping[str, str]) -> None:
        """Stage other user metadata for an object whose bytes stay where they are.

        Raises:
            Missing: unknown repository, branch or object.
            ReadOnly: the repository is.
        """
        check_branch_name(branch)
        check_path(path)
        with self._open_to_write(repository) as repo:
            found = repo.branch(branch)
            repo.check_protection(branch)
            try:
                entry = _stat(repo, branch, path)
            except Missing as error:
                raise error.within(f"update user metadata on {repository}/{branch}/{path}") from None
            found.stage(path, replace(entry, metadata=dict(metadata)))

    def stat_object(self, repository: str, ref: str, path: str) -> Entry:
        """The object at `path`; its `blob` has the bytes. A prefix is not an object.

        Raises:
            Missing: unknown repository, ref or object.
            Invalid: not a ref, or a path that lakeFS refuses.
        """
        with self._open(repository) as repo:
            return _stat(repo, ref, path)

    def list_objects(
        self, repository: str, ref: str, *, prefix: str = "", after: str = "", delimiter: str = "", amount: int = -1
    ) -> Page[Entry | CommonPrefix]:
        """One page of objects and common prefixes, in unsigned byte order.

        Raises:
            Missing: unknown repository or ref.
            Invalid: not a ref, or a prefix or delimiter of more than 1,024 bytes.
        """
        with self._open(repository) as repo:
            check_ref(ref)
            check_length("prefix", prefix)
            check_length("delimiter", delimiter)
            tree = repo.tree(repo.resolve(ref))
            folded = fold(paths_from(tree.paths, prefix, after), prefix, delimiter, after)
            items = (CommonPrefix(path) if is_common else tree.entries[path] for path, is_common in folded)
            return page_of(items, lambda item: item.path, amount)

    def all_objects(self, repository: str, ref: str, prefix: str = "") -> tuple[Entry, ...]:
        """Every object below `prefix`, without pages."""
        with self._open(repository) as repo:
            tree = repo.tree(repo.resolve(ref))
            return tuple(tree.entries[path] for path in paths_from(tree.paths, prefix, ""))

    def delete_object(self, repository: str, branch: str, path: str, *, force: bool = False) -> None:
        """Stage the deletion of one object; a missing object is fine, a missing branch is not."""
        with self._open_to_write(repository, force) as repo:
            check_branch_name(branch)
            check_path(path)
            found = repo.branch(branch)
            repo.check_protection(branch)
            found.stage(path, None)

    def delete_objects(
        self, repository: str, branch: str, paths: Sequence[str], *, force: bool = False
    ) -> tuple[DeleteError, ...]:
        """Stage up to 1,000 deletions, all or none. What could not be deleted is in the answer, not an error.

        Missing objects are fine. A missing branch or repository and an empty path are answered like success, and
        nothing is deleted then (`docs/servers/lakefs.md` 2, Delete).

        Raises:
            Invalid: more than 1,000 paths.
        """
        if len(paths) > MAX_BATCH:
            raise Invalid(f"request size exceeded, max paths is set to {MAX_BATCH}")
        with self._lock:
            repo = self._repositories.get(repository)
            if repo is None:
                return ()
            try:
                _delete_all(repo, branch, paths, force=force)
            except LakeFSError as error:
                status = 403 if error.status == 403 else 500
                return tuple(DeleteError(path, status, error.message) for path in paths)
            return ()


def _delete_all(repository: Repository, branch: str, paths: Sequence[str], *, force: bool) -> None:
    check_branch_name(branch)
    for number, path in enumerate(paths):
        if not path:
            return
        check_length(f"path[{number}]", path)
    if repository.info.read_only and not force:
        raise ReadOnly
    found = repository.branches.get(branch)
    if found is not None:
        repository.check_protection(branch)
        for path in paths:
            found.stage(path, None)


def _check_put(repository: Repository, branch: str, path: str, *, if_absent: bool) -> None:
    check_branch_name(branch, "name")
    repository.branch(branch, f"branch '{branch}' not found")
    if if_absent and _look_up(repository, branch, path) is not None:
        raise PathExists


def _put(repository: Repository, branch: str, entry: Entry, *, if_absent: bool = False) -> Entry:
    _check_put(repository, branch, entry.path, if_absent=if_absent)
    check_path(entry.path)
    repository.check_protection(branch)
    repository.branch(branch).stage(entry.path, entry)
    return entry


def _stat(repository: Repository, ref: str, path: str) -> Entry:
    check_ref(ref)
    check_path(path)
    entry = _look_up(repository, ref, path)
    if entry is None:
        raise Missing("not found")
    return entry


def _look_up(repository: Repository, ref: str, path: str) -> Entry | None:
    """Without building the tree that a branch shows with its staged changes."""
    branch = repository.branches.get(ref)
    if branch is not None and path in branch.staged:
        return branch.staged[path]
    resolved = repository.resolve(ref)
    if branch is not None and resolved.branch == ref:
        return repository.head(branch).tree.get(path)
    return repository.tree(resolved).get(path)
