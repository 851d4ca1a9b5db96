"""The immutable trees of commits, and three-way merges of them."""

from __future__ import annotations

import hashlib
import warnings
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from operator import itemgetter

from perago.embedded.lakefs.values import Conflict, Difference, DiffType, Entry, NoChanges, ServerDivergence, same
from perago.embedded.lakefs.values import Strategy as Strategy

ACTIONS_PREFIX = "_lakefs_actions/"
_MODULUS = 1 << 256


class Tree:
    """Entries by path, in unsigned byte order (for Unicode text the order of its UTF-8 bytes).

    The tree's id is the sum of its entries' hashes, so that a commit of ten changes in ten thousand objects hashes
    ten. Like lakeFS's it covers time and address, too: trees of the same objects are equal, the same content
    uploaded twice is not. `actions` is all that lies below `_lakefs_actions/`.
    """

    __slots__ = ("_entries", "_paths", "_sum", "actions", "id")

    def __init__(self, entries: dict[str, Entry], checksum: int, actions: frozenset[str]) -> None:
        self._entries = entries
        self._sum = checksum
        self._paths: list[str] | None = None
        self.actions: frozenset[str] = actions
        self.id: str = hashlib.sha256(checksum.to_bytes(32, "big")).hexdigest()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, path: str) -> Entry | None:
        """Return the entry at `path`."""
        return self._entries.get(path)

    @property
    def paths(self) -> list[str]:
        """All paths in order. Not to be changed."""
        if self._paths is None:
            self._paths = sorted(self._entries)
        return self._paths

    @property
    def entries(self) -> Mapping[str, Entry]:
        """All entries by path, in no particular order."""
        return self._entries

    def with_changes(self, changes: Mapping[str, Entry | None]) -> Tree:
        """Return this tree with entries added, or removed if the change is None."""
        entries = self._entries.copy()
        checksum = self._sum
        actions = set(self.actions)
        for path, entry in changes.items():
            old = entries.pop(path, None)
            if old is not None:
                checksum -= _digest(old)
            if entry is not None:
                entries[path] = entry
                checksum += _digest(entry)
            if path.startswith(ACTIONS_PREFIX):
                (actions.discard if entry is None else actions.add)(path)
        return Tree(entries, checksum % _MODULUS, frozenset(actions))

    def changes_to(self, other: Tree) -> dict[str, Entry | None]:
        """Return the changes from this tree to `other`: entries put, None for removed ones. Unordered."""
        if self is other:
            return {}
        mine, theirs = self._entries, other._entries
        changes: dict[str, Entry | None] = {
            path: entry for path, entry in theirs.items() if not same(mine.get(path), entry)
        }
        changes.update(dict.fromkeys(mine.keys() - theirs.keys()))
        return changes


EMPTY_TREE = Tree({}, 0, frozenset())
EMPTY_TREE.id = ""
"""The tree of a new repository. For lakeFS, a tree that was emptied later is a different one."""


def two_dot_diff(left: Tree, right: Tree) -> list[Difference]:
    """Return the differences between two trees, in order of path."""
    return [_difference(left, path, entry) for path, entry in sorted(left.changes_to(right).items(), key=itemgetter(0))]


def three_dot_diff(base: Tree, left: Tree, right: Tree) -> list[Difference]:
    """Return the changes of merging `right` into `left`, in order of path; both sides changed one path: a conflict."""
    theirs = base.changes_to(right)
    ours = base.changes_to(left)
    differences = []
    for path, entry in sorted(theirs.items(), key=itemgetter(0)):
        if path not in ours:
            differences.append(_difference(base, path, entry))
        elif not same(ours[path], entry):
            shown = base.get(path) if entry is None else entry
            size = 0 if shown is None else shown.blob.size
            differences.append(Difference(path, DiffType.CONFLICT, size, shown))
    return differences


def _difference(left: Tree, path: str, entry: Entry | None) -> Difference:
    old = left.get(path)
    if entry is None:
        return Difference(path, DiffType.REMOVED, 0 if old is None else old.blob.size, old)
    return Difference(path, DiffType.ADDED if old is None else DiffType.CHANGED, entry.blob.size, entry)


def _digest(entry: Entry) -> int:
    parts = (entry.path, *map(str, entry.identity[:2]), entry.content_type, str(entry.mtime), entry.address)
    metadata = (text for pair in sorted(entry.metadata.items()) for text in pair)
    text = "\x00".join(part.replace("\x00", "\x00\x00") for part in (*parts, *metadata))
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


class _ServerConflictError(Exception):
    """The server's merge stops with a conflict."""


