"""Immutable trees: what a commit points at."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from perago.embedded.lakefs.values import Difference, DiffType, Entry, same

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
        self.actions = actions
        self.id = hashlib.sha256(checksum.to_bytes(32, "big")).hexdigest()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, path: str) -> Entry | None:
        """The entry at `path`."""
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
        """This tree with entries put, or removed where the change is None."""
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
        """What turns this tree into `other`: entries put, None for removed ones. Unordered."""
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
"""The tree of a new repository. A tree that was emptied later is another one to lakeFS."""


def two_dot(left: Tree, right: Tree) -> list[Difference]:
    """What differs between two trees, in order of path."""
    return [_difference(left, path, entry) for path, entry in sorted(left.changes_to(right).items(), key=_path)]


def three_dot(base: Tree, left: Tree, right: Tree) -> list[Difference]:
    """What merging `right` into `left` would do, in order of path; both sides changed one path: a conflict."""
    theirs = base.changes_to(right)
    ours = base.changes_to(left)
    differences = []
    for path, entry in sorted(theirs.items(), key=_path):
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


def _path(item: tuple[str, Entry | None]) -> str:
    return item[0]


def _digest(entry: Entry) -> int:
    parts = (entry.path, *map(str, entry.identity[:2]), entry.content_type, str(entry.mtime), entry.address)
    metadata = (text for pair in sorted(entry.metadata.items()) for text in pair)
    text = "\x00".join(part.replace("\x00", "\x00\x00") for part in (*parts, *metadata))
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
