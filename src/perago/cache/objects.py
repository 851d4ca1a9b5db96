"""The directory of the cache: its objects with their seals, and its ledger.

The seal is made from the checksum of the verified bytes (XXH3-128) and the name of the entry, so that it also detects
an entry under the wrong name. It detects damage, not malice, because anyone who can write an entry can write its seal.

The ledger is only an aid: the bytes are counted again once an hour, and a malformed ledger counts as an empty one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import re
import secrets
import stat
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import xxhash

from perago.workspace.layout import FULL, RESERVE, free_space
from perago.workspace.scan import EXHAUSTED
from perago.workspace.sweep import CACHE, read_fields, write_fields

LEDGER = "ledger.json"
UNFINISHED = ".new-"
"""Prefix of the names of files that are not complete yet."""

_DISK_BLOCK = 4096
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class CacheUnusable(Exception):
    """The directory of the cache cannot be used. The message says why, and what to do."""


def open_directory(root: Path, *, make: bool) -> int:
    """Return a descriptor of the cache's directory below a workspace root.

    Args:
        root: the workspace root.
        make: create the directory if it is missing.

    Raises:
        FileNotFoundError: the directory does not exist and `make` is False, or the root does not exist.
        CacheUnusable: something else has its name, or other users have access to it.
        OSError: the disk refused.
    """
    path = root / CACHE
    if make:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
    try:
        directory = os.open(path, _OPEN)
    except NotADirectoryError as error:  # what a symlink is, too, when a directory is asked for
        raise CacheUnusable(
            f"{path} must be the cache's directory, but it is a file or a symlink. Delete it."
        ) from error
    try:
        _check_private(path, os.fstat(directory))
    except BaseException:
        os.close(directory)
        raise
    return directory


def on_disk(size: int) -> int:
    """Return the bytes that a file of `size` bytes takes on a disk: complete blocks."""
    return -(-size // _DISK_BLOCK) * _DISK_BLOCK


@contextlib.contextmanager
def opened_directory(root: Path) -> Iterator[int]:
    """Open the directory as `open_directory` does, and close it after the block."""
    directory = open_directory(root, make=False)
    try:
        yield directory
    finally:
        os.close(directory)


def _check_private(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() or mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CacheUnusable(
            f"Other users can use {path} (owner {status.st_uid}, mode {mode:04o}). Delete it; perago creates it "
            "again, with mode 0700."
        )


_SUFFIX = ".xxh3"
"""The name of an entry ends with it."""
SEAL_BYTES = 16


def seal_of(name: str, checksum: bytes) -> bytes:
    """Return the seal of an entry whose bytes have a checksum."""
    return xxhash.xxh3_128_digest(checksum + name.encode())


def can_be_sealed(status: os.stat_result, size: int) -> bool:
    """Whether a file is of the kind and size of an entry for an object of `size` bytes."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size == size + SEAL_BYTES > SEAL_BYTES


_LOCK_TIMEOUT = 1.0
"""Seconds to wait for the ledger. After that only a count is lost."""
_LOCK_RETRY_INTERVAL = 0.005
_LEDGER_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(slots=True)
class Ledger:
    """The counts of the cache, since it was last cleared."""

    size: int = 0
    """Bytes of the objects, as known from the last count and later changes."""
    hits: int = 0
    """Objects that an attempt got from the cache instead of from lakeFS."""
    hit_bytes: int = 0
    misses: int = 0
    counted: float = 0.0
    """The time of the last count of the bytes, in seconds since the epoch."""


