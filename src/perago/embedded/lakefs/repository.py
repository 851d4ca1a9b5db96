"""The modeled server and its repositories: names and ref expressions, the commit graph, and branches over it.

Functions on a repository are in `references`, `objects` and `commits`. They answer as lakeFS 1.84 does
(`docs/dev/servers/lakefs.md`, "REST facts" and "Semantics"), or raise a `LakeFSError` that carries the real status and
words. What lakeFS has and they do not (imports, garbage collection, other hooks than pre-merge, ...) is not modeled.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import math
import posixpath
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from perago.embedded.journal import Journal, Table
from perago.embedded.lakefs import values
from perago.embedded.lakefs.trees import EMPTY_TREE, Tree
from perago.ports import Clock, Commit

MAX_PATH_BYTES = 1024

_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_TAG_FORBIDDEN = re.compile(r"[\x00-\x20^:?*\[\\/]|\.\.|@\{")
_INVALID = "invalid value: validation error"


def check_repository_name(name: str) -> None:
    """Refuse all but 3 to 63 lower-case letters, digits and dashes that do not start with a dash.

    Raises:
        ImpossibleName: a name that cannot be a repository's.
    """
    if not _REPOSITORY.fullmatch(name):
        raise values.ImpossibleName(f"argument repository: repository id: {_INVALID}")


def check_branch_name(name: str, argument: str = "branch") -> None:
    """Refuse all but ASCII letters, digits, `_` and `-`, a leading `-`, and (with 500) no name.

    Raises:
        ImpossibleName: a name that cannot be a branch's.
        LakeFSError: no name at all.
    """
    if not name:
        raise values.LakeFSError(f"argument {argument}: required value: validation error")
    if not _BRANCH.fullmatch(name):
        rule = "branch id must consist of letters, digits, underscores and dashes, and cannot start with a dash"
        raise values.ImpossibleName(f"argument {argument}: branch id: {_INVALID}: {rule}")


def check_tag_name(name: str) -> None:
    """Refuse what git refuses in a tag, but allow `~`; without a name it is 500.

    Raises:
        Invalid: a name that cannot be a tag's.
        LakeFSError: no name at all.
    """
    if not name:
        raise values.LakeFSError("argument tagID: required value: validation error")
    if name == "@" or name.endswith((".", ".lock")) or _TAG_FORBIDDEN.search(name):
        raise values.Invalid(f"argument tagID: tag id: {_INVALID}")


def check_ref(ref: str, argument: str = "ref") -> None:
    """Refuse a ref with white space, and (with 500) none at all. Whether it resolves is another question.

    Raises:
        ImpossibleName: there is white space in it.
        LakeFSError: it is empty.
    """
    if not ref:
        raise values.LakeFSError(f"argument {argument}: required value: validation error")
    if ref.split() != [ref]:
        raise values.ImpossibleName(f"argument {argument}: ref: {_INVALID}")


def check_path(path: str) -> None:
    """Raise `Invalid` for an empty path, one that is not UTF-8, or one of more than 1,024 bytes."""
    if not path:
        raise values.Invalid("argument path: missing path: required value: validation error")
    check_length("path", path)


def check_length(argument: str, text: str) -> None:
    """Raise `Invalid` for text that is not UTF-8 or has more than 1,024 bytes."""
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise values.Invalid(f"argument {argument}: {_INVALID}: not UTF-8") from None
    if length > MAX_PATH_BYTES:
        raise values.Invalid(f"argument {argument}: {_INVALID}: {length} is above maximum length ({MAX_PATH_BYTES})")


INVALID_REF = "ref: invalid value: validation error"
SHOULD_BE_A_COMMIT = f"{INVALID_REF}: should point to a commit"
"""The refusal by some calls of a branch with its staged changes (`main$`)."""

_MODIFIER = re.compile(r"[~^@$][^~^@$]*")
_BASE = re.compile(r"[^~^@$]+")
_NUMBER = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True, slots=True)
class Step:
    """One modifier: `~N` follows first parents N times, `^N` takes the N-th parent; `@` leaves staged changes out, `$`
    has them."""

    mark: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class RefExpression:
    """A parsed ref: a name and its suffixes, in order."""

    name: str
    steps: tuple[Step, ...]

    @property
    def suffix(self) -> str:
        """`@` or `$` if that is all there is behind the name, else `""`."""
        return self.steps[0].mark if len(self.steps) == 1 and self.steps[0].mark in "@$" else ""


@dataclass(frozen=True, slots=True)
class ResolvedRef:
    """The target of a ref. `branch` is set if staged changes are shown: for a bare branch, or a branch with `$`."""

    commit_id: str
    branch: str | None = None
    explicit_staging: bool = False
    """Written with `$`: not a commit, so no source of a branch or merge."""


def parse_ref(text: str) -> RefExpression:
    """Take a ref expression apart.

    Raises:
        Invalid: no name, a step that is not a number, or a number behind `@` or `$`.
    """
    base = _BASE.match(text)
    if base is None:
        raise values.Invalid(INVALID_REF)
    return RefExpression(base.group(), tuple(map(_step, _MODIFIER.findall(text, base.end()))))


def _step(modifier: str) -> Step:
    mark, number = modifier[0], modifier[1:]
    if mark in "@$":
        if number:
            raise values.Invalid(INVALID_REF)
        return Step(mark)
    if number and not _NUMBER.fullmatch(number):
        raise values.Invalid(f"could not parse modifier {modifier}: {INVALID_REF}")
    return Step(mark, int(number or "1"))


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """A commit with its tree. `generation` is one more than the highest of its parents, 1 for the first."""

    commit: Commit
    tree: Tree
    generation: int
    fraction: float = 0.0
    """The fraction of the creation's second. No answer shows it, but it decides what is newer."""

    @property
    def moment(self) -> float:
        """Return the time of its creation, in seconds since the epoch."""
        return self.commit.created + self.fraction


