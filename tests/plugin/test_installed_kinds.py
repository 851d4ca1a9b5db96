"""Kinds of tests of installed packages: pytest finds them by their entry point, and a broken one stops nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_perago import kinds

from ..children import install
from ..docs.blocks import blocks_of
from .projects import add_module, copy_module, run, run_process, write_module

DOCUMENTED = next(block.text for block in blocks_of("docs/testing/reference.md") if block.file == "my_kinds.py")
DESCRIBED = "[perago.kinds]\ndescribed = my_kinds:described\nnamed = my_kinds:named\n"
MORE_KINDS = """

def no_cases(task: Task, context: KindContext) -> Iterable[Case]:
    raise SystemExit(f"no cases in {context.config.rootpath.name}")


named = Kind(lambda task, context: [Case("", lambda context: None)], "opt-in tests", opt_in=True)
failing = Kind("my_kinds:no_cases", "its cases cannot be made")
"""
BROKEN = """
[perago.kinds]
contract = my_kinds:described
failing = my_kinds:failing
import = my_kinds:described
missing = my_kinds:missing
not-a-name = my_kinds:described
number = broken_kinds:NUMBER
skips = skipping_kinds:kind
"""
REPORTED = (
    "perago: the kind contract (my_kinds:described) is ignored, because its name is taken or is not an identifier",
    "perago: the kind import (my_kinds:described) is ignored, because its name is taken or is not an identifier",
    "perago: the kind missing (my_kinds:missing) cannot be loaded: AttributeError: *",
    "perago: the kind not-a-name (my_kinds:described) is ignored, because its name is taken or is not an identifier",
    "perago: the kind number (broken_kinds:NUMBER) cannot be loaded: TypeError: it is a int, not a pytest_perago*Kind",
    "perago: the kind skips (skipping_kinds:kind) cannot be loaded: Skipped: not here",
)


@pytest.fixture(autouse=True)
def packages(pytester: pytest.Pytester) -> None:
    """Install a package with the documented kind, and others with broken kinds in the directory `broken`."""
    modules = {"my_kinds": DOCUMENTED + MORE_KINDS}
    install(pytester.path, "described", DESCRIBED, **modules)
    skipping = "import pytest\npytest.skip('not here', allow_module_level=True)"
    install(pytester.mkdir("broken"), "broken", BROKEN, broken_kinds="NUMBER = 7", skipping_kinds=skipping)
    pytester.syspathinsert(pytester.path)


def test_each_file_of_a_kind_is_registered() -> None:
    folder = Path(kinds.__file__).parent
    files = {path.stem for path in folder.glob("[a-z]*") if path.suffix == ".py" or (path / "__init__.py").exists()}
    modules = [str(kind.cases).partition(":")[0] for kind in kinds.KINDS.values()]
    registered = {module.removeprefix(f"{kinds.__name__}.") for module in modules if module.startswith(kinds.__name__)}
    assert files == registered, "register a kind in KINDS of src/pytest_perago/kinds/__init__.py"


def test_the_documented_kind_tests_the_params_of_each_task(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work.copied", "copy")
    text = 'numbers: list[int] = Field(description="added")'
    file = add_module(pytester, "work.added", "add")
    file.write_text(
        file.read_text().replace("numbers: list[int]", text).replace("BaseModel\n", "BaseModel, Field\n", 1)
    )
    result = run(pytester, "--perago-modules", "work", "-o", "perago_kinds=", "-m", "perago_described")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "mistake in the task: param target has no description",
            "  task  copy (work/copied.py:*)",
            "rerun: pytest -o perago_kinds= --perago-modules work.copied 'work/copied.py::copy::described[[]target]'",
        ]
    )


def test_installed_kinds_are_selected_skipped_and_listed_as_others(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work.copied", "copy")
    pytester.makeini("[pytest]\nperago_skip = copy::described[target]: is for people")
    result = run(pytester, "--perago-modules", "work", "--perago-kinds", "named,described,contract")
    result.assert_outcomes(passed=5, skipped=1)
    result.stdout.fnmatch_lines(["*kinds contract, described, named;*", "*described*target*: is for people"])
    assert (
        "named" not in run(pytester, "--perago-modules", "work", "-o", "perago_kinds=", "--collect-only").stdout.str()
    )
    run(pytester, "--markers").stdout.fnmatch_lines(["@pytest.mark.perago_described: each param has a description"])
    report = run(pytester, "--perago-modules", "work", "--perago-kinds", "named", "--perago-report", "page.html")
    report.assert_outcomes(passed=1)
    assert "named" in (pytester.path / "page.html").read_text()


def test_broken_entry_points_are_reported_and_stop_no_other_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(pytester.path / "broken")
    copy_module(pytester, "work", "copy")
    result = run(pytester, "--perago-modules", "work", "-o", "perago_kinds=contract")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(REPORTED)
    result.assert_outcomes(passed=4)
    result = run(pytester, "--perago-modules", "work", "--perago-kinds", "contract,failing,missing,named")
    result.assert_outcomes(passed=5, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*SystemExit: no cases in *",
            "the kind failing of an installed package failed, not copy.  Please report it.",
            "*RuntimeError: the kind missing (my_kinds:missing) cannot be loaded: AttributeError: *",
        ]
    )


def test_broken_entry_points_are_reported_once_by_processes_of_xdist(pytester: pytest.Pytester) -> None:
    install(pytester.path, "also", "[perago.kinds]\nmissing = my_kinds:missing\n")
    write_module(pytester, "test_tasks", 'from perago.testing import task_tests\ntest_tasks = task_tests("work")')
    copy_module(pytester, "work", "copy")
    result = run_process(pytester, "-n", "2", "-o", "perago_kinds=contract,described", "test_tasks.py")
    result.assert_outcomes(passed=4, failed=1)
    assert result.stdout.str().count("perago: the kind missing (my_kinds:missing) cannot be loaded") == 1
