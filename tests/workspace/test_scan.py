from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perago.workspace.changes import Baseline, detect_changes, hash_files
from perago.workspace.directory import AttemptDirectory
from perago.workspace.scan import Irregular, IrregularKind, Unreadable, UnreadableFile, WorkspaceGone, scan_tree
from tests.deliveries import make_delivery as delivery

from .building import deepen, no_more_files, write

linux_names = pytest.mark.skipif(sys.platform != "linux", reason="this disk refuses names that are not UTF-8")


def test_files_and_directories_are_found_with_their_stat(tree: Path) -> None:
    write(tree, {"b/c.csv": "abc", "a.csv": "", ".hidden/x": "1"})
    (tree / "empty").mkdir()
    scanned = scan_tree(tree)
    assert list(scanned.files) == [".hidden/x", "a.csv", "b/c.csv"]
    assert scanned.directories == (".hidden", "b", "empty")
    status = (tree / "b/c.csv").stat()
    file = scanned.files["b/c.csv"]
    assert (file.size, file.mtime_ns, file.ctime_ns, file.inode) == (
        3,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
    )


@pytest.mark.parametrize("target", ["inside.csv", "../outside.csv", "/", "missing", "loop", ".", "sub"])
def test_a_symlink_is_reported_and_never_followed(tree: Path, target: str) -> None:
    write(tree, {"inside.csv": "1", "sub/x": "1"})
    write(tree.parent, {"outside.csv": "1"})
    (tree / "loop").symlink_to(target)
    scanned = scan_tree(tree)
    assert scanned.irregular == (Irregular("loop", IrregularKind.SYMLINK),)
    assert list(scanned.files) == ["inside.csv", "sub/x"]
    assert scanned.directories == ("sub",)


