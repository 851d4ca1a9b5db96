"""The values that the modelled server speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from perago.embedded.lakefs.blobs import Blob
from perago.ports import Commit, ObjectEntry

T = TypeVar("T")

Identity: TypeAlias = tuple[int, str, frozenset[tuple[str, str]], str]


@dataclass(frozen=True, slots=True)
class Entry:
    """One object at one path. `mtime` is its upload second, `address` the unique place of its bytes."""

    path: str
    blob: Blob
    content_type: str
    metadata: Mapping[str, str]
    mtime: int
    address: str
    identity: Identity = field(init=False)
    """What makes an object the same or another one: size, MD5, user metadata, content type; neither path, time nor
    address (`reference/lakefs.md` 3)."""

    def __post_init__(self) -> None:
        identity = (self.blob.size, self.blob.checksum, frozenset(self.metadata.items()), self.content_type)
        object.__setattr__(self, "identity", identity)

    @property
    def is_directory_marker(self) -> bool:
        """Whether this is `x/` of size 0, which stands for an empty directory (contract 7)."""
        return self.blob.size == 0 and self.path.endswith("/")

    def as_listed(self) -> ObjectEntry:
        """The port's view."""
        return ObjectEntry(
            key=self.path,
            size=self.blob.size,
            checksum=self.blob.checksum,
            mtime=self.mtime,
            content_type=self.content_type,
            metadata=self.metadata,
        )


def same(left: Entry | None, right: Entry | None) -> bool:
    """Whether two places hold the same object, or both none."""
    if left is right:
        return True
    return left is not None and right is not None and left.identity == right.identity


@dataclass(frozen=True, slots=True)
class DeleteError:
    """Why one path of a batch was not deleted."""

    path: str
    status: int
    message: str


@dataclass(frozen=True, slots=True)
class CommonPrefix:
    """A "directory" in a listing with a delimiter; `path` ends in the delimiter."""

    path: str


class DiffType(StrEnum):
    """What happened to a path, spelled as lakeFS spells it."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    CONFLICT = "conflict"
    PREFIX_CHANGED = "prefix_changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """One line of a diff. `size` is that of the right side, for removals that of the left (0 if uncommitted)."""

    path: str
    type: DiffType
    size: int = 0
    entry: Entry | None = None
    """What is there on the right side, for a removal between refs what was there on the left."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing. `next_offset` is the last item's name, `""` on the last page."""

    results: tuple[T, ...]
    next_offset: str

    @property
    def has_more(self) -> bool:
        return bool(self.next_offset)


@dataclass(frozen=True, slots=True)
class RepositoryInfo:
    """A repository as the server describes it. `created` is in seconds."""

    name: str
    storage_namespace: str
    default_branch: str
    created: int
    read_only: bool = False
    """Whether every write but a forced one is refused."""


@dataclass(frozen=True, slots=True)
class BranchInfo:
    """A branch and its head."""

    name: str
    commit_id: str
    hidden: bool


@dataclass(frozen=True, slots=True)
class TagInfo:
    """A tag and the commit that it names."""

    name: str
    commit_id: str


class Strategy(StrEnum):
    """Who wins where both sides changed one path, spelled as lakeFS spells it."""

    NONE = ""
    DEST_WINS = "dest-wins"
    SOURCE_WINS = "source-wins"


@dataclass(frozen=True, slots=True)
class MergeBase:
    """Three commit ids: what a merge would compare."""

    base: str
    source: str
    destination: str


@dataclass(frozen=True, slots=True)
class MergeEvent:
    """What a pre-merge hook sees (`reference/lakefs.md` 1.2)."""

    branch: str
    source: str
    """The source as typed."""
    commit: Commit
    """The merge commit in the making; `parents[0]` is the head of the target at merge time."""


@dataclass(frozen=True, slots=True)
class HookRun:
    """What one hook did in a run. `output` is its log, empty when it said nothing."""

    id: str
    action: str
    hook: str
    passed: bool
    output: str
    skipped: bool = False
    """Whether the model could not run it."""


@dataclass(frozen=True, slots=True)
class ActionRun:
    """One run of the actions that a merge set off; `at` is in seconds since the epoch."""

    id: str
    branch: str
    commit_id: str
    event: str
    at: int
    hooks: tuple[HookRun, ...]

    @property
    def passed(self) -> bool:
        return all(hook.passed for hook in self.hooks)
