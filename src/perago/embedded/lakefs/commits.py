"""The modelled server's calls that read, compare, make and undo commits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from perago.embedded.lakefs import trees
from perago.embedded.lakefs.hooks import check_actions, run_hooks
from perago.embedded.lakefs.repository import (
    SHOULD_BE_A_COMMIT,
    Branch,
    CommitGraph,
    CommitRecord,
    Repository,
    check_branch_name,
    check_ref,
)
from perago.embedded.lakefs.state import ServerState
from perago.embedded.lakefs.trees import EMPTY_TREE, Tree, merge_trees
from perago.embedded.lakefs.values import (
    ActionRun,
    Conflict,
    Difference,
    DiffType,
    Dirty,
    ImpossibleName,
    Invalid,
    LakeFSError,
    MergeBase,
    MergeEvent,
    Missing,
    NoChanges,
    Page,
    Strategy,
    fold,
    page_of,
    paths_from,
    same,
)
from perago.ports import Commit


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which commits of a history are wanted.

    From behind the ref `after` down to and including the ref `stop_at`, none created before `since` (seconds since
    the epoch). With `objects` or `prefixes` only commits with one parent that changed one of those paths.
    """

    first_parent: bool = False
    after: str = ""
    stop_at: str = ""
    since: float | None = None
    objects: Sequence[str] = ()
    prefixes: Sequence[str] = ()


class ComparingCalls(ServerState):
    """Diffs, logs and single commits."""

    def staged_changes(self, repository: str, branch: str) -> list[Difference]:
        """A branch's uncommitted changes, in order of path.

        Raises:
            Missing: unknown repository or branch.
        """
        with self._open(repository) as repo:
            check_branch_name(branch)
            found = repo.branch(branch)
            tree, changes = repo.head(found).tree, repo.changes(found)
        differences = []
        for path, entry in sorted(changes.items()):
            kind = DiffType.REMOVED if entry is None else DiffType.CHANGED if tree.get(path) else DiffType.ADDED
            differences.append(Difference(path, kind, 0 if entry is None else entry.blob.size, entry))
        return differences

    def diff_branch(
        self, repository: str, branch: str, *, prefix: str = "", after: str = "", delimiter: str = "", amount: int = -1
    ) -> Page[Difference]:
        """One page of a branch's uncommitted changes."""
        return _page(self.staged_changes(repository, branch), prefix, after, delimiter, amount)

    def diff_refs(
        self,
        repository: str,
        left: str,
        right: str,
        *,
        two_dot: bool = False,
        prefix: str = "",
        after: str = "",
        delimiter: str = "",
        amount: int = -1,
    ) -> Page[Difference]:
        """One page of the differences of two refs: what merging `right` into `left` would do, or, with `two_dot`, what
        turns `left` into `right`. Committed state, except for `branch$` on the right of a two-dot diff.

        Raises:
            Missing: no such repository or ref.
            Invalid: not a ref, or not a commit where one is needed.
        """
        with self._open(repository) as repo:
            check_ref(left, "left")
            check_ref(right, "right")
            if two_dot:
                found = trees.two_dot(repo.resolve_commit(left).tree, _committed_or_staged(repo, right))
            else:
                base, record = _merge_base(repo, right, left), repo.graph.record
                found = trees.three_dot(*(record(each).tree for each in (base.base, base.destination, base.source)))
        return _page(found, prefix, after, delimiter, amount)

    def find_merge_base(self, repository: str, source: str, destination: str) -> MergeBase:
        """What a merge of `source` into `destination` would compare; lakeFS answers with the two swapped.

        Raises:
            Missing: no such ref, or no common ancestor.
            Invalid: not a ref, or not a commit.
        """
        check_ref(destination, "destination")
        check_ref(source, "source")
        with self._open(repository) as repo:
            return _merge_base(repo, destination, source)

    def get_commit(self, repository: str, ref: str) -> CommitRecord:
        """The commit that a ref points at.

        Raises:
            Missing: unknown repository or ref.
            Invalid: not a commit.
            ImpossibleName: nothing can have the repository's name; with 500 here.
        """
        with self._lock:
            try:
                repo = self._repository(repository)
            except ImpossibleName as error:
                raise ImpossibleName(error.message, status=500) from None
            try:
                return repo.resolve_commit(ref, SHOULD_BE_A_COMMIT)
            except Missing:
                raise Missing("commit not found") from None

    def log(
        self,
        repository: str,
        ref: str,
        query: LogQuery | None = None,
        *,
        first_parent: bool = False,
        after: str = "",
        stop_at: str = "",
    ) -> Iterator[CommitRecord]:
        """The history of `ref`, newest first, as far as it is consumed; `query` says it all, else the single words do.

        Raises:
            Missing, Invalid: one of the refs is not a commit.
        """
        wanted = query or LogQuery(first_parent=first_parent, after=after, stop_at=stop_at)
        with self._open(repository) as repo:
            check_ref(ref)
            start = _commit_id(repo, ref, "ref")
            last = _commit_id(repo, wanted.stop_at, "stop_at") if wanted.stop_at else ""
            behind = _commit_id(repo, wanted.after, "from ref") if wanted.after else ""
            records = repo.graph.log(start, first_parent=wanted.first_parent, since=wanted.since)
            return _select(repo.graph, records, wanted, behind, last)

    def first_parents(self, repository: str, ref: str) -> Iterator[CommitRecord]:
        """The first-parent history, newest first, as far as it is consumed."""
        with self._open(repository) as repo:
            return repo.graph.first_parents(_commit_id(repo, ref, "ref"))


