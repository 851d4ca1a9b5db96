from __future__ import annotations

import errno
import json
import os
import re
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from perago.workspace.directory import AttemptDirectory, DirectoryRefused, check_root, directory_name, sweep
from perago.workspace.sweep import MARKER, UNFINISHED, DeadDirectory, dead_directories, read_fields, remove_dead
from tests.deliveries import make_delivery as delivery

from .building import deepen, write


@pytest.fixture
def root(tree: Path) -> Path:
    """A workspace root that does not exist yet."""
    return tree / "root"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_directory_is_private_and_its_path_names_the_delivery(root: Path) -> None:
    made = AttemptDirectory.create(root, delivery())
    assert re.fullmatch("task-1-[0-9a-f]{15}", made.path.name)
    assert made.path.parent == root
    assert made.workspace == made.path / "workspace"
    assert {entry.name for entry in made.path.iterdir()} == {MARKER, "workspace", "cwd", "tmp"}
    assert made.temporary == made.path / "tmp"
    for path in (made.workspace, made.current, made.temporary, made.path, root):
        assert mode(path) == 0o700
    fields = json.loads((made.path / MARKER).read_text())
    assert (fields["task_id"], fields["poll_count"]) == ("task-1", 1)
    assert mode(made.path / MARKER) == 0o600
    made.close()
    without = AttemptDirectory.create(root, delivery(poll_count=2), workspace=False)
    assert not without.workspace.exists()
    without.close()


def test_a_relative_root_still_holds_after_the_function_changed_directory(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    made = AttemptDirectory.create(Path("root"), delivery())
    monkeypatch.chdir("/")
    assert made.remove() is None
    assert list((tree / "root").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 60_000])
def test_a_malformed_marker_is_not_a_marker(tmp_path: Path, content: bytes) -> None:
    marker = tmp_path / MARKER
    marker.write_bytes(content)
    with marker.open("rb") as file:
        assert read_fields(file.fileno()) is None


HOSTILE = ["", ".", "..", "../../etc", "/etc", "a/b", "a\\b", "a\0b", "a\nb", "a\udcff", "x" * 256]


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
@pytest.mark.parametrize("which", ["workflow_id", "task_name", "task_id"])
def test_a_hostile_id_is_refused_for_good_and_nothing_is_written(root: Path, which: str, name: str) -> None:
    with pytest.raises(DirectoryRefused, match=which.replace("_", " ")) as error:
        AttemptDirectory.create(root, delivery(**{which: name}))
    assert not error.value.retryable
    str(error.value).encode()
    assert not root.exists()


@pytest.mark.parametrize("kind", ["symlink", "file"])
def test_nothing_below_the_root_is_followed(root: Path, tree: Path, kind: str) -> None:
    (tree / "outside").mkdir()
    planted = root / directory_name(delivery())
    root.mkdir()
    planted.symlink_to(tree / "outside") if kind == "symlink" else planted.touch()
    with pytest.raises(DirectoryRefused, match="symlink or a file"):
        AttemptDirectory.create(root, delivery())
    assert list((tree / "outside").iterdir()) == []


def test_the_root_itself_may_be_a_symlink(root: Path, tree: Path) -> None:
    (tree / "real").mkdir()
    root.symlink_to("real")
    made = AttemptDirectory.create(root, delivery())
    assert (tree / "real" / made.path.name).is_dir()
    assert made.remove() is None


def test_a_living_owner_of_the_same_delivery_is_left_in_peace(root: Path) -> None:
    first = AttemptDirectory.create(root, delivery())
    write(first.workspace, {"a": "1"})
    with pytest.raises(DirectoryRefused, match="in use") as error:
        AttemptDirectory.create(root, delivery())
    assert error.value.retryable
    assert (first.workspace / "a").exists()
    first.close()


def test_the_directory_of_a_dead_owner_of_the_same_delivery_is_never_used(root: Path) -> None:
    dead = AttemptDirectory.create(root, delivery())
    write(dead.workspace, {"old": "1"})
    dead.close()
    made = AttemptDirectory.create(root, delivery())
    assert list(made.workspace.iterdir()) == []
    assert sweep(root) == ()
    made.close()


def test_files_that_are_not_ours_are_neither_used_nor_deleted(root: Path) -> None:
    made = AttemptDirectory.create(root, delivery())
    assert made.remove() is None
    write(made.path, {"precious": "1"})
    with pytest.raises(DirectoryRefused, match="'precious'"):
        AttemptDirectory.create(root, delivery())
    assert (made.path / "precious").read_text() == "1"
    assert sweep(root) == ()


def test_removal_spares_siblings(root: Path) -> None:
    removed = AttemptDirectory.create(root, delivery())
    other = AttemptDirectory.create(root, delivery(task_id="task-2"))
    assert removed.remove() is None
    assert not removed.path.exists()
    assert other.workspace.is_dir()
    assert other.remove() is None
    assert list(root.iterdir()) == []
    assert other.remove() is None


