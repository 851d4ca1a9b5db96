"""pytest-xdist and junit: parallel workers see the same tests, and reports arrive whole."""

from __future__ import annotations

import pytest

from .projects import add_module, copy_module, free_module, run, run_process, write_module

pytest_plugins = ["pytester"]

HARNESS = """
import pytest
from perago.testing.services import InMemoryServices

@pytest.fixture(autouse=True)
def broken(monkeypatch):
    monkeypatch.setattr(InMemoryServices, "seed", lambda self, tree: 1 / 0)
"""


def test_failures_errors_and_opt_outs_of_workers_are_reported_as_without_them(pytester: pytest.Pytester) -> None:
    free_module(pytester, "shop.a", "print('hello'); raise TaskFailed('no')", ["Example(id='x', params={})"])
    copy_module(pytester, "shop.b", "copy", examples=["Example(id='x', params={}, tree={'a.txt': ''})"])
    add_module(pytester, "shop.c", "third")
    write_module(pytester, "shop.d", "print('loud'); raise ValueError('broken')")
    pytester.makeconftest(HARNESS)
    result = run_process(
        pytester,
        "--perago-modules=shop",
        "-n2",
        "--junitxml=report.xml",
        "-o",
        "perago_skip=third::contract: known to be odd",
    )
    result.assert_outcomes(passed=11, failed=2, errors=1, skipped=5)
    output = result.stdout.str()
    for words in (
        "the function raised no",
        "hello",
        "loud",
        "rerun: pytest -o 'perago_skip=third::contract: known to be odd' --perago-modules shop.a 'shop/a.py::free::",
        "perago's own test code failed",
        "shop/c.py::third::contract[params]: known to be odd",
    ):
        assert words in output
    report = (pytester.path / "report.xml").read_text()
    assert 'tests="19"' in report
    assert '<property name="perago_opt_out" value="known to be odd" />' in report


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "xdist"])
def test_the_summary_names_untried_functions_and_guardrails(pytester: pytest.Pytester, workers: list[str]) -> None:
    copy_module(pytester, "shop.a", "first")
    copy_module(pytester, "shop.b", "second", examples=["Example(id='x', params={}, tree={'a.txt': ''})"])
    arguments = ("--perago-modules=shop", "-o", "perago_kinds=contract run", *workers)
    result = (run_process if workers else run)(pytester, *arguments)
    result.assert_outcomes(passed=10)
    lines = [line for line in result.outlines if line.startswith(("first:", "second:"))]
    assert lines == [
        "first: its function never ran: declare an Example, or use perago_run in a test",
        "first: pre guardrail require_file('a.txt') was never satisfied or violated",
        "first: post guardrail forbid_glob('**/*.tmp') was never satisfied or violated",
        "second: pre guardrail require_file('a.txt') was never violated",
        "second: post guardrail forbid_glob('**/*.tmp') was never violated",
    ]


def test_nothing_is_missing_where_all_was_tried_or_single_tests_were_asked_for(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "shop.a", "first", examples=["Example(id='x', params={}, tree={'a.txt': ''})"])
    add_module(pytester, "shop.b", "second")
    title = "not exercised by any attempt"
    (pytester.path / "pytest.ini").write_text("[pytest]\nperago_modules = shop\nperago_kinds = guardrail run\n")
    assert title not in run(pytester, "-o", "perago_kinds=guardrail run").stdout.str()
    for selection in (["shop/b.py::second::run[two]"], ["-k", "first and consistent"], ["--perago-kinds=contract"]):
        assert title not in run(pytester, *selection).stdout.str()


def test_the_short_summary_names_the_problem(pytester: pytest.Pytester) -> None:
    free_module(pytester, "work", "raise ValueError('bad column')", ["Example(id='x', params={})"])
    result = run(pytester, "--perago-modules=work", "--perago-kinds=run", "-vv")
    result.stdout.fnmatch_lines(
        ["FAILED work.py::free::run[[]x] - case 'x': the function raised ValueError: bad column*"]
    )
    assert "CaseFailed" not in result.stdout.str()


def test_a_function_that_cannot_be_ended_costs_its_test_and_not_the_session(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest("import pytest_perago.confinement\npytest_perago.confinement.GRACE = 0.5\n")
    body = "import itertools\nsum(itertools.repeat(1))"  # never comes back to where signals are handled
    free_module(pytester, "shop.a", body, ["Example(id='x', params={})"])
    add_module(pytester, "shop.b", "second")
    result = run_process(pytester, "--perago-modules=shop", "-n1", "-o", "perago_run_timeout=3")
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] == 1
    assert outcomes["passed"] == 11
    result.stdout.fnmatch_lines(["*worker 'gw0' crashed while running 'shop/a.py::free::run[[]x]'*"])
