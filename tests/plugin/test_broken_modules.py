"""Modules that cannot be tested are one failing test each, and never the end of the session."""

from __future__ import annotations

import pytest

from .projects import QUIET, add_module, collected, run, run_process, write_module

pytest_plugins = ["pytester"]

BROKEN = {
    "raises": ("import json\n\ndef load():\n    return json.loads('{')\n\nload()", "JSONDecodeError", "bad.py:4"),
    "exits": ("import sys\nsys.exit(3)", "it ends the process (SystemExit: 3)", "bad.py:2"),
    "interrupts": ("raise KeyboardInterrupt", "it was interrupted (KeyboardInterrupt)", "bad.py:1"),
    "hangs": ("import time\ntime.sleep(50)", "did not end within 2 s (perago_import_timeout)", "bad.py:2"),
    "loops": ("while True:\n    try:\n        1\n    except Exception: pass", "did not end within 2 s", "bad.py:"),
    "syntax": ("def broken(:\n    pass", "SyntaxError", "bad.py:1"),
    "needs": ("import no_such_module_x", "needs the module no_such_module_x", "bad.py:1"),
    "no task": ("ANSWER = 42", "module bad declares no task", "bad.py:1"),
    "declares": ("from perago import require_file\nrequire_file('/a')", "'/a' is absolute", "bad.py:2"),
}


@pytest.mark.parametrize(("text", "words", "place"), BROKEN.values(), ids=BROKEN)
def test_a_broken_module_is_one_failing_test(pytester: pytest.Pytester, text: str, words: str, place: str) -> None:
    write_module(pytester, "bad", text)
    add_module(pytester, "good", "good")
    limit = "perago_import_timeout=" + ("2" if "did not end" in words else "60")
    result = run(pytester, "--perago-modules", "bad,good", "-o", limit)
    result.assert_outcomes(passed=6, failed=1)
    output = result.stdout.str()
    assert "mistake in the task: " in output
    assert words in output
    assert place in output
    assert f"rerun: pytest -o {limit} --perago-modules bad,good 'bad.py::import[bad]'" in output
    for frame in ("pytest_perago", "importlib", "pluggy", "pydantic/"):
        assert f"{frame}/" not in output.replace("importlib/metadata", "")


def test_what_a_module_printed_is_shown_with_its_failure(pytester: pytest.Pytester) -> None:
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


def test_a_module_that_is_not_there_fails_without_any_ini_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_plain="def test_plain(): pass")
    run(pytester, "--perago-modules", "nowhere").assert_outcomes(passed=1, failed=1)


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
    result = run_process(pytester, "--perago-modules", "bad")
    assert result.ret == pytest.ExitCode.INTERRUPTED


@pytest.mark.parametrize("uses", ["modules", "fixture"])
def test_another_project_named_perago_is_recognised(pytester: pytest.Pytester, uses: str) -> None:
    write_module(pytester, "perago.task", "def task(): pass")
    pytester.makepyfile(test_it="def test_it(perago_run): pass" if uses == "fixture" else "")
    pytester.makeini(f"[pytest]\n{'perago_modules = shop' if uses == 'modules' else ''}\npythonpath = .\n")
    result = pytester.runpytest_subprocess(*QUIET, timeout=60)
    assert result.ret in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.TESTS_FAILED)
    words = f"`import perago` finds another project of that name, in {pytester.path / 'perago'}"
    assert words in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("--help", "*tests made from perago task modules:*"),
        ("--version", "pytest *"),
        ("--markers", "@pytest.mark.perago_run: *"),
        ("--fixtures", "perago_run *"),
    ],
)
def test_pytest_answers_questions_about_itself_in_a_project_with_a_broken_module(
    pytester: pytest.Pytester, question: str, answer: str
) -> None:
    write_module(pytester, "shop.a", "import nothing_there")
    pytester.makeini("[pytest]\nperago_modules = shop\n")
    result = pytester.runpytest_subprocess(*QUIET, question, timeout=60)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([answer])
