"""The report, the summary and the `rerun:` lines of a run, the same with workers as without."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from perago.text import log_zone
from pytest_perago.report import Run, page
from pytest_perago.report import TestResult as Result

from ..console.markup import Element
from ..console.markup import read as parsed
from .projects import QUIET, add_module, copy_module, free_module, run, run_process, write_case, write_module

EVIL = "<img src=x onerror=alert(1)>"

OWN = f"""
import pytest
from shop.copied import Params, copy

@pytest.mark.parametrize("name", ["{EVIL}", 'a"onload="b', "plain"])
def test_own(perago_run, name):
    perago_run(copy, Params(), tree={{"a.txt": name}}).assert_completed()
    assert name == "plain", name

def test_fixture_alone(perago_tree):
    pass

def test_of_other_things():
    pass
"""


def read(pytester: pytest.Pytester, name: str = "report.html") -> Element:
    return parsed((pytester.path / name).read_text(encoding="utf-8"))


def section(page: Element, name: str) -> str:
    return page.one("section", id=name).text


@pytest.fixture
def shop(pytester: pytest.Pytester) -> pytest.Pytester:
    """Tasks with all that a page can show, and tests of its own."""
    copy_module(
        pytester,
        "shop.copied",
        "copy",
        examples=["Example(id='x', params={'target': '<b>.txt'}, tree={'a.txt': '<i>1</i>'}, result={'size': 8})"],
    )
    free_module(pytester, "shop.failing", f"raise TaskFailed('{EVIL}')", ["Example(id='bad', params={})"])
    add_module(pytester, "shop.skipped", "third")
    write_module(pytester, "shop.broken", "raise ValueError('broken')")
    pytester.makepyfile(test_own=OWN)
    pytester.makeini("[pytest]\nperago_modules = shop\nperago_skip = third::run: needs an hour\n")
    return pytester


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "xdist"])
def test_the_report_shows_tasks_failures_guardrails_and_examples(shop: pytest.Pytester, workers: list[str]) -> None:
    before = {path.name for path in shop.path.iterdir()}
    result = (run_process if workers else run)(shop, "--perago-report=out/report.html", *workers)
    assert {path.name for path in shop.path.iterdir()} - before <= {"out", "runpytest", "__pycache__"}
    result.stdout.fnmatch_lines(["*- perago report: out/report.html -*"])
    page = read(shop, "out/report.html")
    cells = section(page, "tasks")
    assert "Task contract run import own tests" in cells
    assert "copyshop.copied, copied.py:" in cells
    assert "✓ 5 ✓ 1 ✗ 2 of 3" in cells
    assert "thirdshop.skipped" in cells
    assert "– 1 skipped" in cells
    assert "tests that ran no task" in cells
    failures = section(page, "failures")
    assert f"case 'bad': the function raised {EVIL}" in failures
    assert "pytest --perago-kinds contract,run 'shop/failing.py::free::run[bad]'" not in failures
    assert "pytest 'shop/failing.py::free::run[bad]'" in failures
    assert failures.count("rerun:") == 0
    assert "pytest 'test_own.py::test_own[plain]'" not in failures
    assert "pytest 'test_own.py::test_own[a\"onload=\"b]'" in failures
    assert "raise ValueError('broken')" in failures
    rules = section(page, "guardrails")
    assert "copy pre require_file('a.txt') ✓ yes ✗ never" in rules
    assert "to find published files whose loss no guardrail would notice" in rules
    examples = section(page, "examples")
    for text in ("<b>.txt", "<i>1</i>", '{"size": 8}', "✓ passed"):
        assert text in examples
    assert "needs an hour" in section(page, "left-out")
    assert "test_of_other_things" not in section(page, "slowest")
    assert "Incomplete" not in page.text
    check_nothing_is_fetched(page, (shop.path / "out/report.html").read_text())


def check_nothing_is_fetched(page: Element, text: str) -> None:
    """Names and messages are text."""
    elements = [*page.walk()]
    assert not {element.tag for element in elements} & {"script", "img", "link", "iframe", "i", "b", "form", "object"}
    attribute_sets = [element.attributes for element in elements]
    assert not [name for attributes in attribute_sets for name in attributes if name.startswith("on")]
    links = [attributes[name] for attributes in attribute_sets for name in ("href", "src") if name in attributes]
    assert links
    assert {*links} <= {f"#{attributes.get('id')}" for attributes in attribute_sets}
    assert "default-src &#x27;none&#x27;" in text
    assert "prefers-color-scheme: dark" in text
    assert "http" not in re.sub(r"http-equiv", "", text)


def test_a_race_counts_as_a_test_of_its_tasks(pytester: pytest.Pytester) -> None:
    file = copy_module(pytester, "work", "copy")
    file.write_text(file.read_text().replace('prefix="/"', 'on_moved_head="rebase"'))
    pytester.makepyfile(
        test_own="""
        from work import Params, copy

        def test_race(perago_run):
            branches = [(copy, Params(target=f"{name}.txt")) for name in ("x", "y")]
            perago_run.race(*branches, tree={"a.txt": "1"})
        """
    )
    run(pytester, "--perago-modules", "work", "test_own.py", "--perago-report=report.html").assert_outcomes(passed=5)
    cells = section(read(pytester), "tasks")
    assert "own tests" in cells
    assert re.search(r"copywork, work.py:\d+ ✓ 4 ✓ 1", cells), cells


def test_it_has_the_coverage_of_guardrails_and_names_unguarded_files(shop: pytest.Pytester) -> None:
    run(shop, "--perago-report=report.html", "--perago-cover", "--perago-kinds=guardrail,run")
    page = read(shop)
    text = section(page, "guardrails")
    assert re.search(r"Coverage: \d+ of \d+ points", text)
    assert "shop/copied.py::copy::guardrail[post:forbid_glob(**/*.tmp):present]" in text
    assert "copy <b>.txt x ✗ no ✗ no ✗ no ✗ no guardrail notices its loss" in text


def test_taskdef_differences_have_their_class(pytester: pytest.Pytester) -> None:
    module = add_module(pytester, "shop.added", "add")
    options = ("--perago-modules=shop", "--perago-kinds=taskdef")
    run(pytester, *options, "--perago-update").assert_outcomes(passed=1)
    module.write_text(module.read_text().replace("numbers: list[int]", "numbers: list[int]\n    more: int"))
    run(pytester, *options, "--perago-report=report.html").assert_outcomes(failed=1)
    changes = section(read(pytester), "taskdefs")
    assert "add breaking /inputSchema/data/properties/params/" in changes


def test_a_run_without_tasks_and_one_that_is_stopped_have_a_page(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    assert run(pytester, "--perago-report=report.html").ret == pytest.ExitCode.OK
    assert "No test of this run is about a task." in section(read(pytester), "tasks")
    free_module(pytester, "shop.failing", "raise TaskFailed('no')", ["Example(id='bad', params={})"])
    run(pytester, "--perago-modules=shop", "--perago-report=report.html", "-x", "-k", "run or it")
    assert "Incomplete: The run was stopped before its end." in read(pytester).text


def test_the_time_of_a_report_has_the_configured_zone(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perago.text._log_zone", log_zone())  # the report changes it
    monkeypatch.setenv("PERAGO_TIME_ZONE", "Asia/Kathmandu")
    pytester.makepyfile("def test_it(): pass")
    run(pytester, "--perago-report=report.html")
    assert "+05:45 Asia/Kathmandu" in read(pytester).text


def test_what_cannot_be_written_is_reported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    (pytester.path / "file").touch()
    result = run(pytester, "--perago-report=.")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--perago-report: '.' is a directory; give the name of a file*"])
    result = run(pytester, "--perago-report=file/report.html")
    result.stdout.fnmatch_lines(["perago report: file/report.html could not be written: *"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_texts_are_escaped_and_control_characters_are_visible() -> None:
    result = Result("a::<b>\x1b", "own", "", (EVIL,), "failed", summary="<&\x1b>", text="'<td>'", changes=('"><: x',))
    text = page(Run("<i>", 0.0, results={result.nodeid: result}, unused=("<u>",)))
    assert {"i", "u", "img"}.isdisjoint(element.tag for element in parsed(text).walk())
    assert "&lt;&amp;⟨U+001B⟩&gt;" in text
    assert 'class="&#34;&gt;&lt;"' in text
    assert "\x1b" not in text


def test_without_jinja2_the_report_is_a_usage_error(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "pytest_perago.report")
    result = run(pytester, "--perago-report=report.html")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--perago-report needs jinja2: pip install jinja2*"])


# --------------------------------------------------------------------------- workers and summaries


HARNESS = """
import pytest
from perago.testing.services import InMemoryServices

