"""What comes out of the cache is exactly what went in, whatever happened to its files."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import xxhash

from perago.cache import ObjectCache, objects, usage
from perago.cache.objects import SEAL_BYTES, ObjectId, copy_bytes
from perago.workspace.layout import RESERVE, FreeSpace

from .shelves import PLENTY, entries, flip_a_bit, full_disk, get, object_of, only_entry, put

CONTENT = b"a table\n" * 1000
CHECKSUM = xxhash.xxh3_128_digest(CONTENT)


WAYS = ["copies", "clones"]


def clone(source: int, destination: int) -> bool:
    """Do what a disk that shares blocks does: the destination has all that the source has, in one step."""
    os.pwrite(destination, os.pread(source, 10**8, 0), 0)
    return True


def share_blocks(monkeypatch: pytest.MonkeyPatch, clone: Callable[[int, int], bool]) -> None:
    """Clone files of every size, on every disk."""
    monkeypatch.setattr(objects, "_clone", clone)
    monkeypatch.setattr(objects, "_MIN_CLONED_BYTES", 0)


@pytest.fixture
def cache(tmp_path: Path) -> ObjectCache:
    return ObjectCache(tmp_path, PLENTY, "http://lakefs")


@pytest.mark.parametrize(
    "other",
    [
        ObjectCache(Path(), PLENTY, "http://another-lakefs"),
        ObjectCache(Path(), PLENTY, "http://lakefs", "another key"),
        object_of(CONTENT, "s3://bucket/data/2"),
        object_of(CONTENT[:-1] + b"!"),
        object_of(CONTENT[:-1]),
    ],
    ids=["server", "access key", "address", "checksum", "size"],
)
def test_a_hit_needs_everything_to_be_the_same(
    cache: ObjectCache, other: ObjectCache | ObjectId, tmp_path: Path
) -> None:
    put(cache, CONTENT)
    asked = replace(other, root=tmp_path) if isinstance(other, ObjectCache) else cache
    object_id = other if isinstance(other, ObjectId) else object_of(CONTENT)

    with (tmp_path / "target").open("w+b") as file, asked.open() as shelf:  # type: ignore[union-attr]
        assert not shelf.copy_to(object_id, file.fileno())


@pytest.mark.parametrize("checksum", ["0" * 31, "d41d8cd98f00b204e9800998ecf8427e-3", ""])
def test_unverifiable_objects_are_not_cached(cache: ObjectCache, checksum: str) -> None:
    source = cache.root / "source"
    source.write_bytes(CONTENT)

    with source.open("rb") as file, cache.open() as shelf:  # type: ignore[union-attr]
        shelf.add(ObjectId("s3://bucket/data/1", checksum, len(CONTENT)), file.fileno(), CHECKSUM)

    assert entries(cache) == []


def test_a_workspace_shares_no_file_with_the_cache(cache: ObjectCache, tmp_path: Path) -> None:
    put(cache, CONTENT)
    get(cache, CONTENT)

    entry = only_entry(cache).stat()
    assert entry.st_nlink == 1
    assert entry.st_ino != (tmp_path / "target").stat().st_ino
    (tmp_path / "target").write_bytes(b"changed by the function")
    assert get(cache, CONTENT) == CONTENT


def test_others_may_not_look_into_it(cache: ObjectCache) -> None:
    put(cache, CONTENT)

    assert stat.S_IMODE((cache.root / ".cache").stat().st_mode) == 0o700
    assert stat.S_IMODE(only_entry(cache).stat().st_mode) == 0o600


def _overwrite(entry: Path) -> None:
    with entry.open("r+b") as file:
        file.write(b"another")


def _replace(entry: Path) -> None:
    entry.unlink()
    entry.write_bytes(CONTENT.upper())


def _make_link(entry: Path) -> None:
    outside = entry.parents[1] / "outside"
    entry.rename(outside)
    entry.symlink_to(outside)


def _hard_link(entry: Path) -> None:
    os.link(entry, entry.parents[1] / "outside")


def _make_fifo(entry: Path) -> None:
    entry.unlink()
    os.mkfifo(entry)


def _swap(entry: Path) -> None:
    """Give the entry the content of another one, as a repair of the file system may do."""
    cache = ObjectCache(entry.parents[1], PLENTY, "http://lakefs")
    put(cache, CONTENT.upper(), "s3://bucket/data/2")
    (other,) = set(entries(cache)) - {entry}
    other.replace(entry)


def _tear(entry: Path) -> None:
    """Empty the last blocks, as a power loss does. Size and times stay."""
    status = entry.stat()
    entry.write_bytes(entry.read_bytes()[:4096] + bytes(entry.stat().st_size - 4096))
    os.utime(entry, ns=(status.st_atime_ns, status.st_mtime_ns))


DAMAGES = {
    "a bit flipped": flip_a_bit,
    "the last bit flipped": lambda entry: flip_a_bit(entry, len(CONTENT) - 1),
    "its checksum flipped": lambda entry: flip_a_bit(entry, len(CONTENT)),
    "torn": _tear,
    "that of another object": _swap,
    "without a checksum": lambda entry: os.truncate(entry, len(CONTENT)),
    "truncated": lambda entry: os.truncate(entry, 100),
    "emptied": lambda entry: os.truncate(entry, 0),
    "longer": lambda entry: os.truncate(entry, len(CONTENT) + SEAL_BYTES + 1),
    "overwritten": _overwrite,
    "replaced": _replace,
    "a symlink": _make_link,
    "linked elsewhere": _hard_link,
    "a FIFO": _make_fifo,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_entry_is_dropped_and_never_delivered(
    cache: ObjectCache, damage: Callable[[Path], object], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "clones":
        share_blocks(monkeypatch, clone)
    put(cache, CONTENT)
    assert get(cache, CONTENT) == CONTENT
    damage(only_entry(cache))

    assert get(cache, CONTENT) is None
    assert entries(cache) == []
    put(cache, CONTENT)
    assert get(cache, CONTENT) == CONTENT


def test_a_clone_is_verified_not_its_source(cache: ObjectCache, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache, CONTENT)

    def clone_damaged(source: int, destination: int) -> bool:
        clone(source, destination)
        return os.pwrite(destination, b"!", 5) == 1

    share_blocks(monkeypatch, clone_damaged)
    assert get(cache, CONTENT) is None


def test_a_directory_in_the_place_of_an_entry_is_a_miss(cache: ObjectCache) -> None:
    put(cache, CONTENT)
    entry = only_entry(cache)
    entry.unlink()
    (entry / "below").mkdir(parents=True)

    assert get(cache, CONTENT) is None
    put(cache, CONTENT)
    assert get(cache, CONTENT) is None


def test_an_entry_that_cannot_be_read_is_a_miss(cache: ObjectCache, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache, CONTENT)

    def broken_disk(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(objects, "copy_bytes", broken_disk)
        assert get(cache, CONTENT) is None
    assert entries(cache) == []


def test_bytes_that_changed_after_their_verification_are_not_delivered(cache: ObjectCache) -> None:
    put(cache, CONTENT, held=CONTENT.upper())

    assert get(cache, CONTENT) is None


def test_a_full_disk_is_not_a_failure_of_the_attempt(cache: ObjectCache, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(objects, "copy_bytes", full_disk)
        put(cache, CONTENT)
    assert entries(cache) == []
    assert usage(cache.root).size == 0


def test_a_full_disk_at_the_end_of_an_addition_fails_no_attempt(
    cache: ObjectCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = os.close

    def full(file: int) -> None:
        is_entry = os.fstat(file).st_size == len(CONTENT) + SEAL_BYTES
        close(file)
        if is_entry:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", full)
        put(cache, CONTENT)
    assert entries(cache) == []
    assert usage(cache.root).size == 0


def test_the_cache_takes_no_space_that_the_transfer_needs(cache: ObjectCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three objects of two blocks are to be brought, and the disk has room for four of them."""
    size = 8192
    free = [2 * RESERVE + 4 * size]
    monkeypatch.setattr(objects, "free_space", lambda _: FreeSpace(free[0], 4096, None))
    source = cache.root / "source"
    content = bytes(size - SEAL_BYTES)
    source.write_bytes(content)
    with source.open("rb") as file, cache.open(needed=3 * size) as shelf:  # type: ignore[union-attr]
        for number in range(3):
            free[0] -= size  # the workspace's own file
            before = len(entries(cache))
            shelf.add(object_of(content, f"s3://bucket/{number}"), file.fileno(), xxhash.xxh3_128_digest(content))
            free[0] -= size * (len(entries(cache)) - before)
    assert len(entries(cache)) == 1


