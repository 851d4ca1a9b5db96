"""pytest-xdist and junit: parallel workers see the same tests, and reports arrive whole."""

from __future__ import annotations

import pytest

from .projects import add_module, copy_module, free_module, run_process, write_module

pytest_plugins = ["pytester"]

HARNESS = """
import pytest
from perago.testing import InMemoryServices

@pytest.fixture(autouse=True)
def broken(monkeypatch):
    monkeypatch.setattr(InMemoryServices, "seed", lambda self, tree: 1 / 0)
"""


def test_failures_errors_and_opt_outs_of_workers_are_told_as_without_them(pytester: pytest.Pytester) -> None:
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
        "rerun: pytest -o 'perago_skip=third::contract: known to be odd' --perago-modules shop 'shop/a.py::free::",
        "perago's own test code failed",
        "shop/c.py::third::contract[params]: known to be odd",
    ):
        assert words in output
    report = (pytester.path / "report.xml").read_text()
    assert 'tests="19"' in report
    assert '<property name="perago_opt_out" value="known to be odd" />' in report


def test_a_function_that_nothing_ends_costs_its_test_and_not_the_session(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest("import pytest_perago.watch\npytest_perago.watch.GRACE = 0.5\n")
    body = "import itertools\nsum(itertools.repeat(1))"  # never comes back to where signals are handled
    free_module(pytester, "shop.a", body, ["Example(id='x', params={})"])
    add_module(pytester, "shop.b", "second")
    result = run_process(pytester, "--perago-modules=shop", "-n1", "-o", "perago_run_timeout=3")
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] == 1
    assert outcomes["passed"] == 11
    result.stdout.fnmatch_lines(["*worker 'gw0' crashed while running 'shop/a.py::free::run[[]x]'*"])
