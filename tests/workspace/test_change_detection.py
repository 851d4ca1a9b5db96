from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from perago.ports import Placement
from perago.workspace import changes as detecting
from perago.workspace.changes import Baseline, Changes, detect_changes, hash_files
from perago.workspace.scan import Descent, FileChanging, UnreadableFile, WorkspaceError, WorkspaceGone, scan_tree

from .building import download, entry, md5, write

FILES = {"a.csv": "aaa", "raw/b.csv": "bbb", "raw/c.csv": "ccc"}


@pytest.fixture
def baseline(tree: Path) -> Baseline:
    placements = download(tree, FILES)
    return Baseline.record(scan_tree(tree), placements, "")


def paths(changes: Changes) -> tuple[list[str], list[str], list[str]]:
    return (
        [file.path for file in changes.added],
        [file.path for file in changes.changed],
        [file.path for file in changes.removed],
    )


def test_an_untouched_tree_has_no_changes_and_no_file_is_read(tree: Path, baseline: Baseline) -> None:
    if any(file.stat is None for file in baseline.files.values()):
        pytest.skip("times prove nothing on this disk, so every file is read")
    scanned = scan_tree(tree)
    shutil.rmtree(tree)  # reading would fail now
    assert not detect_changes(baseline, scanned)


def test_added_changed_and_removed_files_are_distinguished(tree: Path, baseline: Baseline) -> None:
    write(tree, {"out/new.csv": "new", "a.csv": "longer than before"})
    (tree / "raw/b.csv").unlink()
    changes = detect_changes(baseline, scan_tree(tree))
    assert paths(changes) == (["out/new.csv"], ["a.csv"], ["raw/b.csv"])
    assert bool(changes)
    assert (changes.added[0].size, changes.added[0].checksum) == (3, md5("new"))
    assert (changes.changed[0].size, changes.changed[0].checksum) == (18, md5("longer than before"))
    assert (changes.removed[0].size, changes.removed[0].checksum) == (3, md5("bbb"))


def test_a_rewritten_object_keeps_its_metadata_and_a_new_one_has_none(tree: Path, baseline: Baseline) -> None:
    write(tree, {"new.csv": "1", "a.csv": "2"})
    changes = detect_changes(baseline, scan_tree(tree))
    assert (changes.changed[0].content_type, changes.changed[0].metadata) == ("text/csv", {"origin": "test"})
    assert (changes.added[0].content_type, changes.added[0].metadata) == (None, {})


def copy_over(file: Path) -> None:
    shutil.copy2(file, file.with_name("copy"))
    file.with_name("copy").replace(file)


SAME_BYTES: dict[str, Callable[[Path], object]] = {
    "touched": Path.touch,
    "another mode": lambda file: file.chmod(0o755),
    "rewritten": lambda file: file.write_text(file.read_text()),
    "copied over": copy_over,
}


@pytest.mark.parametrize("disturb", SAME_BYTES.values(), ids=SAME_BYTES)
def test_a_file_with_the_same_bytes_is_unchanged(
    tree: Path, baseline: Baseline, disturb: Callable[[Path], object]
) -> None:
    disturb(tree / "a.csv")
    assert not detect_changes(baseline, scan_tree(tree))


def rewrite_in_place(file: Path) -> None:
    with file.open("r+") as opened:
        opened.write("xxx")


