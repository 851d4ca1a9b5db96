"""Kind `faults`: what production does to a function, its weaknesses by name, and no alarm about sound ones."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from pytest_perago.kinds.faults import CHECKS

from .projects import collected, copy_module, fork, free_module, run, run_process, write_case, write_module
from .weaknesses import CLEAN, PLANTED, write_weaknesses

FAULTS = ("--perago-modules", "work", "--perago-kinds", "faults")


def failed_tests(result: pytest.RunResult) -> set[tuple[str, str]]:
    """Task and label of each test that failed."""
    return set(re.findall(r"^FAILED .*::([\w-]+)::faults\[x:([\w-]+)\]", result.stdout.str(), re.MULTILINE))


@pytest.mark.skipif(sys.platform != "linux", reason="processes that are left are found on Linux only")
def test_each_weakness_is_found_by_the_test_of_that_name_and_by_no_other(pytester: pytest.Pytester) -> None:
    names = write_weaknesses(pytester, {name: body for name, (body, _) in PLANTED.items()})
    result = run(pytester, *FAULTS, "-rf")
    expected = {(names[name], label) for name, (_, labels) in PLANTED.items() for label in labels}
    assert failed_tests(result) == expected
    assert "pytest_perago/" not in result.stdout.str()
    result.stdout.fnmatch_lines_random(
        [
            "*the function depends on the host name; on another machine it *: out/m",
            "*the default of the param day depends on the time: *",
            "  fix     make the param required*",
        ]
    )


@pytest.mark.parametrize(
    ("label", "library", "text"),
    [("time", "pandas", "f'{pandas.Timestamp.now():%Y-%m-%d}'"), ("random", "numpy", "str(numpy.random.random())")],
)
def test_a_library_that_the_function_imports_has_the_fake_clock_and_seed(
    pytester: pytest.Pytester, label: str, library: str, text: str
) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    write_weaknesses(pytester, {label: f"import {library}\nreturn write(out / 'm', {text})"})
    result = run_process(pytester, *FAULTS, "-k", f"{label}]")
    result.assert_outcomes(failed=1, deselected=len(CHECKS) - 1)


@pytest.mark.parametrize(
    ("module", "value"), [("gzip", "gzip.time.time()"), ("stamping", "stamping.stamp()")], ids=["archive", "own"]
)
def test_a_module_that_the_function_imports_has_the_fake_clock(
    pytester: pytest.Pytester, module: str, value: str
) -> None:
    (pytester.path / "stamping.py").write_text("from datetime import date\n\ndef stamp(): return str(date.today())\n")
    body = f"import {module}; return Model(value={value})"
    free_module(pytester, "work", body, ["Example(id='x', params={})"])
    result = run_process(pytester, *FAULTS, "-k", "time]")
    result.assert_outcomes(failed=1, deselected=7)


def test_a_module_that_only_the_function_imports_runs_in_another_process(
    pytester: pytest.Pytester,
) -> None:
    body = """
        import sys, types
        sys.modules["made"] = types.ModuleType("made")
        sys.modules["made"].__file__ = __file__
        import made
        return Model(value=len({1, 2}))
        """
    free_module(pytester, "work", body, ["Example(id='x', params={})"])
    run_process(pytester, *FAULTS, "-k", "set-order]").assert_outcomes(passed=1, deselected=7)


def test_sound_functions_pass(pytester: pytest.Pytester) -> None:
    write_weaknesses(pytester, CLEAN)
    run(pytester, *FAULTS).assert_outcomes(passed=len(CLEAN) * len(CHECKS))


def test_pytest_ends_although_an_interrupted_call_left_a_waiting_thread(
    pytester: pytest.Pytester,
) -> None:
    write_weaknesses(pytester, {"queue": CLEAN["a producer and a consumer"]})
    result = fork(pytester, "-p", "no:conductor-agents-testing", *FAULTS)
    result.assert_outcomes(passed=len(CHECKS))


def test_a_task_without_a_workspace_has_only_the_tests_that_need_none(pytester: pytest.Pytester) -> None:
    """Its params hold a lock, which cannot be copied."""
    file = free_module(pytester, "work", "return Model(value=1)", ["Example(id='x', params={})"])
    lock = "    value: Any = None\n    _lock: Any = PrivateAttr(default_factory=threading.Lock)\n"
    text = file.read_text().replace("    value: Any = None\n", lock)
    file.write_text(f"import threading\nfrom pydantic import PrivateAttr\n{text}")
    run(pytester, *FAULTS).assert_outcomes(passed=8)


def test_completing_cases_alone_have_fault_tests_if_perago_run_allows_it(
    pytester: pytest.Pytester,
) -> None:
    """A broken case file is left to its run test."""
    copy_module(pytester, "work", "copy", examples=["Example(id='x', params={}, tree={'x': '1'}, expect='pre')"])
    write_case(pytester, "copy/good", "[tree]\n'a.txt' = '1'\n")
    write_case(pytester, "copy/broken", "= 1")
    run(pytester, *FAULTS).assert_outcomes(passed=len(CHECKS))
    assert collected(pytester, *FAULTS, "-o", "perago_run=off") == []


def test_a_case_that_does_not_complete_is_not_run_for_each_test(pytester: pytest.Pytester) -> None:
    counter = pytester.path / "counter"
    body = f"open({str(counter)!r}, 'a').write('x'); raise TaskFailed('no')"
    free_module(pytester, "work", body, ["Example(id='x', params={})"])
    run(pytester, *FAULTS, "-W", "ignore").assert_outcomes(skipped=8)
    assert counter.read_text() == "xx"  # with a pinned clock and without


def test_a_case_that_exceeds_the_time_limit_is_not_run_for_each_test(pytester: pytest.Pytester) -> None:
    free_module(pytester, "work", "import time; time.sleep(60)", ["Example(id='x', params={})"])
    run(pytester, *FAULTS, "-o", "perago_run_timeout=1").assert_outcomes(failed=1, skipped=7)


def test_one_weakness_can_be_opted_out_of_for_all_cases(pytester: pytest.Pytester) -> None:
    body = "import time; return Model(value=time.time())"
    free_module(pytester, "work", body, ["Example(id='x', params={})", "Example(id='y', params={})"])
    result = run(pytester, *FAULTS, "-o", "perago_skip=free::faults[*:time]: it says when it was made")
    result.assert_outcomes(passed=14, skipped=2)
    result.stdout.fnmatch_lines(["*perago opt-outs*", "*::faults[[]x:time]: it says when it was made"])


def test_a_function_that_ignores_its_end_is_ended(pytester: pytest.Pytester) -> None:
    """The first call ends by itself. A cancelled one goes on for ever."""
    body = """
    import time
    tries = 0
    while True:
        try:
            time.sleep(0.001)
            if not tries:
                return Model()
        except Exception:
            raise
        except BaseException as error:
            if type(error).__name__ == "TimeLimitExceeded":
                raise
            tries += 1
    """
    free_module(pytester, "work", body, ["Example(id='x', params={})"])
    result = run(pytester, *FAULTS, "-k", "cancelled", "-o", "perago_run_timeout=1")
    result.assert_outcomes(failed=1, deselected=7)


def test_nothing_of_the_conditions_stays(pytester: pytest.Pytester) -> None:
    """Clock, chance, listings and threads are as they were, also for the author's module."""
    import builtins
    import concurrent.futures
    import os
    import random
    import threading

    def state() -> list[object]:
        return [
            os.listdir,
            os.scandir,
            os.urandom,
            random.Random,
            random.getstate(),
            builtins.__import__,
            threading.Thread.start,
            concurrent.futures.as_completed,
            sys.getprofile(),
        ]

    before = state()
    body = "import time; time.time(); raise TaskFailed('x') if current().retry_count else TaskFailed('y')"
    free_module(pytester, "work", body, ["Example(id='x', params={})"])
    run(pytester, *FAULTS)
    assert state() == before


