"""`perago check`: everything a module can do to the process that imports it, and the local configuration."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perago import probe
from perago.probe import probe_modules

from ..worker.bench import has_ended, wait_for
from .conftest import GOOD, PLAIN, Project

NO_SERVERS = "ok  configuration: no servers yet (perago help configuration)\n"
TAIL = "\nfrom pydantic import BaseModel\n" + PLAIN.format(name="tail")


def test_a_valid_module_is_summed_up_in_one_line(project: Project) -> None:
    project.task("tasks.features", "features.build")
    project.task("plain", "plain.work", PLAIN)
    ran = project.run("check", "tasks.features", "plain")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "ok  tasks.features: task features.build, workspace /audio, guardrails 1 before and 1 after, examples 1",
        "ok  plain: task plain.work, no workspace",
        NO_SERVERS.rstrip(),
    ]
    assert not Path(project.environment["HOME"]).exists(), "the roots are tried without being created"
    report = json.loads(project.run("check", "--json", "plain").out)
    assert (report["ok"], report["configuration"]) == (True, {"ok": True, "errors": [], "warnings": []})


BROKEN = {
    "syntax": ("def broken(:\n", ".py:1: module {} cannot be imported: SyntaxError"),
    "missing": ("x = 1\nimport no_such_thing\n", ".py:2: module {} needs the module no_such_thing"),
    "exception": ("x = 1\n\nx / 0\n", ".py:3: module {} cannot be imported: ZeroDivisionError"),
    "sys_exit": (
        "import sys\nsys.exit(4)\n",
        ".py:2: module {} cannot be imported: it ends the process (SystemExit: 4)",
    ),
    "os_exit": ("import os\nos._exit(0)\n", "module {} cannot be imported: it ends the process with status 0"),
    "as_if_too_slow": ("import os\nos._exit(1)\n", "module {} cannot be imported: it ends the process with status 1"),
    "killed": ("import os\nos.kill(os.getpid(), 9)\n", "SIGKILL\n  fix: it may have used too much memory"),
    "aborted": ("import os\nos.abort()\n", ".py:2: module {} cannot be imported: the process was killed by SIGABRT"),
    "interrupt": ("raise KeyboardInterrupt\n", "it was interrupted (KeyboardInterrupt)"),
    "asking": ("input('name? ')\n", ".py:1: module {} cannot be imported: EOFError"),
    "no_task": ("x = 1\n", ".py: module {} declares no task"),
    "recursion": ("def f(x): f(x)\nf(1)\n", ".py:1: module {} cannot be imported: RecursionError"),
}


def test_modules_that_cannot_be_used_are_explained(project: Project) -> None:
    for name, (text, _) in BROKEN.items():
        project.module(name, text)
    ran = project.run("check", *BROKEN)
    assert (ran.code, ran.out) == (3, NO_SERVERS)
    assert "Traceback" not in ran.err
    reported = ran.err.removeprefix("error: ").split("\nerror: ")
    assert len(reported) == len(BROKEN)
    for text, (name, (_, message)) in zip(reported, BROKEN.items(), strict=True):
        assert message.format(name) in text
        assert "\n  fix: " in text
    document = json.loads(project.run("check", "--json", *BROKEN).out)
    codes = {module["module"]: module["errors"][0]["code"] for module in document["modules"]}
    assert (codes["os_exit"], codes["aborted"], codes["no_task"]) == ("import-exit", "import-crash", "invalid-module")


def test_a_module_that_hangs_is_stopped_and_its_line_named(project: Project) -> None:
    project.module("tasks.slow", "import time\n\ndef wait():\n    time.sleep(600)\n\nwait()\n")
    started = time.monotonic()
    ran = project.run("check", "--timeout", "0.5", "tasks.slow")
    assert time.monotonic() - started < probe._KILL_DELAY  # nobody had to end it
    assert ran.code == 3
    assert "error: tasks/slow.py:4: module tasks.slow was not imported after 0.5 seconds" in ran.err
    assert "or raise --timeout" in ran.err


def test_output_of_a_module_is_a_note(project: Project) -> None:
    project.module("loud", "import sys, warnings\nprint('hällo')\nsys.stderr.write('oops')\n" + TAIL)
    ran = project.run("check", "loud").ends(0)
    assert ran.out == f"ok  loud: task tail, no workspace\n{NO_SERVERS}"
    assert ran.err == "note: loud printed while it was imported:\n  | hällo\n  | oops\n"


def test_a_module_that_prints_megabytes_is_cut_short(project: Project) -> None:
    project.module("loud", "for n in range(100_000):\n    print('line', n, 'x' * 50)\n" + TAIL)
    ran = project.run("check", "loud", PERAGO_LOG_RETENTOIN="1d").ends(0, "line 99999 ", "bytes, which end with:")
    assert "warning: PERAGO_LOG_RETENTOIN (environment)" in ran.err, "and an unknown variable is only a warning"
    assert len(ran.err) < 3000


def test_a_module_that_prints_for_ever_is_stopped(project: Project) -> None:
    project.module("loud", "while True:\n    print('x' * 10_000)\n")
    project.run("check", "--timeout", "1", "loud").ends(3, "was not imported after 1 seconds")


def test_a_module_that_forks_is_judged_once_and_leaves_nothing_behind(project: Project) -> None:
    text = """
    import os, time
    reading, writing = os.pipe()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.write(writing, b"x")
        time.sleep(600)
    os.read(reading, 1)
    """
    project.module("forks", textwrap.dedent(text) + TAIL)
    ran = project.run("check", "forks").ends(0)
    assert ran.out.startswith("ok  forks: task tail")
    assert "note: forks started processes while it was imported; perago stopped them" in ran.err
    wait_for("its end", has_ended(int(ran.err.split("| ")[1].split()[0])))


def test_a_fork_during_the_import_does_not_report_twice(project: Project) -> None:
    project.module("forks", "import os\nif os.fork() == 0:\n    raise ValueError('in the child')\nos.wait()\n" + TAIL)
    ran = project.run("check", "forks")
    assert (ran.code, ran.err) == (0, "")


def test_a_module_that_becomes_a_daemon_does_not_hold_the_command_up(project: Project) -> None:
    text = """
    import os, time
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.write(writing, b"x")
        time.sleep(600)
        os._exit(0)
    os.read(reading, 1)
    open("pid", "w").write(str(pid))
    """
    project.module("daemon", textwrap.dedent(text) + TAIL)
    try:
        assert project.run("check", "daemon").code == 0
    finally:
        os.kill(int((project.directory / "pid").read_text()), signal.SIGKILL)  # it is still there


def test_a_thread_or_exit_handler_does_not_hold_the_command_up(project: Project) -> None:
    text = """
    import atexit, threading, time
    threading.Thread(target=time.sleep, args=(600,)).start()
    atexit.register(time.sleep, 600)
    """
    project.module("threads", textwrap.dedent(text) + TAIL)
    assert project.run("check", "threads").code == 0


def test_modules_are_reported_together_and_names_belong_to_one(project: Project) -> None:
    project.task("a", "same")
    project.module("b", "x / 0\n")
    project.task("c", "same", PLAIN)
    ran = project.run("check", "a", "b", "c", "a").ends(3)
    assert ran.out.count("ok  a: ") == 1
    assert "b.py:1: module b cannot be imported: NameError" in ran.err
    assert "module c declares the task 'same', which a declares as well" in ran.err


def test_each_module_is_reported_as_soon_as_it_is_done(project: Project, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    project.task("a", "first", PLAIN)
    project.module("b", f"open({str(gate)!r}).close()\n" + PLAIN.format(name="second"))
    with project.start("check", "a", "b") as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith(b"ok  a: ")
        finally:
            gate.open("w").close()
        assert process.stdout.readline().startswith(b"ok  b: ")
        assert process.wait(60) == 0


def test_a_package_means_all_task_modules_below_it(project: Project) -> None:
    project.task("tasks.features", "features.build")
    project.task("tasks.deep.clean", "clean", PLAIN)
    project.module("tasks.helpers", "ANSWER = 42")
    project.module("tasks.deep.bad", "x / 0")
    ran = project.run("check", "tasks", "tasks.features").ends(3, "module tasks.deep.bad cannot be imported")
    assert [line.partition(":")[0] for line in ran.out.splitlines()] == [
        "ok  tasks.deep.clean",
        "ok  tasks.features",
        "ok  configuration",
    ]
    assert "helpers" not in ran.err


def test_a_package_without_any_task_is_an_error(project: Project) -> None:
    project.module("tasks.helpers", "ANSWER = 42")
    project.run("check", "tasks").ends(3, "none of the 1 modules of package tasks declares a task")


def test_a_declared_example_that_does_not_fit_is_an_error(project: Project) -> None:
    project.task("features", "features.build", GOOD.replace('params={{"rows": 1}}', 'params={{"row": 1}}'))
    ran = project.run("check", "features")
    assert ran.code == 3
    assert "features.py:11: task 'features.build': the params of 'minimal' are not valid" in ran.err
    assert "/params/rows: Field required" in ran.err
    report = json.loads(project.run("check", "--json", "features").out)
    assert report["modules"][0]["errors"][0]["code"] == "invalid-example"
    assert project.run("extract", "features").code == 0


def test_a_library_that_a_guardrail_needs_is_reported_before_anything_runs(project: Project) -> None:
    hidden = "import sys\nsys.modules['pyarrow'] = None\nfrom perago import require_table\n"
    project.task(
        "features", "features.build", hidden + GOOD.replace('require_dir("raw")', 'require_table("raw/*.csv")')
    )
    for command in (["check", "features"], ["run", "features"]):
        project.run(*command).ends(
            3,
            "task features.build cannot run: require_table reads tables with pyarrow, which is not installed",
            "fix: pip install 'pyarrow>=19'",
        )
    report = json.loads(project.run("check", "--json", "features").out)
    assert report["modules"][0]["errors"][0]["code"] == "missing-library"
    assert project.run("extract", "features").code == 0


def test_params_that_ignore_misspelt_keys_are_advised_against(project: Project) -> None:
    project.task("plain", "plain", PLAIN.replace(', extra="forbid"', ""))
    ran = project.run("check", "plain")
    assert ran.code == 0
    assert "note: plain: Params ignores keys that it does not know" in ran.err
    assert 'refuse them with: class Params(BaseModel, extra="forbid")' in ran.err


def test_the_configured_servers_are_named_and_none_is_asked(project: Project) -> None:
    project.task("plain", "plain", PLAIN)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        variables = {
            "CONDUCTOR_SERVER_URL": f"{address}/api",
            "LAKECTL_SERVER_ENDPOINT_URL": address,
            "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": "key",
            "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": "secret-of-lakefs",
        }
        ran = project.run("check", "plain", **variables, PERAGO_ALLOWED_WORKSPACES="lab/*,audio/main")
        servers = f"Conductor at {address}/api, lakeFS at {address}"
        assert ran.code == 0
        assert ran.out.splitlines()[-1] == f"ok  configuration: {servers}; inputs may name lab/*, audio/main"
        assert f"{servers}; inputs may name any workspace (" in project.run("check", "plain", **variables).out
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("ops.clean", "correct the path, or run the command in the directory that contains ops"),
        ("opcod", "correct the path, or run the command in the directory that contains opcod"),
        ("task.nothing", "correct the path, or run the command in the directory that contains task"),
        ("task.features", "did you mean tasks.features?"),
        ("tasks.featurs", "did you mean tasks.features?"),
    ],
)
def test_only_names_that_the_author_has_are_suggested(project: Project, name: str, fix: str) -> None:
    project.task("tasks.features", "features.build")
    project.run("check", name).ends(3, f"there is no module {name}", f"  fix: {fix}\n")


def test_an_invalid_configuration_has_its_own_exit_code(project: Project) -> None:
    project.task("features", "features.build")
    (project.directory / ".env").write_text(
        "\nPERAGO_LOG_RETENTION=30\nPERAGO_LOG_RETENTOIN=1d\nPERAGO_LOG_ROOT=.env\n"
    )
    ran = project.run("check", "features", LAKECTL_SERVER_ENDPOINT_URL="http://localhost:8000").ends(4)
    assert ran.out.startswith("ok  features: ")
    assert "error: the configuration is not valid\n  PERAGO_LOG_RETENTION (.env:2): " in ran.err
    assert "\n  LAKECTL_CREDENTIALS_ACCESS_KEY_ID: not set" in ran.err
    assert re.search(r"\n  PERAGO_LOG_ROOT \(.env:4\): \S+/.env is not a directory", ran.err)
    assert "warning: PERAGO_LOG_RETENTOIN (.env:3)" in ran.err
    project.run("check", "nope").ends(3, "there is no module nope", "PERAGO_LOG_RETENTION (.env:2)")


SECRET = "hunter2-hunter2"


@pytest.mark.parametrize(
    "text",
    [
        "import os\nsecret = os.environ['CONDUCTOR_AUTH_SECRET']\nprint(secret)\nraise ValueError(secret)\n",
        "import os\nassert os.environ['CONDUCTOR_AUTH_SECRET'] == 'x', os.environ\n",
    ],
)
@pytest.mark.parametrize("options", [[], ["--debug"], ["--json"]], ids=["plain", "debug", "json"])
def test_a_secret_in_the_output_of_a_module_is_masked(project: Project, text: str, options: list[str]) -> None:
    project.module("leaky", text)
    (project.directory / ".env").write_text("PERAGO_LOG_RETENTION=bad\n")
    ran = project.run("check", "leaky", *options, CONDUCTOR_AUTH_KEY="k", CONDUCTOR_AUTH_SECRET=SECRET).ends(3)
    assert SECRET not in ran.out + ran.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_and_the_child(project: Project, number: signal.Signals, code: int) -> None:
    marker = project.directory / "pid"
    project.module("slow", f"import os, time\nopen({str(marker)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n")
    with project.start("check", "slow") as process:
        wait_for("the import", lambda: marker.exists() and marker.read_text())
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode in (code, -number)  # both are `code` in a shell
    wait_for("its end", has_ended(int(marker.read_text())))


def test_a_fresh_interpreter_reports_the_same(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where forking is not dependable, children are started afresh."""
    project.task("features", "features.build")
    project.module("bad", "print('hello')\nx / 0\n")
    monkeypatch.chdir(project.directory)
    monkeypatch.setattr(probe, "FORKS", False)
    features, bad = probe_modules(["features", "bad"], 60)
    assert features.task is not None
    assert features.task.name == "features.build"
    assert bad.problem is not None
    assert (bad.problem.where, bad.output, bad.printed) == ("bad.py:2", "hello\n", 6)


