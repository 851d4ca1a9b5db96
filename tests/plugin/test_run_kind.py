"""Kind `run`: declared cases through the real protocol, and what a red one shows."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from pytest_perago.observation import NearbyFiles

from .projects import INTERRUPTED, collected, copy_module, free_module, free_modules, run, write_case, write_module

RUN = ("--perago-modules", "work", "--perago-kinds", "run")
EXAMPLE = "Example(id='x', params={})"
GOOD = "Example(id='one', params={}, tree={'a.txt': '1'}, result={'size': 1})"


@pytest.mark.parametrize("prefix", ["/", "/deep/er"])
def test_a_case_that_ends_as_declared_passes(pytester: pytest.Pytester, prefix: str) -> None:
    examples = [
        GOOD,
        "Example(id='no-input', params={}, tree={'x': '1'}, expect='pre')",
        "Example(id='leftover', params={'target': 'b.tmp'}, tree={'a.txt': '1'}, expect='post')",
        "Example(id='bad', params={'target': 1}, tree={'a.txt': '1'}, expect='terminal')",
        "Example(id='crash', params={'target': 'a.txt/b'}, tree={'a.txt': '1'}, expect='failed')",
    ]
    copy_module(pytester, "work", "copy", prefix=prefix, examples=examples)
    run(pytester, *RUN).assert_outcomes(passed=5)


FAILING = {
    "an exception of the function": (
        "print('working'); current().log('half way'); {}['secret']",
        EXAMPLE,
        [
            "mistake in the task: case 'x': the function raised KeyError: 'secret'",
            "  task      free (work/m00.py:12)",
            "  expected  COMPLETED",
            "  actual    FAILED: KeyError: 'secret'",
            "  log       half way",
            "Traceback (most recent call last):",
            "rerun: pytest --perago-modules work.m00 'work/m00.py::free::run[[]x]'",
            "working",
        ],
    ),
    "another result": (
        "return Model(value=2)",
        "Example(id='x', params={}, result={'value': 1})",
        ["mistake in the task: case 'x' has a different result than declared", "*{'value': 1}", "*{'value': 2}"],
    ),
    "an invalid result": (
        "return 3",
        "Example(id='x', params={}, expect='terminal')",
        ["broken contract: case 'x': the result is not valid", "*the function returned an object of type int*"],
    ),
    "a result that changes on the wire": (
        "return Model(value=(1, 2))",
        EXAMPLE,
        ["broken contract: case 'x': the result does not survive JSON", "*leaves as tuple, arrives as list*"],
    ),
    "success where failure is declared": (
        "return Model()",
        "Example(id='x', params={}, expect='failed')",
        ["mistake in the task: case 'x' completed, but the case expects 'failed'"],
    ),
    "terminal where retryable is declared": (
        "raise TaskTerminalError('for good')",
        "Example(id='x', params={}, expect='failed')",
        [
            "*the function raised for good",
            "  expected  FAILED by the function",
            "*FAILED_WITH_TERMINAL_ERROR: for good",
        ],
    ),
    "state between calls": (
        "SEEN.append(1); return Model(value=len(SEEN))",
        "Example(id='x', params={}, result={'value': 1})",
        ["broken contract: the second run in the same process ended differently, so the module keeps state*"],
    ),
    "sys.exit": (
        "import sys; sys.exit(4)",
        EXAMPLE,
        ["*the function raised SystemExit: the function called sys.exit(4)"],
    ),
}


def test_a_failing_case_explains_the_problem(pytester: pytest.Pytester) -> None:
    free_modules(pytester, (("SEEN = []\n", body, example) for body, example, _ in FAILING.values()))
    result = run(pytester, "--perago-modules", "work", "-k", "run")
    result.assert_outcomes(failed=len(FAILING), deselected=5 * len(FAILING))
    result.stdout.fnmatch_lines([line for _, _, lines in FAILING.values() for line in lines])
    assert "pytest_perago" not in result.stdout.str()
    assert "perago/driver" not in result.stdout.str()


HERE = "here = Path(__file__).parent.parent"
BESIDE = {
    "a new directory": (
        f"{HERE}; out = here / 'out'; out.mkdir(exist_ok=True); (out / 'a.csv').write_text('x')",
        "out*in *",
    ),
    "a directory that is there": (f"{HERE}; (here / 'there/below/a.csv').write_text('x')", "there/below/a.csv in *"),
    "a file that is there": (f"{HERE}; (here / 'file').write_text('x')", "file in *"),
    "the home directory": ("(Path.home() / 'left.txt').write_text('x')", "~/left.txt"),
}


@pytest.mark.parametrize("worker", [None, "gw0"])
def test_a_function_that_writes_next_to_its_workspace_fails(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, worker: str | None
) -> None:
    """In each session, also where it only writes again what is there."""
    free_modules(pytester, (("", f"{body}; return Model()", EXAMPLE) for body, _ in BESIDE.values()))
    (pytester.path / "there" / "below").mkdir(parents=True)
    (pytester.path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    set_worker(monkeypatch, worker)
    for _ in range(2):
        result = run(pytester, "--perago-modules", "work", "-k", "run")
        result.assert_outcomes(failed=len(BESIDE), deselected=5 * len(BESIDE))
        summary = "mistake in the task: case 'x': the function wrote files, and only a workspace is published"
        result.stdout.fnmatch_lines([line for _, named in BESIDE.values() for line in (summary, f"  written  {named}")])


def set_worker(monkeypatch: pytest.MonkeyPatch, worker: str | None) -> None:
    """As if pytest-xdist ran the test, or nothing but this process."""
    if worker is None:
        monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    else:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)


@pytest.mark.parametrize("worker", [None, "gw0"])
def test_a_function_that_writes_around_its_workspace_fails_its_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, worker: str | None
) -> None:
    file = copy_module(pytester, "work", "copy", examples=[GOOD])
    text = file.read_text()
    file.write_text(text.replace('    print("copied")', '    (workspace.parent / "left").mkdir()'))
    set_worker(monkeypatch, worker)
    result = run(pytester, "--perago-modules", "work", "-k", "run")
    result.assert_outcomes(failed=1, deselected=5)
    result.stdout.fnmatch_lines(["  written  left beside the workspace"])


QUIET_WRITES = {
    "tools": f"{HERE}; [(here / each).write_text('x') for each in ('.coverage.host', 'a.pyc', 'coverage.xml')]",
    "caches": f"{HERE}; [(here / each).mkdir(exist_ok=True) for each in ('.pytest_cache', '.hypothesis')]",
    "a log": "import logging; logging.getLogger('own').warning('x')",
    "a change by somebody else": f"{HERE}; log = here / 'tee.log'; log.stat().st_size or log.write_text('x')",
    "a temporary file": "import tempfile; tempfile.mkstemp(); tempfile.mkdtemp()",
    "nothing": f"{HERE}; (here / 'here/a.csv').read_text()",
    "settings at home": "(Path.home() / '.tool').write_text('x')",
}


def test_files_of_tools_are_ignored(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free_modules(pytester, (("", f"{body}; return Model()", EXAMPLE) for body in QUIET_WRITES.values()))
    (pytester.path / "here").mkdir()
    (pytester.path / "here" / "a.csv").touch()
    (pytester.path / "tee.log").touch()
    log = logging.FileHandler(pytester.path / "pytest.log")
    logging.getLogger("own").addHandler(log)
    monkeypatch.setenv("HOME", str(tmp_path))
    set_worker(monkeypatch, None)
    try:
        result = run(pytester, "--perago-modules", "work", "-k", "run")
    finally:
        logging.getLogger("own").removeHandler(log)
        log.close()
    result.assert_outcomes(passed=len(QUIET_WRITES), deselected=5 * len(QUIET_WRITES))


def test_files_that_can_belong_to_another_process_are_ignored(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pytest-xdist runs tests of the same project side by side."""
    body = "here = Path(__file__).parent; (here / 'others').exists() or (here / 'others').touch(); return Model()"
    free_module(pytester, "work", body, [EXAMPLE])
    set_worker(monkeypatch, "gw0")
    run(pytester, "--perago-modules", "work", "-k", "run").assert_outcomes(passed=1, deselected=5)