def divergent_paths(
    base: Tree, source: Tree, target: Tree, strategy: Strategy, merged: Tree, conflicts: AbstractSet[str]
) -> tuple[str, ...]:
    """Return the paths for which the real server's result differs from `merged` (or from a conflict), in order.

    This follows the record-level merge of lakeFS 1.84 (`docs/dev/servers/lakefs.md`, "lakeFS's three-way merge"). It
    compares a path with the *next* entry of the base, and in two places only by content: a new file that happens to
    have the content of the next base entry is taken for an unchanged one. Whole ranges that the server copies without
    looking are not modeled.
    """
    try:
        real = _server_merge(base, source, target, strategy)
    except _ServerConflictError:
        return ()
    wrong = {path for path in real.keys() | merged.entries.keys() if not same(real.get(path), merged.get(path))}
    return tuple(sorted(wrong | conflicts))


def _server_merge(base: Tree, source: Tree, target: Tree, strategy: Strategy) -> dict[str, Entry]:
    """Return the entries that the server's merge writes."""
    source_end = source.paths[-1] if len(source) else ""
    target_end = target.paths[-1] if len(target) else ""

    def wins(side: Strategy) -> bool:
        """Whether a conflict, should there be one, is decided for this side."""
        if strategy is Strategy.NONE:
            raise _ServerConflictError
        return strategy is side

    our_win, their_win = partial(wins, Strategy.DEST_WINS), partial(wins, Strategy.SOURCE_WINS)
    written: dict[str, Entry] = {}
    for path in sorted(source.entries.keys() | target.entries.keys()):
        ours, theirs = target.get(path), source.get(path)
        index = bisect_left(base.paths, path)
        next_base = base.get(base.paths[index]) if index < len(base) else None
        if ours is not None and theirs is not None:
            written[path] = _both(ours, theirs, next_base, our_win)
        elif ours is not None and _keep_one(ours, next_base, our_win, other_ended=path > source_end):
            written[path] = ours
        elif theirs is not None and _keep_one(theirs, next_base, their_win, other_ended=path > target_end):
            written[path] = theirs
    return written


def _both(ours: Entry, theirs: Entry, next_base: Entry | None, our_win: Callable[[], bool]) -> Entry:
    if same(ours, theirs):
        return theirs
    if same(theirs, next_base):
        return ours
    if same(ours, next_base):
        return theirs
    return ours if our_win() else theirs


def _keep_one(entry: Entry, next_base: Entry | None, wins: Callable[[], bool], *, other_ended: bool) -> bool:
    """Whether an entry that only one side has is written. Once the other side has ended, the key is not compared."""
    is_same_path = next_base is not None and next_base.path == entry.path
    if same(entry, next_base) and (is_same_path or other_ended):
        return False
    return wins() if is_same_path else True


def merge_trees(
    base: Tree, source: Tree, target: Tree, *, strategy: Strategy = Strategy.NONE, allow_empty: bool = False
) -> Tree:
    """Return the tree of a merge of `source` into `target`.

    When the target is still the base, the result is exactly the source tree (`docs/dev/servers/lakefs.md`, "lakeFS's
    three-way merge"). Where both have the same content at a path, the source's address and time stay; only if the
    source is the base, and nothing was put in front of it or behind it, lakeFS uses the target unchanged.

    Raises:
        NoChanges: source and base are the same tree, unless `allow_empty`.
        Conflict: both sides changed one path and there is no strategy.

    Warns:
        ServerDivergence: the real server would lose a file here.
    """
    if source.id == base.id and not allow_empty:
        raise NoChanges("no changes")
    if target.id == base.id:
        return source
    if source.id == base.id and _bounds(source) == _bounds(target):
        return target
    ours = base.changes_to(target)
    theirs = base.changes_to(source)
    conflicts = {path for path, entry in theirs.items() if path in ours and not same(ours[path], entry)}
    changes: dict[str, Entry | None] = {
        path: entry for path, entry in theirs.items() if path not in conflicts or strategy is Strategy.SOURCE_WINS
    }
    both = ((path, entry, target.get(path)) for path, entry in source.entries.items())
    again = {path: entry for path, entry, known in both if known is not entry and same(entry, known)}
    merged = target.with_changes(changes | again)
    unsolved = conflicts if strategy is Strategy.NONE else frozenset[str]()
    _warn(divergent_paths(base, source, target, strategy, merged, unsolved))
    if unsolved:
        raise Conflict("conflict found")
    return merged


def _bounds(tree: Tree) -> list[str]:
    return [*tree.paths[:1], *tree.paths[-1:]]


def _warn(paths: Collection[str]) -> None:
    if paths:
        warnings.warn(
            f"lakeFS 1.84 would lose or overwrite {', '.join(map(repr, paths))} in this merge, because the content "
            "equals that of the next path in the merge base; publish only when the head is the merge base",
            ServerDivergence,
            stacklevel=3,
        )