def test_a_fifo_and_a_socket_are_reported_without_waiting_for_them(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tree / "pipe")
    monkeypatch.chdir(tree)  # the path of a socket may be short only
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("plug")
    assert scan_tree(tree).irregular == (Irregular("pipe", IrregularKind.FIFO), Irregular("plug", IrregularKind.SOCKET))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_is_reported(tree: Path) -> None:
    try:
        os.mknod(tree / "null", 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container makes no devices")
    assert scan_tree(tree).irregular == (Irregular("null", IrregularKind.DEVICE),)


@linux_names
def test_names_that_are_not_utf8_can_be_no_keys_and_are_reported(tree: Path) -> None:
    Path(os.fsdecode(os.fsencode(tree) + b"/caf\xe9.csv")).touch()
    below = Path(os.fsdecode(os.fsencode(tree) + b"/\xff"))
    below.mkdir()
    (below / "x").touch()
    scanned = scan_tree(tree)
    assert scanned.irregular == (
        Irregular("caf\udce9.csv", IrregularKind.NOT_UTF8),
        Irregular("\udcff", IrregularKind.NOT_UTF8),
    )
    assert not scanned.files


def test_names_are_taken_byte_by_byte(tree: Path) -> None:
    write(tree, {"\u00e9": "1"})
    assert list(scan_tree(tree).files) == ["\u00e9"]
    if sys.platform == "linux":
        write(tree, {"e\u0301": "1"})
        assert list(scan_tree(tree).files) == ["e\u0301", "\u00e9"]


def test_a_tree_deeper_than_any_path_and_any_recursion_is_scanned(tree: Path) -> None:
    deepen(tree, 1100, "deep")
    scanned = scan_tree(tree)
    assert list(scanned.files) == ["deep/" * 1100 + "last"]
    assert len(scanned.directories) == 1100
    assert not scanned.unreadable


def test_siblings_at_every_level_of_a_deep_tree_are_found(tree: Path) -> None:
    deepen(tree, 300, "long-name-" * 20)
    deepen(tree, 200)
    descriptor = os.open(tree, os.O_RDONLY)
    for _ in range(200):
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
        os.mkdir("sibling", dir_fd=descriptor)
        os.close(os.open("sibling/x", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor))
    os.close(descriptor)
    assert len(scan_tree(tree).files) == 202


def test_a_deep_tree_needs_few_descriptors_and_leaves_none_open(tree: Path) -> None:
    deepen(tree, 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = open_descriptors()
    highest = max(int(entry.name) for entry in Path("/dev/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 100, hard))
    try:
        assert len(scan_tree(tree).directories) == 1000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert open_descriptors() == before


def open_descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_a_directory_that_may_not_be_looked_into_is_reported(ordinary_user: Path) -> None:
    write(ordinary_user, {"open/a": "1", "closed/b": "1", "listed/c": "1"})
    (ordinary_user / "closed").chmod(0o000)
    (ordinary_user / "listed").chmod(0o400)  # names can be read, nothing else
    scanned = scan_tree(ordinary_user)
    assert list(scanned.files) == ["open/a"]
    assert [(entry.path, entry.reason) for entry in scanned.unreadable] == [
        ("closed", "Permission denied"),
        ("listed/c", "Permission denied"),
    ]


def test_an_unreadable_file_is_still_seen(ordinary_user: Path) -> None:
    write(ordinary_user, {"a": "1"})
    (ordinary_user / "a").chmod(0o000)
    assert list(scan_tree(ordinary_user).files) == ["a"]


def replace_by_file(root: Path) -> None:
    root.rmdir()
    root.touch()


def replace_by_symlink(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))
    root.symlink_to(root.with_name("elsewhere"))


GONE: dict[str, Callable[[Path], object]] = {
    "was deleted": Path.rmdir,
    "not a directory": replace_by_file,
    "replaced by a symlink": replace_by_symlink,
}


@pytest.mark.parametrize(("message", "vandalize"), GONE.items(), ids=GONE)
def test_a_workspace_that_is_no_longer_a_directory_is_reported(
    tree: Path, vandalize: Callable[[Path], object], message: str
) -> None:
    vandalize(tree)
    with pytest.raises(WorkspaceGone, match=message) as error:
        scan_tree(tree)
    assert str(tree) in str(error.value)


def make_again(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def put_another_in_its_place(root: Path) -> None:
    shutil.rmtree(root)
    other = root.with_name("other")
    other.mkdir()
    other.rename(root)


def make_the_parent_again(root: Path) -> None:
    shutil.rmtree(root.parent)
    root.mkdir(parents=True)


def mount_over(root: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "none", root], check=False, timeout=60, capture_output=True).returncode:
        pytest.skip("this container mounts nothing")


@pytest.mark.parametrize("vandalize", [make_again, put_another_in_its_place, make_the_parent_again, mount_over])
def test_a_workspace_that_is_another_directory_now_is_not_scanned(
    tmp_path: Path, vandalize: Callable[[Path], None]
) -> None:
    """The inode is still in use, so the file system cannot give it to the new directory."""
    attempt = AttemptDirectory.create(tmp_path, delivery())
    write(attempt.workspace, {"a": "1", "b": "2"})
    try:
        assert list(scan_tree(attempt.workspace, attempt.held).files) == ["a", "b"]
        vandalize(attempt.workspace)
        with pytest.raises(WorkspaceGone, match="was replaced by another directory"):
            scan_tree(attempt.workspace, attempt.held)
    finally:
        subprocess.run(["umount", "-q", attempt.workspace], check=False, timeout=60, capture_output=True)
        attempt.remove()


class Interruption:
    """Runs an action when the scan has listed a directory and has not looked at its entries yet."""

    def __init__(self, patch: pytest.MonkeyPatch, count: int, action: Callable[[], object]) -> None:
        self._scandir, self._left, self._action = os.scandir, count, action
        patch.setattr(os, "scandir", self)

    def __call__(self, directory: int) -> contextlib.AbstractContextManager[list[os.DirEntry[str]]]:
        with self._scandir(directory) as scanned:
            entries = list(scanned)
        self._left -= 1
        if not self._left:
            self._action()
        return contextlib.nullcontext(entries)


def test_a_workspace_that_is_replaced_during_the_scan_is_noticed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tree, {"sub/a": "1"})
    Interruption(monkeypatch, 2, lambda: tree.rename(tree.with_name("aside")))
    with pytest.raises(WorkspaceGone, match="was deleted"):
        scan_tree(tree)


def test_entries_that_vanish_during_the_scan_are_reported(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tree, {"a": "1", "b": "2"})
    (tree / "sub").mkdir()

    def remove_both() -> None:
        (tree / "a").unlink()
        (tree / "sub").rmdir()

    Interruption(monkeypatch, 1, remove_both)
    scanned = scan_tree(tree)
    vanished = "it vanished during the scan"
    assert scanned.unreadable == (Unreadable("a", vanished), Unreadable("sub", vanished))
    with pytest.raises(UnreadableFile, match="'a'"):
        detect_changes(Baseline({}), scanned)


def test_a_directory_that_is_removed_while_it_is_open_is_reported(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "sub").mkdir()
    Interruption(monkeypatch, 2, (tree / "sub").rmdir)
    assert scan_tree(tree).unreadable == (Unreadable("sub", "it vanished during the scan"),)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_too_many_open_files_are_not_taken_for_a_defect_of_the_workspace(tree: Path, left: int) -> None:
    write(tree, {"sub/a.csv": "1"})
    files = scan_tree(tree).files
    with no_more_files(but=left), pytest.raises(OSError, match="Too many open files"):
        scan_tree(tree)
    with no_more_files(but=min(left, 1)), pytest.raises(OSError, match="Too many open files"):
        hash_files(tree, files)
