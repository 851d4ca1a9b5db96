"""`perago dev` as a process: what it says, what it serves, how it ends, and the task modules that it runs."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import socket
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil

from ..worker.bench import wait_for
from .conftest import Project
from .start_command import LIMIT, Watched

PAGE = r"(?m)^  page +\S+/\n"
"""The last line of those that `perago dev` prints once it is ready."""


class Dev(Watched):
    """A running command and what it has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes], project: Project) -> None:
        super().__init__(process)
        self.project = project

    @property
    def url(self) -> str:
        """The address of the page."""
        match = re.search(r"page +(\S+)/\n", self.text)
        assert match, self.text
        return match[1]

    def variables(self) -> dict[str, str]:
        """What is to be exported in other terminals."""
        return dict(re.findall(r"  export (\w+)=(\S+)\n", self.text))

    def curl(self, workflow: str) -> str:
        """Paste the newest line that starts this workflow into a shell; the workflow id."""
        task = re.escape(workflow.removeprefix("dev."))
        start = rf"Start {task} with .*:\n  perago .*\nor, without them.*:\n  (curl .*)\n"
        line = re.findall(start, self.text)[-1]
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=LIMIT, check=True)
        assert done.stderr == ""
        return done.stdout.removesuffix("\n")

    def get(self, path: str) -> Any:
        """A GET on the embedded Conductor."""
        with urllib.request.urlopen(f"{self.url}/api{path}", timeout=LIMIT) as answer:
            return json.load(answer)

    def post(self, path: str, document: Any) -> None:
        """A POST of JSON on the embedded Conductor."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/api{path}", json.dumps(document).encode(), headers)
        urllib.request.urlopen(request, timeout=LIMIT).close()

    def page(self, path: str, form: Mapping[str, str] | None = None) -> str:
        """A page of the console, or the one behind its form."""
        body = None if form is None else urlencode(form).encode()
        with urllib.request.urlopen(f"{self.url}{path}", body, timeout=LIMIT) as answer:
            text: str = answer.read().decode()
            return text

    def finished(self, workflow_id: str) -> dict[str, Any]:
        """The workflow, once it has ended."""

        def over() -> dict[str, Any] | None:
            workflow: dict[str, Any] = self.get(f"/workflow/{workflow_id}")
            return None if workflow["status"] in ("RUNNING", "PAUSED") else workflow

        return wait_for("the end of the workflow", over, LIMIT)

    def descendants(self) -> list[psutil.Process]:
        """All its processes, down to the last."""
        return psutil.Process(self.process.pid).children(recursive=True)


@contextlib.contextmanager
def developing(project: Project, *arguments: str, port: int | None = 0) -> Iterator[Dev]:
    """Run it, on any free port unless told otherwise; it is gone afterwards, with everything it started."""
    options = ("--curl", *(() if port is None else ("--port", str(port))))
    with project.start("dev", *arguments, *options, stderr=subprocess.STDOUT) as process:
        dev = Dev(process, project)
        try:
            yield dev
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in [*dev.descendants(), psutil.Process(process.pid)]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
            dev.ended()


@contextlib.contextmanager
def ready(project: Project, *arguments: str, port: int | None = 0) -> Iterator[Dev]:
    """The same, once the workers of all modules poll."""
    with developing(project, *arguments, port=port) as dev:
        dev.wait_for(PAGE)
        yield dev


@contextlib.contextmanager
def taken(port: int) -> Iterator[None]:
    """Inside the block somebody listens on `port`: we, or whoever does so all the time that we try."""
    deadline = time.monotonic() + LIMIT / 4
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                if time.monotonic() > deadline:
                    break
            time.sleep(0.02)
        yield


def wait_until_gone(processes: list[psutil.Process]) -> None:
    """Until none of them runs."""
    _, alive = psutil.wait_procs(processes, timeout=LIMIT)
    assert alive == []


def wait_until_kept(state: Path, workflow: dict[str, Any]) -> None:
    """Until the state says that it has ended."""
    key = json.dumps(["workflows", workflow["workflowId"]], separators=(",", ":"))

    def has_ended() -> bool:
        with contextlib.closing(sqlite3.connect(state / "state.sqlite")) as database:
            row = database.execute("SELECT value FROM records WHERE key = ?", (key,)).fetchone()
        return row is not None and json.loads(row[0])["status"] == workflow["status"]

    wait_for("the end in the state", has_ended, LIMIT)


# ----------------------------------------------------- Task modules that the tests of `perago dev` run


FEATURES = """
from pathlib import Path
from pydantic import BaseModel, Field
from perago import WorkspaceSpec, require_glob, task
import shared

class Params(BaseModel):
    rows: int = Field(ge=3)
    who: str

class Result(BaseModel):
    text: str

@task(
    name="features.build",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(pre=[require_glob("raw/*.csv")], post=[require_glob("out/*.txt")]),
)
def work(workspace: Path, params: Params) -> Result:
    (workspace / "out").mkdir(exist_ok=True)
    (workspace / "out" / "a.txt").write_text(shared.TEXT)
    return Result(text=shared.TEXT)
"""

PLAIN = """
import time
from pathlib import Path
from pydantic import BaseModel
from perago import Example, RetryPolicy, TaskControls, task

class Params(BaseModel):
    rows: int
    gate: str | None = None

class Result(BaseModel):
    total: int

@task(
    name="plain.work",
    owner_email="data@example.com",
    controls=TaskControls(retry=RetryPolicy(count=0)),
    examples=[Example(id="four", params={"rows": 4, "gate": GATE})],
)
def work(params: Params) -> Result:
    if params.gate:
        Path(params.gate + ".in").touch()
        while not Path(params.gate).exists():
            time.sleep(0.02)
    return Result(total=params.rows)
"""


def write_plain(project: Project, gate: Path | None = None) -> None:
    project.module("plain", PLAIN.replace("GATE", repr(None if gate is None else str(gate))))


STUBBORN = """
import time
from pathlib import Path
from pydantic import BaseModel
from perago import RetryPolicy, TaskControls, task

class Params(BaseModel):
    rows: int = 1

@task(name="plain.work", owner_email="data@example.com", controls=TaskControls(retry=RetryPolicy(count=0)))
def work(params: Params) -> Params:
    Path("{gate}.in").touch()
    try:
        while True:
            time.sleep(0.05)
    finally:
        Path("{gate}.canceled").touch()
        while not Path("{gate}").exists():
            time.sleep(0.05)
"""

TALKING = """
import time
from pathlib import Path
from pydantic import BaseModel
from perago import RetryPolicy, TaskControls, current, task

class Params(BaseModel):
    rows: int = 1

@task(name="plain.work", owner_email="data@example.com", controls=TaskControls(retry=RetryPolicy(count=0)))
def work(params: Params) -> Params:
    print("printed")
    current().log("logged")
    current().progress(1, 3)
    while not Path("{gate}").exists():
        time.sleep(0.05)
    raise ValueError("the gate was opened")
"""
