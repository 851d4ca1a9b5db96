"""Snapshots under parallel workers, killed runs and directories that refuse."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from perago.atomic_file import replace_file

from .projects import add_module, run, run_process

pytest_plugins = ["pytester"]

KIND = ("--perago-modules=shop", "--perago-kinds=taskdef")
TASKS = [f"task{number}" for number in range(9)]


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Nine tasks without snapshots."""
    for name in TASKS:
        add_module(pytester, f"shop.{name}", name)
    return pytester


def directory(pytester: pytest.Pytester) -> Path:
    return pytester.path / "tests" / "__taskdefs__"


def check_all_whole(pytester: pytest.Pytester) -> None:
    files = [path for path in directory(pytester).rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == [f"{name}.json" for name in TASKS]
    assert [json.loads(path.read_bytes())["name"] for path in sorted(files)] == TASKS
    run(pytester, *KIND).assert_outcomes(passed=len(TASKS))


def test_workers_write_each_snapshot_once(project: pytest.Pytester) -> None:
    result = run_process(project, *KIND, "-n2", "--perago-update")
    result.assert_outcomes(passed=len(TASKS))
    assert [line for line in result.outlines if line.startswith(("created tests", "updated"))] == [
        f"created tests/__taskdefs__/shop.{name}/{name}.json" for name in TASKS
    ]
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
    assert run_process(project, *KIND, "--perago-update").ret == -9
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


@pytest.mark.parametrize(
    ("obstacle", "words"),
    [
        ("tests/__taskdefs__", "written"),
        ("tests/__taskdefs__/shop.task1", "written"),
        ("tests/__taskdefs__/shop.task1/task1.json/x", "read"),
    ],
)
def test_something_in_the_place_of_a_directory_or_file_is_a_failure_that_names_it(
    project: pytest.Pytester, obstacle: str, words: str
) -> None:
    (project.path / obstacle).parent.mkdir(parents=True, exist_ok=True)
    (project.path / obstacle).write_text("x")
    result = run(project, *KIND, "-k", "task1", "--perago-update")
    result.assert_outcomes(failed=1, deselected=len(TASKS) - 1)
    result.stdout.fnmatch_lines(
        [
            f"broken contract: the snapshot of the TaskDef cannot be {words}: *",
            "  snapshot  tests/__taskdefs__/shop.task1/task1.json",
        ]
    )
    assert (project.path / obstacle).read_text() == "x"
