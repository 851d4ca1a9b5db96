"""Behavior of every command: help, version, streams, start-up, and command lines that are wrong."""

from __future__ import annotations

import ast
import os
import re
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import perago
from perago import NOT_ON_WINDOWS
from perago.cli import commands
from perago.cli.app import COMMANDS, GROUPS, app, file_of, source_roots

from ..children import problem_of_children
from ..golden import assert_golden
from .conftest import GOOD, PLAIN, Project
from .start_command import terminal


def test_help_lists_every_command_and_says_where_to_read_on(project: Project) -> None:
    ran = project.run("--help")
    assert (ran.code, ran.err) == (0, "")
    groups = re.split(r"(?m)^(\S.*):$", ran.out)
    for title, group in GROUPS.items():
        listed, _, _ = groups[groups.index(title) + 1].partition("\n\n")
        assert re.findall(r"(?m)^  (\w+) ", listed) == [*group]
    assert "perago help configuration" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    bare = project.run()
    assert (bare.code, "Usage: perago [OPTIONS] COMMAND" in bare.out + bare.err) == (2, True)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_shows_examples(capsys: pytest.CaptureFixture[str], command: str) -> None:
    app((command, "--help"), prog_name="perago", standalone_mode=False)
    shown = capsys.readouterr()
    assert shown.err == ""
    assert f"Usage: perago {command} " in shown.out
    assert "[[" not in shown.out  # typer encloses optional arguments itself
    arguments = shown.out.partition("Arguments:\n")[2].partition("Options:\n")[0]
    assert re.findall(r"^  \S+ <.*", arguments, re.MULTILINE) == []  # no types of Python
    assert re.search(rf"Examples:\n    perago {command}\b", shown.out)


RUNNERS = {"run", "start", "pipe", "execute", "perago", "ran", "terminal"}
"""The functions and methods of the tests that run a command of their arguments."""


def test_every_command_is_run_by_a_test_of_this_folder() -> None:
    own = Path(__file__)
    trees = [ast.parse(file.read_bytes()) for file in own.parent.glob("test_*.py") if file != own]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    run = {
        argument.value
        for call in calls
        if ast.unparse(call.func).rpartition(".")[2] in RUNNERS
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }
    assert set(COMMANDS) - run == set(), "give each of these commands a test in tests/cli"


def test_each_file_of_commands_is_registered() -> None:
    files = {file.stem for file in Path(commands.__file__).parent.glob("[a-z]*.py")}
    registered = {file_of(name).rpartition(".")[2] for name in COMMANDS}
    assert files == registered, "register a command in GROUPS of src/perago/cli/app.py, and a file of several in SHARED"


def test_children_of_the_tests_import_the_same_perago() -> None:
    assert problem_of_children(perago.__file__) == ""
    other = problem_of_children("/elsewhere/perago/__init__.py")
    assert other.startswith(
        "the tests import perago from /elsewhere/perago/__init__.py, but their child processes from "
    )
    assert "\n" not in other


def test_version_and_help_have_their_short_forms(project: Project) -> None:
    ran = project.run("--version")
    assert (ran.out, ran.err) == (f"perago {perago.__version__}\n", "")
    assert project.run("-V") == ran
    assert project.run("-h") == project.run("--help")
    assert project.run("check", "-h") == project.run("check", "--help") == project.run("help", "check")


@pytest.mark.parametrize("arguments", [["--version"], ["check", "features"]], ids=["version", "check"])
def test_the_other_project_of_the_same_name_is_recognized(project: Project, arguments: list[str]) -> None:
    project.task("features", "features.build")
    installed = project.directory / "perago-0.6.1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: perago\nVersion: 0.6.1\n")
    ran = project.run(*arguments)
    assert ran.code == 0
    assert "the perago 0.6.1 that is installed here is another project of the same name" in ran.err
    assert "fix: pip uninstall perago, and install this one again" in ran.err


def test_a_module_written_for_the_other_project_is_distinguished(project: Project) -> None:
    project.module("features", "from perago import load_module_task")
    ran = project.run("check", "features")
    assert ran.code == 3
    assert "features.py:1: module features cannot be imported" in ran.err
    assert "the package index has another project named perago, and this one is not it" in ran.err


