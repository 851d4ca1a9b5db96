"""The second front door: `test_workers = task_tests("shop.workers")` in a test file."""

from __future__ import annotations

import pytest

from .projects import add_module, collected, copy_module, free_module, run, write_module

pytest_plugins = ["pytester"]

NAMES = ["contract[signature]", "contract[params]", "contract[result]", "contract[taskdef-accepted]"]


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
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


def test_the_tests_are_below_the_name_in_the_test_file(project: pytest.Pytester) -> None:
    expected = [
        f"checks/test_workers.py::test_workers::{task}::{name}" for task in ("first", "second") for name in NAMES
    ]
    assert collected(project) == [*expected, "checks/test_workers.py::test_plain"]
    run(project).assert_outcomes(passed=9)


def test_they_are_selected_like_written_ones(project: pytest.Pytester) -> None:
    result = run(project, "checks/test_workers.py::test_workers::first", "-m", "perago_contract", "-k", "params")
    assert result.parseoutcomes()["passed"] == 1


def test_kinds_can_be_chosen_in_the_file_and_a_wrong_one_is_named(project: pytest.Pytester) -> None:
    file = project.path / "checks" / "test_workers.py"
    file.write_text('from perago.testing import task_tests\ntest_workers = task_tests("shop", kinds=["run"])')
    assert run(project).ret == pytest.ExitCode.NO_TESTS_COLLECTED
    file.write_text('from perago.testing import task_tests\ntest_workers = task_tests("shop", kinds=["running"])')
    run(project).stdout.fnmatch_lines(["*task_tests: no kind 'running'; the kinds are contract, *"])


def test_fixtures_and_hooks_of_the_conftest_next_to_it_apply(pytester: pytest.Pytester) -> None:
    free_module(pytester, "shop.work", "import os; return Model(value=os.environ.get('FLAG', ''))", [])
    file = pytester.path / "shop" / "work.py"
    file.write_text(
        file.read_text().replace("examples=[]", "examples=[Example(id='x', params={}, result={'value': 'yes'})]")
    )
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


def test_a_broken_module_is_one_failing_test(project: pytest.Pytester) -> None:
    write_module(project, "shop.workers.c", "raise ValueError('broken')")
    result = run(project)
    result.assert_outcomes(passed=9, failed=1)
    result.stdout.fnmatch_lines(["rerun: pytest 'checks/test_workers.py::test_workers::import[[]shop.workers.c]'"])


def test_tasks_of_one_name_are_distinguished_by_their_module(pytester: pytest.Pytester) -> None:
    add_module(pytester, "shop.a", "same")
    add_module(pytester, "shop.b", "same")
    write_module(pytester, "checks.test_app", 'from perago.testing import task_tests\ntest_app = task_tests("shop")')
    found = collected(pytester, "--perago-kinds", "run")
    assert found == [f"checks/test_app.py::test_app::same@shop.{name}::run[two]" for name in "ab"]