def test_removal_copes_with_everything_that_a_function_may_leave(root: Path, tree: Path) -> None:
    write(tree, {"outside/precious": "1"})
    made = AttemptDirectory.create(root, delivery())
    deepen(made.workspace, 1100, "deep")  # beyond the longest path and the recursion limit
    write(made.workspace, {"locked/inner/a": "1", "plain/b": "1"})
    (made.workspace / "link").symlink_to(tree / "outside")
    (made.workspace / "plain/b").chmod(0)
    os.mkfifo(made.workspace / "pipe")
    if sys.platform == "linux":
        (made.workspace / os.fsdecode(b"\xff")).mkdir()
    (made.workspace / "locked/inner").chmod(0)
    (made.workspace / "locked").chmod(0)
    assert made.remove() is None
    assert list(root.iterdir()) == []
    assert (tree / "outside/precious").exists()


def test_an_ordinary_user_can_remove_read_only_directories(ordinary_user: Path) -> None:
    made = AttemptDirectory.create(ordinary_user / "root", delivery())
    write(made.workspace, {"a/b/c": "1", "d/e": "1"})
    for path, permissions in (("a/b/c", 0), ("a/b", 0o500), ("a", 0), ("d", 0o400), (".", 0o100), ("..", 0o500)):
        (made.workspace / path).chmod(permissions)
    assert made.remove() is None
    assert list((ordinary_user / "root").iterdir()) == []


@pytest.mark.parametrize("victim", ["workspace", "marker", "all"])
def test_removal_accepts_missing_entries(root: Path, victim: str) -> None:
    made = AttemptDirectory.create(root, delivery())
    path = {"workspace": made.workspace, "marker": made.path / MARKER, "all": root}[victim]
    subprocess.run(["rm", "-rf", "--", path], check=True, timeout=60)
    if victim == "all":
        assert made.remove() is not None
    else:
        assert made.remove() is None
        assert list(root.iterdir()) == []


def test_a_failed_removal_is_a_text_and_the_next_sweep_finishes_it(root: Path, tree: Path) -> None:
    made = AttemptDirectory.create(root, delivery())
    write(made.workspace, {"a": "1"})
    made.path.rename(tree / "aside")
    made.path.symlink_to(tree / "aside")
    problem = made.remove()
    assert problem is not None
    assert made.path.name in problem
    assert (tree / "aside/workspace/a").exists()
    made.path.unlink()
    (tree / "aside").rename(made.path)
    assert sweep(root) == (made.path,)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes what another user cannot delete")
def test_the_marker_goes_last_so_a_half_done_removal_can_be_finished(ordinary_user: Path) -> None:
    made = AttemptDirectory.create(ordinary_user / "root", delivery())
    user = os.geteuid()
    os.seteuid(0)
    write(made.workspace, {"stubborn/a": "1", "b": "1"})
    os.seteuid(user)
    problem = made.remove()
    assert problem is not None
    assert "stubborn/a': Permission denied" in problem
    assert not (made.workspace / "b").exists()
    assert json.loads((made.path / MARKER).read_text())
    assert sweep(ordinary_user / "root") == ()
    os.seteuid(0)
    (made.workspace / "stubborn/a").unlink()
    os.seteuid(user)
    assert sweep(ordinary_user / "root") == (made.path,)


def test_a_sweep_only_removes_directories_of_dead_owners(root: Path) -> None:
    dead = AttemptDirectory.create(root, delivery(workflow_id="dead"))
    write(dead.workspace, {"a/b": "1"})
    dead.close()
    alive = AttemptDirectory.create(root, delivery(workflow_id="alive"))
    write(root, {"garbage": "1", "x/y/z/retry=0,poll=0,start=0/file": "1", "x/y/z/other/.perago-attempt.json": "{}"})
    write(root, {"one/two/three/four/five/.perago-attempt.json": "{}"})
    (root / "link").symlink_to("x")
    (root / "x/y/z/retry=1,poll=0,start=0").mkdir()
    (root / "x/y/z/retry=1,poll=0,start=0" / MARKER).mkdir()
    before = {path for path in root.rglob("*") if dead.path not in (path, *path.parents)}
    assert sweep(root) == (dead.path,)
    assert set(root.rglob("*")) == before
    alive.close()


def test_a_sweep_removes_unfinished_directories_and_needs_no_root(root: Path) -> None:
    assert sweep(root) == ()
    assert list(dead_directories(root)) == []
    (root / directory_name(delivery())).mkdir(parents=True)
    (root / f"{UNFINISHED}0123").touch()
    assert sweep(root) == ()
    assert list(root.iterdir()) == []


