"""The seam to lakeFS: versioned trees of files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Commit:
    """One lakeFS commit. `created` is in seconds since the epoch."""

    id: str
    parents: tuple[str, ...]
    committer: str
    message: str
    created: int
    metadata: Mapping[str, str]
    meta_range_id: str
    """Identity of the tree: equal trees have equal ids."""


_LONGEST_BELOW = 1000
"""Characters of a message or of a metadata value that are kept of a commit below the head."""
_WHOLE = frozenset({"perago.step_key", "perago.prefix", "perago.supersedes", "perago.shared"})
"""Recovery compares these, or needs all ids and keys in them. Names of steps and prefixes may be long."""


def shortened(commit: Commit) -> Commit:
    """What a history keeps of a commit below its head: no long texts, and of metadata only perago's."""
    kept = {
        key: value
        for key, value in commit.metadata.items()
        if key in _WHOLE or (key.startswith("perago.") and len(value) <= _LONGEST_BELOW)
    }
    return replace(commit, message=commit.message[:_LONGEST_BELOW], metadata=kept)


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """One object of a listing. `key` is relative to the repository, `mtime` in seconds."""

    key: str
    size: int
    checksum: str
    """As listed: a hex MD5 where the server computed one, otherwise opaque."""
    mtime: int
    content_type: str = "application/octet-stream"
    metadata: Mapping[str, str] = field(default_factory=dict)
    physical_address: str = ""
    """Where the block store has the bytes, as listed; empty: not told. Never written twice, unless by others than
    lakeFS."""


@dataclass(frozen=True, slots=True)
class Placement:
    """An object and the absolute local path where its bytes go; `path` is None for objects to leave out."""

    entry: ObjectEntry
    path: Path | None


@dataclass(frozen=True, slots=True)
class Upload:
    """A local file to stage under `key`.

    `checksum` is the hex MD5 that change detection computed. A file that vanished or changed since then raises
    `perago.workspace.errors.FileChanging`; stored bytes that differ raise `CorruptTransfer`. `content_type` None lets
    the store decide. No part of `path` below `root`, by default the file's directory, may be a symlink by then.
    """

    key: str
    path: Path
    size: int
    checksum: str
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None

    @property
    def place(self) -> tuple[Path, str]:
        """The root, and where the file is below it."""
        root = self.root or self.path.parent
        return root, self.path.relative_to(root).as_posix()


OnPage = Callable[[Sequence[ObjectEntry]], None]
"""Gets the objects of a listing, some at a time, in the order of their keys."""
Progress = Callable[[int, int], None]
"""Called with (objects, bytes) finished by one download so far. May be called from several threads."""


Staged = Callable[[Upload], object]
"""Called with each file of one upload that is staged. May be called from several threads."""


def no_progress(objects: int, transferred: int) -> None:
    """A `Progress` for callers who do not watch."""