def test_a_violated_guardrail_shows_rule_and_tree(pytester: pytest.Pytester) -> None:
    copy_module(
        pytester, "work", "copy", examples=["Example(id='x', params={'target': 'b.tmp'}, tree={'a.txt': '12'})"]
    )
    result = run(pytester, "--perago-modules", "work", "-k", "run")
    result.stdout.fnmatch_lines(
        [
            "rule violated: case 'x': a post guardrail is violated",
            "  expected  COMPLETED",
            "  actual    FAILED: post guardrail forbid_glob('[*][*]/[*].tmp'): matched 1 file: 'b.tmp'",
            "  tree      {",
            "                'a.txt': '12',",
            "            }",
            "copied",
        ]
    )


def test_a_guardrail_that_raises_is_not_a_violated_one(pytester: pytest.Pytester) -> None:
    file = copy_module(pytester, "work", "copy", examples=["Example(id='x', params={}, tree={'a.txt': '12'})"])
    broken = "from perago import guardrail\n\n@guardrail\ndef judge(workspace: Path) -> str:\n    raise KeyError\n\n"
    head, task, rest = file.read_text().partition("@task")
    file.write_text(head + broken + task + rest.replace("post=[", "post=[judge, "))
    result = run(pytester, "--perago-modules", "work", "-k", "run")
    result.stdout.fnmatch_lines(["mistake in the task: case 'x': a guardrail gave no verdict"])