class CommitGraph(Table[str, CommitRecord]):
    """All commits by id, reachable or not: a deleted branch and a refused merge leave theirs readable."""

    def by_prefix(self, prefix: str) -> str | None:
        """Return the only commit id that starts with `prefix` (lower case), or None."""
        commit_ids = [commit_id for commit_id in self if commit_id.startswith(prefix)]
        return commit_ids[0] if len(commit_ids) == 1 else None

    def add(
        self,
        *,
        parents: tuple[str, ...],
        tree: Tree,
        message: str,
        metadata: Mapping[str, str],
        committer: str,
        at: float,
        squashed: str | None = None,
    ) -> CommitRecord:
        """Store a commit. Its id is that of its contents: the same commit in the same second is the same commit.

        `squashed` is the source of a squash merge: no parent, but it counts for the generation.
        """
        second = math.floor(at)
        fields = repr((parents, tree.id, message, sorted(metadata.items()), committer, second))
        commit = Commit(
            id=hashlib.sha256(fields.encode()).hexdigest(),
            parents=parents,
            committer=committer,
            message=message,
            created=second,
            metadata=dict(metadata),
            meta_range_id=tree.id,
        )
        above = parents if squashed is None else (*parents, squashed)
        generation = 1 + max((self[parent].generation for parent in above), default=0)
        record = CommitRecord(commit, tree, generation, at - second)
        self[commit.id] = record
        return record

    def walk_back(self, commit_id: str, steps: tuple[Step, ...]) -> str:
        """Follow `~` and `^` steps.

        Raises:
            Missing: `~` beyond the first commit.
            Invalid: `^` names a parent that the commit does not have, or `@` or `$` is next to other steps.
        """
        for step in steps:
            if step.mark == "~":
                for _ in range(step.count):
                    parents = self[commit_id].commit.parents
                    if not parents:
                        raise values.Missing("not found")
                    commit_id = parents[0]
            elif step.mark != "^":
                raise values.Invalid(INVALID_REF)
            elif step.count != 0:
                parents = self[commit_id].commit.parents
                if not 1 <= step.count <= len(parents):
                    raise values.Invalid(INVALID_REF)
                commit_id = parents[step.count - 1]
        return commit_id

    def merge_base(self, left: str, right: str) -> str:
        """Return the best common ancestor.

        Raises:
            Missing: it does not exist.
        """
        if left == right:
            return left
        left_side, right_side = 1, 2
        reached = {left: left_side, right: right_side}
        queue = [self._by_generation(left), self._by_generation(right)]
        heapq.heapify(queue)
        while queue:
            commit_id = heapq.heappop(queue)[-1]
            for parent in self[commit_id].commit.parents:
                if parent not in reached:
                    heapq.heappush(queue, self._by_generation(parent))
                reached[parent] = reached.get(parent, 0) | reached[commit_id]
                if reached[parent] == left_side | right_side:
                    return parent
        raise values.Missing("no merge base")

    def _by_generation(self, commit_id: str) -> tuple[int, float, str]:
        record = self[commit_id]
        return (-record.generation, -record.moment, commit_id)

    def first_parents(self, commit_id: str) -> Iterator[CommitRecord]:
        """Yield the commit and its first parents, newest first."""
        record = self[commit_id]
        while True:
            yield record
            if not record.commit.parents:
                return
            record = self[record.commit.parents[0]]

    def log(self, commit_id: str, *, first_parent: bool = False, since: float | None = None) -> Iterator[CommitRecord]:
        """Yield the commit and its ancestors, by creation date, newest first (ties: by id, highest first).

        With `first_parent` only first parents are followed. A commit created before `since` ends its line.
        """
        queued_ids = {commit_id}
        queue: list[tuple[float, int, str]] = []
        self._queue(queue, commit_id, since)
        while queue:
            record = self[heapq.heappop(queue)[-1]]
            yield record
            parents = record.commit.parents[:1] if first_parent else record.commit.parents
            for parent in parents:
                if parent not in queued_ids:
                    queued_ids.add(parent)
                    self._queue(queue, parent, since)

    def _queue(self, queue: list[tuple[float, int, str]], commit_id: str, since: float | None) -> None:
        moment = self[commit_id].moment
        if since is None or moment >= since:
            heapq.heappush(queue, (-moment, -int(commit_id, 16), commit_id))


