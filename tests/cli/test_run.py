"""`perago run`: one attempt in a real worker process, without any server, and the debugger."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perago.cli.attempt_view import AttemptView
from perago.worker.events import WaitingForLakeFS

from .conftest import PLAIN, Project
from .start_command import terminal

MODULE = """
import os, subprocess, sys, time
from pathlib import Path
from pydantic import BaseModel
from perago import TaskTerminalError, Metric, WorkspaceSpec, current, forbid_glob, require_glob, task

class Params(BaseModel):
    do: str = "build"

class Result(BaseModel):
    files: int

@task(
    name="features.build",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(prefix="{prefix}", pre=[require_glob("raw/*.csv")], post=[forbid_glob("**/*.tmp")]),
    metrics=[Metric(name="files", kind="counter")],
)
def build(workspace: Path, params: Params) -> Result:
    files = sorted(workspace.glob("raw/*.csv"))
    print("building", flush=True)
    current().log("logged")
    current().count("files", len(files))
    current().progress(1, 3 if params.do == "sleep" else 1)
    if params.do == "tmp":
        (workspace / "x.tmp").touch()
    if params.do == "beside":
        Path("out.csv").write_text("1")
    if params.do == "raise":
        raise ValueError("bad column")
    if params.do == "final":
        raise TaskTerminalError("never")
    if params.do == "exit":
        os._exit(3)
    if params.do == "sleep":
        print("asleep", flush=True)
        time.sleep(60)
    (workspace / "features").mkdir()
    for file in files:
        (workspace / "features" / file.name).write_text(file.read_text().upper())
    (workspace / "raw" / "b.csv").unlink()
    return Result(files=len(files))
"""


@pytest.fixture(params=["/", "audio/render"], ids=["whole repository", "prefix"])
def prefix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write(project: Project, prefix: str = "/") -> None:
    project.module("features", MODULE.format(prefix=prefix))
    raw = project.directory / "sample" / "raw"
    raw.mkdir(parents=True)
    (raw / "a.csv").write_text("x,y\n")
    (raw / "b.csv").write_text("z\n")


def test_an_attempt_is_shown_and_its_result_and_tree_come_out(project: Project, prefix: str) -> None:
    write(project, prefix)
    if prefix == "/":  # the hooks of a checkout are no part of the workspace
        (project.directory / "sample" / "_lakefs_actions").mkdir()
        (project.directory / "sample" / "_lakefs_actions" / "check.yaml").write_text("name: check\n")
    ran = project.run("run", "features", "-p", "{}", "-w", "sample", "-o", "out")
    assert (ran.code, json.loads(ran.out)) == (0, {"files": 2})
    lines = ran.err.splitlines()
    assert "downloaded 2 files, 6 bytes" in lines
    assert {"  | building", "  | logged"} <= set(lines)
    assert "  ok     pre guardrail require_glob('raw/*.csv', min_count=1): matched 2 files" in lines
    assert [line for line in lines if line.startswith(("  + ", "  - "))] == [
        "  + features/a.csv  4 bytes",
        "  + features/b.csv  2 bytes",
        "  - raw/b.csv",
    ]
    assert any(line.startswith("completed in ") for line in lines)
    out = project.directory / "out"
    written = {path.relative_to(out).as_posix(): path.read_text() for path in out.rglob("*") if path.is_file()}
    assert written == {"features/a.csv": "X,Y\n", "features/b.csv": "Z\n", "raw/a.csv": "x,y\n"}
    assert sorted(path.name for path in (project.directory / "sample" / "raw").iterdir()) == ["a.csv", "b.csv"]
    assert "\x1b" not in ran.err


@pytest.mark.parametrize(
    ("do", "message"),
    [
        ("raise", "failed: ValueError: bad column"),
        ("final", "failed for good (a retry could not succeed): never"),
        ("tmp", "failed: post guardrail forbid_glob('**/*.tmp'): matched 1 file: 'x.tmp'"),
        (
            "beside",
            "failed: The function wrote 'out.csv' to its current directory; only the workspace is published. "
            "Write below `workspace`, or name what may be lost: @task(scratch_files=[...]).",
        ),
        ("exit", "failed: the slot's process ended with exit status 3 while it ran the attempt"),
    ],
)
def test_a_failure_is_reported_and_nothing_is_written(project: Project, do: str, message: str) -> None:
    write(project)
    ran = project.run("run", "features", "-p", json.dumps({"do": do}), "-w", "sample", "-o", "out").ends(1, out="")
    assert message in ran.err.splitlines()
    assert "note: nothing was published, so perago did not write out" in ran.err
    assert ('features.py", line' in ran.err) is (do == "raise")
    assert "perago/driver" not in ran.err
    assert not (project.directory / "out").exists()
    assert not (project.directory / "out.csv").exists()


def test_a_wait_for_lakefs_is_shown() -> None:
    shown = io.StringIO()
    AttemptView(shown)(WaitingForLakeFS("local10001", "lakeFS does not answer (upload: [no route]); trying again"))
    assert shown.getvalue() == "lakeFS does not answer (upload: [no route]); trying again\n"


def test_json_has_the_complete_outcome(project: Project) -> None:
    write(project)
    ran = project.run("run", "features", "-w", "sample", "--json")
    outcome = json.loads(ran.out)

    assert (outcome["task"], outcome["status"], outcome["result"]) == ("features.build", "COMPLETED", {"files": 2})
    assert outcome["changes"]["added"][0] == {"path": "features/a.csv", "size": 4}
    assert [finding["satisfied"] for finding in outcome["guardrails"]] == [True, True]
    assert len(outcome["ref"]) == 64
    assert outcome["metrics"] == {"files": {"kind": "counter", "value": 2.0, "count": 1}}


OWN = """
from perago import guardrail

