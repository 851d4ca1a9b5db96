"""The values that the modeled server speaks: refusals, bytes of objects, entries, pages, hooks.

`perago.embedded.lakefs.store` turns these into the port's errors, `perago.embedded.http.lakefs` into HTTP answers.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import itertools
import secrets
import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Generic, TypeAlias, TypeVar

from perago.attempt.publication import EXPECTED_HEAD
from perago.ports import FENCE_MARKER, Commit, ObjectEntry


class LakeFSError(Exception):
    """A refusal. `status` is the HTTP status, `message` the text of the JSON body (`docs/dev/servers/lakefs.md`, "REST
    facts")."""

    status: int = 500
    usual = ""
    """The words unless others are given."""

    def __init__(self, message: str = "", status: int | None = None) -> None:
        self.message: str = message or self.usual
        super().__init__(self.message)
        self.status = self.status if status is None else status

    def within(self, context: str) -> LakeFSError:
        """Return the same refusal, with the words that an outer operation puts in front."""
        return type(self)(f"{context}: {self.message}", self.status)


class Missing(LakeFSError):
    """No such repository, branch, ref or object."""

    status = 404


class Invalid(LakeFSError):
    """An argument that the server does not accept."""

    status = 400


class ImpossibleName(Invalid):
    """The name is not allowed, so nothing can have it."""


class Forbidden(LakeFSError):
    """Deleting a default branch, or writing to a read-only repository."""

    status = 403


class ReadOnly(Forbidden):
    """A write to a read-only repository that is not forced."""

    usual = "read-only repository"


class Exists(LakeFSError):
    """The name is taken."""

    status = 409


class Conflict(LakeFSError):
    """Both sides of a merge changed one path, or a merge commit is reverted without a parent number."""

    status = 409


class NoChanges(LakeFSError):
    """Nothing to commit or to merge."""

    status = 400


class Dirty(LakeFSError):
    """The target of a merge, revert or cherry-pick has uncommitted changes."""

    status = 400
    usual = "uncommitted changes (dirty branch)"


class PathExists(LakeFSError):
    """An upload with `If-None-Match: *` on a path that is taken."""

    status = 412
    usual = "path already exists"


class HookAborted(LakeFSError):
    """A pre-merge hook refused the merge."""

    status = 412


class NotModelled(LakeFSError, NotImplementedError):
    """The model does not support this feature of lakeFS."""

    status = 501

    def __init__(self, call: str) -> None:
        super().__init__(f"{call} is not modelled; use a real lakeFS")
        self.call = call

    def within(self, context: str) -> LakeFSError:  # noqa: ARG002 - the call has been named already
        return self


class ActionNotRun(UserWarning):
    """A merge passed although its source holds an action file that the real server would run, and the model did not."""


class ServerDivergence(UserWarning):
    """The real server would lose or overwrite a file in this three-way merge; the model does not.

    lakeFS looks the base entry up by "next key", so a new file with the content of the next base key is mistaken for
    an unchanged one (`docs/dev/servers/lakefs.md`, "lakeFS's three-way merge"). A run that depends on such a merge
    behaves differently in production.
    """


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The key pair of an embedded lakeFS, and the token of the services next to it."""

    access_key_id: str
    secret_access_key: str = field(repr=False)

    @property
    def token(self) -> str:
        """The token of the embedded Conductor and the page: 32 hex digits that do not give the secret away."""
        return hmac.digest(self.secret_access_key.encode(), b"token", "sha256").hex()[:32]

    @property
    def basic(self) -> bytes:
        """Return the value of an HTTP Basic header."""
        return f"{self.access_key_id}:{self.secret_access_key}".encode()

    @property
    def login_token(self) -> str:
        """The token of a login at lakeFS. It does not give the secret away, and does not expire."""
        return hmac.digest(self.secret_access_key.encode(), b"login", "sha256").hex()

    @classmethod
    def random(cls) -> KeyPair:
        """Return a random key pair."""
        return cls(f"perago{secrets.token_hex(7)}", secrets.token_urlsafe(30))


SPOOL_THRESHOLD = 1024 * 1024
"""Objects above this many bytes go to disk."""

CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Blob:
    """Immutable bytes with their hex MD5. Without `data` and `path` they are in a block store that is not ours."""

    size: int
    checksum: str
    data: bytes | None = None
    path: Path | None = None

    @property
    def is_elsewhere(self) -> bool:
        """Whether the bytes cannot be read: an object was linked to an address of the block store."""
        return self.data is None and self.path is None

    def read(self) -> bytes:
        """Return the complete content, in memory."""
        with self.open() as source:
            return source.read()

    def open(self) -> BinaryIO:
        """Return a reader positioned at the start.

        Raises:
            LakeFSError: the bytes are elsewhere.
        """
        if self.is_elsewhere:
            raise LakeFSError("No data: this object was linked to an address, and the model has no block store", 410)
        return io.BytesIO(self.data or b"") if self.path is None else self.path.open("rb")

    def chunks(self, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield `length` bytes (default: the rest) from `start`, piece by piece."""
        left = self.size - start if length is None else length
        with self.open() as source:
            source.seek(start)
            while left > 0 and (piece := source.read(min(CHUNK, left))):
                left -= len(piece)
                yield piece

    def copy_to(self, target: BinaryIO) -> None:
        """Write the content to `target`."""
        if self.data is not None:
            target.write(self.data)
            return
        with self.open() as source:
            shutil.copyfileobj(source, target, CHUNK)


class BlobStore:
    """Makes blobs and owns the directory of the large ones."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._numbers = itertools.count()

    def of_bytes(self, data: bytes) -> Blob:
        """Return a blob of bytes in memory."""
        if len(data) > SPOOL_THRESHOLD:
            return self.of_stream(io.BytesIO(data))
        return Blob(len(data), hashlib.md5(data, usedforsecurity=False).hexdigest(), data=data)

    def of_file(self, path: Path) -> Blob:
        """Return a copy of a local file."""
        with path.open("rb") as source:
            return self.of_stream(source)

    def of_stream(self, source: BinaryIO) -> Blob:
        """Return a copy of everything that `source` still has."""
        with BlobSink(self) as sink:
            while piece := source.read(CHUNK):
                sink.write(piece)
            return sink.finish()

    def new_path(self) -> Path:
        """Return a fresh path in the private directory."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="perago-lakefs-"))
        return self._directory / str(next(self._numbers))

    def close(self) -> None:
        """Remove the private directory. Blobs on disk cannot be read afterwards."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None


class BlobSink:
    """Takes bytes piece by piece; `finish` gives the blob. Leaving the `with` block unfinished drops them."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._digest = hashlib.md5(usedforsecurity=False)
        self._size = 0
        self._pieces: list[bytes] = []
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._finished = False

    def __enter__(self) -> BlobSink:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._path is not None and not self._finished:
            self._path.unlink(missing_ok=True)

    @property
    def on_disk(self) -> bool:
        """Whether writing means waiting for the disk."""
        return self._file is not None

    def write(self, piece: bytes) -> None:
        """Append; moves to disk once the object has become large."""
        self._digest.update(piece)
        self._size += len(piece)
        if self._file is not None:
            self._file.write(piece)
            return
        self._pieces.append(piece)
        if self._size > SPOOL_THRESHOLD:
            self._path = self._store.new_path()
            self._file = self._path.open("wb")
            self._file.writelines(self._pieces)
            self._pieces.clear()

    def finish(self) -> Blob:
        """Return the blob of everything written."""
        self._finished = True
        if self._file is None:
            return Blob(self._size, self._digest.hexdigest(), data=b"".join(self._pieces))
        self._file.close()
        return Blob(self._size, self._digest.hexdigest(), path=self._path)


T = TypeVar("T")
U = TypeVar("U")

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
    """The identity of an object: size, MD5, user metadata, content type; neither path, time nor
    address (`docs/dev/servers/lakefs.md`, "Semantics")."""

    def __post_init__(self) -> None:
        identity = (self.blob.size, self.blob.checksum, frozenset(self.metadata.items()), self.content_type)
        object.__setattr__(self, "identity", identity)

    @property
    def is_directory_marker(self) -> bool:
        """Whether this is `x/` of size 0, which represents an empty directory."""
        return self.blob.size == 0 and self.path.endswith("/")

    def as_listed(self) -> ObjectEntry:
        """Return the port's view."""
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
    """The kind of a change of a path, spelled as lakeFS spells it."""

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
    """The entry on the right side, for a removal between refs the one on the left."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a listing. `next_offset` is the last item's name, `""` on the last page."""

    results: tuple[T, ...]
    next_offset: str

    @property
    def has_more(self) -> bool:
        return bool(self.next_offset)

    def each(self, describe: Callable[[T], U]) -> Page[U]:
        """Return the same page with what `describe` makes of its items."""
        return Page(tuple(map(describe, self.results)), self.next_offset)


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
    """The side that wins if both changed one path, in the spelling of lakeFS."""

    NONE = ""
    DEST_WINS = "dest-wins"
    SOURCE_WINS = "source-wins"


@dataclass(frozen=True, slots=True)
class MergeBase:
    """Three commit ids that a merge would compare."""

    base: str
    source: str
    destination: str


FENCE_NAME, FENCE_HOOK = "perago publish fence", "expected_head"
"""The names of perago's publish fence and of its hook, as the server's messages have them."""


def fence_refusal(commit: Commit) -> str | None:
    """Return the text with which perago's publish fence refuses a merge commit, or None to let the merge pass.

    A merge that names an expected head passes only on that head. One that names none passes, so that people can merge
    by hand.
    """
    expected, head = commit.metadata.get(EXPECTED_HEAD), commit.parents[0]
    return None if expected in (None, head) else f"{FENCE_MARKER}: head moved: expected {expected}, found {head}"


@dataclass(frozen=True, slots=True)
class HookRun:
    """The outcome of one hook in a run. `output` is its log, empty when it said nothing."""

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
    """Return the first `amount` of `items`; -1 and 0 mean the default of 100.

    Raises:
        Invalid: an amount outside -1..1000.
    """
    if not -1 <= amount <= MAX_AMOUNT:
        raise Invalid(f'parameter "amount" in query has an error: {amount} is not between -1 and {MAX_AMOUNT}')
    limit = amount if amount > 0 else DEFAULT_AMOUNT
    results: list[T] = []
    for item in items:
        if len(results) == limit:
            return Page(tuple(results), name(results[-1]))
        results.append(item)
    return Page(tuple(results), "")


def paths_from(paths: Sequence[str], prefix: str, start: str) -> Iterator[str]:
    """Yield the paths that start with `prefix` and do not come before `start`, from ordered `paths`."""
    for index in range(bisect_left(paths, max(prefix, start)), len(paths)):
        if not paths[index].startswith(prefix):
            return
        yield paths[index]


def fold(paths: Iterable[str], prefix: str, delimiter: str, after: str) -> Iterator[tuple[str, bool]]:
    """Yield paths, with everything after the next delimiter folded into one common prefix: (path, is a common prefix).

    The entry `after` is excluded. So an `after` inside a common prefix returns that prefix again, even if nothing else
    is inside (`docs/dev/servers/lakefs.md`, "List").
    """
    last = None
    for path in paths:
        cut = path.find(delimiter, len(prefix)) if delimiter else -1
        listed = path if cut < 0 else path[: cut + len(delimiter)]
        if listed not in (last, after):
            yield listed, cut >= 0
        last = listed