def test_a_source_that_is_too_short_is_not_kept(cache: ObjectCache) -> None:
    put(cache, CONTENT, held=CONTENT[:-1])

    assert entries(cache) == []


def test_nothing_is_added_beyond_the_limit(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path, 20_000)
    for number in range(4):
        put(cache, CONTENT, f"s3://bucket/{number}")

    assert len(entries(cache)) == 2
    assert usage(tmp_path).size == 2 * 8192


def test_two_concurrent_writers_leave_one_complete_entry(cache: ObjectCache) -> None:
    content = os.urandom(500_000)
    source = cache.root / "source"
    source.write_bytes(content)
    start = threading.Barrier(8)

    def add() -> None:
        with source.open("rb") as file, cache.open() as shelf:  # type: ignore[union-attr]
            start.wait(30)
            for _ in range(20):
                shelf.add(object_of(content), file.fileno(), xxhash.xxh3_128_digest(content))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert only_entry(cache).stat().st_size == len(content) + SEAL_BYTES
    assert get(cache, content) == content


def _link_directory(root: Path) -> None:
    (root / "elsewhere").mkdir()
    (root / ".cache").symlink_to(root / "elsewhere")


@pytest.mark.parametrize(
    "make",
    [_link_directory, lambda root: (root / ".cache").touch(), lambda root: (root / ".cache").mkdir(0o755)],
    ids=["a symlink", "a file", "readable by others"],
)
def test_a_directory_of_another_owner_is_not_used(cache: ObjectCache, make: Callable[[Path], object]) -> None:
    os.umask(os.umask(0o022) & 0o022)
    make(cache.root)

    assert cache.open() is None


def test_it_is_off_where_it_may_hold_nothing(tmp_path: Path) -> None:
    assert ObjectCache(tmp_path, 0).open() is None
    assert not (tmp_path / ".cache").exists()


@pytest.mark.parametrize("way", WAYS)
def test_copies_are_complete(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "clones":
        share_blocks(monkeypatch, clone)
    content = os.urandom(3_000_001)
    (tmp_path / "from").write_bytes(content + b"behind it")
    checksum = xxhash.xxh3_128()

    with (tmp_path / "from").open("rb") as source, (tmp_path / "to").open("w+b") as target:
        assert copy_bytes(source.fileno(), target.fileno(), len(content), checksum) == len(content)
    assert (tmp_path / "to").read_bytes() == content
    assert checksum.digest() == xxhash.xxh3_128_digest(content)
