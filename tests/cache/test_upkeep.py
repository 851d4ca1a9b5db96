"""The cache keeps to its limit, gives way, and is left alone by sweeps."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from perago.cache import (
    CacheUnusable,
    ObjectCache,
    Usage,
    Verified,
    clear,
    default_limit,
    give_room,
    trim,
    upkeep,
    usage,
    verify,
)
from perago.cache import objects as ledger
from perago.cache.objects import LEDGER, SEAL_BYTES, locked_ledger, opened_directory
from perago.workspace.directory import sweep
from perago.workspace.layout import FreeSpace, free_space

from .shelves import PLENTY, entries, flip_a_bit, get, put

BLOCK = 4096


@pytest.fixture
def cache(tmp_path: Path) -> ObjectCache:
    return ObjectCache(tmp_path, PLENTY)


def fill(cache: ObjectCache, number: int) -> list[bytes]:
    """Put objects that take a block each into the cache, the first one used longest ago."""
    contents = [bytes([65 + position]) * (BLOCK - SEAL_BYTES) for position in range(number)]
    for position, content in enumerate(contents):
        before = set(entries(cache)) if position else set()
        put(cache, content, f"s3://bucket/{position}")
        (new,) = set(entries(cache)) - before
        status = new.stat()
        os.utime(new, ns=(status.st_atime_ns - (number - position) * 3_600_000_000_000, status.st_mtime_ns))
    return contents


def held(cache: ObjectCache, contents: list[bytes]) -> list[int]:
    """Which of the objects are still there."""
    return [
        position
        for position, content in enumerate(contents)
        if get(cache, content, f"s3://bucket/{position}") is not None
    ]


def test_the_least_recently_used_entries_are_removed(cache: ObjectCache) -> None:
    contents = fill(cache, 10)
    get(cache, contents[0], "s3://bucket/0")

    assert trim(cache.root, 100 * BLOCK) == 0, "nothing goes below the limit"
    assert trim(cache.root, 5 * BLOCK) == 6
    assert held(cache, contents) == [0, 7, 8, 9]


def test_objects_that_are_added_during_a_clean_up_are_counted(
    cache: ObjectCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the cache would exceed its limit until all entries are checked again, an hour later."""
    fill(cache, 10)
    unlink = upkeep._unlink

    def unlink_and_add(name: str, directory: int) -> None:
        unlink(name, directory)
        put(cache, bytes(BLOCK - SEAL_BYTES), f"s3://bucket/after/{name}")

    monkeypatch.setattr(upkeep, "_unlink", unlink_and_add)
    assert trim(cache.root, 5 * BLOCK) == 6
    monkeypatch.undo()
    assert usage(cache.root).entries == 10
    assert trim(cache.root, 5 * BLOCK) == 6


def test_entries_are_not_checked_each_minute(cache: ObjectCache, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cache, 3)
    trim(cache.root, PLENTY)
    monkeypatch.setattr(upkeep, "_entries", None)

    assert trim(cache.root, PLENTY) == 0


def test_a_wrong_ledger_is_put_right_within_an_hour(cache: ObjectCache) -> None:
    fill(cache, 3)
    with opened_directory(cache.root) as directory, locked_ledger(directory) as ledger:
        ledger.size, ledger.counted = 7, time.time() - 4000

    trim(cache.root, PLENTY)
    with opened_directory(cache.root) as directory, locked_ledger(directory) as ledger:
        assert ledger.size == 3 * BLOCK


@pytest.mark.parametrize("text", ["", "{", "[]", '{"size": -1}', '{"size": "many"}', "null"])
def test_a_malformed_ledger_counts_as_empty(cache: ObjectCache, text: str) -> None:
    contents = fill(cache, 3)
    (cache.root / ".cache" / LEDGER).write_text(text)

    assert usage(cache.root) == Usage(entries=3, size=3 * BLOCK)
    assert held(cache, contents) == [0, 1, 2]
    assert usage(cache.root).hits == 3


