"""Snapshots under parallel workers, parallel runs, killed runs and directories that refuse."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from perago.atomic_file import replace_file

from .projects import QUIET, add_module, run, run_process

pytest_plugins = ["pytester"]

KIND = ("--perago-modules=shop", "--perago-kinds=taskdef")
TASKS = [f"task{number}" for number in range(9)]
LIMIT = 120
LINUX = sys.platform == "linux"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Nine tasks without snapshots."""
    for name in TASKS:
        add_module(pytester, f"shop.{name}", name)
    return pytester


def started(
    pytester: pytest.Pytester, *arguments: str, preexec: Callable[[], None] | None = None
) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "pytest", *QUIET, *arguments]
    with (pytester.path / "output.txt").open("a") as output:
        process: subprocess.Popen[bytes] = pytester.popen(words, stdout=output, stderr=output, preexec_fn=preexec)
    return process


def directory(pytester: pytest.Pytester) -> Path:
    return pytester.path / "tests" / "__taskdefs__"


def check_all_whole(pytester: pytest.Pytester) -> None:
    files = [path for path in directory(pytester).rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == [f"{name}.json" for name in TASKS]
    assert [json.loads(path.read_bytes())["name"] for path in sorted(files)] == TASKS
    run(pytester, *KIND).assert_outcomes(passed=len(TASKS))


def test_eight_workers_write_each_snapshot_once(project: pytest.Pytester) -> None:
    result = run_process(project, *KIND, "-n8", "--perago-update")
    result.assert_outcomes(passed=len(TASKS))
    assert [line for line in result.outlines if line.startswith(("created tests", "updated"))] == [
        f"created tests/__taskdefs__/shop.{name}/{name}.json" for name in TASKS
    ]
    check_all_whole(project)


def test_two_runs_that_update_at_once_leave_whole_files(project: pytest.Pytester) -> None:
    runs = [started(project, *KIND, "--perago-update") for _ in range(2)]
    assert [process.wait(LIMIT) for process in runs] == [0, 0]
    check_all_whole(project)


def test_shards_write_what_belongs_to_them(project: pytest.Pytester) -> None:
    for part in ("task0 or task1 or task2 or task3", "task4 or task5 or task6 or task7 or task8"):
        assert run(project, *KIND, "-k", part, "--perago-update=new").ret == pytest.ExitCode.OK
    check_all_whole(project)


KILLED = """
import io, os, pathlib, signal

def die():
    os.kill(os.getpid(), signal.SIGKILL)

plain_open, plain_replace = pathlib.Path.open, pathlib.Path.replace
MOMENT, VICTIM = {moment!r}, "task4.json"

class Torn(io.FileIO):
    def write(self, content):
        super().write(content[: len(content) // 2])
        die()

def open_(path, mode="r", *arguments, **options):
    if VICTIM in path.name and mode == "xb" and MOMENT == "in the middle of the file":
        return Torn(path, "x")
    return plain_open(path, mode, *arguments, **options)

def replace(path, target):
    if VICTIM in path.name and MOMENT == "before it takes its place":
        die()
    return plain_replace(path, target)

pathlib.Path.open, pathlib.Path.replace = open_, replace
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills as POSIX does")
@pytest.mark.parametrize("moment", ["in the middle of the file", "before it takes its place"])
def test_a_run_that_is_killed_while_it_updates_leaves_the_old_or_the_new_file(
    project: pytest.Pytester, moment: str
) -> None:
    run(project, *KIND, "--perago-update")
    old = b'{"name": "old"}\n'
    for name in TASKS:
        (directory(project) / f"shop.{name}" / f"{name}.json").write_bytes(old)
    conftest = project.makeconftest(KILLED.format(moment=moment))
    assert started(project, *KIND, "--perago-update").wait(LIMIT) == -9
    conftest.unlink()
    contents = [(directory(project) / f"shop.{name}" / f"{name}.json").read_bytes() for name in TASKS]
    assert [content == old for content in contents] == [False] * 4 + [True] * 5
    assert all(json.loads(content) for content in contents)

    (left,) = directory(project).rglob("*.tmp")
    result = run(project, *KIND, "--perago-update")
    result.assert_outcomes(passed=len(TASKS))
    assert result.ret == pytest.ExitCode.OK  # what the killed run left is no unused snapshot
    assert left.exists()  # it may belong to a run that is writing at this moment
    (left.parent / "task4.json").write_bytes(old)
    os.utime(left, (time.time() - 3600, time.time() - 3600))
    run(project, *KIND, "--perago-update")
    check_all_whole(project)


def test_an_interrupted_update_keeps_what_it_wrote_and_can_be_continued(project: pytest.Pytester) -> None:
    project.makeconftest(
        "def pytest_runtest_setup(item):\n    if 'task5' in item.nodeid:\n        raise KeyboardInterrupt\n"
    )
    assert started(project, *KIND, "--perago-update=new").wait(LIMIT) == pytest.ExitCode.INTERRUPTED
    assert sorted(path.stem for path in directory(project).rglob("*.json")) == TASKS[:5]
    (project.path / "conftest.py").unlink()
    run(project, *KIND, "--perago-update=new").assert_outcomes(passed=len(TASKS))
    check_all_whole(project)


def test_readers_see_one_content_or_the_other_while_writers_take_turns(tmp_path: Path) -> None:
    target = tmp_path / "x" / "y.json"
    contents = [character * 20_000 for character in (b"a", b"b", b"c")]
    target.parent.mkdir()
    replace_file(target, contents[0])

    def write(content: bytes) -> None:
        for _ in range(100):
            replace_file(target, content)

    writers = [threading.Thread(target=write, args=[content]) for content in contents]
    for writer in writers:
        writer.start()
    seen = {target.read_bytes()}
    while any(writer.is_alive() for writer in writers):
        seen.add(target.read_bytes())
    assert seen <= set(contents)
    assert list(tmp_path.rglob("*")) == [target.parent, target]


def obey_file_modes() -> None:
    """Root may write everywhere; from the next program on it may not."""
    drop, override = 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(drop, override, 0, 0, 0) != 0:
        os._exit(77)


@pytest.mark.skipif(not LINUX, reason="root obeys file modes only by a call of Linux")
def test_a_read_only_directory_is_a_failure_that_names_it_and_changes_nothing(project: pytest.Pytester) -> None:
    run(project, *KIND, "-k", "task1", "--perago-update")
    path = directory(project) / "shop.task1" / "task1.json"
    path.write_bytes(b"{}\n")
    path.parent.chmod(0o555)
    try:
        code = started(project, *KIND, "-k", "task1", "--perago-update", preexec=obey_file_modes).wait(LIMIT)
    finally:
        path.parent.chmod(0o755)
    output = (project.path / "output.txt").read_text()
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "the snapshot of the TaskDef cannot be written: Permission denied" in output
    assert "tests/__taskdefs__/shop.task1/task1.json" in output
    assert "--perago-snapshot-dir" in output
    assert [file.name for file in path.parent.iterdir()] == ["task1.json"]
    assert path.read_bytes() == b"{}\n"


@pytest.mark.parametrize("obstacle", ["tests", "tests/__taskdefs__", "tests/__taskdefs__/shop.task1"])
def test_a_file_in_the_place_of_the_directory_is_a_failure_that_names_it(
    project: pytest.Pytester, obstacle: str
) -> None:
    (project.path / obstacle).parent.mkdir(parents=True, exist_ok=True)
    (project.path / obstacle).write_text("x")
    result = run(project, *KIND, "-k", "task1", "--perago-update")
    result.assert_outcomes(failed=1, deselected=len(TASKS) - 1)
    result.stdout.fnmatch_lines(["broken contract: the snapshot of the TaskDef cannot be written: *"])
    assert (project.path / obstacle).read_text() == "x"


def test_a_directory_in_the_place_of_the_file_is_a_failure_that_names_it(project: pytest.Pytester) -> None:
    (directory(project) / "shop.task1" / "task1.json").mkdir(parents=True)
    result = run(project, *KIND, "-k", "task1")
    result.assert_outcomes(failed=1, deselected=len(TASKS) - 1)
    result.stdout.fnmatch_lines(["broken contract: the snapshot of the TaskDef cannot be read: *"])
