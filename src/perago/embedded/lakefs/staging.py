"""Reading and staging objects in one repository."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from perago.embedded.lakefs.errors import Invalid, LakeFSError, Missing, PathExists, ReadOnly
from perago.embedded.lakefs.names import check_branch_name, check_ref
from perago.embedded.lakefs.repository import Repository
from perago.embedded.lakefs.tree import Tree
from perago.embedded.lakefs.values import CommonPrefix, DeleteError, Entry, Page, fold, page_of, paths_from

MAX_PATH_BYTES = 1024
MAX_BATCH = 1000
DEFAULT_CONTENT_TYPE = "application/octet-stream"


def check_put(repository: Repository, branch_name: str, path: str, *, if_absent: bool = False) -> None:
    """Refuse an upload that could not be staged.

    Raises:
        Missing: no such branch.
        PathExists: `if_absent` and there is an object.
    """
    check_branch_name(branch_name, "name")
    if branch_name not in repository.branches:
        raise Missing(f"branch '{branch_name}' not found")
    if if_absent and _look_up(repository, branch_name, path) is not None:
        raise PathExists


def put(repository: Repository, branch_name: str, entry: Entry, *, if_absent: bool = False) -> Entry:
    """Stage an object. Paths are opaque text of at most 1,024 bytes (`docs/servers/lakefs.md` 2, Paths)."""
    check_put(repository, branch_name, entry.path, if_absent=if_absent)
    check_path(entry.path)
    repository.check_protection(branch_name)
    repository.branch(branch_name).stage(entry.path, entry)
    return entry


def check_path(path: str) -> None:
    """Raise `Invalid` for an empty path, one that is not UTF-8, or one of more than 1,024 bytes."""
    problem = _path_problem(path)
    if problem is not None:
        raise Invalid(f"argument path: {problem}")


def _path_problem(path: str) -> str | None:
    if not path:
        return "missing path: required value: validation error"
    return _length_problem(path)


def _length_problem(path: str) -> str | None:
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        return "invalid value: validation error: not UTF-8"
    if length > MAX_PATH_BYTES:
        return f"invalid value: validation error: {length} is above maximum length ({MAX_PATH_BYTES})"
    return None


def stat(repository: Repository, ref: str, path: str) -> Entry:
    """The object at a path of a ref.

    Raises:
        Missing: no such ref or object; a prefix is not an object.
        Invalid: not a ref, or a path that lakeFS refuses.
    """
    check_ref(ref)
    check_path(path)
    entry = _look_up(repository, ref, path)
    if entry is None:
        raise Missing("not found")
    return entry


def _look_up(repository: Repository, ref: str, path: str) -> Entry | None:
    branch = repository.branches.get(ref)
    if branch is not None and path in branch.staged:
        return branch.staged[path]
    resolved = repository.resolve(ref)
    if branch is not None and resolved.branch == ref:
        return repository.head(branch).tree.get(path)
    return repository.tree(resolved).get(path)


def delete(repository: Repository, branch_name: str, path: str) -> None:
    """Stage the deletion of one object; a missing one is fine.

    Raises:
        Missing: no such branch.
        Invalid: a path that lakeFS refuses.
    """
    check_branch_name(branch_name)
    check_path(path)
    repository.branch(branch_name)
    repository.check_protection(branch_name)
    repository.branch(branch_name).stage(path, None)


def check_batch(paths: Sequence[str]) -> None:
    """Raise `Invalid` for more than 1,000 paths."""
    if len(paths) > MAX_BATCH:
        raise Invalid(f"request size exceeded, max paths is set to {MAX_BATCH}")


def delete_batch(
    repository: Repository, branch_name: str, paths: Sequence[str], *, force: bool = False
) -> tuple[DeleteError, ...]:
    """Stage deletions, all or none. An unknown branch and an empty path are answered like success, and nothing is
    deleted then (`docs/servers/lakefs.md` 2, Delete)."""
    try:
        check_branch_name(branch_name)
    except LakeFSError as error:
        return tuple(DeleteError(path, 500, error.message) for path in paths)
    for number, path in enumerate(paths):
        if not path:
            return ()
        problem = _length_problem(path)
        if problem is not None:
            return tuple(DeleteError(each, 500, f"argument path[{number}]: {problem}") for each in paths)
    if repository.info.read_only and not force:
        return tuple(DeleteError(path, ReadOnly.status, ReadOnly().message) for path in paths)
    branch = repository.branches.get(branch_name)
    if branch is not None:
        try:
            repository.check_protection(branch_name)
        except LakeFSError as error:
            return tuple(DeleteError(path, error.status, error.message) for path in paths)
        for path in paths:
            branch.stage(path, None)
    return ()


def list_objects(
    repository: Repository, ref: str, *, prefix: str, after: str, delimiter: str, amount: int
) -> Page[Entry | CommonPrefix]:
    """One page of a listing, in unsigned byte order, common prefixes in place.

    Raises:
        Missing: no such ref.
        Invalid: not a ref, or a prefix or delimiter of more than 1,024 bytes.
    """
    check_ref(ref)
    for name, text in (("prefix", prefix), ("delimiter", delimiter)):
        problem = _length_problem(text)
        if problem is not None:
            raise Invalid(f"argument {name}: {problem}")
    tree = repository.tree(repository.resolve(ref))
    return page_of(_list(tree, prefix, after, delimiter), lambda item: item.path, amount)


def _list(tree: Tree, prefix: str, after: str, delimiter: str) -> Iterator[Entry | CommonPrefix]:
    for path, is_common in fold(paths_from(tree.paths, prefix, after), prefix, delimiter, after):
        yield CommonPrefix(path) if is_common else tree.entries[path]
