"""`--perago-cover`: which guardrails were never broken, and which published files nobody would miss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .projects import add_module, free_module, run, run_inside, run_process

RULES = """
from perago import forbid_glob, guardrail

@guardrail
def never_red(workspace: Path) -> str | None:
    return None

@guardrail
def not_empty(workspace: Path) -> str | None:
    return None if (workspace / "out/a.csv").stat().st_size else "it is empty"

@guardrail
def whole(workspace: Path) -> str | None:
    return None if (workspace / "out/a.csv").read_text().endswith("end\\n") else "it is cut off"

@task("""
BODY = """
(workspace / "out").mkdir()
print("noise")
for name in {names}:
    (workspace / name).write_text("1,2\\nend\\n")
return Model()
"""
COVER = ("--perago-modules", "work", "--perago-kinds", "guardrail,run", "--perago-cover")


def write(pytester: pytest.Pytester, post: str, *names: str) -> None:
    body = BODY.format(names=list(names or ("out/a.csv",)))
    spec = f"pre=[require_file('in.txt')], post=[{post}]"
    file = free_module(pytester, "work", body, ["Example(id='x', params={}, tree={'in.txt': '1'})"], spec)
    file.write_text(file.read_text().replace("@task(", RULES))


def covered(pytester: pytest.Pytester, *arguments: str) -> dict[str, Any]:
    """The JSON of a run that passes."""
    run(pytester, *COVER, "--perago-cover-json=cover.json", *arguments)
    coverage: dict[str, Any] = json.loads(Path(pytester.path, "cover.json").read_text())
    return coverage


@pytest.mark.parametrize(
    ("post", "expected"),
    [
        (
            "require_glob('out/*.csv'), require_glob('**/*.log', min_count=0), never_red, forbid_glob('**/*.tmp')",
            {"require_glob('**/*.log', min_count=0)": "never violated", "never_red": "never violated"},
        ),
        (
            "require_file('in.txt'), require_glob('out/*.csv')",
            {"require_file('in.txt')": "does not notice the loss of any published file"},
        ),
    ],
    ids=["never fails", "reads the input only"],
)
def test_a_useless_guardrail_is_named(pytester: pytest.Pytester, post: str, expected: dict[str, str]) -> None:
    write(pytester, post)
    rules = covered(pytester)["tasks"][0]["guardrails"]
    assert {rule["rule"]: rule["problems"] for rule in rules if rule["problems"]} == {
        rule: [problem] for rule, problem in expected.items()
    }


@pytest.mark.parametrize(
    ("post", "names", "absent"),
    [
        ("require_file('out/a.csv')", ("out/a.csv", "out/b.csv"), {"out/a.csv": "alone", "out/b.csv": "no"}),
        ("require_glob('out/*')", ("out/a.csv", "out/b.csv"), {"out/a.csv": "with others", "out/b.csv": "with others"}),
        (
            "require_glob('out/*', min_count=2)",
            ("out/a.csv", "out/b.csv"),
            {"out/a.csv": "alone", "out/b.csv": "alone"},
        ),
        (
            "require_glob('out/*.csv', min_count=2)",
            ("out/a.csv", "out/b.csv", "out/c.csv", "d.csv"),
            {"out/a.csv": "with others", "out/b.csv": "with others", "out/c.csv": "with others", "d.csv": "no"},
        ),
        ("", ("out/a.csv",), {"out/a.csv": "no"}),
        ("require_file('elsewhere')", (), {}),  # the case fails
    ],
)
def test_a_file_that_no_guardrail_misses_is_named(
    pytester: pytest.Pytester, post: str, names: tuple[str, ...], absent: dict[str, str]
) -> None:
    write(pytester, post, *names)
    (task,) = covered(pytester)["tasks"]
    assert {file["path"]: file["absent"] for file in task["files"]} == absent
    assert {file["path"] for file in task["files"] if file["unguarded"]} == {
        path for path, word in absent.items() if word == "no"
    }


@pytest.mark.parametrize(
    ("post", "empty", "truncated", "percent"),
    [
        ("require_file('out/a.csv')", False, False, 75.0),
        ("require_file('out/a.csv'), not_empty", True, False, 80.0),
        ("require_file('out/a.csv'), whole", True, True, 90.0),
    ],
)
def test_an_empty_and_a_cut_off_file_need_a_guardrail_that_looks_into_it(
    pytester: pytest.Pytester, post: str, empty: bool, truncated: bool, percent: float
) -> None:
    """Of a guardrail of one's own no test is made, so no test has violated it: a point is missing."""
    write(pytester, post)
    coverage = covered(pytester)
    (file,) = coverage["tasks"][0]["files"]
    assert (file["empty"], file["truncated"]) == (empty, truncated)
    assert coverage["percent"] == percent


def test_the_table_names_the_tests_with_their_verdicts(pytester: pytest.Pytester) -> None:
    write(pytester, "require_glob('out/*'), never_red", "out/a.csv", "b.txt")
    result = run(pytester, *COVER)
    result.stdout.fnmatch_lines(
        [
            "*= perago cover =*",
            "free (work)  * %",
            "  ! post never_red",
            "      never violated",
            '      fix: add an Example(expect="post"), *',
            "    pre require_file('in.txt')",
            "      satisfied by run[[]x] and * more",
            "      violated by guardrail[[]pre:require_file(in.txt):missing]",
            "  ! file b.txt (x): noticed if absent NO, empty no, cut off no; no guardrail notices its loss",
            "      fix: add require_file('b.txt') to post",
            "  ! file out/a.csv (x): noticed if absent yes, empty no, cut off no",
            "      fix: add require_table('out/a.csv', min_rows=...) to post, or *",
            "total: * of * points, *.? %",
        ]
    )


def test_the_function_prints_nothing_when_its_files_are_damaged(pytester: pytest.Pytester) -> None:
    write(pytester, "require_file('out/a.csv')")
    quiet = run(pytester, *COVER)
    assert "noise" not in quiet.stdout.str()
    without = run(pytester, *COVER[:-1], "-s").stdout.str().count("noise")
    assert run(pytester, *COVER, "-s").stdout.str().count("noise") == without


def test_a_file_that_is_published_empty_is_marked(pytester: pytest.Pytester) -> None:
    write(pytester, "require_file('out/a.csv')")
    file = pytester.path / "work.py"
    file.write_text(file.read_text().replace('"1,2\\nend\\n"', '""'))
    run(pytester, *COVER).stdout.fnmatch_lines(
        [
            "  ! file out/a.csv (x): noticed if absent yes, empty -, cut off -",
            "      the function publishes it without*",
        ]
    )


def test_a_guardrail_that_raises_on_a_damaged_file_notices_nothing(pytester: pytest.Pytester) -> None:
    write(pytester, "require_file('out/a.csv'), strict")
    file = pytester.path / "work.py"
    body = "(workspace / 'out/a.csv').read_text().split(',')[1]"
    rule = f"@guardrail\ndef strict(workspace: Path) -> str | None:\n    {body}\n"
    file.write_text(file.read_text().replace("@task(", f"{rule}\n@task("))
    (damaged,) = covered(pytester)["tasks"][0]["files"]
    assert (damaged["empty"], damaged["noticed_by"]) == (False, ["require_file('out/a.csv')"])
    result = run(pytester, *COVER)
    result.stdout.fnmatch_lines(
        [
            "  ! file out/a.csv (x): *",
            "      if empty: post guardrail strict: *IndexError*",
            "      fix: let the guardrail *",
        ]
    )


def test_a_written_test_counts_and_is_listed(pytester: pytest.Pytester) -> None:
    write(pytester, "require_file('out/a.csv')")
    pytester.makepyfile(
        test_own="""
        from work import work

        def test_it(perago_run):
            assert perago_run(work, tree={"other.txt": "1"}).violations
        """
    )
    (pre, _) = covered(pytester, "test_own.py")["tasks"][0]["guardrails"]
    assert pre["violated_by"] == [
        "test_own.py::test_it",
        "work.py::free::guardrail[pre:require_file(in.txt):missing]",
    ]


def test_workers_of_xdist_add_up_to_the_same(pytester: pytest.Pytester) -> None:
    write(pytester, "require_glob('out/*')", "out/a.csv", "b.txt")
    alone = covered(pytester)
    run_process(pytester, *COVER, "--perago-cover-json=cover.json", "-p", "xdist", "-n", "2").assert_outcomes(passed=7)
    assert json.loads(Path(pytester.path, "cover.json").read_text()) == alone


@pytest.mark.parametrize(("threshold", "code"), [("75", 0), ("75.1", 1)])
def test_a_run_below_the_threshold_fails(pytester: pytest.Pytester, threshold: str, code: int) -> None:
    write(pytester, "require_file('out/a.csv')")
    result = run(pytester, *COVER[:-1], f"--perago-cover-fail-under={threshold}")
    assert result.ret == code
    assert ("FAIL: below" in result.stdout.str()) == bool(code)


def test_a_task_that_publishes_nothing_has_no_points_and_no_threshold(pytester: pytest.Pytester) -> None:
    add_module(pytester, "work", "add")
    result = run(pytester, *COVER)
    result.stdout.fnmatch_lines(
        ["add (work)  nothing to cover", "nothing to cover: no task has guardrails, and no example *"]
    )
    assert "!" not in result.stdout.str()
    result = run(pytester, *COVER[:-1], "--perago-cover-fail-under=1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAIL: below --perago-cover-fail-under=1, because nothing was measured"])
    assert run(pytester, *COVER[:-1], "--perago-cover-fail-under=0").ret == 0


def test_a_run_that_selects_no_test_names_the_modules_of_the_ini_file(pytester: pytest.Pytester) -> None:
    add_module(pytester, "work", "add")
    pytester.makeini("[pytest]\nperago_modules = work")
    file = pytester.makepyfile("def test_plain(): pass")
    result = run_inside(pytester, "--perago-cover", str(file))
    result.stdout.fnmatch_lines(["no task had tests in this run: it selected no test of work; run pytest without *"])