def test_a_disk_that_breaks_after_the_marker_leaves_nothing_that_is_held(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: str, **_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", broken)
        with pytest.raises(OSError, match="Input/output error"):
            AttemptDirectory.create(root, delivery())
    sweep(root)
    assert list(root.iterdir()) == []


def test_dead_directories_are_listed_with_size_and_time_and_unchanged(root: Path, tree: Path) -> None:
    dead = AttemptDirectory.create(root, delivery(workflow_id="dead"))
    write(dead.workspace, {"a/b": "12345", "c": "1"})
    (dead.workspace / "link").symlink_to(tree)
    deepen(dead.workspace, 300, "a-name-that-makes-the-path-longer-than-any-system-allows")
    marker = (dead.path / MARKER).stat()
    dead.close()
    os.utime(dead.path / MARKER, (1_700_000_000, 1_700_000_000))
    alive = AttemptDirectory.create(root, delivery(workflow_id="alive"))

    (listed,) = dead_directories(root)
    assert listed == DeadDirectory(dead.path, marker.st_size + 6, 1_700_000_000)
    assert (dead.workspace / "a/b").read_text() == "12345"
    assert list(dead_directories(root)) == [listed], "the marker is let go of again"
    alive.close()


def test_a_listed_directory_is_removed_unless_a_process_holds_it(root: Path) -> None:
    dead = AttemptDirectory.create(root, delivery())
    assert "by now" in str(remove_dead(root, dead.path))
    dead.close()
    assert remove_dead(root, dead.path) is None
    assert list(root.iterdir()) == []
    assert remove_dead(root, dead.path) is None, "one that is gone is fine"


OWNER = """
import json, sys
from pathlib import Path
from perago.ports import Delivery
from perago.workspace.directory import AttemptDirectory
made = AttemptDirectory.create(Path(sys.argv[1]), Delivery(**json.loads(sys.argv[2])))
(made.workspace / "a").touch()
print(made.path, flush=True)
sys.stdin.read()
"""


def test_the_kernel_shows_that_an_owner_was_killed(root: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(root), json.dumps(asdict(delivery()))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        path = Path(owner.stdout.readline().strip())
        assert sweep(root) == ()
        owner.kill()
        owner.wait(timeout=30)
    assert sweep(root) == (path,)


def test_a_program_started_by_the_function_does_not_hold_the_lock(root: Path) -> None:
    made = AttemptDirectory.create(root, delivery())
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False):
        made.close()
        assert sweep(root) == (made.path,)


def test_makers_removers_and_sweepers_do_not_get_in_each_others_way(root: Path) -> None:
    """Every attempt keeps its workspace from creation to removal, while several sweeps never stop."""
    done = threading.Event()

    def live(number: int) -> None:
        for turn in range(25):
            made = AttemptDirectory.create(root, delivery(task_id=f"task-{number % 3}", poll_count=number * 100 + turn))
            (made.workspace / "mine").write_text("x")
            assert [path.name for path in made.workspace.iterdir()] == ["mine"]
            assert made.remove() is None

    def keep_sweeping() -> int:
        swept = 0
        while not done.is_set():
            swept += len(sweep(root))
        return swept

    with ThreadPoolExecutor(8) as pool:
        sweepers = [pool.submit(keep_sweeping) for _ in range(2)]
        try:
            for running in [pool.submit(live, number) for number in range(6)]:
                running.result(timeout=120)
        finally:
            done.set()
        assert [running.result(timeout=60) for running in sweepers] == [0, 0]
    assert sweep(root) == ()
    assert list(root.iterdir()) == []


def test_two_concurrent_sweeps_share_the_work(root: Path) -> None:
    paths = set()
    for number in range(30):
        dead = AttemptDirectory.create(root, delivery(task_id=f"task-{number}"))
        write(dead.workspace, dict.fromkeys(("a/b", "c"), "1"))
        paths.add(dead.path)
        dead.close()
    with ThreadPoolExecutor(3) as pool:
        swept = [path for result in pool.map(sweep, [root] * 3) for path in result]
    assert sorted(swept) == sorted(paths)
    assert list(root.iterdir()) == []


def test_the_problem_of_an_unusable_root_is_reported_and_refused(root: Path, tree: Path) -> None:
    assert check_root(root) == check_root(tree) == []
    assert not root.exists()
    write(tree, {"file": "1"})
    (tree / "dangling").symlink_to("nowhere")
    (tree / "open").mkdir()
    (tree / "open").chmod(0o777)
    for name, message in (
        ("file", "not a directory"),
        ("file/below", "Not a directory"),
        ("dangling", "symlink to a path that does not exist"),
        ("open", "written by everybody"),
    ):
        (problem,) = check_root(tree / name)
        assert message in problem
        with pytest.raises(DirectoryRefused, match=message) as error:
            AttemptDirectory.create(tree / name, delivery())
        assert error.value.retryable


def test_a_safe_root_is_checked_again_when_it_can_have_changed(tree: Path) -> None:
    root = tree / "way/root"
    AttemptDirectory.create(root, delivery(), workspace=False).remove()
    (tree / "way").chmod(0o777)
    root.rename(tree / "way/former")
    root.mkdir(mode=0o700)
    (problem,) = check_root(root)
    assert f"{root.parent} can be written by everybody" in problem


def test_a_root_that_this_user_may_not_write_is_unusable(ordinary_user: Path) -> None:
    (ordinary_user / "read-only").mkdir(mode=0o500)
    (problem,) = check_root(ordinary_user / "read-only")
    assert "not writable" in problem
    (problem,) = check_root(ordinary_user / "read-only/new")
    assert "cannot be created" in problem


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")
def test_a_root_of_another_user_is_unusable(tree: Path) -> None:
    os.chown(tree, 65534, 65534)
    (problem,) = check_root(tree)
    assert "belongs to user 65534" in problem
