"""The modelled server's calls about objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from perago.embedded.lakefs import comparing, staging
from perago.embedded.lakefs.blobs import Blob
from perago.embedded.lakefs.errors import Invalid, Missing
from perago.embedded.lakefs.names import check_branch_name
from perago.embedded.lakefs.state import ServerState
from perago.embedded.lakefs.values import CommonPrefix, DeleteError, Entry, Page, paths_from


class ObjectCalls(ServerState):
    """Stage, read, list, copy and delete objects."""

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
            ReadOnly: the repository is.
        """
        blob = self.blobs.of_bytes(content) if isinstance(content, bytes) else content
        lowered = {name.lower(): value for name, value in (metadata or {}).items()}
        kind = staging.DEFAULT_CONTENT_TYPE if content_type is None else content_type
        with self._open_to_write(repository, force) as repo:
            entry = self._new_entry(repo, path, blob, kind, lowered)
            return staging.put(repo, branch, entry, if_absent=if_absent)

    def check_upload(self, repository: str, branch: str, path: str, *, if_absent: bool = False) -> None:
        """Refuse an upload before its bytes are read, for the reasons that lakeFS knows by then.

        Raises:
            Missing: unknown repository or branch.
            PathExists: `if_absent` and there is an object.
        """
        with self._open(repository) as repo:
            staging.check_put(repo, branch, path, if_absent=if_absent)

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
            Missing: unknown repository or branch.
            Invalid: a path that lakeFS refuses, or an address of this block store that was not given by `new_address`.
            PathExists: `if_absent` and there is an object.
            ReadOnly, Forbidden: the repository is read-only, or the branch protected.
        """
        kind = staging.DEFAULT_CONTENT_TYPE if content_type is None else content_type
        with self._open_to_write(repository, force) as repo:
            if address.startswith(repo.info.storage_namespace) and address not in self._linkable:
                raise Invalid("address is not signed: link address invalid")
            entry = Entry(path, blob, kind, metadata or {}, self._now() if mtime is None else mtime, address)
            return staging.put(repo, branch, entry, if_absent=if_absent)

    def copy_object(
        self, repository: str, branch: str, path: str, *, source: str, source_ref: str = "", force: bool = False
    ) -> Entry:
        """Stage a copy of the object at `source` of `source_ref` (by default the branch itself) with bytes of its own.

        Raises:
            Missing: unknown repository, branch, ref or object.
            Invalid: a path that lakeFS refuses.
            ReadOnly: the repository is.
        """
        with self._open(repository) as repo:
            repo.branch(branch, f"branch '{branch}' not found")
            original = staging.stat(repo, source_ref or branch, source)
        with self._open_to_write(repository, force) as repo:
            copy = self._new_entry(repo, path, original.blob, original.content_type, original.metadata)
            return staging.put(repo, branch, copy)

    def set_user_metadata(self, repository: str, branch: str, path: str, metadata: Mapping[str, str]) -> None:
        """Stage other user metadata for an object whose bytes stay where they are.

        Raises:
            Missing: unknown repository, branch or object.
            ReadOnly: the repository is.
        """
        check_branch_name(branch)
        staging.check_path(path)
        with self._open_to_write(repository) as repo:
            found = repo.branch(branch)
            repo.check_protection(branch)
            try:
                entry = staging.stat(repo, branch, path)
            except Missing as error:
                raise error.within(f"update user metadata on {repository}/{branch}/{path}") from None
            found.stage(path, replace(entry, metadata=dict(metadata)))

    def stat_object(self, repository: str, ref: str, path: str) -> Entry:
        """The object at `path`; its `blob` has the bytes.

        Raises:
            Missing: unknown repository, ref or object.
            Invalid: not a ref, or a path that lakeFS refuses.
        """
        with self._open(repository) as repo:
            return staging.stat(repo, ref, path)

    def list_objects(
        self, repository: str, ref: str, *, prefix: str = "", after: str = "", delimiter: str = "", amount: int = -1
    ) -> Page[Entry | CommonPrefix]:
        """One page of objects and common prefixes, in unsigned byte order."""
        with self._open(repository) as repo:
            return staging.list_objects(repo, ref, prefix=prefix, after=after, delimiter=delimiter, amount=amount)

    def all_objects(self, repository: str, ref: str, prefix: str = "") -> tuple[Entry, ...]:
        """Every object below `prefix`, without pages."""
        with self._open(repository) as repo:
            tree = repo.tree(repo.resolve(ref))
            return tuple(tree.entries[path] for path in paths_from(tree.paths, prefix, ""))

    def staged_objects(self, repository: str, branch: str) -> tuple[Entry, ...]:
        """Every object that is staged on a branch, without pages and without deletions."""
        with self._open(repository) as repo:
            found = comparing.diff_staged(repo, branch)
        return tuple(change.entry for change in found if change.entry is not None)

    def delete_object(self, repository: str, branch: str, path: str, *, force: bool = False) -> None:
        """Stage the deletion of one object; a missing object is fine, a missing branch is not."""
        with self._open_to_write(repository, force) as repo:
            staging.delete(repo, branch, path)

    def delete_objects(
        self, repository: str, branch: str, paths: Sequence[str], *, force: bool = False
    ) -> tuple[DeleteError, ...]:
        """Stage up to 1,000 deletions; missing objects and even a missing branch or repository are fine.

        What could not be deleted is in the answer, not an error.

        Raises:
            Invalid: more than 1,000 paths.
        """
        staging.check_batch(paths)
        with self._lock:
            found = self._repositories.get(repository)
            return () if found is None else staging.delete_batch(found, branch, paths, force=force)
