"""Commits made of other commits: revert and cherry-pick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perago.embedded.lakefs.errors import Conflict, Invalid, LakeFSError, NoChanges
from perago.embedded.lakefs.graph import CommitRecord
from perago.embedded.lakefs.merging import merge_trees
from perago.embedded.lakefs.names import check_branch_name, check_ref
from perago.embedded.lakefs.publishing import Signature, advance, clean_branch, commit_by
from perago.embedded.lakefs.repository import Repository
from perago.embedded.lakefs.tree import EMPTY_TREE, Tree
from perago.ports import Commit

_NO_SUCH_PARENT = "given commit does not have the given parent number"


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a request wants instead of the commit's own words: a message unless empty, metadata unless None."""

    message: str = ""
    metadata: Mapping[str, str] | None = None


def revert(
    repository: Repository,
    branch_name: str,
    ref: str,
    parent_number: int,
    overrides: Overrides,
    signature: Signature,
    *,
    allow_empty: bool = False,
) -> CommitRecord:
    """Undo a commit on a branch. `parent_number` counts from 1 and is needed for a merge commit; 0 is none.

    Raises:
        Missing: no such ref or branch.
        Conflict: a merge commit without a parent number, or later changes in the way.
        Invalid: no such parent.
        NoChanges: the tree stays the same.
    """
    undone = commit_by(repository, ref, f"get commit from ref {ref}")
    parents = undone.commit.parents
    if len(parents) > 1 and parent_number <= 0:
        raise Conflict("must specify 1-based parent number for reverting merge commit")
    if parent_number > len(parents):
        raise Invalid(f"{_NO_SUCH_PARENT}: parent {parent_number}")
    branch = clean_branch(repository, branch_name)
    head = repository.head(branch)
    try:
        parent = _parent_tree(repository, undone.commit, max(parent_number, 1))
        tree = merge_trees(undone.tree, parent, head.tree, allow_empty=allow_empty)
        if tree.id == head.tree.id and not allow_empty:
            raise NoChanges("no changes")
    except LakeFSError as error:
        raise error.within("update branch") from None
    text = overrides.message or f"Revert {ref}"
    return advance(repository, branch, (head.commit.id,), tree, text, overrides.metadata or {}, signature)


def cherry_pick(
    repository: Repository,
    branch_name: str,
    ref: str,
    parent_number: int | None,
    overrides: Overrides,
    signature: Signature,
) -> CommitRecord:
    """Repeat a commit's change on a branch, with its message and metadata and two keys that name the origin.

    Raises:
        Missing, Conflict, Invalid, NoChanges: as `revert`; a merge commit without a parent number is `Invalid`.
    """
    picked = commit_by(repository, ref, f"get commit from ref {ref}")
    made = picked.commit
    if len(made.parents) > 1 and parent_number is None:
        raise Invalid("must specify 1-based parent number for cherry-picking merge commit")
    number = 1 if parent_number is None else parent_number
    if number > len(made.parents):
        raise Invalid(f"parent {number}: {_NO_SUCH_PARENT}")
    branch = clean_branch(repository, branch_name)
    head = repository.head(branch)
    try:
        tree = merge_trees(_parent_tree(repository, made, number), picked.tree, head.tree)
    except LakeFSError as error:
        raise error.within("update branch") from None
    origin = {"cherry-pick-origin": made.id, "cherry-pick-committer": made.committer}
    kept = made.metadata if overrides.metadata is None else overrides.metadata
    text = overrides.message or made.message
    return advance(repository, branch, (head.commit.id,), tree, text, {**kept, **origin}, signature)


def check_revert(branch_name: str, ref: str, parent_number: int) -> None:
    """Refuse arguments that no repository could make right.

    Raises:
        Invalid: a branch or ref that cannot be one, or a negative parent number.
    """
    check_branch_name(branch_name)
    check_ref(ref)
    if parent_number < 0:
        raise Invalid("argument parentNumber: invalid value: validation error")


def check_cherry_pick(branch_name: str, ref: str, parent_number: int | None) -> None:
    """Refuse arguments that no repository could make right.

    Raises:
        Invalid: a branch or ref that cannot be one, or a parent number below 1.
    """
    check_branch_name(branch_name)
    check_ref(ref)
    if parent_number is not None and parent_number < 1:
        raise Invalid("argument parentNumber: value should be greater than 0: invalid value: validation error")


def _parent_tree(repository: Repository, commit: Commit, number: int) -> Tree:
    if not commit.parents:
        return EMPTY_TREE
    return repository.graph.record(commit.parents[number - 1]).tree
