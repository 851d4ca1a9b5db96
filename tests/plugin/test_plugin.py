"""The additions of the plugin to pytest: fixtures, options, and imports only where something asks for it."""

from __future__ import annotations

import pytest

from pytest_perago.options import OPTIONS

from ..generated import assert_table
from .projects import QUIET, add_module, copy_module, free_module, run, run_process

NAMES = ("perago_tree", "perago_lakefs", "perago_conductor", "perago_clock", "perago_run", "perago_server")


def test_all_are_on_services_of_the_test_alone(pytester: pytest.Pytester) -> None:
    """The pages of the documentation, which are run, show what each fixture does."""
    copy_module(pytester, "work", "copy")
    pytester.makepyfile(
        """
        import pytest
        from work import copy

        @pytest.mark.parametrize("number", [1, 2])
        def test_fresh(perago_run, perago_conductor, perago_lakefs, perago_clock, number):
            assert perago_run.conductor is perago_conductor
            assert perago_run.lakefs is perago_lakefs
            assert perago_run.clock is perago_clock is perago_conductor.clock
            assert perago_lakefs.faults is perago_conductor.faults is perago_run.faults
            assert perago_conductor.workflow_ids() == ()
            perago_run(copy, tree=copy)

        @pytest.mark.parametrize("number", [1, 2])
        def test_shared(perago_server, number):
            if number == 1:
                perago_server.lakefs.seed("mine", "main", {"a.txt": "1"})
            assert perago_server.lakefs.tree("mine", "main") == {"a.txt": b"1"}
        """
    )
    run(pytester, "-p", "no:randomly").assert_outcomes(passed=4)


def test_a_fault_that_never_happened_is_an_error_of_the_test(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work", "copy")
    pytester.makepyfile(
        """
        from perago.testing import Unavailable
        from work import copy

        def test_nothing_goes_wrong(perago_run):
            perago_run.faults.before("merge", nth=7, error=Unavailable)
            perago_run(copy, tree=copy)
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*AssertionError: faults that no call triggered: merge #7, before it takes effect*"])


def test_a_failed_test_shows_its_attempts(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work", "copy")
    pytester.makepyfile(
        """
        from work import copy

        def test_before(perago_run):
            perago_run(copy, tree={"a.txt": "before"})

        def test_wrong(perago_run):
            perago_run(copy, {"target": "x.tmp"}, tree={"a.txt": "1"})
            assert perago_run(copy, tree={"b.txt": "1"}).commit
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*where None = <Outcome copy FAILED_WITH_TERMINAL_ERROR: pre guardrail require_file('a.txt')*>.commit*",
            "*- perago: copy FAILED -*",
            "copy FAILED: post guardrail forbid_glob('**/[*].tmp'): matched 1 file: 'x.tmp'",
            "  violated   post guardrail forbid_glob('**/[*].tmp')*",
            "*- perago: copy FAILED_WITH_TERMINAL_ERROR -*",
        ]
    )
    assert result.stdout.str().count("- perago: copy ") == 2


