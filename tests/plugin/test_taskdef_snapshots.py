"""Snapshots of TaskDefs: made, compared, refused, updated, found unused, and written by several processes."""

from __future__ import annotations

import json
import shlex
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perago.atomic_file import replace_file
from perago.trees.cases import CaseFailed
from pytest_perago.options import read_settings
from pytest_perago.snapshots import check_snapshot

from ..taskdef.tasks import make_task
from .projects import add_module, run, run_inside, run_process, write_case, write_module

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
    return run_inside(pytester, *arguments)


def change(path: Path, **fields: Any) -> None:
    """Make the snapshot that of an older task, in canonical form."""
    old = json.loads(path.read_text()) | fields
    path.write_text(json.dumps(old, indent=2, sort_keys=True) + "\n")


def test_it_has_the_bytes_that_extract_writes(project: pytest.Pytester) -> None:
    run(project, *KIND, "--perago-update=new").assert_outcomes(passed=2)
    run(project, *KIND).assert_outcomes(passed=2)
    project.run(sys.executable, "-m", "perago", "extract", "shop.a", "--output", "extracted.json", timeout=60)
    assert (project.path / "extracted.json").read_bytes() == snapshot(project).read_bytes()


@pytest.mark.parametrize(
    ("option", "passed", "failed", "line"),
    [
        ("--perago-update=new", 1, 1, "created tests/__taskdefs__/shop.b/second.json"),
        ("--perago-update=all", 2, 0, "updated tests/__taskdefs__/shop.a/first.build.json"),
        ("--perago-update", 2, 0, "created tests/__taskdefs__/shop.b/second.json"),
    ],
)
def test_an_update_writes_new_ones_or_all(
    project: pytest.Pytester, option: str, passed: int, failed: int, line: str
) -> None:
    run(project, *KIND, "-k", "first", "--perago-update").assert_outcomes(passed=1, deselected=1)
    change(snapshot(project), retryCount=9)
    result = run(project, *KIND, option)
    result.assert_outcomes(passed=passed, failed=failed)
    assert line in result.outlines
    if failed:
        result.stdout.fnmatch_lines(
            ["--- tests/__taskdefs__/shop.a/first.build.json (snapshot)", "+++ the TaskDef now"]
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


def edit(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old.encode(), new.encode(), 1)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(lambda content: content[:100], "in line ", id="torn"),
        pytest.param(lambda content: b"", "Expecting value in line 1, column 1", id="empty"),
        pytest.param(lambda content: b"\xff\xfe" + content, "it is not UTF-8 at byte 0", id="not utf-8"),
        pytest.param(lambda content: b"\xef\xbb\xbf" + content, "BOM", id="byte order mark"),
        pytest.param(lambda content: b"[1]", "it holds a list", id="no object"),
        pytest.param(edit('"retryCount": 3', '"retryCount": NaN'), "NaN is not a JSON number", id="NaN"),
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
    tmp_path: Path, pytestconfig: pytest.Config, damage: Callable[[bytes], bytes], reason: str
) -> None:
    task = make_task()
    directory = tmp_path / "tests/__taskdefs__"
    compared = replace(read_settings(pytestconfig), root=tmp_path, snapshot_dir=directory)
    updated = replace(compared, update="all")
    assert check_snapshot(task, updated, shlex.quote) is not None
    path = compared.snapshot_path(task)
    good = path.read_bytes()
    path.write_bytes(damage(good))
    with pytest.raises(CaseFailed) as failure:
        check_snapshot(task, compared, shlex.quote)
    assert reason in str(failure.value)
    assert "accept it: --perago-update=all" in str(failure.value)
    assert check_snapshot(task, updated, shlex.quote) == f"updated {compared.shown(path)}"
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
    result.assert_outcomes(failed=2)
    assert "broken contract: there is no snapshot of the TaskDef" in result.stdout.str()
    assert not (project.path / place).exists()
    offered(project, *command(result, "create it")).assert_outcomes(passed=1)
    assert (project.path / place / "shop.a" / "first.build.json").is_file()
    assert not (project.path / "tests").exists()


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


# -------------------------------------------------------------------------------- unused snapshots


GONE = "tests/__taskdefs__/shop.gone/old.json"


@pytest.fixture
def with_unused(pytester: pytest.Pytester) -> pytest.Pytester:
    """Two tasks with snapshots, and a snapshot of a module that is gone."""
    add_module(pytester, "shop.a", "first")
    add_module(pytester, "shop.b", "second")
    run(pytester, *KIND, "--perago-update=new").assert_outcomes(passed=2)
    put(pytester, GONE)
    return pytester


def put(pytester: pytest.Pytester, name: str) -> Path:
    path = pytester.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}\n")
    return path


def unused(result: pytest.RunResult) -> list[str]:
    return [line.removeprefix("unused: ") for line in result.outlines if line.startswith("unused: ")]


