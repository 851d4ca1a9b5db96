"""pytest's debugger in generated tests: `--pdb` and `breakpoint()` stand in the author's function."""

from __future__ import annotations

import sys

import pytest

from .projects import QUIET, free_module

pytest_plugins = ["pytester"]

EXAMPLE = "Example(id='x', params={})"


def debug(pytester: pytest.Pytester, typed: str, *options: str) -> pytest.RunResult:
    """pytest in a process of its own, with a person who types this."""
    command = [sys.executable, "-m", "pytest", *QUIET, "--perago-modules", "work", "--perago-kinds", "run", *options]
    return pytester.run(*command, stdin=typed.encode(), timeout=60)


def test_pdb_opens_where_the_function_raised(pytester: pytest.Pytester) -> None:
    free_module(pytester, "work", "table = {'x': 41 + 1}\nreturn table[params.value]", [EXAMPLE])
    result = debug(pytester, "p table['x'] * 10\nq\n", "--pdb")
    result.stdout.fnmatch_lines(["*the function raised KeyError: None*", "*work.py(*)work()", "(Pdb) 420"])


def test_an_error_that_is_declared_opens_no_debugger(pytester: pytest.Pytester) -> None:
    free_module(pytester, "work", "raise TaskFailed('no')", ["Example(id='x', params={}, expect='failed')"])
    result = debug(pytester, "", "--pdb")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*Pdb*")


def test_no_time_limit_strikes_while_a_person_looks(pytester: pytest.Pytester) -> None:
    """Both runs of the case stop at the breakpoint."""
    free_module(pytester, "work", "breakpoint()\nreturn Model(value=1)", [EXAMPLE])
    wait = "import time; time.sleep(1.5); print('looked at', params)\nc\n"
    result = debug(pytester, wait * 2, "-o", "perago_run_timeout=1")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*looked at value=None"] * 2)
