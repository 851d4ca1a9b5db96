"""Three-way merges, as lakeFS means them: one decision per path, against the merge base."""

from __future__ import annotations

import warnings
from collections.abc import Collection

from perago.embedded.lakefs.divergence import divergent_paths
from perago.embedded.lakefs.errors import Conflict, NoChanges, ServerDivergence
from perago.embedded.lakefs.tree import Tree
from perago.embedded.lakefs.values import Entry, same
from perago.embedded.lakefs.values import Strategy as Strategy


def merge_trees(
    base: Tree, source: Tree, target: Tree, *, strategy: Strategy = Strategy.NONE, allow_empty: bool = False
) -> Tree:
    """The tree of a merge of `source` into `target`.

    When the target is still the base, the result is exactly the source tree (`reference/lakefs.md` 1.7). Where both
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