def test_a_death_leaves_no_file_of_the_function_behind(pytester: pytest.Pytester, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    body = f"""
    lock = Path({str(lock)!r})
    lock.write_text("")
    try:
        return Model(value=str(lock.name))
    finally:
        lock.unlink()
    """
    free_module(pytester, "work", body, ["Example(id='x', params={})"])
    run(pytester, *FAULTS, "-k", "retried").assert_outcomes(passed=1, deselected=7)
    assert not lock.exists()


_REAL = "isinstance(os.listdir, type(len))"
"""Whether the guardrail runs in an attempt, not in a check: there every listing has an order."""
_GUARDRAILS = {  # the hash of a text is determined by the seed of the process
    "time": "'old' if datetime.date.today().year > 2026 else None",
    "random": f"None if {_REAL} or random.random() < 0.5 else 'unlucky'",
    "listing-order": f"None if {_REAL} or os.listdir(workspace / 'raw')[0] == 'a.csv' else 'b is first'",
    "set-order": f"None if {_REAL} or hash('a') % 2 else 'no'",
    "repeated": "SEEN.append(1) or ('enough' if len(SEEN) > 2 else None)",
}
"""By the test that must find it: the answer of a guardrail."""
_SOUND_GUARDRAIL = (
    "None if all(each.stat().st_mtime < time.time() + 60 for each in workspace.rglob('*.csv')) else 'new'"
)


@pytest.mark.parametrize("phase", ["pre", "post"])
def test_own_guardrails_are_judged_under_the_same_conditions(pytester: pytest.Pytester, phase: str) -> None:
    """A guardrail in a module of its own that depends on clock, chance, order or earlier calls."""
    answers = {**_GUARDRAILS, "sound": _SOUND_GUARDRAIL}
    for label, answer in answers.items():
        name = label.replace("-", "_")
        head = "import datetime, os, random, time\nfrom pathlib import Path\nfrom perago import guardrail\nSEEN = []\n"
        rule = f"@guardrail\ndef looks_good(workspace: Path) -> str | None:\n    return {answer}\n"
        write_module(pytester, f"work.rules_{name}", head + rule)
        example = "Example(id='x', params={}, tree={'raw/a.csv': '1', 'raw/b.csv': '2'})"
        file = free_module(pytester, f"work.{name}", "return params", [example], f"{phase}=[looks_good]")
        text = file.read_text().replace('"free"', f'"{label}"')
        file.write_text(f"from work.rules_{name} import looks_good\n{text}")
    result = run(pytester, *FAULTS, "-k", "not retried", "-rf")
    failures = failed_tests(result)
    assert failures == {(label, label) for label in _GUARDRAILS}
    result.stdout.fnmatch_lines([f"*the {phase} guardrail looks_good accepts files, and refuses the same files*"])


def test_a_time_of_a_file_is_not_said_to_change_in_a_retry(pytester: pytest.Pytester) -> None:
    body = "return Model(value=str((workspace / 'in.txt').stat().st_mtime))"
    free_module(pytester, "work", body, ["Example(id='x', params={}, tree={'in.txt': '1'})"], "pre=[]")
    text = run(pytester, *FAULTS, "-k", "repeated").stdout.str()
    assert "for the same files, uploaded at another time, it has another output" in text
    assert "equal files can have other times" in text
    assert "a retry" not in text


def test_the_fix_of_a_call_that_differs_names_its_cause(pytester: pytest.Pytester) -> None:
    body = "(workspace / 'a.txt').write_text(str(workspace))\nreturn Model()"
    free_module(pytester, "work", body, ["Example(id='x', params={}, tree={'in.txt': '1'})"], "pre=[]")
    text = run(pytester, *FAULTS, "-k", "repeated").stdout.str()
    assert "write path.relative_to(workspace)" in text