def test_the_installed_script_is_the_same_command(project: Project) -> None:
    script = Path(sysconfig.get_path("scripts"), "perago")
    ran = project.execute(script, "check", "features").ends(3, "there is no module features")
    project.task("features", "features.build")
    ran = project.execute(script, "check", "features")
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chekc", "a"], "No such command 'chekc'. Did you mean 'check', 'cache'?"),
        (["nonsense"], "No such command 'nonsense'"),
        (["check"], "Missing argument 'MODULE"),
        (["check", "--jsn", "a"], "No such option: --jsn"),
        (["check", "--timeout", "never", "a"], "--timeout"),
        (["start", "a", "-j", "0"], "-j"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_usage_error_exits_with_2_and_shows_the_right_spelling(
    project: Project, arguments: list[str], message: str
) -> None:
    ran = project.run(*arguments).ends(2, out="")
    assert message in " ".join(ran.err.split())
    assert "Traceback" not in ran.err


def test_the_entry_point_costs_nothing_to_import() -> None:
    code = "import sys; before = set(sys.modules); import perago.cli; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert {name for name in done.stdout.split() if name.startswith("perago")} == {"perago", "perago.cli"}
    assert not {"pydantic", "typer", "subprocess", "inspect"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("perago check ta", ["tasks"]),
        ("perago run tasks.", ["tasks.deep", "tasks.features"]),
        ("perago start tasks.deep.", ["tasks.deep.clean"]),
    ],
)
def test_the_names_of_modules_are_completed(project: Project, typed: str, names: list[str]) -> None:
    project.task("tasks.features", "features.build")
    project.task("tasks.deep.clean", "clean")
    project.module("tasks.__init__", "raise SystemExit('completion imports nothing')")
    ran = project.run(_PERAGO_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD="2")
    assert ran.out.split() == names


def test_a_disconnected_reader_causes_no_noise(project: Project) -> None:
    project.task("features", "features.build")
    reading, writing = os.pipe()
    os.close(reading)
    with project.start("extract", "features", stdout=writing) as process:
        os.close(writing)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"], ids=["standard input", "output", "error"])
def test_a_closed_stream_only_affects_the_display(project: Project, closed: str) -> None:
    project.task("features", "features.build")
    ran = project.execute("sh", "-c", f'"{sys.executable}" -m perago check features nope {closed}').ends(3)
    assert ("ok  features" in ran.out) is (closed != ">&-")
    assert ("there is no module nope" in ran.err) is (closed != "2>&-")
    assert "unexpected" not in ran.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_failure_in_plain_words(project: Project) -> None:
    project.task("features", "features.build")
    with Path("/dev/full").open("wb") as full, project.start("extract", "features", stdout=full) as process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, b"error: No space left on device\n")


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_is_for_terminals_that_want_it(project: Project, variables: dict[str, str], coloured: bool) -> None:
    project.task("features", "features.build")
    assert "\x1b" not in project.run("check", "features", "nope", TERM="xterm").err
    with terminal(project, "check", "features", "nope", **variables) as shown:
        assert shown.ended() == 3
    assert ("ok" in shown.text, b"\x1b[" in shown.shown) == (True, coloured)


GATED = """
import time
from pathlib import Path
while not Path("gate").exists():
    time.sleep(0.02)
"""


@pytest.mark.parametrize(
    ("command", "importing", "later"),
    [
        ("check", "importing features", "task features.build"),
        ('send --params {"rows":1}', "importing features", "Conductor has not answered for"),
        ("start", "importing features", "Conductor has not answered for"),
        ("dev --port 0", "importing features", "starting 1 worker: importing their modules"),
        ("doctor", "checking this machine", "Conductor has not answered for"),
    ],
)
def test_a_terminal_shows_what_a_command_waits_for(project: Project, command: str, importing: str, later: str) -> None:
    project.module("features", GATED + dedent(PLAIN).format(name="features.build"))
    with socket.create_server(("127.0.0.1", 0)) as mute:  # the kernel accepts connections, and nobody answers
        variables = {"CONDUCTOR_SERVER_URL": f"http://127.0.0.1:{mute.getsockname()[1]}/api"}
        with terminal(project, *command.split(), "features", **variables) as shown:
            shown.wait_for(importing)
            (project.directory / "gate").touch()
            shown.wait_for(later)


@pytest.mark.parametrize("before", [True, False], ids=["before the command", "after it"])
def test_debug_shows_the_traceback_of_the_module(project: Project, before: bool) -> None:
    project.module("broken", "def helper():\n    raise KeyError('x')\nhelper()\n")
    arguments = ["--debug", "check", "broken"] if before else ["check", "broken", "--debug"]
    project.run(*arguments).ends(3, "Traceback (most recent call last)", "in helper")
    assert "Traceback" not in project.run("check", "broken").err


AS_IF_ON_WINDOWS = """
import sys
sys.platform = "win32"
sys.argv = ["perago", {arguments}]
import perago.cli
perago.cli.main()
"""
PYTEST_AS_IF_ON_WINDOWS = """
import sys
import pytest

class Windows:
    def pytest_configure(self):
        sys.platform = "win32"

sys.exit(pytest.main(["--perago-modules", "features"], plugins=[Windows()]))
"""


@pytest.mark.parametrize(
    "script",
    [
        AS_IF_ON_WINDOWS.format(arguments='"start", "features"'),
        AS_IF_ON_WINDOWS.format(arguments='"check", "features"'),
        AS_IF_ON_WINDOWS.format(arguments='"--help"'),
        PYTEST_AS_IF_ON_WINDOWS,
    ],
    ids=["start", "check", "help", "pytest"],
)
def test_windows_is_refused_at_every_entry_point(project: Project, script: str) -> None:
    ran = project.execute(sys.executable, "-c", script)
    assert (ran.code, ran.out) == (pytest.ExitCode.USAGE_ERROR if "pytest" in script else 2, "")
    assert ran.err.lower().strip() == f"error: {NOT_ON_WINDOWS}".lower()