class WorkspaceStore(Protocol):
    """What an attempt needs from lakeFS. Every method may raise any `ServiceError`; each has a time limit."""

    def get_commit(self, repository: str, ref: str) -> Commit:
        """The commit that a full commit id or a branch name points at.

        Raises:
            NotFound: no such repository or ref.
        """
        ...

    def history(self, repository: str, branch: str, *, until: str, limit: int) -> tuple[Commit, ...]:
        """First-parent commits of `branch`, newest first, down to `until` (left out) or its root.

        At most `limit` are returned; a result of exactly `limit` may be cut short. An empty tuple means that
        `until` is the head. Commits below the head are `shortened`.
        """
        ...

    def ancestry(self, repository: str, commit: str, *, limit: int) -> tuple[Commit, ...]:
        """Commit `commit`, given by its full id, and its first-parent ancestors, newest first, at most `limit`.

        Fewer only at the beginning of the history. As in `history`, long texts and keys of others may be missing.

        Raises:
            NotFound: no such repository or commit.
        """
        ...

    def has_uncommitted_changes(self, repository: str, branch: str) -> bool:
        """Whether objects are staged on `branch` (a merge into it would be refused)."""
        ...

    def newest_staged(self, repository: str, branch: str) -> int | None:
        """When the newest object that is staged on `branch` was uploaded, in seconds since the epoch; None: no object
        is staged there. A staged deletion is no object."""
        ...

    def list_objects(
        self, repository: str, commit: str, prefix: str, on_page: OnPage | None = None
    ) -> Sequence[ObjectEntry]:
        """Every object of a commit whose key begins with `prefix` (`""` or ending in `/`), in the order of their keys.

        `on_page` gets the objects as they arrive. An error that it raises ends the listing.

        Raises:
            NotFound: no such repository or commit.
        """
        ...

    def download(
        self,
        repository: str,
        commit: str,
        workspace: Path,
        placements: Sequence[Placement],
        on_progress: Progress = no_progress,
    ) -> int:
        """Bring objects of an immutable commit, as `list_objects` gave them, to their places below `workspace`; returns
        how many of them were on this machine before, and were not fetched.

        Files grow in a private directory beside `workspace`. They appear under their final name only when complete and
        verified, with the object's modification time. A download that raises keeps those that are complete.

        Raises:
            CorruptTransfer: size or MD5 differ from the listing.
            OSError: the local disk refused (full, read-only, ...).
        """
        ...

    def create_branch(self, repository: str, branch: str, source: str) -> None:
        """Create a hidden branch at commit `source`.

        Raises:
            Refused: there is a branch of this name, perhaps by an earlier try.
            Unclear: the answer was lost; the branch tells.
        """
        ...

    def upload(self, repository: str, branch: str, uploads: Sequence[Upload], on_staged: Staged | None = None) -> None:
        """Stage files on `branch`. Repeating is harmless, and need only be done for those that were not `on_staged`."""
        ...

    def delete_objects(self, repository: str, branch: str, keys: Sequence[str]) -> None:
        """Stage the deletion of `keys`, however many. Repeating is harmless."""
        ...

    def commit(
        self, repository: str, branch: str, message: str, metadata: Mapping[str, str], *, allow_empty: bool = False
    ) -> Commit:
        """Commit what is staged on `branch`. `allow_empty` commits nothing as well.

        Raises:
            NothingToCommit: nothing is staged.
            Unclear: the answer was lost; the branch head tells.
        """
        ...

    def revert(self, repository: str, branch: str, commit: str) -> None:
        """Undo on `branch` what merge commit `commit` brought, by a commit of its own. Not to be repeated blindly.

        Raises:
            RevertConflict: later changes are in the way.
            NothingToCommit: it changes nothing.
            Unclear: the answer was lost; the branch head tells.
        """
        ...

    def diff(self, repository: str, left: str, right: str) -> Mapping[str, int | None]:
        """The keys at which two commits differ (a two-dot diff, complete), each with its size in bytes in `right`;
        None: it is not there."""
        ...

    def stat_objects(self, repository: str, commit: str, keys: Collection[str]) -> Mapping[str, ObjectEntry]:
        """Return the objects that a commit has at `keys`, as listings show them.

        Sends at most one request for each key, and at most one for each 1,000 objects of the commit.

        Raises:
            NotFound: no such repository or commit.
        """
        ...

    def merge(
        self,
        repository: str,
        source: str,
        branch: str,
        message: str,
        metadata: Mapping[str, str],
        *,
        allow_empty: bool = False,
        within: float | None = None,
    ) -> str:
        """Merge commit id `source` into `branch`, without strategy, squash or force; returns the merge commit's id.

        `allow_empty` lets a merge through that changes nothing, such as that of the head into its own branch.
        `within` limits the wait for the answer, in seconds; None leaves it to the store.

        Raises:
            MergeRefused: with the reason.
            Unclear: the answer was lost; the history of `branch` tells.
        """
        ...

    def list_branches(self, repository: str, prefix: str) -> tuple[str, ...]:
        """All branches whose names begin with `prefix`, hidden ones included, in order."""
        ...

    def delete_branch(self, repository: str, branch: str) -> None:
        """Delete a branch; one that is already gone is fine."""
        ...

    def close(self) -> None:
        """Give back connections and threads."""
        ...