def test_a_stopped_process_with_the_ledger_blocks_no_other_process(
    cache: ObjectCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = fill(cache, 3)
    monkeypatch.setattr(ledger, "_LOCK_TIMEOUT", 0.05)
    before = usage(cache.root).hits
    with (cache.root / ".cache" / LEDGER).open("rb") as held_by_another:
        fcntl.flock(held_by_another, fcntl.LOCK_EX)
        assert held(cache, contents) == [0, 1, 2]
        assert trim(cache.root, BLOCK) == 3
    assert usage(cache.root) == Usage(entries=0, hits=before)


def test_it_gives_way_on_a_disk_that_is_nearly_full(cache: ObjectCache, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = fill(cache, 10)
    monkeypatch.setattr(upkeep, "_LOW_WATER", free_space(cache.root).size + 10**9)

    trim(cache.root, PLENTY)
    assert held(cache, contents) == []


def test_it_gives_an_attempt_the_space_that_it_needs(cache: ObjectCache) -> None:
    contents = fill(cache, 10)

    assert give_room(cache.root, 2 * BLOCK - 1)
    assert held(cache, contents) == list(range(2, 10))
    assert give_room(cache.root, 11 * BLOCK)
    assert held(cache, contents) == []
    assert not give_room(cache.root, 1)


def test_unfinished_files_are_removed_unless_they_are_being_written(cache: ObjectCache) -> None:
    fill(cache, 1)
    with cache.open() as shelf:  # type: ignore[union-attr]
        written = shelf.begin(4)
        (file,) = (cache.root / ".cache").glob(".new-*")
        for age in (10, 100):
            file.with_name(f".new-{age}").touch()
            os.utime(file.with_name(f".new-{age}"), (time.time() - age,) * 2)
        os.utime(file, (time.time() - 4000,) * 2)  # a clone is as old as its upload

        trim(cache.root, PLENTY)
        assert {path.name for path in entries(cache) if path.name.startswith(".new")} == {".new-10", file.name}
        assert written is not None
        written.discard()


def test_verifying_deletes_only_damaged_entries(cache: ObjectCache) -> None:
    contents = fill(cache, 5)
    without_checksum = cache.root / ".cache" / ("0" * 40)
    without_checksum.write_bytes(b"some bytes")
    for damaged in (entries(cache)[2], entries(cache)[4]):
        flip_a_bit(damaged, BLOCK - 1)
    names = [entries(cache)[2].name, entries(cache)[4].name, without_checksum.name]

    assert verify(cache.root) == Verified(3, tuple(sorted(names)))
    assert usage(cache.root).size == 3 * BLOCK
    assert len(held(cache, contents)) == 3
    assert verify(cache.root) == Verified(3, ())


def test_a_root_without_a_cache_has_an_empty_one(tmp_path: Path) -> None:
    assert usage(tmp_path / "missing") == clear(tmp_path) == Usage()
    assert verify(tmp_path) == Verified()
    assert trim(tmp_path, PLENTY) == 0
    assert not give_room(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_the_default_limit_is_a_tenth_of_the_space_without_the_cache(
    cache: ObjectCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, 10)
    monkeypatch.setattr(upkeep, "free_space", lambda _: FreeSpace(90 * BLOCK, BLOCK, None))

    assert default_limit(cache.root) == 10 * BLOCK


def test_upkeep_reports_obstacles(tmp_path: Path) -> None:
    (tmp_path / ".cache").touch()

    with pytest.raises(CacheUnusable, match="is a file or a symlink"):
        trim(tmp_path, PLENTY)


def test_sweeps_leave_it_alone(cache: ObjectCache) -> None:
    contents = fill(cache, 2)
    odd = cache.root / ".cache" / "task" / "id" / "retry=0,poll=1,start=2"
    odd.mkdir(parents=True)

    assert sweep(cache.root) == ()
    assert odd.exists()
    assert held(cache, contents) == [0, 1]