_FULL_ID = re.compile(r"[0-9a-f]{64}")
_ID_PREFIX = re.compile(r"[0-9a-f]{1,64}")


@dataclass(slots=True)
class Branch:
    """A branch: its head and its staged changes (None: a staged deletion)."""

    name: str
    commit_id: str
    hidden: bool
    staged: Table[str, values.Entry | None]
    view: Tree | None = None
    """The head with the staged changes, as long as neither moves."""

    def stage(self, path: str, entry: values.Entry | None) -> None:
        """Stage an object or, with None, a deletion."""
        self.staged[path] = entry
        self.view = None

    def unstage(self, concerns: Callable[[str], bool]) -> None:
        """Drop the staged changes of the paths for which `concerns` returns True."""
        for path in [path for path in self.staged if concerns(path)]:
            del self.staged[path]
        self.view = None

    def reference(self) -> values.Reference:
        """Return it as the server describes it."""
        return values.Reference(self.name, self.commit_id, self.hidden)


class Repository:
    """Branches, tags, commits and how names resolve to them."""

    def __init__(self, server: LakeFSServer, info: values.RepositoryInfo, *, bare: bool = False) -> None:
        self.server = server
        self.info = info
        journal, name = server.journal, info.name
        self.graph: CommitGraph = CommitGraph(journal, "commit", name)
        self.branches: Table[str, Branch] = Table(journal, "branch", name)
        self.tags: Table[str, str] = Table(journal, "tag", name)
        self.metadata: Table[str, str] = Table(journal, "metadata", name)
        self.protected: tuple[str, ...] = ()
        """Patterns of branches that are written to by merges and reverts only."""
        self.runs: Table[str, values.ActionRun] = Table(journal, "run", name)
        """The runs of the actions by id, oldest first."""
        if bare:
            return
        first = self.graph.add(
            parents=(), tree=EMPTY_TREE, message="Repository created", metadata={}, committer="", at=info.created
        )
        self.add_branch(info.default_branch, first.commit.id)

    def add_branch(self, name: str, commit_id: str, *, hidden: bool = False) -> Branch:
        """Create a branch whose name is free."""
        staged: Table[str, values.Entry | None] = Table(self.server.journal, "staged", self.info.name, name)
        branch = self.branches[name] = Branch(name, commit_id, hidden, staged)
        return branch

    def move(self, branch: Branch, commit_id: str, *, keep_staged: bool = False) -> None:
        """Move the head of a branch. Its staged changes are in the commit, or were not changes
        (`docs/dev/servers/lakefs.md`, "Semantics"), unless they must be kept."""
        branch.commit_id = commit_id
        branch.view = None
        if not keep_staged:
            branch.staged.clear()
        self.branches.touch(branch.name)

    def clear(self) -> None:
        """Drop everything, because the repository is deleted."""
        for branch in self.branches.values():
            branch.staged.clear()
        for table in (self.branches, self.tags, self.metadata, self.runs, self.graph):
            table.clear()

    def branch(self, name: str, message: str = "branch not found") -> Branch:
        """Return a branch by name.

        Raises:
            Missing: it does not exist; `message` is that of the calling operation.
        """
        try:
            return self.branches[name]
        except KeyError:
            raise values.Missing(message) from None

    def now(self) -> int:
        """Return the time of the server, in seconds since the epoch."""
        return int(self.server.clock.now())

    def new_address(self) -> str:
        """Return a fresh address of an object in the block store."""
        return f"{self.info.storage_namespace}/data/{next(self.server.addresses):016x}"

    def protect(self, patterns: Sequence[str]) -> None:
        """Replace the patterns of protected branches. `*` matches any text."""
        self.protected = tuple(dict.fromkeys(patterns))
        self.server.repositories.touch(self.info.name)

    def check_writable(self, force: bool = False) -> None:
        """Raise `ReadOnly` for a read-only repository, unless the call is forced."""
        if self.info.read_only and not force:
            raise values.ReadOnly

    def check_protection(self, branch: str, message: str = "cannot write to protected branch") -> None:
        """Raise `Forbidden` for a protected branch."""
        if any(fnmatchcase(branch, pattern) for pattern in self.protected):
            raise values.Forbidden(message)

    def head(self, branch: Branch) -> CommitRecord:
        """Return the commit that a branch points at."""
        return self.graph[branch.commit_id]

    def changes(self, branch: Branch) -> dict[str, values.Entry | None]:
        """Return the staged changes that differ from the head. An identical re-upload is not a change."""
        tree = self.head(branch).tree
        return {path: entry for path, entry in branch.staged.items() if not values.same(tree.get(path), entry)}

    def resolve(self, text: str) -> ResolvedRef:
        """Resolve a ref expression: a full commit id, else a branch, a tag, a unique commit id prefix.

        Raises:
            Missing: nothing of that name, or a step beyond the first commit.
            Invalid: not a ref expression.
        """
        expression = parse_ref(text)
        branch = None if self._is_commit(expression.name) else self.branches.get(expression.name)
        if branch is None:
            start = self._tag_or_commit(expression.name)
        elif not expression.steps or expression.suffix:
            shown = None if expression.suffix == "@" else branch.name
            return ResolvedRef(branch.commit_id, shown, explicit_staging=expression.suffix == "$")
        else:
            start = branch.commit_id
        return ResolvedRef(self.graph.walk_back(start, expression.steps))

    def resolve_commit(self, text: str, staging: str = "") -> CommitRecord:
        """Return the commit that a ref points at, without staged changes.

        Raises:
            Missing,
            Invalid: as `resolve`; also for a ref with `$`, which is not a commit (then with the message `staging` of
                the calling operation).
        """
        resolved = self.resolve(text)
        if resolved.explicit_staging:
            raise values.Invalid(staging or f"reference '{text}': reference to staging area with $ is not a commit")
        return self.graph[resolved.commit_id]

    def commit_of(self, text: str, context: str) -> CommitRecord:
        """Return the commit like `resolve_commit`, with `context` before the message of a refusal."""
        try:
            return self.resolve_commit(text)
        except values.LakeFSError as error:
            raise error.within(context) from None

    def tree(self, resolved: ResolvedRef) -> Tree:
        """Return the tree that reading a ref shows."""
        committed = self.graph[resolved.commit_id].tree
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
        commit_id = self.graph.by_prefix(name) if _ID_PREFIX.fullmatch(name) else None
        if commit_id is None:
            raise values.Missing("not found")
        return commit_id


