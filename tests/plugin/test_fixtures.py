"""The fixtures as a written test would use them: all on the same services, and free for those who do not ask."""

from __future__ import annotations

import pytest

from .projects import copy_module, run, write_module

pytest_plugins = ["pytester"]

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


FORK = """
    import pytest
    from pathlib import Path
    from pydantic import BaseModel
    from perago import WorkspaceSpec, task

    class Params(BaseModel):
        target: str

    class Result(BaseModel):
        pass

    @task(name="write", owner_email="data@example.com", workspace=WorkspaceSpec(on_moved_head="rebase"))
    def write(workspace: Path, params: Params) -> Result:
        target = workspace / params.target
        target.parent.mkdir(exist_ok=True)
        target.write_text(params.target)
        return Result()
"""


def test_a_race_that_fails_is_reported_at_the_line_of_the_test(pytester: pytest.Pytester) -> None:
    write_module(pytester, "work", FORK)
    pytester.makepyfile(
        """
        from work import Params, write

        def test_meeting(perago_run):
            perago_run.race((write, Params(target="out")), (write, Params(target="out/a")), tree={})
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       perago_run.race((write, Params(target=*",
            "E       AssertionError: race of write (branch 1) and write (branch 2): 4 of 4 runs failed",
            "E       write (branch 1) published first, then write (branch 2) failed:",
            "E       write FAILED_WITH_TERMINAL_ERROR: Conflict with others on branch main*",
            "test_*.py:4: AssertionError",
        ]
    )
    assert "- perago: write " not in result.stdout.str()  # the message has the outcome that counts


def test_all_fixtures_are_listed_with_a_description(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--fixtures")
    for name in (*NAMES, "perago_snapshot"):
        place = result.outlines.index(next(line for line in result.outlines if line.startswith(name)))
        assert result.outlines[place + 1].strip(), f"{name} has no docstring"


def test_they_are_not_there_when_the_plugin_is_switched_off(pytester: pytest.Pytester) -> None:
    assert not [line for line in run(pytester, "--fixtures", "-p", "no:perago").outlines if line.startswith("perago_")]


def test_without_the_extra_the_server_shows_the_command_to_install_it(pytester: pytest.Pytester) -> None:
    write_module(
        pytester,
        "conftest",
        """
        import sys
        sys.modules["perago.embedded.services"] = None
        """,
    )
    pytester.makepyfile("def test_server(perago_server): pass")
    result = pytester.runpytest_subprocess("-p", "no:conductor-agents-testing", timeout=60)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*pip install jinja2 starlette uvicorn*"])


def test_a_failed_comparison_of_trees_is_reported_by_file(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work", "copy")
    pytester.makepyfile(
        """
        from work import copy

        def test_published(perago_run):
            assert perago_run(copy, tree={"a.txt": "1"}).tree == {"a.txt": "2", "b.txt": ""}

        def test_at_the_head(perago_run):
            perago_run(copy, tree={"a.txt": "1"})
            assert {"a.txt": "1"} == perago_run.tree()

        def test_other_mappings(perago_run):
            assert {"a.txt": "1"} == {"a.txt": "2"}
        """
    )
    output = run(pytester, "-vv").stdout.str()
    assert output.count("published tree == expected: 3 files differ (+ published, - expected)") >= 1
    assert output.count("published tree == expected: 1 file differs (+ published, - expected)") >= 1
    for line in ("+ out/b.txt: '1'", "- b.txt: ''", "~ a.txt: 1 line expected, 1 line published"):
        assert line in output
    assert "{'a.txt': '1'} == {'a.txt': '2'}" in output
