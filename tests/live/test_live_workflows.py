"""A workflow in Python on a real Conductor: every structure that `perago.workflows` writes, registered, started and
followed by the commands that users have."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path

import pytest

from .commands import Environment, Worker, perago
from .repositories import BRANCH, LakeFSServer, Repository
from .waiting import wait_for
from .workflows import Conductor

pytestmark = pytest.mark.live

TASK = """
    from pathlib import Path
    from typing import Literal
    from pydantic import BaseModel
    from perago import TaskTerminalError, WorkspaceSpec, task

    class Params(BaseModel, extra="forbid"):
        name: str

    class Result(BaseModel):
        files: list[str]
        words: list[str]
        size: Literal["small", "large"]
        is_done: bool

    @task(name="{token}.{name}", owner_email="live@example.com", workspace=WorkspaceSpec(on_moved_head="rebase"))
    def work(workspace: Path, params: Params) -> Result:
        if params.name == "broken":
            raise TaskTerminalError("as it is meant to")
        found = sorted(path.name for path in workspace.iterdir())
        number = sum(path.startswith(params.name) for path in found) + 1
        (workspace / f"{{params.name}}{{number}}").touch()
        return Result(files=found, words=["u", "v"], size="small", is_done=number == 2)
"""
FLOWS = """
    from pydantic import BaseModel
    from .work import Params, Result, work
    from perago.workflows import FailedWorkflow, Flow, workflow

    class Given(BaseModel):
        name: str = "default"

    @workflow(name="{token}.inner", version=1, owner_email="live@example.com")
    def inner(flow: Flow, given: Given) -> Result:
        flow.fork("halves", ["a", "b"], lambda half: flow.step("half", work, Params, name=half))
        return flow.step("inside", work, Params, name=given.name).result

    @workflow(name="{token}.cleanup", version=1, owner_email="live@example.com")
    def cleanup(flow: Flow, failed: FailedWorkflow) -> None:
        flow.step("clean", work, Params, name="clean")

    @workflow(name="{token}.fails", version=1, owner_email="live@example.com", on_failure=cleanup)
    def fails(flow: Flow, given: Given) -> None:
        flow.step("before", work, Params, name="before")
        flow.fail("end", "{{name}} on purpose", name=given.name)

    @workflow(name="{token}.outer", version=1, owner_email="live@example.com")
    def outer(flow: Flow, given: Given) -> Result:
        first = flow.step("first", work, Params, name="first")
        flow.fork("parts", ["North", "South"], lambda part: flow.step("part", work, Params, name=part))
        words = flow.map("words", first.result.words, lambda word: flow.step("word", work, Params, name=word))
        flow.map("sizes", words, lambda result: flow.step("of", work, Params, name=result.size))
        flow.map("subs", first.result.words, lambda word: flow.sub("each", inner, Given, name=word))
        with flow.loop("rounds", at_most=5, on_exhausted="fail") as loop:
            counted = flow.step("round", work, Params, name="round")
            loop.until(counted.result.is_done)
        with flow.when("unfinished", counted.result.is_done == False) as unfinished, unfinished.then():
            flow.fail("end", "not done, and of the size {{size}}", size=first.result.size)
        with flow.options(timeout_seconds=300):
            flow.step("limited", work, Params, name="limited")
        with flow.switch("size", first.result.size) as switch:
            with switch.case("small"):
                flow.step("small", work, Params, name="small")
            with switch.default():
                flow.step("large", work, Params, name="large")
        with flow.options(optional=True, retries=1, start_delay_seconds=1):
            flow.step("works", work, Params, name="works")
            flow.step("broken", work, Params, name="broken")
        flow.sub("sub", inner, Given)
        return flow.step("last", work, Params, name=given.name).result
"""


def test_every_structure_runs_and_loses_no_file(
    conductor: Conductor, lakefs: LakeFSServer, repository: Repository, tmp_path: Path
) -> None:
    environment = Environment(tmp_path, {"CONDUCTOR_SERVER_URL": conductor.url, **lakefs.environment()})
    package = tmp_path / f"flows{environment.token}"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, text in (("work", TASK), ("flows", FLOWS)):
        code = textwrap.dedent(text).format(token=f"live.{environment.token}", name="work")
        (package / f"{name}.py").write_text(code)
    paths = {"PYTHONPATH": os.pathsep.join((str(tmp_path), environment.variables.get("PYTHONPATH", "")))}
    repository.commit({"start": b""})

    registered = perago(environment, "register", package.name, **paths)
    assert registered.returncode == 0, registered.stderr
    assert "registered 1 TaskDef and 4 workflows" in registered.stdout
    again = perago(environment, "register", package.name, **paths)
    assert "nothing to register" in again.stdout, again.stdout

    worker = Worker(environment, f"{package.name}.work", "-j", "4", **paths)
    try:
        worker.ready()
        place = f"{repository.name}/{BRANCH}"
        arguments = ("--branch", place, "--workflow", f"live.{environment.token}.outer", "--follow")
        sent = perago(environment, "send", f"{package.name}.flows", *arguments, **paths)
        arguments = ("--branch", place, "--workflow", f"live.{environment.token}.fails", "--follow")
        failed = perago(environment, "send", f"{package.name}.flows", *arguments, **paths)
        wait_for("the workflow after the failure", lambda: "clean1" in repository.tree())
    finally:
        worker.stop()
    assert sent.returncode == 0, f"{sent.stderr}\n{worker.output()}"

    assert failed.returncode != 0
    assert "default on purpose" in failed.stderr

    rounds = {"round1", "round2"}
    before = {"start", "first1", "North1", "South1", "u1", "v1", "u2", "v2", *rounds, "small1", "a1", "b1", "default1"}
    before |= {"works1", "limited1", "small1", "small2"}
    result = json.loads(sent.stdout)
    assert before <= set(result["files"])
    assert "large1" not in result["files"]
    assert set(repository.tree()) >= before | {"default2"}