def test_a_mistake_in_a_workflow_is_reported_at_the_line_of_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        from pydantic import BaseModel
        from perago import task
        from perago.workflows import Flow, workflow

        class Given(BaseModel):
            rows: int = 1

        @task(name="count", owner_email="data@example.com")
        def count(params: Given) -> Given:
            return params

        @workflow(name="good", version=1, owner_email="data@example.com")
        def good(flow: Flow, given: Given) -> Given:
            return flow.step("one", count, Given, rows=given.rows).result

        @workflow(name="bad", version=1, owner_email="data@example.com")
        def bad(flow: Flow, given: Given) -> Given:
            return flow.step("one", count, Given, row=given.rows).result

        def test_wiring(perago_run): perago_run.workflow(bad)
        def test_type(perago_run): perago_run.workflow(good, {"rows": "x"})
        def test_tree(perago_run): perago_run.workflow(good, tree="nowhere")
        def test_lost(perago_run): perago_run.workflow(good, lost=["two"])
        def test_json(perago_run): perago_run.workflow({"name": "empty", "tasks": []})
    """)
    ran = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    ran.assert_outcomes(failed=5)
    text = ran.stdout.str()
    assert "/perago/" not in text
    assert "fix: did you mean rows?" in text
    assert "TypeError: workflow good: /rows: must be integer, but is string" in text


def test_a_race_that_fails_is_reported_at_the_line_of_the_test(pytester: pytest.Pytester) -> None:
    file = copy_module(pytester, "work", "copy")
    file.write_text(file.read_text().replace('prefix="/"', 'on_moved_head="rebase"'))
    pytester.makepyfile(
        """
        from work import Params, copy

        def test_meeting(perago_run):
            perago_run.race((copy, Params(target="out")), (copy, Params(target="out/a")), tree=copy)
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       perago_run.race((copy, Params(target=*",
            "E       AssertionError: race of copy (branch 1) and copy (branch 2): 4 of 4 runs failed",
            "E       copy (branch 1) published first, then copy (branch 2) failed:",
            "E       copy FAILED_WITH_TERMINAL_ERROR: Conflict with others on branch main*",
            "test_*.py:4: AssertionError",
        ]
    )
    assert "- perago: copy FAILED" not in result.stdout.str()  # the message has the outcome that counts


def test_fixtures_are_listed_with_descriptions_only_with_the_plugin(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--fixtures")
    for name in (*NAMES, "perago_snapshot"):
        place = result.outlines.index(next(line for line in result.outlines if line.startswith(name)))
        assert result.outlines[place + 1].strip(), f"{name} has no docstring"
    assert not [line for line in run(pytester, "--fixtures", "-p", "no:perago").outlines if line.startswith("perago_")]


def test_without_the_extra_the_server_shows_the_command_to_install_it(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('import sys\nsys.modules["perago.embedded.services"] = None')
    pytester.makepyfile("def test_server(perago_server): pass")
    result = run_process(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*pip install jinja2 starlette uvicorn*"])


# ----------------------------------------------------------------------------------------- imports


REPORT = """
import sys
def pytest_unconfigure():
    with open("modules.txt", "w") as file:
        file.write("\\n".join(sorted(sys.modules)))
"""


def modules_of(pytester: pytest.Pytester, *arguments: str) -> set[str]:
    pytester.makeconftest(REPORT)
    pytester.makepyfile(test_plain="def test_plain(): pass")
    result = pytester.runpytest_subprocess(*QUIET, "-p", "no:platformdirs", *arguments, timeout=180)
    assert result.ret == pytest.ExitCode.OK
    return set((pytester.path / "modules.txt").read_text().split())


def test_inactive_it_adds_three_modules_and_nothing_of_perago(pytester: pytest.Pytester) -> None:
    added = modules_of(pytester) - modules_of(pytester, "-p", "no:perago")
    assert added == {"pytest_perago"} | {f"pytest_perago.{name}" for name in ("kinds", "options")}


def test_the_active_plugin_imports_no_heavy_package_and_writes_no_files(
    pytester: pytest.Pytester,
) -> None:
    add_module(pytester, "work", "add")
    modules = modules_of(pytester, "--perago-modules", "work", "--perago-kinds", "contract,guardrail,run")
    assert "perago" in modules
    assert not modules & {"hypothesis", "lakefs", "lakefs_sdk", "conductor", "starlette", "uvicorn", "typer", "httpx"}
    names = {path.relative_to(pytester.path).as_posix() for path in pytester.path.rglob("*")}
    written = {name for name in names if "__pycache__" not in name and not name.startswith(("runpytest", "std"))}
    assert written == {"work.py", "conftest.py", "test_plain.py", "modules.txt"}


def test_collecting_loads_neither_services_nor_hypothesis(pytester: pytest.Pytester) -> None:
    add_module(pytester, "work", "add")
    modules = modules_of(pytester, "--collect-only", "--perago-modules", "work", "--perago-kinds", "contract,fuzz,run")
    assert "work" in modules
    assert not {name for name in modules if name.startswith(("perago.embedded", "hypothesis"))}


# --------------------------------- options in docs/testing/reference.md, which WRITE_DOCS=1 writes


PAGE = "testing/reference.md"


def test_the_page_has_the_flags_as_they_are_declared() -> None:
    rows = [(f"`{option.option}`", option.help) for option in OPTIONS.values() if option.flag is not None]
    assert_table(PAGE, "Command line", ("Flag", "Meaning"), rows)


def test_the_page_has_the_ini_values_as_they_are_declared() -> None:
    rows = []
    for option in OPTIONS.values():
        if option.default is not None:
            default = f"`{option.default}`" if option.default else "none"
            rows.append((f"`{option.name}`", default, option.help if option.flag is None else f"as `{option.option}`"))
    assert_table(PAGE, "Ini values", ("Value", "Default", "Meaning"), rows)


USAGE_ERRORS: dict[str, tuple[list[str], str]] = {
    "skip": (["-o", "perago_skip=first::run"], "perago_skip: 'first::run' is not `<task>: <reason>`"),
    "run": (["-o", "perago_run=sometimes"], "perago_run: 'sometimes' is not one of off, marked, all"),
    "time": (["-o", "perago_run_timeout=soon"], "perago_run_timeout: 'soon' is not a number of seconds above 0"),
    "kind": (
        ["-o", "perago_kinds=contracts"],
        "--perago-kinds / perago_kinds: no kind 'contracts'; the kinds are contract, ",
    ),
    "no snapshots": (["-o", "perago_snapshot_dir="], "is empty"),
    "snapshots here": (["-o", "perago_snapshot_dir=."], "contains the whole project"),
    "snapshots above": (["-o", "perago_snapshot_dir=.."], "contains the whole project"),
    "snapshots on a drive": (["-o", "perago_snapshot_dir=C:\\tests"], "is a path of Windows"),
    "snapshots on a server": (["--perago-snapshot-dir=\\\\server\\share\\x"], "is a path of Windows"),
    "unused": (["-o", "perago_unused=never"], "'never' is not one of fail, warn, ignore"),
    "update": (["--perago-update", "shop/a.py"], "write --perago-update=all shop/a.py"),
    "no cases": (["-o", "perago_cases_dir="], "perago_cases_dir: is empty"),
    "cases on a drive": (["-o", "perago_cases_dir=C:\\cases"], "perago_cases_dir: 'C:\\\\cases' is a path of Windows"),
    "cases elsewhere": (["-o", "perago_cases_dir=tests\\case"], "perago_cases_dir: there is no directory "),
    **{
        f"{number} examples": (
            ["-o", f"perago_fuzz_examples={number}", "--perago-kinds", "fuzz"],
            f"perago_fuzz_examples: '{number}' is not a number above 0",
        )
        for number in ("0", "many", "-1")
    },
    **{
        f"cover {number}": (
            [f"--perago-cover-fail-under={number}", "--perago-cover"],
            f"'{number}' is not a number from 0 to 100",
        )
        for number in ("most", "101", "nan")
    },
    "cover file": (
        ["--perago-cover-json=there/cover.json", "--perago-cover"],
        "'there/cover.json' is not a file in a directory that exists",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), USAGE_ERRORS.values(), ids=USAGE_ERRORS)
def test_a_wrong_option_is_a_usage_error_that_names_it(
    pytester: pytest.Pytester, arguments: list[str], message: str
) -> None:
    add_module(pytester, "shop.a", "first")
    result = run(pytester, "--perago-modules", "shop", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *"])
    assert message in result.stderr.str()


def test_kinds_that_are_left_out_are_mentioned_once_per_project(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = "Example(id='x', params={}, tree={'in.txt': '1'})"
    free_module(pytester, "work", "return Model()", [example], "pre=[require_file('in.txt')]")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    arguments = ("-p", "perago", "--perago-modules", "work", "-k", "guardrail or run")
    first, second = (pytester.runpytest_inprocess(*arguments).stdout for _ in range(2))
    assert [line.split()[0] for line in first.lines if "--perago-kinds" in line] == ["perago:", "perago:"]
    assert [line for line in second.lines if "--perago-kinds" in line] == []
    free_module(pytester, "other", "return Model()", [example], "pre=[require_file('in.txt')]")
    chosen = ("-p", "perago", "--cache-clear", "--perago-modules", "other", "--perago-kinds", "run")
    assert "to attack" not in pytester.runpytest_inprocess(*chosen).stdout.str()
