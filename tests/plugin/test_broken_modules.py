"""Modules that cannot be tested are one failing test each, and never the end of the session."""

from __future__ import annotations

import pytest

from .projects import QUIET, add_module, collected, run, write_module

pytest_plugins = ["pytester"]

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
    for name, (_, words, place), failure in zip(
        names, BROKEN.values(), output.split("mistake in the task: ")[1:], strict=True
    ):
        assert words.format(name=name) in failure
        assert f"{name}.py:{place}" in failure
        rerun = f"pytest -o perago_import_timeout=0.5 --perago-modules {name} '{name}.py::import[{name}]'"
        assert f"rerun: {rerun}" in failure
    for frame in ("pytest_perago", "importlib", "pluggy", "pydantic/"):
        assert f"{frame}/" not in output.replace("importlib/metadata", "")


def test_output_of_a_module_is_shown_with_its_failure(pytester: pytest.Pytester) -> None:
    write_module(
        pytester, "bad", "import sys\nprint('to out')\nprint('to err', file=sys.stderr)\nraise ValueError('x')"
    )
    result = run(pytester, "--perago-modules", "bad")
    result.stdout.fnmatch_lines(["*Captured stdout at import*", "to out", "to err"])


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
    write_module(
        pytester,
        "bad",
        """
        import os, signal
        try:
            os.kill(os.getpid(), signal.SIGINT)
            import time
            time.sleep(1)
        except BaseException:
            pass
        """,
    )
    with pytest.raises(KeyboardInterrupt):  # pytester passes it on
        run(pytester, "--perago-modules", "bad")


@pytest.mark.parametrize("uses", ["modules", "fixture"])
def test_another_project_named_perago_is_recognized(pytester: pytest.Pytester, uses: str) -> None:
    write_module(pytester, "perago.task", "def task(): pass")
    pytester.makepyfile(test_it="def test_it(perago_run): pass" if uses == "fixture" else "")
    pytester.makeini(f"[pytest]\n{'perago_modules = shop' if uses == 'modules' else ''}\npythonpath = .\n")
    result = pytester.runpytest_subprocess(*QUIET, timeout=60)
    assert result.ret in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.TESTS_FAILED)
    words = f"`import perago` finds another project of that name, in {pytester.path / 'perago'}"
    assert words in result.stdout.str() + result.stderr.str()


def test_pytest_answers_questions_about_itself_in_a_project_with_a_broken_module(pytester: pytest.Pytester) -> None:
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
