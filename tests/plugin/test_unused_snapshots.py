"""Snapshots of tasks that are gone: found after a complete run, and never after any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from .projects import add_module, run, run_process, write_module

pytest_plugins = ["pytester"]

KIND = ("--perago-modules=shop", "--perago-kinds=taskdef")
GONE = "tests/__taskdefs__/shop.gone/old.json"


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
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


def test_a_full_run_reports_unused_files_and_the_command_that_removes_them(project: pytest.Pytester) -> None:
    result = run(project, *KIND)
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert unused(result) == [f"{GONE}: there is no module shop.gone"]
    result.stdout.fnmatch_lines([f"remove: rm {GONE}   (from *)"])
    (project.path / GONE).unlink()
    assert run(project, *KIND).ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
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
    project: pytest.Pytester, arguments: list[str], code: pytest.ExitCode, told: int
) -> None:
    result = run(project, *KIND, *arguments)
    assert (result.ret, len(unused(result))) == (code, told)


def test_a_snapshot_is_judged_by_the_current_state_of_its_module(project: pytest.Pytester) -> None:
    write_module(project, "shop.empty", "X = 1")
    write_module(project, "shop.broken", "raise ValueError")
    add_module(project, "elsewhere", "third")
    for name in ("shop.a/renamed", "shop.empty/x", "shop.broken/x", "elsewhere/third", "elsewhere/old"):
        put(project, f"tests/__taskdefs__/{name}.json")
    put(project, "tests/__taskdefs__/shop.a/.first.json.0123abcd.tmp")
    put(project, "tests/__taskdefs__/README.json")
    result = run(project, *KIND)
    result.assert_outcomes(passed=2, failed=1)
    assert unused(result) == [
        "tests/__taskdefs__/shop.a/renamed.json: module shop.a declares first",
        "tests/__taskdefs__/shop.empty/x.json: module shop.empty declares no task",
        f"{GONE}: there is no module shop.gone",
    ]


def test_a_directory_by_another_name_is_the_same_directory(project: pytest.Pytester) -> None:
    """As where a file system does not care for case."""
    (project.path / GONE).unlink()
    directory = project.path / "tests" / "__taskdefs__"
    (directory / "shop.A").symlink_to(directory / "shop.a")
    assert run(project, *KIND).ret == pytest.ExitCode.OK


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


def test_a_partial_run_gives_no_verdict(project: pytest.Pytester) -> None:
    for arguments in PARTS:
        kinds = () if "--perago-kinds=contract" in arguments else ("--perago-kinds=taskdef",)
        result = project.runpytest_inprocess(
            "-p", "no:conductor-agents-testing", "--perago-modules=shop", *kinds, *arguments
        )
        assert (arguments, result.ret, unused(result)) == (arguments, pytest.ExitCode.OK, [])


def test_a_conftest_that_deselects_prevents_the_verdict(project: pytest.Pytester) -> None:
    project.makeconftest(
        """
        def pytest_collection_modifyitems(config, items):
            config.hook.pytest_deselected(items=items[:1])
            del items[:1]
        """
    )
    assert unused(run(project, *KIND)) == []


def test_a_conftest_that_skips_modules_makes_no_snapshot_unused(project: pytest.Pytester) -> None:
    (project.path / GONE).unlink()
    project.makeconftest('collect_ignore_glob = ["shop/b*"]')
    result = run(project, *KIND)
    assert (result.ret, result.parseoutcomes()) == (pytest.ExitCode.OK, {"passed": 1})


@pytest.mark.parametrize("option", ["-x", "--maxfail=1"])
def test_a_run_that_ends_half_way_gives_no_verdict(project: pytest.Pytester, option: str) -> None:
    project.makepyfile(test_a="def test_it(): raise AssertionError")
    result = run(project, *KIND, option)
    assert result.ret in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.TESTS_FAILED)
    assert unused(result) == []


def test_workers_report_it_once_and_their_deselections_do_not(project: pytest.Pytester) -> None:
    """The controller imports none of the modules."""
    project.makepyfile(test_workers='from perago.testing import task_tests\ntest_workers = task_tests("shop")')
    result = run_process(project, "--perago-kinds=taskdef", "-n2")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert unused(result) == [f"{GONE}: there is no module shop.gone"]
    partial = run_process(project, *KIND, "-n1", "-k", "first")
    assert (partial.ret, unused(partial)) == (pytest.ExitCode.OK, [])


def test_a_worker_that_crashes_prevents_the_verdict(project: pytest.Pytester) -> None:
    project.makepyfile(test_crash="import os\n\ndef test_it(): os._exit(9)")
    result = run_process(project, *KIND, "-n2")
    assert result.parseoutcomes()["failed"] == 1
    assert unused(result) == []


CASE = "tests/perago_cases/frist/one.toml"


@pytest.fixture
def misnamed(pytester: pytest.Pytester) -> pytest.Pytester:
    """A task, and a case file in a directory that is not called like it."""
    add_module(pytester, "shop.a", "first")
    put(pytester, CASE).write_text("[params]\nnumbers = [1]\n")
    pytester.makeini("[pytest]\nperago_modules = shop\n")
    return pytester


def test_case_files_that_no_task_reads_are_found(misnamed: pytest.Pytester) -> None:
    result = run(misnamed)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert unused(result) == ["tests/perago_cases/frist: no task is called frist; did you mean first?"]
    assert not [line for line in result.outlines if line.startswith("remove:")]
    (misnamed.path / CASE).parent.rename(misnamed.path / "tests" / "perago_cases" / "first")
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
