"""Commits of a repository: read, compare, make and undo them; and the runs of the hooks that merges set off."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from perago.attempt.publication import FENCE_PATH
from perago.embedded.lakefs import values
from perago.embedded.lakefs.repository import (
    SHOULD_BE_A_COMMIT,
    Branch,
    CommitRecord,
    Repository,
    check_branch_name,
    check_ref,
)
from perago.embedded.lakefs.trees import ACTIONS_PREFIX, EMPTY_TREE, Tree, merge_trees, three_dot_diff, two_dot_diff
from perago.ports import Commit

_PREPARING = "prepare-commit hook aborted, run id '0'"
_NO_SUCH_PARENT = "given commit does not have the given parent number"
STRATEGY_KEY = ".lakefs.merge.strategy"


# --------------------------------------------------------------------------- read and compare


def staged_changes(repo: Repository, branch: str) -> list[values.Difference]:
    """Return a branch's uncommitted changes, in order of path.

    Raises:
        Missing: unknown branch.
    """
    check_branch_name(branch)
    target = repo.branch(branch)
    tree, differences = repo.head(target).tree, []
    for path, entry in sorted(repo.changes(target).items()):
        kind = (
            values.DiffType.REMOVED
            if entry is None
            else values.DiffType.CHANGED
            if tree.get(path)
            else values.DiffType.ADDED
        )
        differences.append(values.Difference(path, kind, 0 if entry is None else entry.blob.size, entry))
    return differences


def diff_branch(
    repo: Repository, branch: str, *, prefix: str = "", after: str = "", delimiter: str = "", amount: int = -1
) -> values.Page[values.Difference]:
    """Return one page of a branch's uncommitted changes."""
    return _page(staged_changes(repo, branch), prefix, after, delimiter, amount)


def diff_refs(
    repo: Repository,
    left: str,
    right: str,
    *,
    two_dot: bool = False,
    prefix: str = "",
    after: str = "",
    delimiter: str = "",
    amount: int = -1,
) -> values.Page[values.Difference]:
    """Return one page of the differences of two refs: the effect of a merge of `right` into `left`, or, with `two_dot`,
    the changes from `left` to `right`. Committed state, except for `branch$` on the right of a two-dot diff.

    Raises:
        Missing: no such ref.
        Invalid: not a ref, or not a commit where one is needed.
    """
    check_ref(left, "left")
    check_ref(right, "right")
    if two_dot:
        resolved = repo.resolve(right)
        committed = repo.graph[resolved.commit_id].tree
        shown = repo.tree(resolved) if resolved.explicit_staging else committed
        differences = two_dot_diff(repo.resolve_commit(left).tree, shown)
    else:
        base = _merge_base(repo, right, left)
        ids = (base.base, base.destination, base.source)
        differences = three_dot_diff(*(repo.graph[commit_id].tree for commit_id in ids))
    return _page(differences, prefix, after, delimiter, amount)


def _page(
    differences: Sequence[values.Difference], prefix: str, after: str, delimiter: str, amount: int
) -> values.Page[values.Difference]:
    """Return one page of a diff; with a delimiter, folded into prefixes that changed.

    With a delimiter lakeFS continues behind everything that begins with `after`: after `a` there is no `ab`.
    """
    by_path = {difference.path: difference for difference in differences}
    paths = values.paths_from(list(by_path), prefix, after)
    if delimiter and after and after >= prefix:
        paths = (path for path in paths if not path.startswith(after))
    folded = values.fold(paths, prefix, delimiter, after)
    items = (
        values.Difference(path, values.DiffType.PREFIX_CHANGED) if is_common else by_path[path]
        for path, is_common in folded
    )
    return values.page_of(items, lambda difference: difference.path, amount)


def find_merge_base(repo: Repository, source: str, destination: str) -> values.MergeBase:
    """Find the commits that a merge of `source` into `destination` compares; lakeFS answers with the two swapped.

    Raises:
        Missing: no such ref, or no common ancestor.
        Invalid: not a ref, or not a commit.
    """
    check_ref(destination, "destination")
    check_ref(source, "source")
    return _merge_base(repo, destination, source)