def test_a_full_run_reports_unused_files_and_the_command_that_removes_them(with_unused: pytest.Pytester) -> None:
    result = run(with_unused, *KIND)
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert unused(result) == [f"{GONE}: there is no module shop.gone"]
    result.stdout.fnmatch_lines([f"remove: rm {GONE}   (from *)"])
    (with_unused.path / GONE).unlink()
    assert run(with_unused, *KIND).ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("arguments", "code", "lines"),
    [
        (["--perago-unused=warn"], pytest.ExitCode.OK, 1),
        (["-o", "perago_unused=warn"], pytest.ExitCode.OK, 1),
        (["--perago-unused=ignore"], pytest.ExitCode.OK, 0),
        (["-o", "perago_unused=ignore", "--perago-unused=fail"], pytest.ExitCode.TESTS_FAILED, 1),
        (["-x"], pytest.ExitCode.TESTS_FAILED, 1),
        (["--perago-update"], pytest.ExitCode.TESTS_FAILED, 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_effect_on_the_run_can_be_chosen(
    with_unused: pytest.Pytester, arguments: list[str], code: pytest.ExitCode, lines: int
) -> None:
    result = run(with_unused, *KIND, *arguments)
    assert (result.ret, len(unused(result))) == (code, lines)
    fails = "unused=fail" in str(arguments) or "unused" not in str(arguments)
    assert ("error: unused files fail the run; --perago-unused=warn only lists them" in result.outlines) is fails


def test_a_snapshot_is_judged_by_the_current_state_of_its_module(with_unused: pytest.Pytester) -> None:
    write_module(with_unused, "shop.empty", "X = 1")
    write_module(with_unused, "shop.broken", "raise ValueError")
    add_module(with_unused, "elsewhere", "third")
    for name in ("shop.a/renamed", "shop.empty/x", "shop.broken/x", "elsewhere/third", "elsewhere/old"):
        put(with_unused, f"tests/__taskdefs__/{name}.json")
    put(with_unused, "tests/__taskdefs__/shop.a/.first.json.0123abcd.tmp")
    put(with_unused, "tests/__taskdefs__/README.json")
    result = run(with_unused, *KIND)
    result.assert_outcomes(passed=2, failed=1)
    assert unused(result) == [
        "tests/__taskdefs__/shop.a/renamed.json: module shop.a declares first",
        "tests/__taskdefs__/shop.empty/x.json: module shop.empty declares no task",
        f"{GONE}: there is no module shop.gone",
    ]


def test_a_directory_by_another_name_is_the_same_directory(with_unused: pytest.Pytester) -> None:
    """As where a file system does not care for case."""
    (with_unused.path / GONE).unlink()
    directory = with_unused.path / "tests" / "__taskdefs__"
    (directory / "shop.A").symlink_to(directory / "shop.a")
    assert run(with_unused, *KIND).ret == pytest.ExitCode.OK


PARTS = (
    ["-k", "first or second"],
    ["-m", "perago"],
    ["shop/a.py", "shop/b.py"],
    ["shop/a.py::first::taskdef"],
    ["."],
    ["--deselect", "shop/a.py::first"],
    ["--ignore", "shop/a.py"],
    ["--collect-only"],
    ["--perago-kinds=contract"],
    ["-p", "cacheprovider", "--lf"],
    ["--sw", "-p", "cacheprovider"],
)


def test_a_partial_run_gives_no_verdict(with_unused: pytest.Pytester) -> None:
    for arguments in PARTS:
        kinds = () if "--perago-kinds=contract" in arguments else ("--perago-kinds=taskdef",)
        result = with_unused.runpytest_inprocess(
            "-p", "no:conductor-agents-testing", "--perago-modules=shop", *kinds, *arguments
        )
        assert (arguments, result.ret, unused(result)) == (arguments, pytest.ExitCode.OK, [])


def test_a_conftest_that_deselects_or_skips_modules_prevents_the_verdict(with_unused: pytest.Pytester) -> None:
    with_unused.makeconftest(
        """
        def pytest_collection_modifyitems(config, items):
            config.hook.pytest_deselected(items=items[:1])
            del items[:1]
        """
    )
    assert unused(run(with_unused, *KIND)) == []
    (with_unused.path / GONE).unlink()
    with_unused.makeconftest('collect_ignore_glob = ["shop/b*"]')
    result = run(with_unused, *KIND)
    assert (result.ret, result.parseoutcomes()) == (pytest.ExitCode.OK, {"passed": 1})


@pytest.mark.parametrize("option", ["-x", "--maxfail=1"])
def test_a_run_that_ends_half_way_gives_no_verdict(with_unused: pytest.Pytester, option: str) -> None:
    with_unused.makepyfile(test_a="def test_it(): raise AssertionError")
    result = run(with_unused, *KIND, option)
    assert result.ret in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.TESTS_FAILED)
    assert unused(result) == []


def test_workers_report_it_once_and_their_deselections_do_not(with_unused: pytest.Pytester) -> None:
    """The controller imports none of the modules."""
    with_unused.makepyfile(test_workers='from perago.testing import task_tests\ntest_workers = task_tests("shop")')
    result = run_process(with_unused, "--perago-kinds=taskdef", "-n2")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert unused(result) == [f"{GONE}: there is no module shop.gone"]
    partial = run_process(with_unused, *KIND, "-n1", "-k", "first")
    assert (partial.ret, unused(partial)) == (pytest.ExitCode.OK, [])


def test_a_worker_that_crashes_prevents_the_verdict(with_unused: pytest.Pytester) -> None:
    with_unused.makepyfile(test_crash="import os\n\ndef test_it(): os._exit(9)")
    result = run_process(with_unused, *KIND, "-n2")
    assert result.parseoutcomes()["failed"] == 1
    assert unused(result) == []


@pytest.fixture
def misnamed(pytester: pytest.Pytester) -> pytest.Pytester:
    """A task, and a case file in a directory that is not called like it."""
    add_module(pytester, "shop.a", "first")
    write_case(pytester, "frist/one", "[params]\nnumbers = [1]\n")
    pytester.makeini("[pytest]\nperago_modules = shop\n")
    return pytester


def test_case_files_that_no_task_reads_are_found(misnamed: pytest.Pytester) -> None:
    result = run(misnamed)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert unused(result) == ["tests/perago_cases/frist: no task is called frist; did you mean first?"]
    assert not [line for line in result.outlines if line.startswith("remove:")]
    cases = misnamed.path / "tests" / "perago_cases"
    (cases / "frist").rename(cases / "first")
    renamed = run(misnamed)
    renamed.assert_outcomes(passed=8)
    assert renamed.ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    "arguments",
    [
        ["--perago-modules=shop.a"],
        ["-k", "run"],
        ["shop/a.py"],
        ["--perago-unused=ignore"],
        ["--perago-kinds=guardrail"],
    ],
    ids=str,
)
def test_case_files_are_not_judged_by_a_run_that_cannot_know(misnamed: pytest.Pytester, arguments: list[str]) -> None:
    assert unused(run(misnamed, *arguments)) == []


