"""The port `WorkspaceStore` on the model: results, errors, transfer, faults and conveniences."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perago import ports
from perago.attempt.publication import FENCE_PATH
from perago.embedded.faults import FaultScript
from perago.embedded.lakefs import InMemoryLakeFS, objects
from perago.embedded.lakefs.values import SPOOL_THRESHOLD
from perago.ports import MergeRefusal, Placement, VirtualClock, WorkspaceStore
from perago.workspace.scan import FileChanging

from ..transfers import download, to_upload

_: type[WorkspaceStore] = InMemoryLakeFS


def test_branches_and_differences_are_complete_for_any_number_of_pages(store: InMemoryLakeFS) -> None:
    names = tuple(f"staging-{number:04}" for number in range(1001))
    for name in names:
        store.create_branch("repo", name, "main")
    assert store.list_branches("repo", "staging-") == names
    before = store.get_commit("repo", "main").id
    keys = [f"many/{number:04}" for number in range(1001)]
    after = store.seed("repo", "main", dict.fromkeys(keys, "x")).id
    assert len(store.diff("repo", before, after)) == 1001
    store.delete_objects("repo", "main", keys)
    assert store.tree("repo", "main") == {}


# ----------------------------------------------------------------------- errors


def test_the_refusal_of_another_hook_is_that_of_a_hook(clock: VirtualClock) -> None:
    with InMemoryLakeFS(clock) as store:
        store.server.fence = lambda _: "main needs an approval"
        store.seed("repo", "main", {FENCE_PATH: "theirs"})
        store.create_branch("repo", "staging", store.get_commit("repo", "main").id)
        objects.put_object(store.server.repository("repo"), "staging", "a", b"x")
        staged = store.commit("repo", "staging", "staged", {}).id
        with pytest.raises(ports.MergeRefused) as caught:
            store.merge("repo", staged, "main", "m", {})
    assert caught.value.reason is MergeRefusal.HOOK


# --------------------------------------------------------------------- transfer


def test_a_downloaded_file_is_complete_and_leaves_no_temporary_file(store: InMemoryLakeFS, tmp_path: Path) -> None:
    large = os.urandom(SPOOL_THRESHOLD + 10)
    commit = store.seed("repo", "main", {"a/b/small": "hi", "large": large, "left out": "x"})
    root = tmp_path / "workspace"
    progress: list[tuple[int, int]] = []
    entries = store.list_objects("repo", commit.id, "")
    placements = [Placement(entry, None if entry.key == "left out" else root / entry.key) for entry in entries]
    store.download("repo", commit.id, root, placements, lambda *done: progress.append(done))
    assert (root / "large").read_bytes() == large
    assert (root / "a/b/small").read_text() == "hi"
    assert (root / "a/b/small").stat().st_mtime == 1_000_000
    umask = os.umask(0)
    os.umask(umask)
    assert (root / "large").stat().st_mode & 0o777 == 0o666 & ~umask
    assert progress == [(1, 2), (2, 2 + len(large))]
    assert list(tmp_path.iterdir()) == [root]
    assert sorted(path.name for path in root.iterdir()) == ["a", "large"]


def test_a_disk_that_refuses_is_an_os_error(store: InMemoryLakeFS, tmp_path: Path) -> None:
    commit = store.seed("repo", "main", {"a/b": "x"})
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "a").write_text("in the way")
    with pytest.raises(OSError, match="a"):
        download(store, "repo", commit.id, tmp_path / "workspace")


def test_an_object_is_a_snapshot_of_the_file(store: InMemoryLakeFS, tmp_path: Path) -> None:
    content = os.urandom(SPOOL_THRESHOLD + 1)
    upload = to_upload(tmp_path / "a", content)
    store.upload("repo", "main", [upload])
    (tmp_path / "a").write_bytes(b"changed later")
    assert store.tree("repo", "main")["a"] == content


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (b"other!", ports.CorruptTransfer, "changed while it was being published"),
        (b"longer than it was", FileChanging, "changed its size from 6 to 18 bytes between the scan"),
        (None, FileChanging, "vanished between the scan of the workspace and its upload"),
    ],
    ids=["same size", "other size", "gone"],
)
def test_a_file_that_changed_before_it_was_sent_is_refused(
    store: InMemoryLakeFS, tmp_path: Path, content: bytes | None, error: type[Exception], text: str
) -> None:
    upload = to_upload(tmp_path / "a", b"before")
    (tmp_path / "a").unlink()
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    with pytest.raises(error, match=text):
        store.upload("repo", "main", [upload])
    assert store.tree("repo", "main") == {}


def test_a_look_for_uncommitted_changes_meets_its_faults(store: InMemoryLakeFS, faults: FaultScript) -> None:
    faults.before("has_uncommitted_changes", error=ports.Unavailable)
    with pytest.raises(ports.Unavailable):
        store.has_uncommitted_changes("repo", "main")


# ----------------------------------------------------------------- conveniences


def test_a_seed_makes_repository_and_branch_and_skips_empty_directories(clock: VirtualClock) -> None:
    with InMemoryLakeFS(clock) as store:
        commit = store.seed("fresh", "trunk", {"a": "text", "b": b"bytes", "empty": None})
        assert store.tree("fresh", "trunk") == {"a": b"text", "b": b"bytes"}
        assert store.get_commit("fresh", "trunk") == commit
        store.seed("fresh", "other", {"c": "x"})
        assert sorted(store.tree("fresh", "other")) == ["a", "b", "c"]
        assert sorted(store.tree("fresh", "trunk")) == ["a", "b"]


def test_a_directory_is_seeded_and_exported_byte_by_byte(store: InMemoryLakeFS, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep" / "empty").mkdir(parents=True)
    (source / "deep" / "file").write_bytes(b"\x00\xff")
    commit = store.seed("repo", "main", source)
    store.export("repo", commit.id, tmp_path / "target")
    assert [path.relative_to(tmp_path / "target").as_posix() for path in (tmp_path / "target").rglob("*")] == [
        "deep",
        "deep/file",
    ]
    assert (tmp_path / "target/deep/file").read_bytes() == b"\x00\xff"


def test_a_tree_is_not_taken_from_a_missing_directory(store: InMemoryLakeFS, tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="is not a directory"):
        store.seed("repo", "main", tmp_path / "nope")


def test_a_directory_marker_becomes_a_directory(store: InMemoryLakeFS, tmp_path: Path) -> None:
    commit = store.seed("repo", "main", {"x/": "", "y/z/": ""})
    store.export("repo", commit.id, tmp_path / "export")
    download(store, "repo", commit.id, tmp_path / "workspace")
    for target in (tmp_path / "export", tmp_path / "workspace"):
        assert sorted(path.relative_to(target).as_posix() for path in target.rglob("*")) == ["x", "y", "y/z"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("key", ["../out", "/abs", "a//b", "a/./b", "x/", "nul\x00"])
def test_an_export_stays_below_its_target(store: InMemoryLakeFS, tmp_path: Path, key: str) -> None:
    store.seed("repo", "main", {key: "x"})
    with pytest.raises(ValueError, match="cannot become a file"):
        store.export("repo", "main", tmp_path / "target")


def test_close_removes_spooled_files(clock: VirtualClock) -> None:
    with InMemoryLakeFS(clock) as store:
        store.seed("repo", "main", {"a": os.urandom(SPOOL_THRESHOLD + 1)})
        path = objects.stat_object(store.server.repository("repo"), "main", "a").blob.path
        assert path is not None
        assert path.exists()
    assert not path.exists()
