"""Making commits in one repository: commit, merge, revert and cherry-pick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perago.embedded.lakefs.errors import Conflict, Dirty, Invalid, LakeFSError, NoChanges
from perago.embedded.lakefs.fence import PreMergeHook, check_actions, run_hooks
from perago.embedded.lakefs.graph import CommitRecord
from perago.embedded.lakefs.merging import Strategy, merge_trees
from perago.embedded.lakefs.names import check_branch_name, check_ref
from perago.embedded.lakefs.repository import Branch, Repository
from perago.embedded.lakefs.tree import EMPTY_TREE, Tree
from perago.embedded.lakefs.values import MergeEvent
from perago.ports import Commit

_PREPARING = "prepare-commit hook aborted, run id '0'"
STRATEGY_KEY = ".lakefs.merge.strategy"


@dataclass(frozen=True, slots=True)
class Signature:
    """Who makes a commit and when, in seconds since the epoch."""

    committer: str
    at: float


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """The flags of a merge request. perago sends none of them, save `allow_empty` for a fence commit.

    `force` allows an empty merge, too, and one into a read-only repository.
    """

    strategy: Strategy = Strategy.NONE
    allow_empty: bool = False
    squash: bool = False
    force: bool = False


def commit(
    repository: Repository,
    branch_name: str,
    message: str,
    metadata: Mapping[str, str],
    signature: Signature,
    *,
    allow_empty: bool = False,
) -> CommitRecord:
    """Commit what is staged.

    Raises:
        Missing: no such branch.
        NoChanges: nothing staged that differs from the head.
        Forbidden: the branch is protected.
    """
    check_branch_name(branch_name)
    branch = _branch_to_commit(repository, branch_name)
    repository.check_protection(branch_name, "cannot commit to protected branch")
    changes = repository.changes(branch)
    if not changes and not allow_empty:
        raise NoChanges("commit: no changes")
    tree = repository.head(branch).tree.with_changes(changes)
    check_actions(tree, _PREPARING)
    return advance(repository, branch, (branch.commit_id,), tree, message, metadata, signature)


def _branch_to_commit(repository: Repository, name: str) -> Branch:
    """The branch. lakeFS looks for actions first, so what is no ref at all fails there."""
    if name not in repository.branches:
        try:
            repository.resolve(name)
        except LakeFSError as error:
            raise error.within(f"{_PREPARING}: list actions from commit: listing actions") from None
    return repository.branch(name)


def merge(
    repository: Repository,
    source: str,
    branch_name: str,
    message: str,
    metadata: Mapping[str, str],
    options: MergeOptions,
    signature: Signature,
    hooks: Mapping[str, PreMergeHook],
) -> CommitRecord:
    """Merge a ref into a branch: always a new merge commit, never a fast-forward.

    The order of checks is the server's: unknown target, dirty target, unknown source, no changes, conflict, hook
    (`docs/servers/lakefs.md` 1.3). A merge that the hook refuses leaves its commit behind, on no branch.
    """
    target = clean_branch(repository, branch_name, "destination")
    try:
        theirs = commit_by(repository, source, f"get commit by ref {source}")
        head = repository.head(target)
        base = repository.graph.record(repository.graph.merge_base(theirs.commit.id, head.commit.id))
        allow_empty = options.allow_empty or options.force
        tree = merge_trees(base.tree, theirs.tree, head.tree, strategy=options.strategy, allow_empty=allow_empty)
    except LakeFSError as error:
        raise error.within(f"update branch {branch_name}") from None
    record = repository.graph.add(
        parents=(head.commit.id,) if options.squash else (head.commit.id, theirs.commit.id),
        tree=tree,
        message=message or f"Merge '{source}' into '{branch_name}'",
        metadata={**metadata, STRATEGY_KEY: options.strategy or "default"},
        committer=signature.committer,
        at=signature.at,
        squashed=theirs.commit.id if options.squash else None,
    )
    run_hooks(repository, hooks, theirs.tree, MergeEvent(branch_name, source, record.commit))
    target.advance(record.commit.id)
    return record


def clean_branch(repository: Repository, name: str, argument: str = "branch") -> Branch:
    """A branch without uncommitted changes.

    Raises:
        Missing: no such branch.
        Dirty: it has some.
    """
    check_branch_name(name, argument)
    branch = repository.branch(name)
    if repository.changes(branch):
        raise Dirty
    return branch


def commit_by(repository: Repository, ref: str, context: str) -> CommitRecord:
    """The commit that a ref points at; `context` is put in front of a refusal."""
    try:
        return repository.resolve_commit(ref)
    except LakeFSError as error:
        raise error.within(context) from None


def advance(
    repository: Repository,
    branch: Branch,
    parents: tuple[str, ...],
    tree: Tree,
    message: str,
    metadata: Mapping[str, str],
    signature: Signature,
) -> CommitRecord:
    """Make a commit and let the branch point at it."""
    record = repository.graph.add(
        parents=parents,
        tree=tree,
        message=message,
        metadata=metadata,
        committer=signature.committer,
        at=signature.at,
    )
    branch.advance(record.commit.id)
    return record


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
