"""The tests that exist, their names and their selection, also of modules that cannot be imported."""

from __future__ import annotations

import pytest

from .projects import INTERRUPTED, QUIET, add_module, collected, copy_module, free_module, run, write_module

ADD_TESTS = [
    "contract[signature]",
    "contract[params]",
    "contract[result]",
    "contract[example:two]",
    "contract[taskdef-accepted]",
    "run[two]",
]


def ids(path: str, task: str) -> list[str]:
    return [f"{path}::{task}::{name}" for name in ADD_TESTS]


FIRST, SECOND = ids("shop/workers/a.py", "first"), ids("shop/workers/b.py", "second")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Two tasks in a package, one more outside of it, and a test file."""
    add_module(pytester, "shop.workers.b", "second")
    add_module(pytester, "shop.workers.a", "first")
    add_module(pytester, "other", "third")
    write_module(pytester, "shop.workers.helpers", "ANSWER = 42")
    pytester.makepyfile(test_plain="def test_plain(): pass")
    return pytester


@pytest.mark.parametrize(
    "arguments",
    [
        ["--perago-modules", "shop.workers.a,other"],
        ["--perago-modules", "other", "--perago-modules", "shop.workers.a"],
        ["-o", "perago_modules=other shop.workers.a"],
        ["-o", "perago_modules=other, shop.workers.a", "--perago-modules", "other"],
    ],
    ids=["comma", "repeated", "ini", "both"],
)
def test_modules_are_named_on_the_command_line_or_in_the_ini_file(
    project: pytest.Pytester, arguments: list[str]
) -> None:
    expected = {*FIRST, *ids("other.py", "third"), "test_plain.py::test_plain"}
    nodeids = collected(project, *arguments)
    assert set(nodeids) == expected
    assert len(nodeids) == len(expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["shop/workers/a.py::first::run[two]"], ["shop/workers/a.py::first::run[two]"]),
        (["shop/workers/a.py::first"], FIRST),
        (["shop/workers/b.py"], SECOND),
        (["shop"], [*FIRST, *SECOND]),
        (["test_plain.py"], ["test_plain.py::test_plain"]),
        (["-k", "second and run"], ["shop/workers/b.py::second::run[two]"]),
        (["-m", "perago_run"], ["shop/workers/a.py::first::run[two]", "shop/workers/b.py::second::run[two]"]),
        (["-m", "not perago"], ["test_plain.py::test_plain"]),
        (["--perago-kinds", "run", "-k", "first"], ["shop/workers/a.py::first::run[two]"]),
        (["--perago-modules=shop.workers"], [*FIRST, *SECOND, "test_plain.py::test_plain"]),
        (["--perago-modules=shop.workers", FIRST[1]], [FIRST[1]]),
        (["--perago-modules=other", "test_plain.py"], ["test_plain.py::test_plain", *ids("other.py", "third")]),
    ],
    ids=[
        *("node id", "task", "file", "directory", "other file", "keyword", "marker", "not ours", "kind"),
        *("package of the command line", "node id next to modules", "file next to modules"),
    ],
)
def test_tests_are_selected_like_written_ones(
    project: pytest.Pytester, arguments: list[str], expected: list[str]
) -> None:
    modules = () if arguments[0].startswith("--perago-modules") else ("-o", "perago_modules=shop.workers")
    assert collected(project, *modules, *arguments) == expected


@pytest.mark.parametrize("argument", ["test_plain.py", "shop/workers/test_near-by.py"])
def test_next_to_given_files_the_directories_of_modules_show_only_modules(
    project: pytest.Pytester, argument: str
) -> None:
    for name in ("shop/workers/test_near-by.py", "shop/test_above.py", "shop/workers/deep/test_below-it.py"):
        file = project.path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("def test_one(): pass\n")
    add_module(project, "shop.workers.deep.c", "third")
    tests = [*FIRST, *SECOND]
    tests += ids("shop/workers/deep/c.py", "third")
    name = "test_plain" if argument == "test_plain.py" else "test_one"
    assert collected(project, "--perago-modules", "shop.workers", argument) == [f"{argument}::{name}", *tests]


def test_each_module_next_to_given_files_is_collected_once(project: pytest.Pytester) -> None:
    project.makeconftest("def pytest_collect_file(file_path): print('saw', file_path.name)")
    result = run(project, "--collect-only", "-s", "--perago-modules", "shop.workers", "test_plain.py")
    assert [result.outlines.count(f"saw {name}.py") for name in ("a", "b", "helpers")] == [1, 1, 1]


@pytest.mark.parametrize("mode", ["append", "importlib"])
def test_every_import_mode_runs_them_all(project: pytest.Pytester, mode: str) -> None:
    run(project, f"--import-mode={mode}", "--perago-modules", "shop").assert_outcomes(passed=13)


def test_a_src_layout_needs_no_configuration(pytester: pytest.Pytester) -> None:
    add_module(pytester, "src.work.a", "first")
    (pytester.path / "src" / "__init__.py").unlink()
    assert collected(pytester, "--perago-modules", "work") == ids("src/work/a.py", "first")
    run(pytester, "--perago-modules", "work").assert_outcomes(passed=6)


def test_a_namespace_package_is_walked_and_its_modules_are_imported_once(pytester: pytest.Pytester) -> None:
    file = add_module(pytester, "space.deep.a", "first")
    file.write_text("import builtins\nassert not hasattr(builtins, 'seen')\nbuiltins.seen = 1\n" + file.read_text())
    for package in ("space", "space/deep"):
        (pytester.path / package / "__init__.py").unlink()
    try:
        run(pytester, "--perago-modules", "space").assert_outcomes(passed=6)
    finally:
        import builtins

        vars(builtins).pop("seen", None)


@pytest.mark.parametrize("directory", ["build", ".hidden"])
def test_modules_that_pytest_skips_are_collected_once_with_everything_else(
    project: pytest.Pytester, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_module(project, "lib.a", "fourth")
    (project.path / directory).mkdir()
    (project.path / "lib").rename(project.path / directory / "lib")
    monkeypatch.syspath_prepend(project.path / directory)
    nodeids = collected(project, "--perago-modules", "lib,other")
    assert sorted(nodeids) == sorted(
        [*ids(f"{directory}/lib/a.py", "fourth"), *ids("other.py", "third"), "test_plain.py::test_plain"]
    )


def test_an_opt_out_is_skipped_and_listed_with_its_reason(project: pytest.Pytester) -> None:
    skip = "perago_skip=first::run[two]: needs the GPU: see the wiki\nsecond::contract: not ours"
    result = run(project, "--perago-modules", "shop", "-o", skip)
    result.assert_outcomes(passed=7, skipped=6)
    result.stdout.fnmatch_lines(
        [
            "*perago opt-outs*",
            "shop/workers/a.py::first::run[[]two]: needs the GPU: see the wiki",
            "shop/workers/b.py::second::contract[[]params]: not ours",
        ]
    )


def test_node_ids_are_unique_and_locations_are_those_of_the_tasks(project: pytest.Pytester) -> None:
    items, _ = project.inline_genitems("--perago-modules", "shop", "-p", "no:cacheprovider")
    generated = [item for item in items if item.get_closest_marker("perago")]
    assert len({item.nodeid for item in items}) == len(items)
    assert {item.location[:2] for item in generated} == {("shop/workers/a.py", 9), ("shop/workers/b.py", 9)}
    assert all(isinstance(item, pytest.Function) for item in generated)


def test_without_the_plugin_there_is_nothing(project: pytest.Pytester) -> None:
    project.makepyfile(
        test_workers='from perago.testing import task_tests\ntest_workers = task_tests("shop")\ndef test_own(): pass'
    )
    result = run(project, "-p", "no:perago")
    result.assert_outcomes(passed=2)


# ---------------------------------------------------------------------------------- broken modules


BROKEN = {
    "raises": ("import json\n\ndef load():\n    return json.loads('{')\n\nload()", "JSONDecodeError", "4"),
    "exits": ("import sys\nsys.exit(3)", "it ends the process (SystemExit: 3)", "2"),
    "interrupts": ("raise KeyboardInterrupt", "it was interrupted (KeyboardInterrupt)", "1"),
    "hangs": ("import time\ntime.sleep(50)", "did not end within 0.5 s (perago_import_timeout)", "2"),
    "loops": ("while True:\n    try:\n        1\n    except Exception: pass", "did not end within 0.5 s", ""),
    "syntax": ("def broken(:\n    pass", "SyntaxError", "1"),
    "needs": ("import no_such_module_x", "needs the module no_such_module_x", "1"),
    "no task": ("ANSWER = 42", "module {name} declares no task", "1"),
    "declares": ("from perago import require_file\nrequire_file('/a')", "'/a' is absolute", "2"),
}


def test_a_broken_module_is_one_failing_test(pytester: pytest.Pytester) -> None:
    names = [f"bad{number}" for number in range(len(BROKEN))]
    for name, (text, _, _) in zip(names, BROKEN.values(), strict=True):
        write_module(pytester, name, text)
    add_module(pytester, "good", "good")
    modules = ",".join(["good", *names])
    result = run(pytester, "--perago-modules", modules, "-o", "perago_import_timeout=0.5")
    result.assert_outcomes(passed=6, failed=len(BROKEN))
    output = result.stdout.str()
    for name, (_, message, place), failure in zip(
        names, BROKEN.values(), output.split("mistake in the task: ")[1:], strict=True
    ):
        assert message.format(name=name) in failure
        assert f"{name}.py:{place}" in failure
        rerun = f"pytest -o perago_import_timeout=0.5 --perago-modules {name} '{name}.py::import[{name}]'"
        assert f"rerun: {rerun}" in failure
    for frame in ("pytest_perago", "_pytest", "importlib", "pluggy", "pydantic/"):
        assert f"{frame}/" not in output.replace("importlib/metadata", "")


def test_a_module_that_is_not_there_fails_under_the_ini_file_that_names_it(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nperago_modules =\n    nowhere\n    shop\\workers\n    also.nowhere")
    assert collected(pytester) == [
        "tox.ini::import[also.nowhere]",
        "tox.ini::import[nowhere]",
        "tox.ini::import[shop\\workers]",
    ]
    result = run(pytester, "tox.ini::import[shop\\workers]")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*is a file path, but a task is found by its module's import path", "*write shop.workers"]
    )


@pytest.mark.parametrize("name", ["shop.wrokers", "shop/wrokers.py"])
def test_a_misspelled_module_on_the_command_line_is_a_usage_error(pytester: pytest.Pytester, name: str) -> None:
    add_module(pytester, "shop.workers", "first")
    pytester.makepyfile(test_plain="def test_plain(): pass")
    result = run(pytester, "--perago-modules", name)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --perago-modules: *", "fix: *shop.w*"])
    assert "pytest_perago" not in result.stderr.str()


def test_a_module_below_a_package_that_cannot_be_imported_fails(pytester: pytest.Pytester) -> None:
    add_module(pytester, "shop.a", "first")
    (pytester.path / "shop" / "__init__.py").write_text("raise ValueError('the package')")
    result = run(pytester, "--perago-modules", "shop.a")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ValueError: the package"])


def test_two_modules_with_one_task_name_fail_both_and_each_alone(pytester: pytest.Pytester) -> None:
    add_module(pytester, "shop.a", "same")
    add_module(pytester, "shop.b", "same")
    result = run(pytester, "--perago-modules", "shop")
    result.assert_outcomes(passed=10, failed=2)
    result.stdout.fnmatch_lines(["*shop.b (*b.py:10) declares a task of the same name*"])
    alone = run(pytester, "--perago-modules", "shop", "shop/b.py::same::contract[taskdef-accepted]")
    alone.assert_outcomes(failed=1)


def test_ctrl_c_during_an_import_ends_the_session(pytester: pytest.Pytester) -> None:
    write_module(pytester, "bad", INTERRUPTED)
    with pytest.raises(KeyboardInterrupt):  # pytester passes it on
        run(pytester, "--perago-modules", "bad")


@pytest.mark.parametrize("uses", ["modules", "fixture"])
def test_another_project_named_perago_is_recognized(pytester: pytest.Pytester, uses: str) -> None:
    write_module(pytester, "perago.task", "def task(): pass")
    pytester.makepyfile(test_it="def test_it(perago_run): pass" if uses == "fixture" else "")
    pytester.makeini(f"[pytest]\n{'perago_modules = shop' if uses == 'modules' else ''}\npythonpath = .\n")
    result = pytester.runpytest_subprocess(*QUIET, timeout=60)
    assert result.ret in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.TESTS_FAILED)
    message = f"`import perago` finds another project of that name, in {pytester.path / 'perago'}"
    assert message in result.stdout.str() + result.stderr.str()


def test_pytest_prints_help_in_a_project_with_a_broken_module(pytester: pytest.Pytester) -> None:
    write_module(pytester, "shop.a", "import nothing_there")
    pytester.makeini("[pytest]\nperago_modules = shop\n")
    for question, answer in (
        ("--help", "*tests generated from perago task modules:*"),
        ("--version", "pytest *"),
        ("--markers", "@pytest.mark.perago_run: *"),
        ("--fixtures", "perago_run *"),
    ):
        result = pytester.runpytest_inprocess(*QUIET, question)
        assert result.ret == pytest.ExitCode.OK
        result.stdout.fnmatch_lines([answer])


# --------------------------------------------------------------------- tests in a file: task_tests


NAMES = ["contract[signature]", "contract[params]", "contract[result]", "contract[taskdef-accepted]"]


@pytest.fixture
def in_a_file(pytester: pytest.Pytester) -> pytest.Pytester:
    """Two tasks and a test file for them; no ini value and no option names them."""
    copy_module(pytester, "shop.workers.b", "second")
    copy_module(pytester, "shop.workers.a", "first")
    write_module(
        pytester,
        "checks.test_workers",
        """
        from perago.testing import task_tests
        test_workers = task_tests("shop.workers")
        def test_plain(): pass
        """,
    )
    return pytester


def test_the_tests_are_below_the_name_in_the_test_file(in_a_file: pytest.Pytester) -> None:
    expected = [
        f"checks/test_workers.py::test_workers::{task}::{name}" for task in ("first", "second") for name in NAMES
    ]
    assert collected(in_a_file) == [*expected, "checks/test_workers.py::test_plain"]
    run(in_a_file).assert_outcomes(passed=9)


def test_kinds_can_be_chosen_in_the_file_and_a_wrong_one_is_named(in_a_file: pytest.Pytester) -> None:
    file = in_a_file.path / "checks" / "test_workers.py"
    file.write_text('from perago.testing import task_tests\ntest_workers = task_tests("shop", kinds=["run"])')
    assert run(in_a_file).ret == pytest.ExitCode.NO_TESTS_COLLECTED
    file.write_text('from perago.testing import task_tests\ntest_workers = task_tests("shop", kinds=["running"])')
    run(in_a_file).stdout.fnmatch_lines(["*task_tests: no kind 'running'; the kinds are contract, *"])


def test_fixtures_and_hooks_of_the_conftest_next_to_it_apply(pytester: pytest.Pytester) -> None:
    example = "Example(id='x', params={}, result={'value': 'yes'})"
    free_module(pytester, "shop.work", "import os; return Model(value=os.environ.get('FLAG', ''))", [example])
    write_module(pytester, "checks.test_app", 'from perago.testing import task_tests\ntest_app = task_tests("shop")')
    write_module(
        pytester,
        "checks.conftest",
        """
        import pytest

        @pytest.fixture(autouse=True)
        def flag(monkeypatch):
            monkeypatch.setenv("FLAG", "yes")
        """,
    )
    run(pytester).assert_outcomes(passed=6)
    elsewhere = run(pytester, "--perago-modules", "shop", "shop")
    elsewhere.assert_outcomes(passed=5, failed=1)


def test_a_broken_module_is_one_failing_test_of_the_file(in_a_file: pytest.Pytester) -> None:
    write_module(in_a_file, "shop.workers.c", "raise ValueError('broken')")
    result = run(in_a_file)
    result.assert_outcomes(passed=9, failed=1)
    result.stdout.fnmatch_lines(["rerun: pytest 'checks/test_workers.py::test_workers::import[[]shop.workers.c]'"])


def test_tasks_of_one_name_are_distinguished_by_their_module(pytester: pytest.Pytester) -> None:
    add_module(pytester, "shop.a", "same")
    add_module(pytester, "shop.b", "same")
    write_module(pytester, "checks.test_app", 'from perago.testing import task_tests\ntest_app = task_tests("shop")')
    nodeids = collected(pytester, "--perago-kinds", "run")
    assert nodeids == [f"checks/test_app.py::test_app::same@shop.{name}::run[two]" for name in "ab"]