def rewrite_and_restore_mtime(file: Path) -> None:
    status = file.stat()
    rewrite_in_place(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_and_restore_mtime(file: Path) -> None:
    status = file.stat()
    file.with_name("new").write_text("xxx")
    file.with_name("new").replace(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def write_through_a_map_that_was_read(file: Path) -> None:
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        mapped[:] = b"xxx" if mapped[:] == b"aaa" else b"???"


REWRITES = [rewrite_in_place, rewrite_and_restore_mtime, replace_and_restore_mtime, write_through_a_map_that_was_read]


@pytest.mark.parametrize("rewrite", REWRITES)
def test_other_bytes_of_the_same_size_are_a_change(
    tree: Path, baseline: Baseline, rewrite: Callable[[Path], None]
) -> None:
    rewrite(tree / "a.csv")
    assert paths(detect_changes(baseline, scan_tree(tree))) == ([], ["a.csv"], [])


@pytest.fixture
def memory_disk() -> Iterator[Path]:
    """A workspace on tmpfs, where a write through a memory map can leave every time as it was."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        pytest.skip("no tmpfs at hand")
    with tempfile.TemporaryDirectory(dir=shared) as directory:
        yield Path(directory)


@pytest.mark.parametrize("rewrite", REWRITES)
@pytest.mark.parametrize("checksum", [md5("aaa"), "opaque-1"])
def test_on_a_disk_with_unreliable_times_every_change_is_found(
    memory_disk: Path, rewrite: Callable[[Path], None], checksum: str
) -> None:
    (placement,) = download(memory_disk, {"a.csv": "aaa"})
    placement = replace(placement, entry=replace(placement.entry, checksum=checksum))
    baseline = Baseline.record(scan_tree(memory_disk), [placement], "")
    assert not detect_changes(baseline, scan_tree(memory_disk))
    rewrite(memory_disk / "a.csv")
    assert paths(detect_changes(baseline, scan_tree(memory_disk))) == ([], ["a.csv"], [])


def test_a_file_of_the_current_tick_of_the_disk_is_read(tree: Path) -> None:
    """On a disk whose clock has not advanced since the download, `shutil.copy2` over a file can leave its times."""
    placements, scanned = download(tree, FILES), scan_tree(tree)
    later = replace(scanned.files["a.csv"], ctime_ns=time.time_ns() + 10**10)
    scanned = replace(scanned, files={**scanned.files, "a.csv": later})
    baseline = Baseline.record(scanned, placements, "")
    with pytest.raises(FileChanging, match=r"'a\.csv' changed while"):  # since the doctored time is not on the disk
        detect_changes(baseline, scanned)


def test_without_a_listed_md5_only_a_touched_file_counts_as_changed(tree: Path) -> None:
    download(tree, {"a": "x", "b": "y"})
    placements = [Placement(entry(name, "x", checksum="0123-4"), tree / name) for name in ("a", "b")]
    baseline = Baseline.record(scan_tree(tree), placements, "")
    (tree / "a").touch()
    assert paths(detect_changes(baseline, scan_tree(tree))) == ([], ["a"], [])


def test_modes_and_empty_directories_are_no_changes(tree: Path, baseline: Baseline) -> None:
    (tree / "empty/deep").mkdir(parents=True)
    (tree / "raw").chmod(0o700)
    assert not detect_changes(baseline, scan_tree(tree))


def test_a_marker_stays_unless_a_file_replaces_its_directory(tree: Path) -> None:
    placements = [Placement(entry(key), None) for key in ("kept/", "gone/", "x/", "x/y/", "_lakefs_actions/")]
    baseline = Baseline.record(scan_tree(tree), placements, "")
    assert not detect_changes(baseline, scan_tree(tree))
    write(tree, {"x": "a file now", "_lakefs_actions": "a violation, but not of these rules"})
    assert paths(detect_changes(baseline, scan_tree(tree))) == (["_lakefs_actions", "x"], [], ["x/", "x/y/"])


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_an_incomplete_download_is_not_a_baseline(tree: Path, damage: str) -> None:
    placements = download(tree, FILES)
    (tree / "a.csv").unlink() if damage == "missing" else (tree / "a.csv").write_text("a")
    with pytest.raises(WorkspaceError, match=r"'a\.csv' missing or of another size"):
        Baseline.record(scan_tree(tree), placements, "")


def become(make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Return a function that makes something else in the place of a file."""

    def replace_file(file: Path) -> None:
        file.unlink()
        make(file)

    return replace_file


CHANGING: dict[str, Callable[[Path], object]] = {
    "vanishes": Path.unlink,
    "becomes a symlink": become(lambda file: file.symlink_to(file.with_name("raw"))),
    "becomes a FIFO": become(os.mkfifo),
    "becomes a directory": become(Path.mkdir),
    "grows": lambda file: file.write_text("grown"),
    "is rewritten": rewrite_in_place,
}


@pytest.mark.parametrize("meddle", CHANGING.values(), ids=CHANGING)
def test_a_file_that_changes_after_the_scan_is_an_error_of_its_own(
    tree: Path, meddle: Callable[[Path], object]
) -> None:
    write(tree, {"a.csv": "aaa"})
    scanned = scan_tree(tree)
    meddle(tree / "a.csv")
    with pytest.raises(FileChanging, match=r"'a\.csv' changed while"):
        detect_changes(Baseline({}), scanned)


def test_a_directory_that_becomes_a_link_after_the_scan_is_not_followed(tree: Path) -> None:
    write(tree, {"a/b.csv": "bbb"})
    scanned = scan_tree(tree)
    (tree / "a").rename(tree.with_name("outside"))
    (tree / "a").symlink_to(tree.with_name("outside"))
    with pytest.raises(FileChanging, match=r"'a/b\.csv' changed while"):
        detect_changes(Baseline({}), scanned)


def test_a_workspace_that_vanishes_after_the_scan_is_an_error_of_its_own(tree: Path) -> None:
    write(tree, {"a.csv": "aaa"})
    scanned = scan_tree(tree)
    shutil.rmtree(tree)
    with pytest.raises(WorkspaceGone):
        detect_changes(Baseline({}), scanned)


def test_a_new_file_that_cannot_be_read_is_named(ordinary_user: Path) -> None:
    write(ordinary_user, {"secret": "x"})
    (ordinary_user / "secret").chmod(0o000)
    with pytest.raises(UnreadableFile, match="'secret' cannot be read"):
        detect_changes(Baseline({}), scan_tree(ordinary_user))


def test_files_in_an_unreadable_directory_do_not_count_as_removed(ordinary_user: Path) -> None:
    placements = download(ordinary_user, FILES)
    baseline = Baseline.record(scan_tree(ordinary_user), placements, "")
    (ordinary_user / "raw").chmod(0o000)
    with pytest.raises(UnreadableFile, match=r"'raw' \(Permission denied\)"):
        detect_changes(baseline, scan_tree(ordinary_user))


def test_many_bytes_are_hashed_by_several_threads_with_the_same_result(tree: Path) -> None:
    texts = {f"{number}.bin": str(number) * 3_000_000 for number in range(4)}
    write(tree, texts)
    assert hash_files(tree, scan_tree(tree).files) == {path: md5(text) for path, text in texts.items()}


def test_an_error_ends_the_hashing_of_all_threads(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detecting, "_THREADED_BYTES", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    write(tree, {f"{number:03}": "x" for number in range(200)})
    scanned = scan_tree(tree)
    (tree / "000").unlink()
    looked_at = list[str]()

    def slow(descent: Descent, path: str) -> int:
        looked_at.append(path)
        time.sleep(0.01 if path != "000" else 0)
        return open_file(descent, path)

    open_file = Descent.open_file
    monkeypatch.setattr(Descent, "open_file", slow)
    with pytest.raises(FileChanging, match="'000'"):
        hash_files(tree, scanned.files)
    assert len(looked_at) < 100
