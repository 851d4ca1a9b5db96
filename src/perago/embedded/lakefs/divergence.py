"""Where lakeFS's own three-way merge gives another result than its documentation promises.

This follows the record-level merge of lakeFS 1.84 (`reference/lakefs.md` 1.7). It compares a path with the *next*
entry of the base, and in two places only by content: a new file that happens to have the content of the next base
entry is taken for an unchanged one. Whole ranges that the server copies without looking are not modelled.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from functools import partial

from perago.embedded.lakefs.tree import Tree
from perago.embedded.lakefs.values import Entry, Strategy, same


class _ServerConflictError(Exception):
    """The server's merge stops with a conflict."""


def divergent_paths(
    base: Tree, source: Tree, target: Tree, strategy: Strategy, merged: Tree, conflicts: AbstractSet[str]
) -> tuple[str, ...]:
    """The paths for which the real server would answer something else than `merged` (or than a conflict), in order."""
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