def _merge_base(repo: Repository, source: str, destination: str) -> values.MergeBase:
    ours = repo.commit_of(source, f"get commit by ref {source}").commit.id
    theirs = repo.commit_of(destination, f"get commit by branch {destination}").commit.id
    return values.MergeBase(repo.graph.merge_base(ours, theirs), ours, theirs)


def get_commit(repo: Repository, ref: str) -> CommitRecord:
    """Return the commit that a ref points at.

    Raises:
        Missing: unknown ref.
        Invalid: not a commit.
    """
    try:
        return repo.resolve_commit(ref, SHOULD_BE_A_COMMIT)
    except values.Missing:
        raise values.Missing("commit not found") from None


@dataclass(frozen=True, slots=True)
class LogQuery:
    """The wanted commits of a history.

    From behind the ref `after` down to and including the ref `stop_at`, none created before `since` (seconds since
    the epoch). With `objects` or `prefixes` only commits with one parent that changed one of those paths.
    """

    first_parent: bool = False
    after: str = ""
    stop_at: str = ""
    since: float | None = None
    objects: Sequence[str] = ()
    prefixes: Sequence[str] = ()


def log(repo: Repository, ref: str, query: LogQuery | None = None) -> Iterator[CommitRecord]:
    """Return the history of `ref`, newest first, as far as it is consumed.

    Raises:
        Missing, Invalid: one of the refs is not a commit.
    """
    query = query or LogQuery()
    check_ref(ref)
    start = _commit_id(repo, ref, "ref")
    last = _commit_id(repo, query.stop_at, "stop_at") if query.stop_at else ""
    behind = _commit_id(repo, query.after, "from ref") if query.after else ""
    records = repo.graph.log(start, first_parent=query.first_parent, since=query.since)
    return _select(repo, records, query, behind, last)


def first_parents(repo: Repository, ref: str) -> Iterator[CommitRecord]:
    """Return the first-parent history, newest first, as far as it is consumed."""
    return repo.graph.first_parents(_commit_id(repo, ref, "ref"))


def _commit_id(repo: Repository, ref: str, name: str) -> str:
    """Return the id of the commit that `ref` points at; `name` says in a refusal which of the refs it was."""
    try:
        return repo.resolve_commit(ref, SHOULD_BE_A_COMMIT).commit.id
    except values.LakeFSError as error:
        raise error.within(name) from None


def _select(
    repo: Repository, records: Iterator[CommitRecord], query: LogQuery, after: str, stop_at: str
) -> Iterator[CommitRecord]:
    if after:
        for record in records:
            if record.commit.id == after:
                break
    by_path = bool(query.objects or query.prefixes)
    for record in records:
        is_selected = not by_path or _touches(repo, record, query)
        if is_selected:
            yield record
        if record.commit.id == stop_at and is_selected:
            return


def _touches(repo: Repository, record: CommitRecord, query: LogQuery) -> bool:
    if len(record.commit.parents) != 1:
        return False
    before, now = _parent_tree(repo, record.commit, 1), record.tree
    if any(not values.same(before.get(path), now.get(path)) for path in query.objects):
        return True
    return bool(query.prefixes) and any(path.startswith(tuple(query.prefixes)) for path in before.changes_to(now))


def list_runs(
    repo: Repository, *, branch: str = "", commit: str = "", after: str = "", amount: int = -1
) -> values.Page[values.ActionRun]:
    """Return one page of the runs of actions, newest first, by branch or by commit.

    Raises:
        Invalid: both a branch and a commit.
    """
    if branch and commit:
        raise values.Invalid("can't use both branchID and MergedCommitID: parameters conflict")
    runs = (repo.runs[run_id] for run_id in sorted(repo.runs))
    shown = (run for run in runs if run.id > after and branch in ("", run.branch) and commit in ("", run.commit_id))
    return values.page_of(shown, lambda run: run.id, amount)


# ------------------------------------------------------------------------------ make and undo
# `force` writes to a read-only repository, too.


