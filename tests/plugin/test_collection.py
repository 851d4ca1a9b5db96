"""Which tests there are, how they are named, and how they are selected."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from pytest_perago.kinds import KINDS, Kind

from .projects import QUIET, add_module, collected, run, write_module

pytest_plugins = ["pytester"]

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


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Two tasks in a package, one more outside of it, and a test file."""
    add_module(pytester, "shop.workers.b", "second")
    add_module(pytester, "shop.workers.a", "first")
    add_module(pytester, "other", "third")
    write_module(pytester, "shop.workers.helpers", "ANSWER = 42")
    pytester.makepyfile(test_plain="def test_plain(): pass")
    return pytester


def test_a_package_means_all_tasks_below_it_in_a_fixed_order(project: pytest.Pytester) -> None:
    assert collected(project, "--perago-modules", "shop.workers") == [
        *ids("shop/workers/a.py", "first"),
        *ids("shop/workers/b.py", "second"),
        "test_plain.py::test_plain",
    ]


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
    expected = {*ids("shop/workers/a.py", "first"), *ids("other.py", "third"), "test_plain.py::test_plain"}
    found = collected(project, *arguments)
    assert set(found) == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["shop/workers/a.py::first::run[two]"], ["shop/workers/a.py::first::run[two]"]),
        (["shop/workers/a.py::first"], ids("shop/workers/a.py", "first")),
        (["shop/workers/b.py"], ids("shop/workers/b.py", "second")),
        (["shop"], [*ids("shop/workers/a.py", "first"), *ids("shop/workers/b.py", "second")]),
        (["test_plain.py"], ["test_plain.py::test_plain"]),
        (["-k", "second and run"], ["shop/workers/b.py::second::run[two]"]),
        (["-m", "perago_run"], ["shop/workers/a.py::first::run[two]", "shop/workers/b.py::second::run[two]"]),
        (["-m", "not perago"], ["test_plain.py::test_plain"]),
        (["--perago-kinds", "run", "-k", "first"], ["shop/workers/a.py::first::run[two]"]),
    ],
    ids=["node id", "task", "file", "directory", "other file", "keyword", "marker", "not ours", "kind"],
)
def test_tests_are_selected_like_written_ones(
    project: pytest.Pytester, arguments: list[str], expected: list[str]
) -> None:
    assert collected(project, "-o", "perago_modules=shop.workers", *arguments) == expected


def test_an_opt_in_kind_is_made_only_where_it_is_named(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cast("dict[str, Kind]", KINDS), "run", replace(KINDS["run"], opt_in=True))
    arguments = (*QUIET, "--perago-modules", "other", "--collect-only", "-q")
    for named, number in ((), 0), (("--perago-kinds", "run"), 1), (("-o", "perago_kinds=run"), 1):
        found = project.runpytest_inprocess(*arguments, *named).outlines
        assert found.count("other.py::third::run[two]") == number


def test_a_file_next_to_modules_of_the_command_line_adds_to_them(project: pytest.Pytester) -> None:
    found = collected(project, "--perago-modules", "other", "test_plain.py")
    assert found == ["test_plain.py::test_plain", *ids("other.py", "third")]


@pytest.mark.parametrize("given", ["test_plain.py", "shop/workers/test_near-by.py"])
def test_next_to_given_files_the_directories_of_modules_show_only_modules(project: pytest.Pytester, given: str) -> None:
    for name in ("shop/workers/test_near-by.py", "shop/test_above.py", "shop/workers/deep/test_below-it.py"):
        file = project.path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("def test_one(): pass\n")
    add_module(project, "shop.workers.deep.c", "third")
    tests = [*ids("shop/workers/a.py", "first"), *ids("shop/workers/b.py", "second")]
    tests += ids("shop/workers/deep/c.py", "third")
    name = "test_plain" if given == "test_plain.py" else "test_one"
    assert collected(project, "--perago-modules", "shop.workers", given) == [f"{given}::{name}", *tests]


def test_each_module_next_to_given_files_is_collected_once(project: pytest.Pytester) -> None:
    project.makeconftest("def pytest_collect_file(file_path): print('saw', file_path.name)")
    result = run(project, "--collect-only", "-s", "--perago-modules", "shop.workers", "test_plain.py")
    assert [result.outlines.count(f"saw {name}.py") for name in ("a", "b", "helpers")] == [1, 1, 1]


def test_a_node_id_of_a_module_of_the_command_line_selects_just_that(project: pytest.Pytester) -> None:
    found = collected(project, "--perago-modules", "shop.workers", "shop/workers/a.py::first::contract[params]")
    assert found == ["shop/workers/a.py::first::contract[params]"]


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
    found = collected(project, "--perago-modules", "lib,other")
    assert sorted(found) == sorted(
        [*ids(f"{directory}/lib/a.py", "fourth"), *ids("other.py", "third"), "test_plain.py::test_plain"]
    )


def test_a_conftest_can_deselect_and_provide_fixtures_and_marks_apply(project: pytest.Pytester) -> None:
    project.makeconftest(
        """
        def pytest_collection_modifyitems(config, items):
            gone = [item for item in items if "contract" in item.name]
            config.hook.pytest_deselected(items=gone)
            items[:] = [item for item in items if item not in gone]
        """
    )
    run(project, "--perago-modules", "shop").assert_outcomes(passed=3, deselected=10)


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


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("perago_skip=first::run", "perago_skip: 'first::run' is not `<task>: <reason>`"),
        ("perago_run=sometimes", "perago_run: 'sometimes' is not one of off, marked, all"),
        ("perago_run_timeout=soon", "perago_run_timeout: 'soon' is not a number of seconds above 0"),
        ("perago_kinds=contracts", "--perago-kinds / perago_kinds: no kind 'contracts'; the kinds are contract, "),
    ],
)
def test_a_wrong_option_is_a_usage_error_that_names_it(project: pytest.Pytester, option: str, words: str) -> None:
    result = run(project, "--perago-modules", "shop", "-o", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert words in result.stderr.str()


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