@guardrail
def judged(workspace: Path) -> str | None:
    print("judging")
    return None if (workspace / "raw/a.csv").read_text() == "x" else 7

@task("""


def test_a_defect_of_a_guardrail_is_distinguished_from_a_violation(project: Project) -> None:
    module = MODULE.replace("\n@task(", OWN, 1).replace('[require_glob("raw/*.csv")]', "[judged]")
    project.module("features", module.replace("{prefix}", "/"))
    (project.directory / "sample/raw").mkdir(parents=True)
    (project.directory / "sample/raw/a.csv").write_text("y")
    ran = project.run("run", "features", "-w", "sample", "--json").ends(
        1, "  | judging\n", "  defect pre guardrail judged: returned an object of type int (features.py:"
    )
    outcome = json.loads(ran.out)
    assert outcome["status"] == "FAILED"
    assert [(guardrail["satisfied"], guardrail["defect"]) for guardrail in outcome["guardrails"]] == [(False, True)]


def test_params_that_the_model_ignores_are_named(project: Project) -> None:
    project.task("plain", "plain", PLAIN.replace(', extra="forbid"', ""))
    ran = project.run("run", "plain", "-p", '{"rows": 1, "row": 2}')
    assert ran.code == 0
    assert "note: Params ignores these params: /row (did you mean rows?)\n" in ran.err


EXAMPLES = """examples=[
        Example(id="inline", params={"do": "build"}, tree={"raw/a.csv": "x\\n", "raw/b.csv": b"\\xff", "empty": None}),
        Example(id="beside", params={"do": "tmp"}, tree="trees/small"),
    ],
"""


def test_an_example_brings_its_params_and_its_files(project: Project) -> None:
    text = MODULE.format(prefix="audio").replace("import TaskTerminalError", "import Example, TaskTerminalError")
    project.module("tasks.features", text.replace('name="features.build",', 'name="features.build", ' + EXAMPLES))
    small = project.directory / "tasks" / "trees" / "small" / "raw"
    small.mkdir(parents=True)
    (small / "b.csv").write_text("b\n")

    inline = project.run("run", "tasks.features", "--example", "inline", "-o", "out")
    assert "downloaded 2 files, 3 bytes" in inline.err
    project.run("run", "tasks.features", "-e", "beside").ends(1, "downloaded 1 file, 2 bytes", "'x.tmp'")


@pytest.mark.parametrize("target", ["raw/a.csv", "nowhere"])
def test_a_link_in_the_workspace_directory_is_refused_and_never_followed(project: Project, target: str) -> None:
    write(project)
    (project.directory / "sample" / "link").symlink_to(target)
    ran = project.run("run", "features", "-w", "sample").ends(1, "'link' (symlink)")
    assert "building" not in ran.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_stops_the_function_and_leaves_nothing_behind(project: Project, number: int, code: int) -> None:
    write(project)
    process = project.start("run", "features", "-w", "sample", "-p", '{"do": "sleep"}', stderr=subprocess.PIPE)
    assert process.stderr is not None
    output = b""
    while b"asleep" not in output:
        line = process.stderr.readline()
        assert line, output
        output += line
    assert b"  | progress 1 of 3\n" in output
    process.send_signal(number)
    _, err = process.communicate(timeout=30)

    assert process.returncode == code, err
    assert b"second signal" not in output + err
    assert b"lost: interrupted" not in err
    assert b"in build" in err or b"Traceback" not in err
    assert b"slot_process.py" not in output + err  # only frames of the author
    assert (err.decode().splitlines()[-1] == "error: interrupted") is (code == 130)
    workspaces = Path(project.environment["HOME"]) / ".cache" / "perago" / "workspaces"
    assert [path for path in workspaces.rglob("*") if path.is_file()] == []
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_closed_streams_do_not_reach_the_worker_process(project: Project) -> None:
    write(project)
    project.execute("sh", "-c", f'"{sys.executable}" -m perago run features -w sample -o out <&- >&- 2>&-').ends(0)
    assert (project.directory / "out" / "features" / "a.csv").exists()


def test_a_worker_that_never_becomes_ready_is_given_up(project: Project) -> None:
    """The module loads where it is checked, and ends the process in which it is to work."""
    project.module(
        "treacherous",
        """
        import multiprocessing
        import os

        from pydantic import BaseModel
        from perago import task

        class Params(BaseModel):
            rows: int = 1

        if multiprocessing.current_process().name.endswith("0001"):
            os._exit(3)

        @task(name="treacherous", owner_email="data@example.com")
        def work(params: Params) -> Params:
            return params
        """,
    )
    ran = project.run("run", "treacherous", "--params", "{}").ends(1, "ended 3 times in a row before it was ready")
    assert ran.err.count("the slot's process ended with exit status 3") == 3


def test_configuration_that_a_run_does_not_need_cannot_stop_it(project: Project) -> None:
    project.task("plain", "plain", PLAIN)
    arguments = ("run", "plain", "--params", '{"rows": 2}')
    ran = project.run(*arguments, LAKECTL_SERVER_ENDPOINT_URL="http://localhost:8000", PERAGO_LOG_RETENTION="30")
    assert ran.code == 0, ran.err
    assert "LAKECTL" not in ran.err
    assert "warning: PERAGO_LOG_RETENTION (environment): not a number of days" in ran.err
    project.run(*arguments, PERAGO_MAX_RESULT_BYTES="much").ends(4, out="")


# ----------------------------------------------------------------------------------------------------
# `perago run --pdb` and `breakpoint()`: the debugger has the terminal, and stands in the author's function.


DEBUGGED = """
from pathlib import Path
from pydantic import BaseModel
from perago import WorkspaceSpec, require_glob, task

class Params(BaseModel):
    column: str = "x"

class Result(BaseModel):
    rows: int

@task(name="features.build", owner_email="data@example.com", workspace=WorkspaceSpec(pre=[require_glob("raw/*.csv")]))
def build(workspace: Path, params: Params) -> Result:
    print("reading")
    table = {{"x": [1, 2, 3]}}
    {stop}
    rows = len(table[params.column])
    (workspace / "out.txt").write_text(str(rows))
    return Result(rows=rows)
"""


def write_debugged(project: Project, stop: str = "pass") -> None:
    project.module("features", DEBUGGED.format(stop=stop))
    (project.directory / "sample" / "raw").mkdir(parents=True)
    (project.directory / "sample" / "raw" / "a.csv").write_text("x\n")


def test_pdb_opens_where_the_function_raised_before_the_failure_report(project: Project) -> None:
    write_debugged(project)
    with terminal(project, "run", "features", "-w", "sample", "-p", '{"column": "y"}', "--pdb") as shown:
        shown.wait_for(r"\(Pdb\) ")
        assert "KeyError: 'y'" in shown.text
        assert "features.py(16)build()" in shown.text
        assert "perago/driver" not in shown.text
        shown.type("p sorted(table), workspace.is_dir()")
        shown.wait_for(r"\(\['x'\], True\)")
        shown.type("q")
        assert shown.ended() == 1
    assert "failed: KeyError: 'y'" in shown.text


def test_a_breakpoint_stops_in_the_function_and_the_attempt_continues(project: Project) -> None:
    write_debugged(project, "breakpoint()")
    with terminal(project, "run", "features", "-w", "sample", "-o", "out") as shown:
        shown.wait_for(r"\(Pdb\) ")
        assert "the task runs in this process, because of the breakpoint at" in shown.text
        assert "features.py" in shown.text
        shown.type("table['x'].append(4)")
        shown.wait_for(r"\(Pdb\) ")
        shown.type("c")
        assert shown.ended() == 0
    assert '"rows": 4' in shown.text
    assert "+ out.txt  1 byte" in shown.text
    assert (project.directory / "out" / "out.txt").read_text() == "4"


def test_quitting_the_debugger_fails_the_attempt_and_publishes_nothing(project: Project) -> None:
    write_debugged(project, "breakpoint()")
    ran = project.pipe(b"q\n", "run", "features", "-w", "sample", "-o", "out")
    assert (ran.code, ran.out) == (1, "")
    assert "failed: the debugger was quit" in ran.err
    assert "Traceback" not in ran.err
    assert not (project.directory / "out").exists()


def test_standard_output_has_the_result_alone_while_debugging_by_a_pipe(project: Project) -> None:
    write_debugged(project)
    ran = project.pipe(b"", "run", "features", "-w", "sample", "--pdb")
    assert (ran.code, json.loads(ran.out)) == (0, {"rows": 3})
    assert "reading" in ran.err.splitlines()


def test_params_and_debugger_cannot_share_standard_input(project: Project) -> None:
    write_debugged(project)
    ran = project.pipe(b"{}", "run", "features", "-w", "sample", "--pdb", "-p", "-")
    assert (ran.code, "the debugger needs standard input" in ran.err) == (2, True)


@pytest.mark.parametrize("options", [[], ["--debug"]], ids=["short", "all frames"])
def test_all_frames_are_shown_with_debug_only(project: Project, options: list[str]) -> None:
    write_debugged(project)
    ran = project.pipe(b"q\n", *options, "run", "features", "-w", "sample", "-p", '{"column": "y"}', "--pdb")
    assert "features.py" in ran.err
    assert ("driver/function.py" in ran.err.partition("> ")[0]) is bool(options)


def test_a_breakpoint_that_a_worker_meets_says_how_to_debug(project: Project) -> None:
    """The call is hidden from the look at the sources, as one in a library would be."""
    write_debugged(project, "getattr(__import__('builtins'), 'break' + 'point')()")
    ran = project.run("run", "features", "-w", "sample")
    assert ran.code == 1
    assert "breakpoint() in a worker process, which has no terminal; use: perago run --pdb features" in ran.err
