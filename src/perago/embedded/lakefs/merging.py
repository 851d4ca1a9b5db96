"""Three-way merges, as lakeFS means them: one decision per path, against the merge base."""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from functools import partial

from perago.embedded.lakefs.errors import Conflict, NoChanges, ServerDivergence
from perago.embedded.lakefs.tree import Tree
from perago.embedded.lakefs.values import Entry, same
from perago.embedded.lakefs.values import Strategy as Strategy


class _ServerConflictError(Exception):
    """The server's merge stops with a conflict."""


def divergent_paths(
    base: Tree, source: Tree, target: Tree, strategy: Strategy, merged: Tree, conflicts: AbstractSet[str]
) -> tuple[str, ...]:
    """The paths for which the real server would answer something else than `merged` (or than a conflict), in order.

    This follows the record-level merge of lakeFS 1.84 (`docs/servers/lakefs.md` 1.7). It compares a path with the
    *next* entry of the base, and in two places only by content: a new file that happens to have the content of the next
    base entry is taken for an unchanged one. Whole ranges that the server copies without looking are not modelled.
    """
    try:
        real = _server_merge(base, source, target, strategy)
    except _ServerConflictError:
        return ()
    wrong = {path for path in real.keys() | merged.entries.keys() if not same(real.get(path), merged.get(path))}
    return tuple(sorted(wrong | conflicts))


def _server_merge(base: Tree, source: Tree, target: Tree, strategy: Strategy) -> dict[str, Entry]:
    """The entries that the server's merge writes."""
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
        next_base = _next_entry(base, path)
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


def _next_entry(tree: Tree, path: str) -> Entry | None:
    index = bisect_left(tree.paths, path)
    return tree.get(tree.paths[index]) if index < len(tree) else None


def merge_trees(
    base: Tree, source: Tree, target: Tree, *, strategy: Strategy = Strategy.NONE, allow_empty: bool = False
) -> Tree:
    """The tree of a merge of `source` into `target`.

    When the target is still the base, the result is exactly the source tree (`docs/servers/lakefs.md` 1.7). Where both
    have the same content at a path, the source's address and time stay; only if the source is the base, and nothing was
    put in front of it or behind it, lakeFS takes the target as it is.

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
    merged = target.with_changes(changes | _same_content(source, target))
    unsolved = conflicts if strategy is Strategy.NONE else frozenset[str]()
    _warn(divergent_paths(base, source, target, strategy, merged, unsolved))
    if unsolved:
        raise Conflict("conflict found")
    return merged


def _same_content(source: Tree, target: Tree) -> dict[str, Entry | None]:
    """The entries of the source that the target has, too, but uploaded at another time."""
    both = ((path, entry, target.get(path)) for path, entry in source.entries.items())
    return {path: entry for path, entry, ours in both if ours is not entry and same(entry, ours)}


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
