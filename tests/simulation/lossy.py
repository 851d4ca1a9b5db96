"""The merge of the embedded lakeFS as the real server's is: it loses files that look like their neighbours."""

from __future__ import annotations

from perago.embedded.lakefs import trees
from perago.embedded.lakefs.trees import Tree
from perago.embedded.lakefs.values import Conflict, Entry, NoChanges, Strategy


def lossy_merge(
    base: Tree, source: Tree, target: Tree, *, strategy: Strategy = Strategy.NONE, allow_empty: bool = False
) -> Tree:
    """`merge_trees` with the losses of `docs/dev/servers/lakefs.md`, "lakeFS's three-way merge"."""
    if source.id == base.id and not allow_empty:
        raise NoChanges("no changes")
    if target.id == base.id:
        return source
    try:
        written = trees._server_merge(base, source, target, strategy)
    except trees._ServerConflictError:
        raise Conflict("conflict found") from None
    changes: dict[str, Entry | None] = {path: entry for path, entry in written.items() if target.get(path) is not entry}
    return target.with_changes(changes | {path: None for path in target.paths if path not in written})


def forgetful_merge(
    base: Tree, source: Tree, target: Tree, *, strategy: Strategy = Strategy.NONE, allow_empty: bool = False
) -> Tree:
    """The same, and it loses a file even where it has to take the source's tree as it is."""
    merged = lossy_merge(base, source, target, strategy=strategy, allow_empty=allow_empty)
    lost = next((path for path in merged.paths if not path.startswith("_lakefs_actions/")), None)
    return merged if lost is None or target.id != base.id else merged.with_changes({lost: None})