LEAKS = (
    ("print(params.value.get_secret_value())", "***"),
    ("current().log(f'token={params.value.get_secret_value()}')", "token=***"),
    ("import logging; logging.error('token %s', params.value.get_secret_value())", "token ***"),
    (
        "import logging\ntry:\n    raise OSError(params.value.get_secret_value())\n"
        "except OSError:\n    logging.exception('no')",
        "OSError: ***",
    ),
)


def test_a_function_that_prints_or_logs_a_secret_is_red(pytester: pytest.Pytester) -> None:
    example = "Example(id='x', params={'value': 's3cr3t-token'})"
    bodies = [*(body for body, _ in LEAKS), "print(params.value)"]
    free_modules(pytester, (("", f"{body}\nreturn Model()", example) for body in bodies))
    for file in (pytester.path / "work").glob("m*.py"):
        text = file.read_text().replace("class Model(BaseModel):\n    value: Any = None", SECRET)
        file.write_text(text.replace("params: Model)", "params: Params)"))
    result = run(pytester, "--perago-modules", "work", "-k", "run")
    result.assert_outcomes(failed=4, passed=1, deselected=25)
    result.stdout.fnmatch_lines(
        [
            line
            for _, shown in LEAKS
            for line in (
                "mistake in the task: case 'x': the function prints or logs params.value, which is a secret",
                f"  line  {shown.replace('*', '[*]')}",
            )
        ]
    )


SECRET = """
from pydantic import SecretStr

class Params(BaseModel):
    value: SecretStr

class Model(BaseModel):
    value: Any = None
"""


HANGING = (
    "import time; time.sleep(60)",
    "while True:\n    try:\n        import time; time.sleep(60)\n    except Exception: pass",
    "while True: pass",
)


def test_a_function_that_hangs_is_ended(pytester: pytest.Pytester) -> None:
    free_modules(pytester, (("", body, EXAMPLE) for body in HANGING))
    result = run(pytester, "--perago-modules", "work", "-k", "run", "-o", "perago_run_timeout=0.5")
    result.assert_outcomes(failed=3, deselected=15)
    said = ["*case 'x' did not end within 0.5 s (perago_run_timeout)", "It was here:", "*in work"]
    result.stdout.fnmatch_lines(said * 3)


def test_ctrl_c_in_a_function_ends_the_session(pytester: pytest.Pytester) -> None:
    free_module(pytester, "work", f"{INTERRUPTED}return Model()", [EXAMPLE])
    with pytest.raises(KeyboardInterrupt):  # pytester passes it on
        run(pytester, "--perago-modules", "work", "--junitxml=report.xml", "-k", "run")
    assert (pytester.path / "report.xml").is_file()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("off", []), ("marked", ["run[x]"]), ("all", ["run[x]", "run[hooked]", "run[provided]"])],
)
def test_perago_run_selects_the_executed_cases(pytester: pytest.Pytester, mode: str, expected: list[str]) -> None:
    free_module(pytester, "work", "return Model()", [EXAMPLE])
    pytester.makeconftest(
        """
        import pytest
        from perago import Example
        from perago.testing import provide_params

        provide_params("free", Example(id="provided", params={}), {"value": 1})

        @pytest.hookimpl(optionalhook=True)
        def pytest_perago_params(task):
            return [Example(id="hooked", params={}), {"value": 2}] if task.name == "free" else None
        """
    )
    nodeids = collected(pytester, *RUN, "-o", f"perago_run={mode}")
    assert sorted(nodeids) == sorted(f"work.py::free::{name}" for name in expected)


