"""`perago run --pdb` and `breakpoint()`: the debugger has the terminal, and stands in the author's function."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import time
from collections.abc import Iterator

import pytest

from .conftest import Project

LIMIT = 60.0
MODULE = """
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


def write(project: Project, stop: str = "pass") -> None:
    project.module("features", MODULE.format(stop=stop))
    (project.directory / "sample" / "raw").mkdir(parents=True)
    (project.directory / "sample" / "raw" / "a.csv").write_text("x\n")


def _plain(shown: bytes) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


class Terminal:
    """A command with a pseudo-terminal for all its streams."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = project.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        self.text = ""

    def wait_for(self, pattern: str) -> None:
        """Until it has been shown."""
        deadline = time.monotonic() + LIMIT
        while not re.search(pattern, self.text):
            assert select.select([self._ours], [], [], max(0, deadline - time.monotonic()))[0], self.text
            try:
                self.text += _plain(os.read(self._ours, 65_536))
            except OSError:  # the other end is closed
                raise AssertionError(f"{pattern} is missing in:\n{self.text}") from None

    def type(self, line: str) -> None:
        """Enter a line; what was shown before is forgotten."""
        self.text = ""
        os.write(self._ours, f"{line}\n".encode())

    def ended(self) -> int:
        """The exit status, once everything has been shown."""
        with contextlib.suppress(OSError):
            while select.select([self._ours], [], [], LIMIT)[0] and (shown := os.read(self._ours, 65_536)):
                self.text += _plain(shown)
        return self.process.wait(LIMIT)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextlib.contextmanager
def terminal(project: Project, *arguments: str) -> Iterator[Terminal]:
    opened = Terminal(project, *arguments)
    try:
        yield opened
    finally:
        opened.close()


def test_pdb_opens_where_the_function_raised_and_the_failure_is_reported_afterwards(project: Project) -> None:
    write(project)
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


def test_a_breakpoint_stops_in_the_function_and_the_attempt_continues_from_there(project: Project) -> None:
    write(project, "breakpoint()")
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
    write(project, "breakpoint()")
    ran = project.pipe(b"q\n", "run", "features", "-w", "sample", "-o", "out")
    assert (ran.code, ran.out) == (1, "")
    assert "failed: the debugger was quit" in ran.err
    assert "Traceback" not in ran.err
    assert not (project.directory / "out").exists()


def test_standard_output_has_the_result_alone_while_debugging_by_a_pipe(project: Project) -> None:
    write(project)
    ran = project.pipe(b"", "run", "features", "-w", "sample", "--pdb")
    assert (ran.code, json.loads(ran.out)) == (0, {"rows": 3})
    assert "reading" in ran.err.splitlines()


def test_params_and_debugger_cannot_share_standard_input(project: Project) -> None:
    write(project)
    ran = project.pipe(b"{}", "run", "features", "-w", "sample", "--pdb", "-p", "-")
    assert (ran.code, "the debugger needs standard input" in ran.err) == (2, True)


@pytest.mark.parametrize("options", [[], ["--debug"]], ids=["short", "all frames"])
def test_all_frames_are_shown_with_debug_only(project: Project, options: list[str]) -> None:
    write(project)
    ran = project.pipe(b"q\n", *options, "run", "features", "-w", "sample", "-p", '{"column": "y"}', "--pdb")
    assert "features.py" in ran.err
    assert ("driver/function.py" in ran.err.partition("> ")[0]) is bool(options)


def test_a_breakpoint_that_a_worker_meets_says_how_to_debug(project: Project) -> None:
    """The call is hidden from the look at the sources, as one in a library would be."""
    write(project, "getattr(__import__('builtins'), 'break' + 'point')()")
    ran = project.run("run", "features", "-w", "sample")
    assert ran.code == 1
    assert "breakpoint() in a worker process, which has no terminal; use: perago run --pdb features" in ran.err