@contextlib.contextmanager
def locked_ledger(directory: int) -> Iterator[Ledger]:
    """Lock the ledger during the block, and write it at the end.

    Raises:
        TimeoutError: another process has held it for too long, perhaps because it was stopped.
        OSError: the disk refused, or something else has its name.
    """
    file = os.open(LEDGER, _LEDGER_FLAGS, 0o600, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise FileExistsError(f"{LEDGER} is not a file")
        _lock(file)
        ledger = _parsed(read_fields(file))
        yield ledger
        write_fields(file, asdict(ledger))
    finally:
        os.close(file)


def _lock(file: int) -> None:
    """Take the lock, which a running process holds for microseconds."""
    given_up = time.monotonic() + _LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > given_up:
                raise TimeoutError(errno.ETIMEDOUT, "another process holds the ledger of the cache") from None
            time.sleep(_LOCK_RETRY_INTERVAL)
        else:
            return


def read_ledger(directory: int) -> Ledger:
    """Return the current ledger, or an empty one if it cannot be read."""
    try:
        file = os.open(LEDGER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return Ledger()
    try:
        return _parsed(read_fields(file))
    finally:
        os.close(file)


def _parsed(document: dict[str, Any] | None) -> Ledger:
    known = {field.name: (document or {}).get(field.name) for field in fields(Ledger)}
    if not all(isinstance(value, int | float) and value >= 0 for value in known.values()):
        return Ledger()
    return Ledger(**known)  # type: ignore[arg-type]


_FICLONE = 0x40049409
"""Linux' request to let two files share their blocks until one of them changes (`ioctl_ficlonerange(2)`)."""
_BLOCK = 1024 * 1024
"""Bytes of a read. With less, hashing during the copy is slower than a copy by the system."""
_MIN_CLONED_BYTES = 64 * 1024
"""The size in bytes up to which a copy is as fast as a clone that is read to verify it, measured on btrfs."""
_CANNOT_CLONE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM)

_without_clones: set[int] = set()
"""Devices that have refused to clone."""


def copy_bytes(source: int, destination: int, size: int, checksum: xxhash.xxh3_128 | None = None) -> int:
    """Copy the first `size` bytes of an open file into an empty one. Return the number of copied bytes.

    Args:
        source: open for reading.
        destination: open for writing, and for reading if there is a `checksum`.
        size: in bytes.
        checksum: updated with the bytes of the copy. The bytes of a clone are read from the clone.

    Raises:
        OSError: the disk refused.
    """
    if size > _MIN_CLONED_BYTES and _clone(source, destination):
        os.ftruncate(destination, min(size, os.fstat(destination).st_size))
        return os.fstat(destination).st_size if checksum is None else hash_bytes(destination, size, checksum)
    done = 0
    for block in _blocks(source, size):
        if checksum is not None:
            checksum.update(block)
        rest = block
        while rest:
            rest = rest[os.write(destination, rest) :]
        done += len(block)
    return done


def hash_bytes(file: int, size: int, checksum: xxhash.xxh3_128) -> int:
    """Update `checksum` with the first `size` bytes of an open file. Return the number of read bytes.

    Raises:
        OSError: the disk refused.
    """
    done = 0
    for block in _blocks(file, size):
        checksum.update(block)
        done += len(block)
    return done


def _clone(source: int, destination: int) -> bool:
    device = os.fstat(destination).st_dev
    if sys.platform != "linux" or device in _without_clones:
        return False
    try:
        fcntl.ioctl(destination, _FICLONE, source)
    except OSError as error:
        if error.errno not in _CANNOT_CLONE:
            raise
        _without_clones.add(device)
        return False
    return True


def _blocks(file: int, size: int) -> Iterator[memoryview]:
    """Read the first `size` bytes of an open file, all through one buffer."""
    buffer, done = memoryview(bytearray(min(_BLOCK, size))), 0
    while done < size and (count := os.preadv(file, [buffer[: size - done]], done)):
        yield buffer[:count]
        done += count


_MD5 = re.compile(r"[0-9a-f]{32}")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_ATIME_INTERVAL_NS = 600 * 1_000_000_000
"""Nanoseconds between two recorded uses of an entry."""


@dataclass(frozen=True, slots=True)
class ObjectCache:
    """The cache of one workspace root for the objects of one server. It opens no file by itself, and can be pickled."""

    root: Path
    max_bytes: int
    """The maximum size of all entries together, in bytes; 0 switches the cache off."""
    server: str = ""
    """The address of the lakeFS server, because equal names on two servers are two objects."""
    access_key: str = ""
    """The access key that reads the objects. Another key starts with an empty cache. `LakeFSStore` sets it."""

    def open(self, needed: int = 0) -> Shelf | None:
        """Return the cache for one transfer; None if it is off or cannot be used (`trim` raises the reason).

        Args:
            needed: bytes that the transfer itself needs on the same disk, in complete blocks (`on_disk`). The cache
                leaves them free.
        """
        if not self.max_bytes:
            return None
        try:
            return Shelf(self, needed)
        except (OSError, CacheUnusable):
            return None


@dataclass(frozen=True, slots=True)
class ObjectId:
    """The identity of an object. An object that is written again gets another address in lakeFS, or, if it was
    imported, another checksum."""

    address: str
    """The place of the bytes in the block store."""
    checksum: str
    size: int

    @property
    def can_be_checked(self) -> bool:
        """Whether the bytes can be compared with the checksum. Other objects are not cached."""
        return bool(self.address) and self.size > 0 and _MD5.fullmatch(self.checksum) is not None


class Shelf:
    """The open cache, a context manager. Several threads can call its methods. Problems of the cache do not make them
    fail."""

    def __init__(self, cache: ObjectCache, needed: int = 0) -> None:
        """Open the directory, and create it if it is missing. `needed` as in `ObjectCache.open`.

        Raises:
            CacheUnusable: it is not this user's own directory.
            OSError: the disk refused.
        """
        self._cache = cache
        self._directory = open_directory(cache.root, make=True)
        self._lock = threading.Lock()
        self._naming = threading.Lock()  # threads that wait for a directory in the kernel take a third longer
        self._numbers = itertools.count()
        self._token = secrets.token_hex(6)
        self._room = cache.max_bytes - read_ledger(self._directory).size
        self._needed = needed
        self._coming = 0
        """Bytes of the objects that are being added now."""
        self.hits: int = 0
        self.misses: int = 0
        self.damaged: int = 0
        """Numbers of hits, of misses, and of entries with damaged bytes."""
        self._hit_bytes = self._added = 0

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Record the transfer in the ledger."""
        try:
            if self.hits or self.misses or self._added:
                with contextlib.suppress(OSError), locked_ledger(self._directory) as ledger:
                    ledger.size = max(0, ledger.size + self._added)
                    ledger.hits += self.hits
                    ledger.hit_bytes += self._hit_bytes
                    ledger.misses += self.misses
        finally:
            os.close(self._directory)

    def holds(self, object_id: ObjectId) -> bool:
        """Whether an entry for the object exists. `copy_to` may still find that it is damaged."""
        try:
            os.stat(self._name(object_id), dir_fd=self._directory, follow_symlinks=False)
        except OSError:
            return False
        return True

    def copy_to(self, object_id: ObjectId, destination: int) -> bool:
        """Fill the empty open file `destination` with an object. Return False if there is no entry; the file is still
        empty then.

        Raises:
            OSError: the disk is full.
        """
        is_hit = object_id.can_be_checked and self._copy(object_id, self._name(object_id), destination)
        with self._lock:
            self.hits += is_hit
            self.misses += not is_hit
            self._hit_bytes += object_id.size if is_hit else 0
            self._needed -= on_disk(object_id.size) if is_hit else 0
        return is_hit

    def note_miss(self) -> None:
        """Count an object that was not requested because it has no entry (`holds`)."""
        with self._lock:
            self.misses += 1

    def add(self, object_id: ObjectId, source: int, checksum: bytes) -> None:
        """Add a copy of an object from the open file `source`, if there is room.

        Args:
            object_id: the object.
            source: a file with its bytes, open for reading.
            checksum: the XXH3-128 of the verified bytes. If the file has changed in the meantime, the next use detects
                that.
        """
        if (addition := self.begin(object_id.size, can_be_checked=object_id.can_be_checked)) is not None:
            addition.copy(source)
            addition.finish(object_id, checksum)

    def begin(self, size: int, *, can_be_checked: bool = True) -> Addition | None:
        """Begin to add an object of `size` bytes; None if there is no room for it, or it cannot be checked. The caller
        gives it the bytes, and then calls `finish` or `discard`."""
        with self._lock:
            self._needed -= on_disk(size)
        is_wanted = size > 0 and can_be_checked
        return Addition(self, size) if is_wanted and self._reserve(on_disk(size + SEAL_BYTES)) else None

    def _reserve(self, size: int) -> bool:
        with self._lock:
            claimed = max(0, self._needed) + self._coming + 2 * RESERVE
            if size > min(self._room, free_space(self._cache.root).size - claimed):
                return False
            self._coming += size
            self._room -= size
            self._added += size
            return True

    def _release(self, size: int, *, added: bool) -> None:
        with self._lock:
            self._coming -= size
            if not added:
                self._added -= size
                self._room += size

    def _name(self, object_id: ObjectId) -> str:
        cache = self._cache
        identity = "\0".join(
            (cache.server, cache.access_key, object_id.address, object_id.checksum, str(object_id.size))
        )
        return hashlib.blake2b(identity.encode(errors="surrogatepass"), digest_size=20).hexdigest() + _SUFFIX

    def _copy(self, object_id: ObjectId, name: str, destination: int) -> bool:
        try:
            source = os.open(name, _READ, dir_fd=self._directory)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in EXHAUSTED:
                self._drop(name, 0)
            return False
        try:
            if self._deliver(object_id, name, source, destination):
                return True
        except OSError as error:
            if error.errno in FULL:
                raise
        finally:
            os.close(source)
        os.ftruncate(destination, 0)
        os.lseek(destination, 0, os.SEEK_SET)
        self._drop(name, object_id.size + SEAL_BYTES)
        return False

    def _deliver(self, object_id: ObjectId, name: str, source: int, destination: int) -> bool:
        """Copy an entry and compare the checksum of the copied bytes with the entry's seal; False if they differ."""
        status, checksum = os.fstat(source), xxhash.xxh3_128()
        if not can_be_sealed(status, object_id.size):
            return False
        copy_bytes(source, destination, object_id.size, checksum)
        if os.pread(source, SEAL_BYTES, object_id.size) != seal_of(name, checksum.digest()):
            return False
        if (now := time.time_ns()) - status.st_atime_ns > _ATIME_INTERVAL_NS:
            os.utime(source, ns=(now, status.st_mtime_ns))
        return True

    def _drop(self, name: str, size: int) -> None:
        dropped = self._unlink(name)
        with self._lock:
            self.damaged += 1
            self._added -= on_disk(size) if dropped else 0

    def _unlink(self, name: str) -> bool:
        try:
            os.unlink(name, dir_fd=self._directory)
        except OSError:
            return False
        return True


class Addition:
    """An entry that is being written to the cache, by one thread. A problem of the disk ends it, and its caller need
    not know."""

    def __init__(self, shelf: Shelf, size: int) -> None:
        """`shelf` has reserved the room."""
        self._shelf = shelf
        self._size = size
        self._name = f"{UNFINISHED}{shelf._token}-{next(shelf._numbers)}"
        self._file: int | None = None
        self._is_shared = False
        try:
            with shelf._naming:
                self._file = os.open(self._name, _WRITE, 0o600, dir_fd=shelf._directory)
            with contextlib.suppress(OSError):  # not every disk can lock
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until it is closed: see `_is_abandoned`
        except OSError:
            self._give_up()

    def share(self, source: int) -> None:
        """Share the blocks of an open file that has all the bytes, if the disk can do that. Then `write` does
        nothing."""
        if self._file is not None and self._size > _MIN_CLONED_BYTES:
            with contextlib.suppress(OSError):
                self._is_shared = _clone(source, self._file)

    def copy(self, source: int) -> None:
        """Copy all the bytes from an open file."""
        try:
            if self._file is not None:
                copy_bytes(source, self._file, self._size)
        except OSError:
            self._give_up()

    def write(self, block: memoryview) -> None:
        """Write the next bytes."""
        try:
            while self._file is not None and block and not self._is_shared:
                block = block[os.write(self._file, block) :]
        except OSError:
            self._give_up()

    def finish(self, object_id: ObjectId, checksum: bytes) -> None:
        """Make it the entry of the object `object_id`, whose bytes have this XXH3-128."""
        shelf, name = self._shelf, self._shelf._name(object_id)
        try:
            if self._file is None or not object_id.can_be_checked or os.fstat(self._file).st_size != self._size:
                return self.discard()
            os.pwrite(self._file, seal_of(name, checksum), self._size)
            self._close()
            with shelf._naming:
                os.rename(self._name, name, src_dir_fd=shelf._directory, dst_dir_fd=shelf._directory)
        except OSError:
            return self._give_up()
        return self._end(added=True)

    def discard(self) -> None:
        """End it without an entry, unless it has ended."""
        if self._file is not None:
            self._end(added=False)

    def _give_up(self) -> None:
        self._end(added=False)
        with self._shelf._lock:  # whatever is wrong with the disk, no attempt should meet it a thousand times
            self._shelf._room = -self._shelf._cache.max_bytes  # what others give back does not make room again

    def _end(self, *, added: bool) -> None:
        with contextlib.suppress(OSError):
            self._close()
        if not added:
            self._shelf._unlink(self._name)
        self._shelf._release(on_disk(self._size + SEAL_BYTES), added=added)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)  # a network disk may report only now that it is full
