"""Objects of a repository: stage, read, list, copy and delete. Paths are opaque text (`docs/dev/servers/lakefs.md`,
"REST facts")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from perago.embedded.lakefs import values
from perago.embedded.lakefs.repository import Repository, check_branch_name, check_length, check_path, check_ref

MAX_BATCH = 1000
DEFAULT_CONTENT_TYPE = "application/octet-stream"


def put_object(
    repo: Repository,
    branch: str,
    path: str,
    content: bytes | values.Blob,
    *,
    content_type: str | None = None,
    metadata: Mapping[str, str] | None = None,
    if_absent: bool = False,
    force: bool = False,
) -> values.Entry:
    """Stage an object. The names of user metadata become lower case, as HTTP headers do.

    Raises:
        Missing: unknown branch.
        Invalid: a path that lakeFS refuses.
        PathExists: `if_absent` and there is an object.
        ReadOnly, Forbidden: the repository is read-only, or the branch protected.
    """
    blob = repo.server.blobs.of_bytes(content) if isinstance(content, bytes) else content
    lowered = {name.lower(): value for name, value in (metadata or {}).items()}
    kind = DEFAULT_CONTENT_TYPE if content_type is None else content_type
    repo.check_writable(force)
    return _put(repo, branch, _new_entry(repo, path, blob, kind, lowered), if_absent=if_absent)


def check_put(repo: Repository, branch: str, path: str, *, if_absent: bool) -> None:
    """Refuse an upload for the reasons that lakeFS knows before it reads the bytes.

    Raises:
        Missing: unknown branch.
        PathExists: `if_absent` and there is an object.
    """
    check_branch_name(branch, "name")
    repo.branch(branch, f"branch '{branch}' not found")
    if if_absent and _look_up(repo, branch, path) is not None:
        raise values.PathExists


def new_address(repo: Repository) -> str:
    """Return an address of the block store at which a client may put the bytes of one object."""
    address = repo.new_address()
    repo.server.linkable.add(address)
    return address


def link_object(
    repo: Repository,
    branch: str,
    path: str,
    address: str,
    blob: values.Blob,
    *,
    content_type: str | None = None,
    metadata: Mapping[str, str] | None = None,
    mtime: int | None = None,
    if_absent: bool = False,
    force: bool = False,
) -> values.Entry:
    """Stage an object whose bytes a client says it has put at an address. They cannot be read here.

    Raises:
        Missing, PathExists, ReadOnly, Forbidden: as `put_object`.
        Invalid: a path that lakeFS refuses, or an address of this block store that was not given by `new_address`.
    """
    kind = DEFAULT_CONTENT_TYPE if content_type is None else content_type
    repo.check_writable(force)
    if address.startswith(repo.info.storage_namespace) and address not in repo.server.linkable:
        raise values.Invalid("address is not signed: link address invalid")
    entry = values.Entry(path, blob, kind, metadata or {}, repo.now() if mtime is None else mtime, address)
    return _put(repo, branch, entry, if_absent=if_absent)


def copy_object(
    repo: Repository, branch: str, path: str, *, source: str, source_ref: str = "", force: bool = False
) -> values.Entry:
    """Stage a copy of the object at `source` of `source_ref` (by default the branch itself) with bytes of its own.

    Raises:
        Missing: unknown branch, ref or object.
        Invalid, ReadOnly, Forbidden: as `put_object`.
    """
    repo.branch(branch, f"branch '{branch}' not found")
    original = stat_object(repo, source_ref or branch, source)
    repo.check_writable(force)
    return _put(repo, branch, _new_entry(repo, path, original.blob, original.content_type, original.metadata))


def set_user_metadata(repo: Repository, branch: str, path: str, metadata: Mapping[str, str]) -> None:
    """Stage other user metadata for an object whose bytes do not change.

    Raises:
        Missing: unknown branch or object.
        ReadOnly: the repository is read-only.
    """
    check_branch_name(branch)
    check_path(path)
    repo.check_writable()
    target = repo.branch(branch)
    repo.check_protection(branch)
    try:
        entry = stat_object(repo, branch, path)
    except values.Missing as error:
        raise error.within(f"update user metadata on {repo.info.name}/{branch}/{path}") from None
    target.stage(path, replace(entry, metadata=dict(metadata)))


def stat_object(repo: Repository, ref: str, path: str) -> values.Entry:
    """Return the object at `path`; its `blob` has the bytes. A prefix is not an object.

    Raises:
        Missing: unknown ref or object.
        Invalid: not a ref, or a path that lakeFS refuses.
    """
    check_ref(ref)
    check_path(path)
    entry = _look_up(repo, ref, path)
    if entry is None:
        raise values.Missing("not found")
    return entry


def list_objects(
    repo: Repository, ref: str, *, prefix: str = "", after: str = "", delimiter: str = "", amount: int = -1
) -> values.Page[values.Entry | values.CommonPrefix]:
    """Return one page of objects and common prefixes, in unsigned byte order.

    Raises:
        Missing: unknown ref.
        Invalid: not a ref, or a prefix or delimiter of more than 1,024 bytes.
    """
    check_ref(ref)
    check_length("prefix", prefix)
    check_length("delimiter", delimiter)
    tree = repo.tree(repo.resolve(ref))
    folded = values.fold(values.paths_from(tree.paths, prefix, after), prefix, delimiter, after)
    items = (values.CommonPrefix(path) if is_common else tree.entries[path] for path, is_common in folded)
    return values.page_of(items, lambda item: item.path, amount)


def all_objects(repo: Repository, ref: str, prefix: str = "") -> tuple[values.Entry, ...]:
    """Return every object below `prefix`, without pages."""
    tree = repo.tree(repo.resolve(ref))
    return tuple(tree.entries[path] for path in values.paths_from(tree.paths, prefix, ""))


def delete_object(repo: Repository, branch: str, path: str, *, force: bool = False) -> None:
    """Stage the deletion of one object; a missing object is fine, a missing branch is not."""
    repo.check_writable(force)
    check_branch_name(branch)
    check_path(path)
    target = repo.branch(branch)
    repo.check_protection(branch)
    target.stage(path, None)


def delete_objects(
    repo: Repository | None, branch: str, paths: Sequence[str], *, force: bool = False
) -> tuple[values.DeleteError, ...]:
    """Stage up to 1,000 deletions, all or none. The answer names the paths that could not be deleted.

    Missing objects are fine. A missing branch or repository (None) and an empty path are answered like success, and
    nothing is deleted then (`docs/dev/servers/lakefs.md`, "Delete").

    Raises:
        Invalid: more than 1,000 paths.
    """
    if len(paths) > MAX_BATCH:
        raise values.Invalid(f"request size exceeded, max paths is set to {MAX_BATCH}")
    try:
        if repo is not None:
            _delete_all(repo, branch, paths, force=force)
    except values.LakeFSError as error:
        status = 403 if error.status == 403 else 500
        return tuple(values.DeleteError(path, status, error.message) for path in paths)
    return ()


def _delete_all(repo: Repository, branch: str, paths: Sequence[str], *, force: bool) -> None:
    check_branch_name(branch)
    for number, path in enumerate(paths):
        if not path:
            return
        check_length(f"path[{number}]", path)
    repo.check_writable(force)
    target = repo.branches.get(branch)
    if target is not None:
        repo.check_protection(branch)
        for path in paths:
            target.stage(path, None)


def _new_entry(
    repo: Repository, path: str, blob: values.Blob, content_type: str, metadata: Mapping[str, str]
) -> values.Entry:
    """Return an entry with the current time and a new address."""
    return values.Entry(path, blob, content_type, metadata, repo.now(), repo.new_address())


def _put(repo: Repository, branch: str, entry: values.Entry, *, if_absent: bool = False) -> values.Entry:
    check_put(repo, branch, entry.path, if_absent=if_absent)
    check_path(entry.path)
    repo.check_protection(branch)
    repo.branch(branch).stage(entry.path, entry)
    return entry


def _look_up(repo: Repository, ref: str, path: str) -> values.Entry | None:
    """Find an object without building the tree that a branch shows with its staged changes."""
    branch = repo.branches.get(ref)
    if branch is not None and path in branch.staged:
        return branch.staged[path]
    resolved = repo.resolve(ref)
    if branch is not None and resolved.branch == ref:
        return repo.head(branch).tree.get(path)
    return repo.tree(resolved).get(path)