def _commit_id(repository: Repository, ref: str, name: str) -> str:
    """The id of the commit that `ref` points at; `name` says in a refusal which of the refs it was."""
    try:
        return repository.resolve_commit(ref, SHOULD_BE_A_COMMIT).commit.id
    except LakeFSError as error:
        raise error.within(name) from None


def _select(
    graph: CommitGraph, records: Iterator[CommitRecord], query: LogQuery, after: str, stop_at: str
) -> Iterator[CommitRecord]:
    if after:
        for record in records:
            if record.commit.id == after:
                break
    by_path = bool(query.objects or query.prefixes)
    for record in records:
        wanted = not by_path or _touches(graph, record, query)
        if wanted:
            yield record
        if record.commit.id == stop_at and wanted:
            return


def _touches(graph: CommitGraph, record: CommitRecord, query: LogQuery) -> bool:
    if len(record.commit.parents) != 1:
        return False
    before, now = graph.record(record.commit.parents[0]).tree, record.tree
    if any(not same(before.get(path), now.get(path)) for path in query.objects):
        return True
    return bool(query.prefixes) and any(path.startswith(tuple(query.prefixes)) for path in before.changes_to(now))


def _merge_base(repository: Repository, source: str, destination: str) -> MergeBase:
    ours = repository.commit_of(source, f"get commit by ref {source}").commit.id
    theirs = repository.commit_of(destination, f"get commit by branch {destination}").commit.id
    return MergeBase(repository.graph.merge_base(ours, theirs), ours, theirs)


def _committed_or_staged(repository: Repository, ref: str) -> trees.Tree:
    resolved = repository.resolve(ref)
    return repository.tree(resolved) if resolved.explicit_staging else repository.graph.record(resolved.commit_id).tree


def _page(differences: Sequence[Difference], prefix: str, after: str, delimiter: str, amount: int) -> Page[Difference]:
    """One page of a diff; with a delimiter, folded into prefixes that changed.

    With a delimiter lakeFS continues behind everything that begins with `after`: after `a` there is no `ab`.
    """
    by_path = {difference.path: difference for difference in differences}
    paths = paths_from(list(by_path), prefix, after)
    if delimiter and after and after >= prefix:
        paths = (path for path in paths if not path.startswith(after))
    folded = fold(paths, prefix, delimiter, after)
    items = (Difference(path, DiffType.PREFIX_CHANGED) if is_common else by_path[path] for path, is_common in folded)
    return page_of(items, lambda difference: difference.path, amount)


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
