"""Small projects of task modules, and pytest run on them."""

from __future__ import annotations

import importlib
import json
import os
import textwrap
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ..forked import IMPORTED_BY, forks_of, kind_modules

for _loaded_once in (*kind_modules(), *IMPORTED_BY["pytest"], "perago.testing.strategies"):
    importlib.import_module(_loaded_once)  # pytester forgets what a run inside this process imports

INTERRUPTED = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
except BaseException:
    pass
"""
"""Code that ignores an interrupt."""

QUIET = ("-p", "no:conductor-agents-testing", "-p", "no:hypothesispytest", "-p", "no:anyio", "-p", "no:cacheprovider")
"""Other people's plugins cost more than these tests."""

WITHOUT_NOISE = ("-p", "no:cacheprovider", "-W", "error", "-W", "ignore:Module already imported")

ADD = """
from pydantic import BaseModel
from perago import Example, task

class Params(BaseModel):
    numbers: list[int]

class Result(BaseModel):
    total: int

@task(
    name="{name}",
    owner_email="data@example.com",
    examples=[Example(id="two", params={{"numbers": [1, 2]}}, result={{"total": 3}})],
)
def add(params: Params) -> Result:
    return Result(total=sum(params.numbers))
"""
"""A task without a workspace that is in order."""

COPY = """
from pathlib import Path
from pydantic import BaseModel
from perago import Example, WorkspaceSpec, forbid_glob, require_file, task

class Params(BaseModel):
    target: str = "out/b.txt"

class Result(BaseModel):
    size: int

@task(
    name="{name}",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(prefix="{prefix}", pre=[require_file("a.txt")], post=[forbid_glob("**/*.tmp")]),
    examples=[{examples}],
)
def copy(workspace: Path, params: Params) -> Result:
    target = workspace / params.target
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes((workspace / "a.txt").read_bytes())
    print("copied")
    return Result(size=target.stat().st_size)
"""
"""A task with a workspace that is in order."""

FREE = """
from pathlib import Path
from pydantic import BaseModel, Field
from typing import Any
from perago import Example, TaskFailed, TaskTerminalError, WorkspaceSpec, current, task
from perago import forbid_glob, require_dir, require_file, require_glob

class Model(BaseModel):
    value: Any = None

@task(name="free", owner_email="data@example.com", {workspace}examples=[{examples}])
def work({argument}params: Model) -> Model:
{body}
"""
"""A task that does whatever the test is about."""


def write_module(pytester: pytest.Pytester, path: str, text: str) -> Path:
    """Write a module by its import path, with the packages above it."""
    parts = path.split(".")
    directory = pytester.path.joinpath(*parts[:-1])
    directory.mkdir(parents=True, exist_ok=True)
    for depth in range(1, len(parts)):
        pytester.path.joinpath(*parts[:depth], "__init__.py").touch()
    file = directory / f"{parts[-1]}.py"
    file.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    return file


def add_module(pytester: pytest.Pytester, path: str, name: str) -> Path:
    """Write a task that adds."""
    return write_module(pytester, path, ADD.format(name=name))


def copy_module(
    pytester: pytest.Pytester, path: str, name: str, *, prefix: str = "/", examples: Iterable[str] = ()
) -> Path:
    """Write a task that copies a file."""
    return write_module(pytester, path, COPY.format(name=name, prefix=prefix, examples=", ".join(examples)))


def free_module(
    pytester: pytest.Pytester, path: str, body: str, examples: Iterable[str] = (), spec: str | None = None
) -> Path:
    """Write a task with this function body, and with a workspace if a `spec` is given."""
    text = FREE.format(
        workspace="" if spec is None else f"workspace=WorkspaceSpec({spec}), ",
        argument="" if spec is None else "workspace: Path, ",
        examples=", ".join(examples),
        body=textwrap.indent(textwrap.dedent(body), "    "),
    )
    return write_module(pytester, path, text)


def free_modules(pytester: pytest.Pytester, cases: Iterable[tuple[str, str, str]]) -> None:
    """Write a task into the package `work` for each case: what stands before the task, its body and its example."""
    for number, (head, body, example) in enumerate(cases):
        file = free_module(pytester, f"work.m{number:02}", body, [example])
        file.write_text(f"{head}\n{file.read_text()}")


def write_case(pytester: pytest.Pytester, name: str, text: str = "") -> None:
    """Write a case file, whose name begins with that of its task."""
    file = pytester.path / "tests/perago_cases" / f"{name}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def record_case(pytester: pytest.Pytester, name: str, **document: Any) -> Path:
    """Write the document of a recorded case, by default without params; return its directory."""
    directory = pytester.path / "tests/perago_cases" / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "case.json").write_text(json.dumps({"params": {}, **document}))
    return directory


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """pytest in this process, with strict markers and warnings as errors."""
    return run_inside(pytester, *_kinds(arguments), "--strict-markers", *arguments)


def run_inside(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """pytest in this process with these arguments alone, and warnings as errors. No other plugin is loaded, because to
    list the files of all takes a fifth of a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        loaded = () if "no:perago" in arguments else ("-p", "perago")
        return pytester.runpytest_inprocess(*loaded, *WITHOUT_NOISE, *arguments)


def run_process(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """pytest in a process of its own, with strict markers, at most three minutes."""
    return fork(pytester, *QUIET, *_kinds(arguments), "--strict-markers", *arguments)


def fork(pytester: pytest.Pytester, *arguments: str, stdin: str = "") -> pytest.RunResult:
    """`python -m pytest` with these arguments alone, in a process that begins with its imports done."""
    environment = {**os.environ, "PYTHONPATH": str(pytester.path)}
    started, everything = time.monotonic(), (f"--basetemp={pytester.path / 'runpytest'}", *arguments)
    done = forks_of("pytest").run("pytest", everything, pytester.path, environment, stdin.encode(), seconds=180)
    out, err = done.stdout.decode(), done.stderr.decode()
    print(out, err)
    return pytest.RunResult(done.code, out.splitlines(), err.splitlines(), time.monotonic() - started)


def _kinds(arguments: Sequence[str]) -> tuple[str, ...]:
    """These two kinds unless the test asks for others, so that a further kind changes no expectation here."""
    chosen = any("perago-kinds" in argument or "perago_kinds" in argument for argument in arguments)
    return () if chosen or "no:perago" in arguments else ("--perago-kinds", "contract,run")


def collected(pytester: pytest.Pytester, *arguments: str) -> list[str]:
    """The node ids, in order."""
    result = run(pytester, "--collect-only", "-q", *arguments)
    return [line for line in result.outlines if "::" in line]
