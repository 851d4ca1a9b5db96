"""The real command in real processes, in a project directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from perago.embedded.conductor import InMemoryConductor
from perago.embedded.services import EmbeddedServices

from ..definitions import flow, simple
from ..forked import READ_AT_START, forks_of
from .services import Services, running_services

GOOD = """
from pathlib import Path
from pydantic import BaseModel
from perago import Example, WorkspaceSpec, require_dir, require_glob, task

class Params(BaseModel, extra="forbid"):
    rows: int

class Result(BaseModel):
    total: int

@task(
    name="{name}",
    description="Größe zählen.",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(prefix="/audio", pre=[require_dir("raw")], post=[require_glob("out/*.csv")]),
    examples=[Example(id="minimal", params={{"rows": 1}}, tree={{"raw/a.csv": "x"}})],
)
def work(workspace: Path, params: Params) -> Result:
    return Result(total=params.rows)
"""

PLAIN = """
from pydantic import BaseModel
from perago import task

class Params(BaseModel, extra="forbid"):
    rows: int

class Result(BaseModel):
    total: int

@task(name="{name}", owner_email="data@example.com")
def work(params: Params) -> Result:
    return Result(total=params.rows)
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished command."""

    code: int
    out: str
    err: str

    def ends(self, code: int, *texts: str, out: str | None = None) -> Ran:
        """Fail unless the command ended with this status and said these words on standard error."""
        __tracebackhide__ = True
        shown = f"exit status {self.code}\n{self.out}\n{self.err}"
        assert self.code == code, shown
        assert out is None or self.out == out, shown
        missing = [text for text in texts if text not in self.err]
        assert not missing, f"standard error does not have {missing}:\n{shown}"
        return self


@dataclass(frozen=True, slots=True)
class Project:
    """A directory with task modules, in which commands are run."""

    directory: Path
    environment: dict[str, str]

    def module(self, path: str, text: str) -> None:
        """Write a module by its import path, in one step: somebody may be about to import it."""
        file = self.directory.joinpath(*path.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f".{file.stem}.new")
        new.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        new.replace(file)

    def task(self, path: str, name: str, template: str = GOOD) -> None:
        """Write a valid task module."""
        self.module(path, template.format(name=name))

    def start(self, *arguments: str, within: Sequence[str] = (), **options: object) -> subprocess.Popen[bytes]:
        """Start `perago`, or the command `within` that starts it."""
        command = [*within, sys.executable, "-m", "perago", *arguments]
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            command,
            cwd=self.directory,
            env=self.environment,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    def run(self, *arguments: str, **variables: str) -> Ran:
        """Run `perago` to its end, at most a minute; `variables` are added to its environment."""
        return self.pipe(b"", *arguments, **variables)

    def pipe(self, stdin: bytes, /, *arguments: str, **variables: str) -> Ran:
        """The same with something on standard input."""
        environment = {**self.environment, **variables}
        if any(name.startswith(READ_AT_START) for name in variables):
            return self.execute(sys.executable, "-m", "perago", *arguments, stdin=stdin, **variables)
        done = forks_of("perago").run("perago", arguments, self.directory, environment, stdin)
        return Ran(done.code, done.stdout.decode(), done.stderr.decode())

    def execute(self, *command: str | Path, stdin: bytes = b"", **variables: str) -> Ran:
        """Run any command to its end, at most two minutes."""
        environment = {**self.environment, **variables}
        done = subprocess.run(
            command, cwd=self.directory, env=environment, input=stdin, capture_output=True, timeout=120, check=False
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def make_project(root: Path) -> Project:
    """An empty project and an environment without any variable of ours."""
    directory = root / "project"
    directory.mkdir()
    inherited = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return Project(directory, {**inherited, "HOME": str(root / "home")})


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project for one test."""
    return make_project(tmp_path)


@pytest.fixture(scope="module")
def shared_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project for all tests of a module that use it."""
    return make_project(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def services() -> Iterator[Services]:
    """A Conductor and a lakeFS on loopback."""
    with running_services() as running:
        yield running


@pytest.fixture
def embedded() -> Iterator[EmbeddedServices]:
    """Embedded services for one test."""
    with EmbeddedServices() as services:
        yield services


@pytest.fixture(scope="module")
def shared_embedded() -> Iterator[EmbeddedServices]:
    """Embedded services for all tests of a module, each with a repository of its own."""
    with EmbeddedServices() as services:
        yield services


def started_attempt(conductor: InMemoryConductor, task: str) -> str:
    """The id of the attempt of a new workflow of one task."""
    workflow = conductor.start_workflow("w", {}, definition=flow(simple(task, "r")))
    return str(conductor.workflow(workflow)["tasks"][0]["taskId"])