def test_case_files_have_their_tree_next_to_or_inside_the_file(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work", "copy")
    write_case(pytester, "copy/beside", 'published = ["out/b.txt"]\nremoved = []\n[result]\nsize = 2\n')
    tree = pytester.path / "tests" / "perago_cases" / "copy" / "beside"
    tree.mkdir()
    (tree / "a.txt").write_text("12")
    write_case(pytester, "copy/größe [1] a::b", 'expect = "pre"\n[params]\ntarget = "x"\n[tree]\n"other.txt" = "1"\n')
    nodeids = collected(pytester, *RUN)
    assert nodeids == ["work.py::copy::run[beside]", "work.py::copy::run[größe [1] a::b]"]
    run(pytester, "--perago-modules", "work").assert_outcomes(passed=8)
    run(pytester, "--perago-modules", "work", nodeids[1]).assert_outcomes(passed=1)


def test_a_directory_of_cases_may_be_written_as_on_windows(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work", "copy")
    write_case(pytester, "copy/one", "[tree]\n'a.txt' = '1'\n")
    arguments = (*RUN, "-o", "perago_cases_dir=tests\\perago_cases")
    assert collected(pytester, *arguments) == ["work.py::copy::run[one]"]


def test_a_function_that_writes_to_its_current_directory_fails_its_test(pytester: pytest.Pytester) -> None:
    body = "Path('out').mkdir(); Path('out/a.csv').write_text('1'); return Model()"
    free_module(pytester, "work", body, [EXAMPLE])
    before = sorted(path for path in pytester.path.rglob("*") if "__pycache__" not in path.parts)
    result = run(pytester, "--perago-modules", "work", "-k", "run")

    result.assert_outcomes(failed=1, deselected=5)
    result.stdout.fnmatch_lines(
        [
            "mistake in the task: case 'x': the function wrote to its current directory, which is not published",
            "  written  'out/a.csv'",
            "  fix      Give the task a workspace, or name what may be lost: @task(scratch_files=[[]...[]]).",
        ]
    )
    assert sorted(path for path in pytester.path.rglob("*") if "__pycache__" not in path.parts) == before


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not show the open files of other processes")
def test_a_log_of_another_process_was_not_written_by_the_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("result.csv").touch()
    script = "while read line; do echo $line >&3; echo; done 3>>log"
    with Popen(["/bin/sh", "-c", script], stdin=PIPE, stdout=PIPE, bufsize=0) as logger:

        def log_a_line() -> None:
            assert logger.stdin is not None
            assert logger.stdout is not None
            logger.stdin.write(b".\n")
            logger.stdout.read(1)

        def call() -> tuple[NearbyFiles, dict[Path, bool]]:
            log_a_line()
            nearby = NearbyFiles(None)
            log_a_line()
            with Path("result.csv").open("a") as file:
                file.write(".")
            return nearby, nearby.differences()

        (files, first), (_, second) = call(), call()
        assert {path.name for path in first} == {"log", "result.csv"}
        assert [path.name for path in files.confirmed(first, second, is_alone=False)] == ["result.csv"]


BROKEN_CASES = {
    "no TOML": ("= 1", "mistake in the task: the case cannot be read: * is not TOML: *"),
    "unknown key": ("expects = 'pre'", "*: unknown key 'expects'; a case has expect, params, *"),
    "no such outcome": ("expect = 'fine'", "*expect: must be 'completed', *"),
    "no JSON": ("[params]\nday = 2024-01-01", "*params: must be JSON*"),
    "other files": ("published = ['c.txt']\n[tree]\n'a.txt' = '1'", "*different published files than declared"),
}


def test_a_wrong_case_file_fails_alone(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work", "copy", examples=[GOOD])
    for number, (text, _) in enumerate(BROKEN_CASES.values()):
        write_case(pytester, f"copy/wrong{number}", text)
    result = run(pytester, *RUN)
    result.assert_outcomes(passed=1, failed=len(BROKEN_CASES))
    result.stdout.fnmatch_lines([message for _, message in BROKEN_CASES.values()])


@pytest.mark.parametrize("name", ["", "linked.toml", "linked", "linked/a.txt", "linked/deep/a.txt"])
def test_a_link_in_a_case_is_refused(pytester: pytest.Pytester, name: str) -> None:
    copy_module(pytester, "work", "copy", examples=[GOOD])
    write_case(pytester, "copy/linked", "")
    cases = pytester.path / "tests/perago_cases/copy"
    (cases / "linked/deep").mkdir(parents=True)
    for path in ("linked/a.txt", "linked/deep/a.txt"):
        (cases / path).write_text("12")
    real = pytester.path / "elsewhere"
    (cases / name).rename(real)
    (cases / name).symlink_to(real)
    result = run(pytester, *RUN)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["mistake in the task: the case cannot be read: * is a link to */elsewhere; copy what *"]
    )


def test_a_task_that_publishes_does_so_once_though_its_report_is_lost(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second half takes recovery away, to show that its absence would be seen."""
    from perago.attempt import protocol
    from perago.attempt.history import Refuse, judge

    copy_module(pytester, "work", "copy", examples=[GOOD])
    run(pytester, "--perago-modules", "work", "-k", "run").assert_outcomes(passed=1, deselected=5)
    refuse = Refuse("somebody was here")
    monkeypatch.setattr(protocol, "judge", lambda state: refuse if state.workflows else judge(state))
    result = run(pytester, "--perago-modules", "work", "-k", "run")
    result.assert_outcomes(errors=1, deselected=5)
    result.stdout.fnmatch_lines(["*after a lost report *"])


def test_the_directory_of_an_example_is_read_relative_to_its_module(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "shop.work", "copy", examples=["Example(id='x', params={}, tree='trees/x')"])
    result = run(pytester, "--perago-modules", "shop")
    result.assert_outcomes(passed=4, failed=2)
    result.stdout.fnmatch_lines(["*shop/trees/x is not a directory"])
    write_module(pytester, "shop.trees.x.a", "").rename(pytester.path / "shop" / "trees" / "x" / "a.txt")
    run(pytester, "--perago-modules", "shop").assert_outcomes(passed=6)


@pytest.fixture
def marker() -> Iterator[Path]:
    """A file outside of every workspace, which does not exist yet."""
    marker = Path("/var/tmp") / f"perago-{uuid.uuid4()}"
    yield marker
    marker.unlink(missing_ok=True)


def test_a_marker_that_outlives_the_attempt_is_reported_and_removed(pytester: pytest.Pytester, marker: Path) -> None:
    """Whether or not an earlier run has left it, and whether or not the clock differs between two calls."""
    body = f"""
    import time
    marker = Path({str(marker)!r})
    if marker.exists():
        return Model(value=["less", time.time()])
    marker.write_text("")
    return Model(value=["all", time.time()])
    """
    free_module(pytester, "work", body, ["Example(id='x', params={})"])
    for kinds in ("run", "run,faults", "run"):
        result = run(pytester, "--perago-modules", "work", "--perago-kinds", kinds, "-k", "run or left-behind")
        result.stdout.fnmatch_lines([f"*something outlives the attempt: with '{marker}' the function leaves*"])
        assert not marker.exists()
    marker.write_text("of a worker")
    result = run(pytester, *RUN)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*something outlives the attempt*", "  without  *'all'*", "  with *'less'*"])
    assert marker.read_text() == "of a worker"


def test_a_cache_outside_that_changes_no_output_is_fine(pytester: pytest.Pytester, marker: Path) -> None:
    body = f"""
    cache = Path({str(marker)!r})
    if not cache.exists():
        cache.write_text("1")
    return Model(value=cache.read_text())
    """
    free_module(pytester, "work", body, ["Example(id='x', params={})"])
    run(pytester, *RUN).assert_outcomes(passed=1)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("least", "extra", "body", "outcomes"),
    [
        (1, "", "first, second = files[:2]", {"passed": 1, "failed": 1}),
        (1, "", "first, second, third = files[:3]", {"passed": 1, "failed": 1}),
        (2, "", "first, second = files[:2]", {"passed": 2}),
        (4, "", "first, second = files[:2]", {"passed": 1}),
        (1, ", require_file('raw/3.csv'), require_file('raw/2.csv')", "first, second = files[:2]", {"passed": 2}),
        (1, "", "if len(files) < 2:\n    raise TaskTerminalError('too few')", {"passed": 2}),
    ],
)
def test_a_limit_that_no_example_touches_is_tried(
    pytester: pytest.Pytester, least: int, extra: str, body: str, outcomes: dict[str, int]
) -> None:
    example = "Example(id='x', params={}, tree={f'raw/{n}.csv': '1' for n in range(4)})"
    spec = f"pre=[require_glob('raw/*.csv', min_count={least}){extra}]"
    free_module(
        pytester, "work", f"files = sorted(workspace.glob('raw/*.csv'))\n{body}\nreturn params", [example], spec
    )
    result = run(pytester, *RUN)
    result.assert_outcomes(**outcomes)
    if "failed" in outcomes:
        needed = 3 if "third" in body else 2
        result.stdout.fnmatch_lines(["*no case has as few files as * allows; with so few, *", f"*min_count={needed},*"])
