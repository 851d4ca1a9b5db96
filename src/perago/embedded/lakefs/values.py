"""The values that the modelled server speaks, and pages of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeAlias, TypeVar

from perago.embedded.lakefs.blobs import Blob
from perago.embedded.lakefs.errors import Invalid
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
    address (`docs/servers/lakefs.md` 3)."""

    def __post_init__(self) -> None:
        identity = (self.blob.size, self.blob.checksum, frozenset(self.metadata.items()), self.content_type)
        object.__setattr__(self, "identity", identity)

    @property
    def is_directory_marker(self) -> bool:
        """Whether this is `x/` of size 0, which stands for an empty directory (docs/design/contract.md 7)."""
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
            physical_address=self.address,
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
class Reference:
    """A branch or a tag, and the commit that it points at. Hidden branches are listed on request only."""

    name: str
    commit_id: str
    hidden: bool = False


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
    """What a pre-merge hook sees (`docs/servers/lakefs.md` 1.2)."""

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


DEFAULT_AMOUNT = 100
MAX_AMOUNT = 1000


def page_of(items: Iterable[T], name: Callable[[T], str], amount: int) -> Page[T]:
    """The first `amount` of `items`; -1 and 0 mean the default of 100.

    Raises:
        Invalid: an amount outside -1..1000.
    """
    if not -1 <= amount <= MAX_AMOUNT:
        raise Invalid(f'parameter "amount" in query has an error: {amount} is not between -1 and {MAX_AMOUNT}')
    wanted = amount if amount > 0 else DEFAULT_AMOUNT
    results: list[T] = []
    for item in items:
        if len(results) == wanted:
            return Page(tuple(results), name(results[-1]))
        results.append(item)
    return Page(tuple(results), "")


def paths_from(paths: Sequence[str], prefix: str, start: str) -> Iterator[str]:
    """The paths that start with `prefix` and do not come before `start`, from ordered `paths`."""
    for index in range(bisect_left(paths, max(prefix, start)), len(paths)):
        if not paths[index].startswith(prefix):
            return
        yield paths[index]


def fold(paths: Iterable[str], prefix: str, delimiter: str, after: str) -> Iterator[tuple[str, bool]]:
    """Paths with everything beyond the next delimiter folded into one common prefix: (path, is a common prefix).

    What is listed as `after` is left out. That is why an `after` inside a common prefix returns that prefix again, even
    where nothing else is inside (`docs/servers/lakefs.md` 2, List).
    """
    last = None
    for path in paths:
        cut = path.find(delimiter, len(prefix)) if delimiter else -1
        listed = path if cut < 0 else path[: cut + len(delimiter)]
        if listed not in (last, after):
            yield listed, cut >= 0
        last = listed