def test_case_files_may_be_those_of_a_module_that_is_broken(misnamed: pytest.Pytester) -> None:
    write_module(misnamed, "shop.b", "raise ValueError")
    assert unused(run(misnamed)) == []


# ------------------------------------------------------------------------------- several processes


def test_workers_write_each_snapshot_once(project: pytest.Pytester) -> None:
    result = run_process(project, *KIND, "-n2", "--perago-update")
    result.assert_outcomes(passed=2)
    assert [line for line in result.outlines if line.startswith(("created tests", "updated"))] == [
        "created tests/__taskdefs__/shop.a/first.build.json",
        "created tests/__taskdefs__/shop.b/second.json",
    ]
    run(project, *KIND).assert_outcomes(passed=2)


KILLED = """
import io, os, pathlib, signal

plain_open = pathlib.Path.open

class Torn(io.FileIO):
    def write(self, content):
        super().write(content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

def open_(path, mode="r", *arguments, **options):
    if "second.json" in path.name and mode == "xb":
        return Torn(path, "x")
    return plain_open(path, mode, *arguments, **options)

pathlib.Path.open = open_
"""


def test_a_killed_update_leaves_the_old_or_the_new_snapshot(project: pytest.Pytester) -> None:
    run(project, *KIND, "--perago-update")
    files = [snapshot(project), snapshot(project, "shop.b/second.json")]
    new = files[0].read_bytes()
    for file in files:
        file.write_text("{}\n")
    project.makeconftest(KILLED)
    assert run_process(project, *KIND, "--perago-update").ret == -9
    assert [file.read_bytes() for file in files] == [new, b"{}\n"]


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
    contents_read = {target.read_bytes()}
    while any(writer.is_alive() for writer in writers):
        contents_read.add(target.read_bytes())
    assert contents_read <= set(contents)
    assert list(tmp_path.rglob("*")) == [target.parent, target]


@pytest.mark.parametrize(
    ("obstacle", "obstruction"),
    [
        ("tests/__taskdefs__", "written"),
        ("tests/__taskdefs__/shop.b", "written"),
        ("tests/__taskdefs__/shop.b/second.json/x", "read"),
    ],
)
def test_an_obstacle_in_the_place_of_a_snapshot_is_named(
    project: pytest.Pytester, obstacle: str, obstruction: str
) -> None:
    (project.path / obstacle).parent.mkdir(parents=True, exist_ok=True)
    (project.path / obstacle).write_text("x")
    result = run(project, *KIND, "-k", "second", "--perago-update")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(
        [
            f"broken contract: the snapshot of the TaskDef cannot be {obstruction}: *",
            "  snapshot  tests/__taskdefs__/shop.b/second.json",
        ]
    )
    assert (project.path / obstacle).read_text() == "x"
