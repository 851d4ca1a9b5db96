"""The modelled server's calls that make commits: commit, merge, revert and cherry-pick; and what the hooks did then."""

from __future__ import annotations

from collections.abc import Mapping

from perago.embedded.lakefs.errors import Conflict, Dirty, Invalid, LakeFSError, NoChanges
from perago.embedded.lakefs.fence import check_actions, run_hooks
from perago.embedded.lakefs.graph import CommitRecord
from perago.embedded.lakefs.merging import Strategy, merge_trees
from perago.embedded.lakefs.names import check_branch_name, check_ref
from perago.embedded.lakefs.repository import Branch, Repository
from perago.embedded.lakefs.state import ServerState
from perago.embedded.lakefs.tree import EMPTY_TREE, Tree
from perago.embedded.lakefs.values import ActionRun, MergeEvent, Page, page_of
from perago.ports import Commit

_PREPARING = "prepare-commit hook aborted, run id '0'"
_NO_SUCH_PARENT = "given commit does not have the given parent number"
STRATEGY_KEY = ".lakefs.merge.strategy"


class PublishingCalls(ServerState):
    """Everything that advances a branch. `force` writes to a read-only repository, too."""

    def commit(
        self,
        repository: str,
        branch: str,
        message: str,
        metadata: Mapping[str, str] | None = None,
        *,
        allow_empty: bool = False,
        date: int | None = None,
        force: bool = False,
    ) -> CommitRecord:
        """Commit what is staged on `branch`; `date` is in seconds since the epoch, by default now.

        Raises:
            Missing: no such repository or branch.
            NoChanges: nothing staged that differs from the head.
            Forbidden: the branch is protected, or the repository read-only.
        """
        with self._open_to_write(repository, force) as repo:
            check_branch_name(branch)
            target = _branch_to_commit(repo, branch)
            repo.check_protection(branch, "cannot commit to protected branch")
            changes = repo.changes(target)
            if not changes and not allow_empty:
                raise NoChanges("commit: no changes")
            tree = repo.head(target).tree.with_changes(changes)
            check_actions(tree, _PREPARING)
            return self._advance(repo, target, tree, message, metadata or {}, date)

    def merge(
        self,
        repository: str,
        source: str,
        branch: str,
        message: str = "",
        metadata: Mapping[str, str] | None = None,
        *,
        strategy: Strategy = Strategy.NONE,
        allow_empty: bool = False,
        squash: bool = False,
        force: bool = False,
    ) -> CommitRecord:
        """Merge a ref into a branch: always a new merge commit, never a fast-forward. `force` allows an empty one.

        The order of checks is the server's: unknown target, dirty target, unknown source, no changes, conflict, hook
        (`docs/servers/lakefs.md` 1.3). A merge that the hook refuses leaves its commit behind, on no branch.

        Raises:
            Missing: no such repository, ref or branch.
            Dirty, NoChanges, Conflict, HookAborted, ReadOnly: as their names say.
        """
        check_ref(source, "source")
        with self._open_to_write(repository, force) as repo:
            target = _clean_branch(repo, branch, "destination")
            head = repo.head(target)
            try:
                theirs = repo.commit_of(source, f"get commit by ref {source}")
                base = repo.graph.record(repo.graph.merge_base(theirs.commit.id, head.commit.id))
                empty = allow_empty or force
                tree = merge_trees(base.tree, theirs.tree, head.tree, strategy=strategy, allow_empty=empty)
            except LakeFSError as error:
                raise error.within(f"update branch {branch}") from None
            record = repo.graph.add(
                parents=(head.commit.id,) if squash else (head.commit.id, theirs.commit.id),
                tree=tree,
                message=message or f"Merge '{source}' into '{branch}'",
                metadata={**(metadata or {}), STRATEGY_KEY: strategy or "default"},
                committer=self.committer,
                at=self._clock.now(),
                squashed=theirs.commit.id if squash else None,
            )
            run_hooks(repo, self._hooks, theirs.tree, MergeEvent(branch, source, record.commit))
            target.advance(record.commit.id)
            return record

    def revert(
        self,
        repository: str,
        branch: str,
        ref: str,
        *,
        parent_number: int = 0,
        message: str = "",
        metadata: Mapping[str, str] | None = None,
        allow_empty: bool = False,
        force: bool = False,
    ) -> CommitRecord:
        """Undo the commit `ref` on `branch`. `parent_number` counts from 1 and is needed for a merge commit; 0 is none.

        Raises:
            Missing: no such repository, ref or branch.
            Conflict: a merge commit without a parent number, or later changes in the way.
            Invalid: no such parent.
            NoChanges: the tree stays the same.
            Dirty, ReadOnly: as their names say.
        """
        check_branch_name(branch)
        check_ref(ref)
        if parent_number < 0:
            raise Invalid("argument parentNumber: invalid value: validation error")
        with self._open_to_write(repository, force) as repo:
            undone = repo.commit_of(ref, f"get commit from ref {ref}")
            parents = undone.commit.parents
            if len(parents) > 1 and parent_number == 0:
                raise Conflict("must specify 1-based parent number for reverting merge commit")
            if parent_number > len(parents):
                raise Invalid(f"{_NO_SUCH_PARENT}: parent {parent_number}")
            target = _clean_branch(repo, branch)
            head = repo.head(target).tree
            try:
                parent = _parent_tree(repo, undone.commit, max(parent_number, 1))
                tree = merge_trees(undone.tree, parent, head, allow_empty=allow_empty)
                if tree.id == head.id and not allow_empty:
                    raise NoChanges("no changes")
            except LakeFSError as error:
                raise error.within("update branch") from None
            return self._advance(repo, target, tree, message or f"Revert {ref}", metadata or {})

    def cherry_pick(
        self,
        repository: str,
        branch: str,
        ref: str,
        *,
        parent_number: int | None = None,
        message: str = "",
        metadata: Mapping[str, str] | None = None,
        force: bool = False,
    ) -> CommitRecord:
        """Repeat the commit `ref` on `branch`, with its message and metadata unless others are given, and two keys
        that name the origin.

        Raises:
            Missing, Conflict, Invalid, NoChanges, Dirty, ReadOnly: as `revert`; a merge commit without a parent number
                is `Invalid`.
        """
        check_branch_name(branch)
        check_ref(ref)
        if parent_number is not None and parent_number < 1:
            raise Invalid("argument parentNumber: value should be greater than 0: invalid value: validation error")
        with self._open_to_write(repository, force) as repo:
            picked = repo.commit_of(ref, f"get commit from ref {ref}")
            made = picked.commit
            if len(made.parents) > 1 and parent_number is None:
                raise Invalid("must specify 1-based parent number for cherry-picking merge commit")
            number = 1 if parent_number is None else parent_number
            if number > len(made.parents):
                raise Invalid(f"parent {number}: {_NO_SUCH_PARENT}")
            target = _clean_branch(repo, branch)
            try:
                tree = merge_trees(_parent_tree(repo, made, number), picked.tree, repo.head(target).tree)
            except LakeFSError as error:
                raise error.within("update branch") from None
            origin = {"cherry-pick-origin": made.id, "cherry-pick-committer": made.committer}
            kept = made.metadata if metadata is None else metadata
            return self._advance(repo, target, tree, message or made.message, {**kept, **origin})

    def _advance(
        self,
        repository: Repository,
        branch: Branch,
        tree: Tree,
        message: str,
        metadata: Mapping[str, str],
        date: int | None = None,
    ) -> CommitRecord:
        """Make a commit on the head of the branch and let the branch point at it."""
        record = repository.graph.add(
            parents=(branch.commit_id,),
            tree=tree,
            message=message,
            metadata=metadata,
            committer=self.committer,
            at=self._clock.now() if date is None else date,
        )
        branch.advance(record.commit.id)
        return record

    # ------------------------------------------------------------------- hooks

    def list_runs(
        self, repository: str, *, branch: str = "", commit: str = "", after: str = "", amount: int = -1
    ) -> Page[ActionRun]:
        """One page of what the actions did, newest first, by branch or by commit.

        Raises:
            Invalid: both a branch and a commit.
        """
        with self._open(repository) as repo:
            found = sorted(repo.runs, key=lambda run: run.id)
        if branch and commit:
            raise Invalid("can't use both branchID and MergedCommitID: parameters conflict")
        shown = (
            run for run in found if run.id > after and branch in ("", run.branch) and commit in ("", run.commit_id)
        )
        return page_of(shown, lambda run: run.id, amount)

    def get_run(self, repository: str, run_id: str) -> ActionRun | None:
        """One run of the actions, or None."""
        with self._open(repository) as repo:
            return next((run for run in repo.runs if run.id == run_id), None)


def _branch_to_commit(repository: Repository, name: str) -> Branch:
    """The branch. lakeFS looks for actions first, so what is no ref at all fails there."""
    if name not in repository.branches:
        try:
            repository.resolve(name)
        except LakeFSError as error:
            raise error.within(f"{_PREPARING}: list actions from commit: listing actions") from None
    return repository.branch(name)


def _clean_branch(repository: Repository, name: str, argument: str = "branch") -> Branch:
    check_branch_name(name, argument)
    branch = repository.branch(name)
    if repository.changes(branch):
        raise Dirty
    return branch


def _parent_tree(repository: Repository, commit: Commit, number: int) -> Tree:
    return repository.graph.record(commit.parents[number - 1]).tree if commit.parents else EMPTY_TREE
