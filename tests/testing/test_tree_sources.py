"""Trees from mappings, directories, zips and guardrails, and what is refused."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from perago.testing import BadTree, Symlink, TreeBuilder, tree_files, tree_of

from .tasks_for_runner import copy, count


def zip_with(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def test_a_mapping_is_taken_as_it_is() -> None:
    tree = {"a/b.txt": "text", "c.bin": b"\0", "empty": None, "link": Symlink("c.bin")}
    assert tree_of(tree) == tree


def test_a_directory_is_read_with_its_empty_directories(tmp_path: Path) -> None:
    (tmp_path / "raw" / "deep").mkdir(parents=True)
    (tmp_path / "raw" / "a.csv").write_bytes(b"1")
    assert tree_of(tmp_path) == tree_of(str(tmp_path)) == {"raw/a.csv": b"1", "raw/deep": None}


def test_a_zip_is_read_without_touching_the_disk(tmp_path: Path) -> None:
    path = zip_with(tmp_path / "tree.zip", ("raw/", b""), ("raw/a.csv", b"1"), ("empty/", b""))
    assert tree_of(path) == {"raw": None, "raw/a.csv": b"1", "empty": None}
    assert list(tmp_path.iterdir()) == [path]


def test_a_task_gives_the_smallest_tree_that_it_accepts() -> None:
    assert tree_of(copy) == {"raw/a.csv": ""}
    assert tree_of(count) == {}


def test_later_sources_win() -> None:
    assert tree_of(copy, {"raw/a.csv": "1", "b": "2"}, {"b": "3"}) == {"raw/a.csv": "1", "b": "3"}


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../x", "a//b", "", ".", "./a", "a/", "nul\0", "\udc80", "a" * 1025]
)
def test_a_path_that_leaves_the_tree_or_is_not_a_name_is_refused(path: str) -> None:
    with pytest.raises(BadTree):
        tree_of({path: "x"})


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../x", "a/../../x", "a//b", "..\\x", "C:/x", "C:x", "a/./b", "bell\a", "new\nline", "//server/x"],
)
def test_a_hostile_name_invalidates_the_complete_zip(tmp_path: Path, name: str) -> None:
    path = zip_with(tmp_path / "tree.zip", ("fine.txt", b""), (name, b"x"))
    with pytest.raises(BadTree, match=r"tree\.zip"):
        tree_of(path)


def linked(path: Path) -> Path:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zip_with(path, (link, b"/etc/passwd"))


def changed(path: Path, before: bytes, after: bytes, name: str = "a") -> Path:
    zip_with(path, (name, b"original"))
    path.write_bytes(path.read_bytes().replace(before, after))
    return path


def encrypted(path: Path) -> Path:
    content = bytearray(zip_with(path, ("a", b"1")).read_bytes())
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + 8, 0x1)
    path.write_bytes(content)
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


REFUSED_ZIPS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a name that zipfile cuts": (
        lambda path: changed(path, b"fineX", b"fine\0", "fineXhidden"),
        "no file can have this",
    ),
    "a symlink": (linked, "it is a link"),
    "a name twice": (lambda path: zip_with(path, ("a", b"1"), ("a", b"2")), "it occurs twice"),
    "encrypted": (encrypted, "it is encrypted"),
    "empty": (lambda path: written(path, b""), "cannot be read as a zip"),
    "not a zip": (lambda path: written(path, b"no zip"), "cannot be read as a zip"),
    "a broken zip": (lambda path: written(path, b"PK\x03\x04 broken"), "cannot be read as a zip"),
    "damaged bytes": (lambda path: changed(path, b"original", b"0riginal"), "cannot be read as a zip"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("make", "words"), REFUSED_ZIPS.values(), ids=REFUSED_ZIPS)
def test_a_zip_with_anything_wrong_is_refused(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    with pytest.raises(BadTree, match=words):
        tree_of(make(tmp_path / "tree.zip"))


def test_a_zip_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_files, "MAX_ZIP_BYTES", 10)
    with pytest.raises(BadTree, match="holds 11 bytes, but at most 10 are unpacked"):
        tree_of(zip_with(tmp_path / "tree.zip", ("a", b"123456"), ("b", b"12345")))


def test_a_file_cannot_be_a_directory_too() -> None:
    with pytest.raises(BadTree):
        tree_of({"a": "1"}, {"a/b": "2"})


def test_a_link_in_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(BadTree, match="'link' is a link"):
        tree_of(tmp_path)


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadTree, match="is neither a directory nor a zip"):
        tree_of(tmp_path / "missing")


def test_something_else_is_not_a_source() -> None:
    with pytest.raises(TypeError, match="not int"):
        tree_of(3)  # type: ignore[arg-type]


def test_a_builder_builds_several_trees_and_removes_all() -> None:
    with TreeBuilder() as build:
        first, second = build({"a": "1"}), build({"a": "2"})
        assert [(path / "a").read_text() for path in (first, second)] == ["1", "2"]
        assert build.mapping(copy) == {"raw/a.csv": ""}
    assert not first.exists()
    assert not second.exists()