# ----------------------------------------------------------------------------------------------------
# Command lines that are wrong: each is refused before a server is asked, and its message never repeats params.


COMMIT = "a" * 64
WRONG: tuple[tuple[str, ...], ...] = (
    ("check", "tasks/features.py"),
    ("check", "tasks.features:work"),
    ("extract", "../features.py"),
    ("check", "tasks.class"),
    ("start", "not a module"),
    *(("input", "--", f"my-data/{branch}") for branch in ("main~1", "a/b", COMMIT, "-x", "ä")),
    *(
        ("input", "my-data/main", "--params", params)
        for params in ('{"hidden": 1', '{"hidden": NaN}', '["hidden"]', "null", "@nowhere.json", "@latin", "@bad")
    ),
    *(("input", "my-data/main", "--ref", ref) for ref in ("main", COMMIT[:12], '["main"]', "[]", "@nowhere.json")),
    ("input", "my-data/main", "--ref", "main:x"),
    ("run", "plain", "-e", "x"),
    ("run", "plain", "-e", "x", "-p", "{}"),
    ("run", "plain", "-w", "sample"),
    ("run", "plain", "-o", "out"),
    ("run", "features", "-w", "tasks", "-o", "tasks"),
    ("run", "features", "--from", "t", "--params", "{}"),
    ("send", "plain", "-b", "dev/main"),
    ("send", "features"),
    ("send", "features", "-b", "dev"),
    ("send", "features", "-b", f"dev/{COMMIT}"),
    *(("start", text) for text in ("app=", "app=0", "app=x", "app=-1", "app=1000", "app=1=2", "app=²")),
    ("start", "app=1", "app=2"),
    ("start", "app", "app=2"),
    *(("start", "plain", "--http", text) for text in ("x", "99999", "a b:1", "http://127.0.0.1:1", "::1:9090")),
    ("start", "plain", "--watch", "--log-format", "text"),
    ("doctor", "-b", "my-data"),
    ("gc", "--older-than", "1w"),
    ("log", "my-data/main", "--since", "soon"),
    ("capture",),
    ("capture", "t", "--max-bytes", "many"),
    ("capture", "t", "--only", "../x"),
    ("capture", "t", "--name", "../x"),
    ("replay", "t", "--workflow", "w"),
    ("replay", "t", "--set", "min_rows=2"),
    ("backtest", "features", "--since", "yesterday"),
    ("backtest", "features", "--workflow", "a'b"),
)


def message_of(*arguments: str) -> str:
    """Run a command in this process, and return the message of its usage error."""
    try:
        app(arguments, prog_name="perago", standalone_mode=False)
    except Exception as error:
        wrong: Any = error
        return str(wrong.format_message())
    return pytest.fail(f"perago {' '.join(arguments)} is accepted")


def test_wrong_command_lines_are_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.task("features", "features.build", GOOD)
    project.task("plain", "plain.work", PLAIN)
    project.task("tasks.features", "tasks.build", PLAIN)
    (project.directory / "latin").write_bytes(b'{"a": "\xff"}')
    (project.directory / "bad").write_text('{"key": hidden}')
    monkeypatch.chdir(project.directory)
    monkeypatch.syspath_prepend(project.directory)
    messages = {" ".join(arguments): message_of(*arguments) for arguments in WRONG}
    assert "hidden" not in "".join(messages.values())
    text = "\n".join(f"$ perago {line}\n{message}" for line, message in messages.items())
    assert_golden(__file__, "usage errors", text, {COMMIT: "COMMIT"})


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("pytest.ini", "[pytest]\npythonpath = code\n"),
        ("pyproject.toml", '[tool.pytest.ini_options]\npythonpath = ["code"]\n'),
        ("pyproject.toml", '[tool.pytest]\npythonpath = ["code"]\n'),
        ("pytest.toml", '[pytest]\npythonpath = ["code"]\n'),
        ("pyproject.toml", '[tool.setuptools.packages.find]\nwhere = ["code"]\n'),
        ("pyproject.toml", '[tool.poetry]\npackages = [{include = "shop", from = "code"}]\n'),
        ("pyproject.toml", "[tool.setuptools]\npackage-dir = {'' = 'code'}\n"),
        ("pyproject.toml", "not TOML\n"),
    ],
)
def test_the_directories_of_the_sources_are_those_of_the_project(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / file).write_text(text)
    assert source_roots(tmp_path) == ([] if "not" in text else [str(tmp_path / "code")])


def test_a_module_in_src_needs_no_pythonpath(project: Project) -> None:
    (project.directory / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "1"\n')
    project.task("src.shop_features", "features.build", GOOD)
    project.run("check", "shop_features").ends(0)
    assert (project.run("run", "shop_features", "--workspace", "src").code) in (0, 1)
