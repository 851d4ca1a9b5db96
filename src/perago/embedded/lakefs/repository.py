"""One repository: branches over a commit graph, and what a ref shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from perago.embedded.lakefs.errors import Forbidden, Invalid, LakeFSError, Missing
from perago.embedded.lakefs.graph import CommitGraph, CommitRecord
from perago.embedded.lakefs.names import RefExpression, ResolvedRef, parse_ref
from perago.embedded.lakefs.tree import EMPTY_TREE, Tree
from perago.embedded.lakefs.values import ActionRun, Entry, Reference, RepositoryInfo, same

_FULL_ID = re.compile(r"[0-9a-f]{64}")
_ID_PREFIX = re.compile(r"[0-9a-f]{1,64}")


@dataclass(slots=True)
class Branch:
    """A branch: its head and what is staged on it (None: a staged deletion)."""

    name: str
    commit_id: str
    hidden: bool = False
    staged: dict[str, Entry | None] = field(default_factory=dict)
    view: Tree | None = None
    """The head with the staged changes, as long as neither moves."""

    def stage(self, path: str, entry: Entry | None) -> None:
        """Stage an object or, with None, a deletion."""
        self.staged[path] = entry
        self.view = None

    def unstage(self, concerns: Callable[[str], bool]) -> None:
        """Drop what is staged for the paths that `concerns` says yes to."""
        for path in [path for path in self.staged if concerns(path)]:
            del self.staged[path]
        self.view = None

    def point_at(self, commit_id: str) -> None:
        """Move the head and keep what is staged."""
        self.commit_id = commit_id
        self.view = None

    def advance(self, commit_id: str) -> None:
        """Move the head; what was staged is in the commit, or was no change (`docs/servers/lakefs.md` 3)."""
        self.commit_id = commit_id
        self.staged.clear()
        self.view = None

    def reference(self) -> Reference:
        """As the server describes it."""
        return Reference(self.name, self.commit_id, self.hidden)


class Repository:
    """Branches, tags, commits and how names resolve to them."""

    def __init__(self, info: RepositoryInfo, *, bare: bool = False) -> None:
        self.info = info
        self.graph = CommitGraph()
        self.branches: dict[str, Branch] = {}
        self.tags: dict[str, str] = {}
        self.metadata: dict[str, str] = {}
        self.protected: tuple[str, ...] = ()
        """Patterns of branches that are written to by merges and reverts only."""
        self.runs: list[ActionRun] = []
        """What the actions did, oldest first."""
        if bare:
            return
        first = self.graph.add(
            parents=(), tree=EMPTY_TREE, message="Repository created", metadata={}, committer="", at=info.created
        )
        self.branches[info.default_branch] = Branch(info.default_branch, first.commit.id)

    def branch(self, name: str, message: str = "branch not found") -> Branch:
        """A branch by name.

        Raises:
            Missing: there is none; `message` is what the calling operation says then.
        """
        try:
            return self.branches[name]
        except KeyError:
            raise Missing(message) from None

    def check_protection(self, branch: str, message: str = "cannot write to protected branch") -> None:
        """Raise `Forbidden` for a protected branch."""
        if any(fnmatchcase(branch, pattern) for pattern in self.protected):
            raise Forbidden(message)

    def head(self, branch: Branch) -> CommitRecord:
        """The commit that a branch points at."""
        return self.graph.record(branch.commit_id)

    def changes(self, branch: Branch) -> dict[str, Entry | None]:
        """What is staged and differs from the head. An identical re-upload is no change."""
        tree = self.head(branch).tree
        return {path: entry for path, entry in branch.staged.items() if not same(tree.get(path), entry)}

    def resolve(self, text: str) -> ResolvedRef:
        """What a ref expression points at: a full commit id, else a branch, a tag, a unique commit id prefix.

        Raises:
            Missing: nothing of that name, or a step beyond the first commit.
            Invalid: not a ref expression.
        """
        expression = parse_ref(text)
        branch = None if self._is_commit(expression.name) else self.branches.get(expression.name)
        if branch is None:
            start = self._tag_or_commit(expression.name)
        elif not expression.steps or expression.suffix:
            return _resolve_branch(branch, expression)
        else:
            start = branch.commit_id
        return ResolvedRef(self.graph.walk_back(start, expression.steps))

    def resolve_commit(self, text: str, staging: str = "") -> CommitRecord:
        """The commit that a ref points at, leaving staged changes aside.

        Raises:
            Missing, Invalid: as `resolve`; also for a ref with `$`, which is not a commit (`staging` is what the
                calling operation says then).
        """
        resolved = self.resolve(text)
        if resolved.explicit_staging:
            raise Invalid(staging or f"reference '{text}': reference to staging area with $ is not a commit")
        return self.graph.record(resolved.commit_id)

    def commit_of(self, text: str, context: str) -> CommitRecord:
        """As `resolve_commit`, with `context` in front of a refusal."""
        try:
            return self.resolve_commit(text)
        except LakeFSError as error:
            raise error.within(context) from None

    def tree(self, resolved: ResolvedRef) -> Tree:
        """What reading a ref shows."""
        committed = self.graph.record(resolved.commit_id).tree
        if resolved.branch is None:
            return committed
        branch = self.branches[resolved.branch]
        if not branch.staged:
            return committed
        if branch.view is None:
            branch.view = committed.with_changes(branch.staged)
        return branch.view

    def _is_commit(self, name: str) -> bool:
        return _FULL_ID.fullmatch(name) is not None and name in self.graph

    def _tag_or_commit(self, name: str) -> str:
        if self._is_commit(name):
            return name
        if name in self.tags:
            return self.tags[name]
        found = self.graph.by_prefix(name) if _ID_PREFIX.fullmatch(name) else None
        if found is None:
            raise Missing("not found")
        return found


def _resolve_branch(branch: Branch, expression: RefExpression) -> ResolvedRef:
    shown = None if expression.suffix == "@" else branch.name
    return ResolvedRef(branch.commit_id, shown, explicit_staging=expression.suffix == "$")