# ------------------------------------------------------------------------------ the server


NAMESPACE = "local://"


class LakeFSServer:
    """All repositories of one server. Hold `lock` to use one of them from several threads."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.committer = "admin"
        self.fence: Callable[[Commit], str | None] = values.fence_refusal
        """The hook of the action file at `FENCE_PATH`. No other hook runs."""
        self.started: int = int(clock.now())
        self.blobs: values.BlobStore = values.BlobStore()
        self.lock: threading.RLock = threading.RLock()
        self.journal: Journal = Journal()
        self.repositories: Table[str, Repository] = Table(self.journal, "repository")
        self.namespaces: Table[str, bool] = Table(self.journal, "namespace")
        """Storage namespaces that have been used; that of a deleted repository stays used."""
        self.addresses: itertools.count[int] = itertools.count()
        """The running numbers in the addresses of objects."""
        self.linkable: set[str] = set()
        """Addresses that were given to clients."""

    def close(self) -> None:
        """Drop the bytes of large objects."""
        self.blobs.close()

    def repository(self, name: str) -> Repository:
        """Return a repository.

        Raises:
            Missing: no repository has this name.
            ImpossibleName: there can be none.
        """
        try:
            return self.repositories[name]
        except KeyError:
            check_repository_name(name)
            raise values.Missing("repository not found") from None

    def create_repository(
        self,
        name: str,
        storage_namespace: str | None = None,
        *,
        default_branch: str = "main",
        read_only: bool = False,
        bare: bool = False,
    ) -> values.RepositoryInfo:
        """Create a repository with one empty commit on its default branch; a `bare` one has neither.

        Raises:
            Invalid: a name or namespace that lakeFS refuses, or a namespace that has been used before. That is not
                checked for a bare or read-only repository.
            Exists: the name is taken.
        """
        namespace = storage_namespace or f"{NAMESPACE}{name}"
        check_repository_name(name)
        with self.lock:
            if name in self.repositories:
                raise values.Exists("error creating repository: not unique")
            if not namespace.startswith(NAMESPACE):
                raise values.Invalid(f"failed to match required regex ^{NAMESPACE}: invalid namespace")
            if not (bare or read_only):
                self._take(namespace)
            now = int(self.clock.now())
            info = values.RepositoryInfo(name, namespace, default_branch or "main", now, read_only)
            self.repositories[name] = Repository(self, info, bare=bare)
            return info

    def _take(self, namespace: str) -> None:
        """Note that a namespace is used."""
        place = posixpath.normpath(namespace.removeprefix(NAMESPACE).lstrip("/"))
        if place.split("/")[0] in (".", ".."):
            raise values.Invalid("failed to create repository: failed to access storage")
        if f"{NAMESPACE}{place}" in self.namespaces:
            problem = f"found lakeFS objects in the storage (:{namespace}) key(_lakefs/dummy)"
            raise values.Invalid(f"failed to create repository: {problem}: storage namespace already in use")
        self.namespaces[f"{NAMESPACE}{place}"] = True

    def list_repositories(
        self, *, prefix: str = "", after: str = "", search: str = "", amount: int = -1
    ) -> values.Page[values.RepositoryInfo]:
        """Return one page of repositories, by name; `search` is any part of the name."""
        with self.lock:
            infos = [self.repositories[name].info for name in sorted(self.repositories) if name > after]
        shown = (info for info in infos if info.name.startswith(prefix) and search in info.name)
        return values.page_of(shown, lambda info: info.name, amount)

    def delete_repository(self, name: str, *, force: bool = False) -> None:
        """Delete a repository; a read-only one only with `force`."""
        with self.lock:
            repository = self.repository(name)
            repository.check_writable(force)
            repository.clear()
            del self.repositories[name]
