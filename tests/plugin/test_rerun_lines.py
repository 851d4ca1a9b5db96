"""The `rerun:` line of a failure runs exactly that test again, wherever pytest was started and however."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from .projects import QUIET, free_module, run, write_module

pytest_plugins = ["pytester"]

FAILS = ["Example(id='x', params={})", "Example(id='y', params={})"]


def lines_of(result: pytest.RunResult) -> list[list[str]]:
    return [shlex.split(line.removeprefix("rerun: ")) for line in result.outlines if line.startswith("rerun: ")]


def check_each_alone(pytester: pytest.Pytester, result: pytest.RunResult, expected: int) -> None:
    lines = lines_of(result)
    assert len(lines) == expected
    for program, *arguments in lines:
        assert program == "pytest"
        alone = run(pytester, *arguments)
        alone.assert_outcomes(failed=1)
        assert lines_of(alone) == [[program, *arguments]]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--perago-modules", "shop", "-k", "run and x or y"],
        ["--perago-modules", "shop", "--perago-kinds", "run", "--import-mode=importlib"],
        ["--rootdir", ".", "-o", "perago_modules=shop"],
    ],
    ids=["keyword", "kinds and import mode", "rootdir and override"],
)
def test_it_runs_that_test_alone(pytester: pytest.Pytester, arguments: list[str]) -> None:
    free_module(pytester, "shop.work", "raise TaskFailed('no')", FAILS)
    check_each_alone(pytester, run(pytester, *arguments), 2)


def test_it_names_only_the_module_that_is_needed(pytester: pytest.Pytester) -> None:
    for name in ("shop.work", "other.work"):
        free_module(pytester, name, "raise TaskFailed('no')", FAILS[:1])
    write_module(pytester, "bad", "raise ValueError")
    pytester.makeini("[pytest]\nperago_modules = bad\n")
    result = run(pytester, "--perago-modules", "shop,other", "-k", "run or import")
    assert sorted(line[:-1] for line in lines_of(result)) == [
        ["pytest"],
        ["pytest", "--perago-modules", "other.work"],
        ["pytest", "--perago-modules", "shop.work"],
    ]
    check_each_alone(pytester, result, 3)


def test_it_runs_all_cases_if_one_fails_only_after_another(pytester: pytest.Pytester) -> None:
    examples = [f"Example(id='{value}', params={{'value': {value}}}, result={{'value': {value}}})" for value in (1, 2)]
    body = "SEEN.setdefault('first', params.value); return Model(value=SEEN['first'])"
    file = free_module(pytester, "work", body, examples)
    file.write_text(f"SEEN = {{}}\n{file.read_text()}")
    arguments = ("--perago-modules", "work", "--perago-kinds", "run")
    result = run(pytester, *arguments)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "broken contract: case '2': it fails only after other tests of the task, so the module keeps state*",
            "  state     SEEN was {}, is {'first': 1}",
            "rerun: pytest --perago-modules work --perago-kinds run 'work.py::free'",
        ]
    )
    (line,) = lines_of(result)
    again = run(pytester, *line[1:])
    again.assert_outcomes(passed=1, failed=1)


def test_it_names_the_ini_file_that_was_given(pytester: pytest.Pytester) -> None:
    free_module(pytester, "shop.work", "raise TaskFailed('no')", FAILS)
    (pytester.path / "other.ini").write_text("[pytest]\nperago_modules = shop\n")
    check_each_alone(pytester, run(pytester, "-c", "other.ini"), 2)


def test_it_is_seen_from_where_pytest_was_started(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makeini("[pytest]\nperago_modules = shop\n")
    free_module(pytester, "shop.work", "raise TaskFailed('no')", FAILS)
    monkeypatch.chdir(pytester.path / "shop")
    result = run(pytester)
    assert [line[-1] for line in lines_of(result)] == ["work.py::free::run[x]", "work.py::free::run[y]"]
    check_each_alone(pytester, result, 2)


def test_brackets_slashes_quotes_unicode_and_colons_in_a_label_survive(pytester: pytest.Pytester) -> None:
    free_module(pytester, "work", "return Model()")
    cases = pytester.path / "tests" / "perago_cases" / "free"
    cases.mkdir(parents=True)
    for label in ("a[b]c", "a::b", "größe 漢字", "it's", "$HOME *", "a\tb", "[x", "100%"):
        (cases / f"{label}.toml").write_text('expect = "failed"')
    result = run(pytester, "--perago-modules", "work", "--perago-kinds", "run")
    check_each_alone(pytester, result, 8)


def test_a_broken_module_outside_of_the_root_is_found_again(pytester: pytest.Pytester, tmp_path: Path) -> None:
    write_module(pytester, "lib.broken", "raise ValueError('x')")
    project = pytester.path / "project"
    project.mkdir()
    (project / "pytest.ini").write_text("[pytest]\npythonpath = ..\nperago_modules = lib.broken\n")
    result = run(pytester, "-c", "project/pytest.ini", "--rootdir", "project")
    check_each_alone(pytester, result, 1)


@pytest.mark.parametrize(("option", "label"), [("--lf", "y::[z] größe"), ("--stepwise", "x")])
def test_pytest_finds_the_last_failures_with_last_failed(pytester: pytest.Pytester, option: str, label: str) -> None:
    free_module(pytester, "work", "if params.value: raise TaskFailed('no')\nreturn Model()")
    cases = pytester.mkdir("tests") / "perago_cases" / "free"
    cases.mkdir(parents=True)
    (cases / "a.toml").touch()
    (cases / f"{label}.toml").write_text("[params]\nvalue = 1\n")
    arguments = ("-p", "cacheprovider", "-p", "stepwise", "--perago-modules", "work", "--perago-kinds", "run", option)
    pytester.runpytest_inprocess(*QUIET[:6], *arguments).assert_outcomes(passed=1, failed=1)
    pytester.runpytest_inprocess(*QUIET[:6], *arguments).assert_outcomes(failed=1, deselected=1)