def test_a_hanging_module_is_reported_with_its_line_even_after_a_pause(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All processes may stand still for a while, and time is up for both the child and us when they go on."""
    project.module("slow", "import time\ntime.sleep(600)\n")
    monkeypatch.chdir(project.directory)
    monkeypatch.setattr(probe, "FORKS", False)
    stalled = itertools.chain([0.0], itertools.repeat(20.0))
    monkeypatch.setattr(probe, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + next(stalled)))
    (slow,) = probe_modules(["slow"], 0.5)
    assert slow.problem is not None
    assert (slow.problem.code, slow.problem.where) == ("import-timeout", "slow.py:2")


# ---------------------------------------------------------- The JSON document of `perago check --json`


def document(project: Project, *modules: str, **variables: str) -> tuple[int, Any]:
    ran = project.run("check", "--json", *modules, **variables)
    assert ran.err == ""
    return ran.code, json.loads(ran.out)


def test_json_has_a_documented_shape(project: Project) -> None:
    project.module("loud", "print('hello')\n" + TAIL)
    project.module("bad", "x / 0\n")
    project.task("twice", "tail", PLAIN)
    (project.directory / ".env").write_text("PERAGO_LOG_RETENTION=30\n")
    code, report = document(project, "loud", "bad", "twice")
    assert code == 3
    assert report["ok"] is False
    loud, bad, twice = report["modules"]
    task = {"task": "tail", "environment": [], "workflows": []}
    assert loud == {"module": "loud", "ok": True, **task, "output": "hello\n", "advice": [], "errors": []}
    assert (bad["ok"], bad["task"]) == (False, None)
    (error,) = bad["errors"]
    assert set(error) == {"code", "message", "where", "fix"}
    assert (error["code"], error["where"]) == ("invalid-module", "bad.py:1")
    assert twice["errors"][0]["code"] == "duplicate-task"
    assert report["configuration"]["errors"] == [
        {
            "code": "invalid-configuration",
            "message": "not a number of days",
            "where": "PERAGO_LOG_RETENTION (.env:1)",
            "fix": "Write whole days such as 30d.",
        }
    ]