def commit(
    repo: Repository,
    branch: str,
    message: str,
    metadata: Mapping[str, str] | None = None,
    *,
    allow_empty: bool = False,
    date: int | None = None,
    force: bool = False,
) -> CommitRecord:
    """Commit the staged changes of `branch`; `date` is in seconds since the epoch, by default now.

    Raises:
        Missing: no such branch.
        NoChanges: nothing staged that differs from the head.
        Forbidden: the branch is protected, or the repository read-only.
    """
    repo.check_writable(force)
    check_branch_name(branch)
    if branch not in repo.branches:
        try:  # lakeFS looks for actions first, so a name that is not a ref fails there
            repo.resolve(branch)
        except values.LakeFSError as error:
            raise error.within(f"{_PREPARING}: list actions from commit: listing actions") from None
    target = repo.branch(branch)
    repo.check_protection(branch, "cannot commit to protected branch")
    changes = repo.changes(target)
    if not changes and not allow_empty:
        raise values.NoChanges("commit: no changes")
    tree = repo.head(target).tree.with_changes(changes)
    check_actions(tree, _PREPARING)
    record = _advance(repo, target, tree, message, metadata or {}, date)
    skip_hooks(repo, tree, "commit", branch, record.commit.id)
    return record


def merge(
    repo: Repository,
    source: str,
    branch: str,
    message: str = "",
    metadata: Mapping[str, str] | None = None,
    *,
    strategy: values.Strategy = values.Strategy.NONE,
    allow_empty: bool = False,
    squash: bool = False,
    force: bool = False,
) -> CommitRecord:
    """Merge a ref into a branch: always a new merge commit, never a fast-forward. `force` allows an empty one.

    The order of checks is the server's: unknown target, dirty target, unknown source, no changes, conflict, hook
    (`docs/dev/servers/lakefs.md`, "Statuses with the hook in place"). A merge that the hook refuses leaves its commit
    behind, on no branch.

    Raises:
        Missing: no such ref or branch.
        Dirty, NoChanges, Conflict, HookAborted, ReadOnly: as their names say.
    """
    check_ref(source, "source")
    repo.check_writable(force)
    target = _clean_branch(repo, branch, "destination")
    head = repo.head(target)
    try:
        theirs = repo.commit_of(source, f"get commit by ref {source}")
        base = repo.graph[repo.graph.merge_base(theirs.commit.id, head.commit.id)]
        empty = allow_empty or force
        tree = merge_trees(base.tree, theirs.tree, head.tree, strategy=strategy, allow_empty=empty)
    except values.LakeFSError as error:
        raise error.within(f"update branch {branch}") from None
    record = repo.graph.add(
        parents=(head.commit.id,) if squash else (head.commit.id, theirs.commit.id),
        tree=tree,
        message=message or f"Merge '{source}' into '{branch}'",
        metadata={**(metadata or {}), STRATEGY_KEY: strategy or "default"},
        committer=repo.server.committer,
        at=repo.server.clock.now(),
        squashed=theirs.commit.id if squash else None,
    )
    run_hooks(repo, theirs.tree, branch, record.commit)
    repo.move(target, record.commit.id)
    skip_hooks(repo, theirs.tree, "merge", branch, record.commit.id)
    return record


def revert(
    repo: Repository,
    branch: str,
    ref: str,
    *,
    parent_number: int = 0,
    message: str = "",
    metadata: Mapping[str, str] | None = None,
    allow_empty: bool = False,
    force: bool = False,
) -> CommitRecord:
    """Undo the commit `ref` on `branch`. `parent_number` counts from 1 and is needed for a merge commit; 0 names no
    parent.

    Raises:
        Missing: no such ref or branch.
        Conflict: a merge commit without a parent number, or later changes in the way.
        Invalid: no such parent.
        NoChanges: the tree stays the same.
        Dirty, ReadOnly: as their names say.
    """
    check_branch_name(branch)
    check_ref(ref)
    if parent_number < 0:
        raise values.Invalid("argument parentNumber: invalid value: validation error")
    repo.check_writable(force)
    undone = repo.commit_of(ref, f"get commit from ref {ref}")
    parents = undone.commit.parents
    if len(parents) > 1 and parent_number == 0:
        raise values.Conflict("must specify 1-based parent number for reverting merge commit")
    if parent_number > len(parents):
        raise values.Invalid(f"{_NO_SUCH_PARENT}: parent {parent_number}")
    parent = _parent_tree(repo, undone.commit, max(parent_number, 1))
    commit_message, commit_metadata = message or f"Revert {ref}", metadata or {}
    return _apply(repo, branch, "revert", undone.tree, parent, commit_message, commit_metadata, allow_empty=allow_empty)