@pytest.fixture(autouse=True)
def broken(monkeypatch):
    monkeypatch.setattr(InMemoryServices, "seed", lambda self, tree: 1 / 0)
"""


def test_failures_errors_and_opt_outs_of_workers_are_reported(pytester: pytest.Pytester) -> None:
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
    for line in (
        "the function raised no",
        "hello",
        "loud",
        "rerun: pytest -o 'perago_skip=third::contract: known to be odd' --perago-modules shop.a 'shop/a.py::free::",
        "harness error",
        "perago's own test code failed",
        "shop/c.py::third::contract[params]: known to be odd",
    ):
        assert line in output
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
        "first: its function never ran: declare an Example that completes, or use perago_run in a test",
        "first: pre guardrail require_file('a.txt') was never satisfied or violated",
        "first: post guardrail forbid_glob('**/*.tmp') was never satisfied or violated",
        "second: pre guardrail require_file('a.txt') was never violated",
        "second: post guardrail forbid_glob('**/*.tmp') was never violated",
    ]


def test_nothing_is_untried_if_all_was_tried_or_single_tests_were_named(pytester: pytest.Pytester) -> None:
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


def test_a_function_that_cannot_be_ended_costs_only_its_own_test(
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


# ----------------------------------------------------------- commands that run a failed test again


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
        ["-c", "other.ini"],
    ],
    ids=["keyword", "kinds and import mode", "rootdir and override", "ini file"],
)
def test_it_runs_that_test_alone(pytester: pytest.Pytester, arguments: list[str]) -> None:
    free_module(pytester, "shop.work", "raise TaskFailed('no')", FAILS)
    (pytester.path / "other.ini").write_text("[pytest]\nperago_modules = shop\n")
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


def test_it_is_seen_from_where_pytest_was_started(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makeini("[pytest]\nperago_modules = shop\n")
    free_module(pytester, "shop.work", "raise TaskFailed('no')", FAILS)
    monkeypatch.chdir(pytester.path / "shop")
    result = run(pytester)
    assert [line[-1] for line in lines_of(result)] == ["work.py::free::run[x]", "work.py::free::run[y]"]
    check_each_alone(pytester, result, 2)


def test_brackets_slashes_quotes_unicode_and_colons_in_a_label_survive(pytester: pytest.Pytester) -> None:
    free_module(pytester, "work", "return Model()")
    for label in ("a[b]c", "a::b", "größe 漢字", "it's", "$HOME *", "a\tb", "[x", "100%"):
        write_case(pytester, f"free/{label}", 'expect = "failed"')
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
    write_case(pytester, "free/a")
    write_case(pytester, f"free/{label}", "[params]\nvalue = 1\n")
    arguments = ("-p", "cacheprovider", "-p", "stepwise", "--perago-modules", "work", "--perago-kinds", "run", option)
    pytester.runpytest_inprocess(*QUIET[:6], *arguments).assert_outcomes(passed=1, failed=1)
    pytester.runpytest_inprocess(*QUIET[:6], *arguments).assert_outcomes(failed=1, deselected=1)
