"""The TaskDef of a task and its snapshot: made, compared, refused, updated."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from perago import task
from perago.authoring.task import get_task
from perago.testing.tasks import CaseFailed
from pytest_perago.options import read_settings
from pytest_perago.snapshots import check_snapshot

from .projects import QUIET, add_module, run

pytest_plugins = ["pytester"]

KIND = ("--perago-modules=shop", "--perago-kinds=taskdef")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Two tasks without snapshots."""
    add_module(pytester, "shop.a", "first.build")
    add_module(pytester, "shop.b", "second")
    return pytester


def snapshot(pytester: pytest.Pytester, name: str = "shop.a/first.build.json") -> Path:
    return pytester.path / "tests" / "__taskdefs__" / name


def created(pytester: pytest.Pytester) -> dict[Path, bytes]:
    directory = pytester.path / "tests"
    return {path.relative_to(pytester.path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def command(result: pytest.RunResult, word: str) -> list[str]:
    """The arguments of the first command that the output offers."""
    line = next(line for line in result.outlines if f"{word}: pytest " in line)
    return shlex.split(line.partition(": pytest ")[2])


def offered(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Do what the output offers, with nothing added that decides what is collected."""
    return pytester.runpytest_inprocess(*QUIET, "-W", "error", *arguments)


def change(path: Path, **fields: Any) -> None:
    """Make the snapshot that of an older task, in canonical form."""
    old = json.loads(path.read_text()) | fields
    path.write_text(json.dumps(old, indent=2, sort_keys=True) + "\n")


def test_a_missing_one_fails_and_the_command_that_it_prints_creates_it(project: pytest.Pytester) -> None:
    result = run(project, *KIND)
    result.assert_outcomes(failed=2)
    assert created(project) == {}
    output = result.stdout.str()
    assert "broken contract: there is no snapshot of the TaskDef" in output
    assert "tests/__taskdefs__/shop.a/first.build.json" in output
    again = offered(project, *command(result, "create it"))
    again.assert_outcomes(passed=1)
    again.stdout.fnmatch_lines(["created tests/__taskdefs__/shop.a/first.build.json"])
    assert list(created(project)) == [Path("tests/__taskdefs__/shop.a/first.build.json")]


def test_it_has_the_bytes_that_extract_writes(project: pytest.Pytester) -> None:
    run(project, *KIND, "--perago-update=new").assert_outcomes(passed=2)
    run(project, *KIND).assert_outcomes(passed=2)
    project.run(sys.executable, "-m", "perago", "extract", "shop.a", "--output", "extracted.json", timeout=60)
    assert (project.path / "extracted.json").read_bytes() == snapshot(project).read_bytes()


@pytest.mark.parametrize(
    ("option", "passed", "failed", "words"),
    [
        ("--perago-update=new", 1, 1, "created tests/__taskdefs__/shop.b/second.json"),
        ("--perago-update=all", 2, 0, "updated tests/__taskdefs__/shop.a/first.build.json"),
        ("--perago-update", 2, 0, "created tests/__taskdefs__/shop.b/second.json"),
    ],
)
def test_an_update_writes_new_ones_or_all(
    project: pytest.Pytester, option: str, passed: int, failed: int, words: str
) -> None:
    run(project, *KIND, "-k", "first", "--perago-update").assert_outcomes(passed=1, deselected=1)
    change(snapshot(project), retryCount=9)
    result = run(project, *KIND, option)
    result.assert_outcomes(passed=passed, failed=failed)
    assert words in result.outlines


def test_a_difference_shows_changes_a_diff_and_a_command_that_accepts_it(project: pytest.Pytester) -> None:
    run(project, *KIND, "--perago-update")
    change(snapshot(project), retryCount=9, description="before")
    result = run(project, *KIND)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "broken contract: the TaskDef differs from its snapshot: 1 breaking and 1 compatible changes *",
            "  task      first.build (shop/a.py:*)",
            "  snapshot  tests/__taskdefs__/shop.a/first.build.json",
            "breaking: /retryCount: 9 -> 3 (fewer retries)",
            'compatible: /description: removed "before" (for people only)',
            "--- tests/__taskdefs__/shop.a/first.build.json (snapshot)",
            "+++ the TaskDef now",
            '-  "retryCount": 9,',
            '+  "retryCount": 3,',
            "accept it: pytest *--perago-update=all 'shop/a.py::first.build::taskdef'",
            "rerun: pytest *'shop/a.py::first.build::taskdef'",
        ]
    )
    offered(project, *command(result, "accept it")).assert_outcomes(passed=1)
    run(project, *KIND).assert_outcomes(passed=2)


def test_a_long_diff_and_a_long_list_of_changes_are_cut(project: pytest.Pytester) -> None:
    run(project, *KIND, "--perago-update")
    change(snapshot(project), **{f"field{number}": number for number in range(300)})
    lines = run(project, *KIND).outlines
    assert sum(line.startswith("breaking: /field") for line in lines) == 50
    assert "and 250 more changes" in lines
    start = next(index for index, line in enumerate(lines) if line.startswith("--- tests/"))
    end = next(index for index, line in enumerate(lines) if line.endswith(" more lines of diff"))
    assert end - start == 80


class Row(BaseModel):
    value: int


@task(name="build", owner_email="data@example.com")
def build(params: Row) -> Row:
    return params


BUILD = get_task(build)


def edit(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old.encode(), new.encode(), 1)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(lambda content: content[:100], "in line ", id="torn"),
        pytest.param(lambda content: b"", "Expecting value in line 1, column 1", id="empty"),
        pytest.param(lambda content: b"\xff\xfe" + content, "it is not UTF-8 at byte 0", id="not utf-8"),
        pytest.param(lambda content: b"\xef\xbb\xbf" + content, "BOM", id="byte order mark"),
        pytest.param(lambda content: b"[1]", "it holds a list", id="no object"),
        pytest.param(edit('"retryCount": 3', '"retryCount": NaN'), "NaN is not JSON", id="NaN"),
        pytest.param(edit('"retryCount": 3', '"retryCount": 1e999'), "1e999 is too large", id="infinite"),
        pytest.param(edit('"retryCount": 3', '"retryCount": ' + "9" * 5000), "limit", id="endless number"),
        pytest.param(lambda content: b"[" * 100_000, "is nested too deeply", id="deep"),
        pytest.param(
            lambda content: b"<<<<<<< HEAD\n" + content + b"=======\n" + content + b">>>>>>> other\n",
            "conflict markers",
            id="conflict",
        ),
        pytest.param(edit('"retryCount": 3', '"retryCount": 4'), "breaking: /retryCount: 4 -> 3", id="edited value"),
        pytest.param(edit('"retryCount"', '"\\ud800"'), "breaking: /\\ud800: removed 3", id="surrogate"),
        pytest.param(edit("  ", "\t"), "is the same JSON as the TaskDef, but in different bytes", id="indentation"),
        pytest.param(lambda content: content.rstrip(), "is the same JSON", id="no final newline"),
        pytest.param(
            lambda content: json.dumps(dict(reversed(json.loads(content).items())), indent=2).encode() + b"\n",
            "order, spacing or spelling",
            id="other order",
        ),
        pytest.param(
            lambda content: content.replace(b"\n", b"\r\n"),
            "add `tests/__taskdefs__/** text eol=lf` to .gitattributes",
            id="CRLF",
        ),
        pytest.param(
            edit("{", '{"perago.format": 2, "perago.version": "0.9.0",'),
            "reads format 1; install perago 0.9.0",
            id="newer",
        ),
        pytest.param(edit('"data": {', '"data": 7, "x": {'), "/inputSchema/data", id="no schema"),
    ],
)
def test_a_damaged_or_edited_snapshot_fails_with_the_reason(
    tmp_path: Path, pytestconfig: pytest.Config, damage: Callable[[bytes], bytes], words: str
) -> None:
    assert BUILD is not None
    directory = tmp_path / "tests/__taskdefs__"
    compared = replace(read_settings(pytestconfig), root=tmp_path, snapshot_dir=directory)
    updated = replace(compared, update="all")
    assert check_snapshot(BUILD, updated, shlex.quote) is not None
    path = compared.snapshot_path(BUILD)
    good = path.read_bytes()
    path.write_bytes(damage(good))
    with pytest.raises(CaseFailed) as failure:
        check_snapshot(BUILD, compared, shlex.quote)
    assert words in str(failure.value)
    assert "accept it: --perago-update=all" in str(failure.value)
    assert check_snapshot(BUILD, updated, shlex.quote) == f"updated {compared.shown(path)}"
    assert path.read_bytes() == good


@pytest.mark.parametrize(
    ("value", "refused"), [("true", True), ("1", True), ("", False), ("false", False), ("0", False)]
)
def test_under_ci_an_update_is_a_usage_error_and_writes_nothing(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, value: str, refused: bool
) -> None:
    monkeypatch.setenv("CI", value)
    result = run(project, *KIND, "--perago-update=new")
    assert result.ret == (pytest.ExitCode.USAGE_ERROR if refused else pytest.ExitCode.OK)
    assert ("--perago-update writes snapshots, but CI is set" in result.stderr.str()) is refused
    assert (created(project) == {}) is refused


def test_a_name_in_another_case_is_pointed_at(project: pytest.Pytester) -> None:
    run(project, *KIND, "--perago-update")
    snapshot(project).rename(snapshot(project, "shop.a/First.Build.json"))
    result = run(project, *KIND, "--perago-unused=ignore")
    result.assert_outcomes(passed=1, failed=1)
    assert "First.Build.json, which differs in upper and lower case; rename it" in result.stdout.str()


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["-o", "perago_snapshot_dir=qa\\taskdefs"], "qa/taskdefs"),
        (["-o", "perago_snapshot_dir=./qa//taskdefs/"], "qa/taskdefs"),
        (["--perago-snapshot-dir", "qa/x", "-o", "perago_snapshot_dir=y"], "qa/x"),
        (["--perago-snapshot-dir=qa\\x"], "qa/x"),
    ],
    ids=["windows ini", "untidy ini", "command line first", "windows command line"],
)
def test_the_directory_can_be_chosen_and_is_in_the_command(
    project: pytest.Pytester, arguments: list[str], place: str
) -> None:
    result = run(project, *KIND, *arguments)
    offered(project, *command(result, "create it")).assert_outcomes(passed=1)
    assert (project.path / place / "shop.a" / "first.build.json").is_file()
    assert not (project.path / "tests").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "perago_snapshot_dir="], "is empty"),
        (["-o", "perago_snapshot_dir=."], "contains the whole project"),
        (["-o", "perago_snapshot_dir=.."], "contains the whole project"),
        (["-o", "perago_snapshot_dir=C:\\tests"], "is a path of Windows"),
        (["--perago-snapshot-dir=\\\\server\\share\\x"], "is a path of Windows"),
        (["-o", "perago_unused=never"], "'never' is not one of fail, warn, ignore"),
        (["--perago-update", "shop/a.py"], "write --perago-update=all shop/a.py"),
    ],
)
def test_a_wrong_option_is_a_usage_error(project: pytest.Pytester, arguments: list[str], words: str) -> None:
    result = run(project, *KIND, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert words in result.stderr.str()


FIXTURE = """
from shop.a import add

def test_it(perago_snapshot):
    perago_snapshot(add)

def test_wrong(perago_snapshot):
    perago_snapshot(len)
"""


def test_the_fixture_compares_and_updates_in_a_written_test(project: pytest.Pytester) -> None:
    project.makepyfile(test_written=FIXTURE)
    only = ("test_written.py", "-k", "test_it")
    result = run(project, *only)
    result.assert_outcomes(failed=1, deselected=1)
    assert "there is no snapshot of the TaskDef" in result.stdout.str()
    assert "pytest_perago" not in result.stdout.str()
    updated = offered(project, *command(result, "create it"))
    updated.assert_outcomes(passed=1)
    updated.stdout.fnmatch_lines(["created tests/__taskdefs__/shop.a/first.build.json"])
    run(project, *only).assert_outcomes(passed=1, deselected=1)
    wrong = run(project, "test_written.py", "-k", "test_wrong")
    assert "takes a function decorated with @task, not builtin_function_or_method" in wrong.stdout.str()