def cherry_pick(
    repo: Repository,
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
        raise values.Invalid("argument parentNumber: value should be greater than 0: invalid value: validation error")
    repo.check_writable(force)
    picked = repo.commit_of(ref, f"get commit from ref {ref}")
    made = picked.commit
    if len(made.parents) > 1 and parent_number is None:
        raise values.Invalid("must specify 1-based parent number for cherry-picking merge commit")
    number = 1 if parent_number is None else parent_number
    if number > len(made.parents):
        raise values.Invalid(f"parent {number}: {_NO_SUCH_PARENT}")
    origin = {"cherry-pick-origin": made.id, "cherry-pick-committer": made.committer}
    commit_metadata = {**(made.metadata if metadata is None else metadata), **origin}
    parent = _parent_tree(repo, made, number)
    return _apply(repo, branch, "cherry-pick", parent, picked.tree, message or made.message, commit_metadata)


def _apply(
    repo: Repository,
    branch: str,
    operation: str,
    before: Tree,
    after: Tree,
    message: str,
    metadata: Mapping[str, str],
    *,
    allow_empty: bool = False,
) -> CommitRecord:
    """Make the changes between two trees once more, on the head of a branch."""
    target = _clean_branch(repo, branch)
    head = repo.head(target).tree
    try:
        tree = merge_trees(before, after, head, allow_empty=allow_empty)
        if operation == "revert" and tree.id == head.id and not allow_empty:
            raise values.NoChanges("no changes")
    except values.LakeFSError as error:
        raise error.within("update branch") from None
    record = _advance(repo, target, tree, message, metadata)
    skip_hooks(repo, head, operation, branch, record.commit.id)
    return record


def _advance(
    repo: Repository, branch: Branch, tree: Tree, message: str, metadata: Mapping[str, str], date: int | None = None
) -> CommitRecord:
    """Make a commit on the head of the branch and let the branch point at it."""
    record = repo.graph.add(
        parents=(branch.commit_id,),
        tree=tree,
        message=message,
        metadata=metadata,
        committer=repo.server.committer,
        at=repo.server.clock.now() if date is None else date,
    )
    repo.move(branch, record.commit.id)
    return record


def _clean_branch(repo: Repository, name: str, argument: str = "branch") -> Branch:
    check_branch_name(name, argument)
    branch = repo.branch(name)
    if repo.changes(branch):
        raise values.Dirty
    return branch


def _parent_tree(repo: Repository, commit: Commit, number: int) -> Tree:
    return repo.graph[commit.parents[number - 1]].tree if commit.parents else EMPTY_TREE


# ----------------------------------------------------------------------------------- hooks
# lakeFS runs the action files of the source commit (`docs/dev/servers/lakefs.md`, "Where the action file must live").
# The model cannot run Lua; it knows a hook by the path of its action file. Any other action file counts as passed at
# each of its events, with a warning and a run that says `skipped`.


def run_hooks(repo: Repository, source: Tree, branch: str, commit: Commit) -> None:
    """Run the hooks whose action files are in the source tree, and record their runs.

    Raises:
        HookAborted: one of them refused; the text is wrapped as lakeFS wraps it (`docs/dev/servers/lakefs.md`,
            "Statuses with the hook in place").
        Missing: a folder among the actions.

    Warns:
        ActionNotRun: an action file that the model does not know.
    """
    at = commit.created
    run_id = _run_id(repo, at)
    refusal = f"update branch {branch}: pre-merge hook aborted, run id '{run_id}'"
    check_actions(source, refusal)
    ran = []
    for number, action in enumerate(_actions(source)):
        if action == FENCE_PATH:
            refused = repo.server.fence(commit)
            output = "" if refused is None else f"Error: action failed: {refused}\n"
            name, hook = values.FENCE_NAME, values.FENCE_HOOK
            ran.append(values.HookRun(f"{number:04d}_0000", name, hook, refused is None, output))
        elif _waits_for(source, action, "pre-merge"):
            ran.append(_skipped(number, action, "pre-merge", branch))
    if not ran:
        return
    repo.runs[run_id] = values.ActionRun(run_id, branch, commit.id, "pre-merge", at, tuple(ran))
    failed = [hook for hook in ran if not hook.passed]
    if failed:
        raise values.HookAborted(f"{refusal}: {_errors(failed)}")


def skip_hooks(repo: Repository, tree: Tree, operation: str, branch: str, commit_id: str) -> None:
    """List a skipped run for each event of an operation that action files in `tree` wait for.

    `operation` is the name that the events have in action files, such as `commit` or `create-branch`. `branch` is the
    branch or tag. Pre-merge hooks are left to `run_hooks`.

    Warns:
        ActionNotRun: a real server would run one of the files.
    """
    unknown = [action for action in _actions(tree) if action != FENCE_PATH]
    for event in (f"pre-{operation}", f"post-{operation}"):
        waiting = [action for action in unknown if event != "pre-merge" and _waits_for(tree, action, event)]
        if waiting:
            hooks = tuple(_skipped(number, action, event, branch) for number, action in enumerate(waiting))
            run = values.ActionRun(_run_id(repo, repo.now()), branch, commit_id, event, repo.now(), hooks)
            repo.runs[run.id] = run


def _run_id(repo: Repository, at: int) -> str:
    """Return an id that sorts newest first by the second, as the real ones do."""
    return f"{(1 << 32) - 1 - at:08x}{len(repo.runs):012x}"


def _waits_for(tree: Tree, action: str, event: str) -> bool:
    entry = tree.get(action)
    text = b"" if entry is None or entry.blob.is_elsewhere else entry.blob.read()
    return re.search(rb"(?<![\w-])%s[\"']?\s*:" % event.encode(), text) is not None


def _skipped(number: int, action: str, event: str, branch: str) -> values.HookRun:
    note = f"the embedded lakeFS does not run the {event} hooks of {action!r}; a real server would"
    warnings.warn(f"{branch!r}: {note}", values.ActionNotRun, stacklevel=2)
    hook = action.removeprefix(ACTIONS_PREFIX)
    return values.HookRun(f"{number:04d}_0000", action, hook, True, f"{note}\n", skipped=True)


def _errors(failed: Sequence[values.HookRun]) -> str:
    count = "1 error" if len(failed) == 1 else f"{len(failed)} errors"
    lines = (
        f"\t* hook run id '{hook.id}' failed on action '{hook.action}' hook '{hook.hook}': "
        f"{hook.output.removeprefix('Error: ').rstrip()}\n"
        for hook in failed
    )
    return f"{count} occurred:\n{''.join(lines)}\n"


def check_actions(tree: Tree, context: str) -> None:
    """Refuse a tree whose actions lakeFS cannot load.

    Raises:
        Missing: a folder among the actions, which lakeFS treats as a file (`context` is the beginning of the
            operation's message).
    """
    for action in _actions(tree):
        if action.endswith("/") and action != ACTIONS_PREFIX:
            problem = f"loading file {action}: get action file metadata {action}: not found"
            raise values.Missing(f"{context}: 1 error occurred:\n\t* {problem}\n\n")


def _actions(tree: Tree) -> list[str]:
    """Return the action files of a tree, and the folders next to them (`docs/dev/servers/lakefs.md`, "Where the action
    file must live")."""
    parts = (path.removeprefix(ACTIONS_PREFIX).partition("/") for path in tree.actions)
    return sorted({ACTIONS_PREFIX + name + slash for name, slash, _ in parts})
