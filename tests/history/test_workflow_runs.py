"""A run of a workflow becomes a case directory, which runs again as a test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from perago import RetryPolicy, TaskControls, WorkspaceSpec, task
from perago.history.attempts import NotReplayable
from perago.history.capture import Captured, CaptureOptions, Scrubber, capture, find_run
from perago.testing import TaskRunner
from perago.testing.workflow_run import WorkflowRun
from perago.trees.cases import read_recorded_case
from perago.workflows import Flow, Workflow, workflow
from pytest_perago.workflows import _result

from ..definitions import flow, operator
from .models import EmbeddedRecords

OWNER = "data@example.com"
TREE = {"raw/a.txt": "1", "raw/b.txt": "2", "old.txt": "old"}


class Part(BaseModel):
    name: str
    password: SecretStr = SecretStr("")
    fails: bool = False


class Sum(BaseModel):
    total: int


@task(
    name="captured.part",
    owner_email=OWNER,
    workspace=WorkspaceSpec(on_moved_head="rebase"),
    controls=TaskControls(retry=RetryPolicy(count=0)),
)
def part(workspace: Path, params: Part) -> Sum:
    if params.fails:
        raise OSError(f"no {params.name}")
    number = int((workspace / f"raw/{params.name}.txt").read_text())
    (workspace / f"{params.name}.tmp").write_text("x")
    (workspace / f"{params.name}.out").write_text(str(number))
    return Sum(total=number)


class Names(BaseModel):
    names: list[str]


@task(name="captured.total", owner_email=OWNER, workspace=WorkspaceSpec())
def total(workspace: Path, params: Names) -> Sum:
    (workspace / "old.txt").unlink(missing_ok=True)
    for file in workspace.glob("*.tmp"):
        file.unlink()
    return Sum(total=sum(int((workspace / f"{name}.out").read_text()) for name in params.names))


class Given(BaseModel):
    names: list[str]
    login: SecretStr = SecretStr("")
    fails: bool = False


@workflow(name="captured.inner", version=1, owner_email=OWNER)
def inner(flow: Flow, params: Part) -> Sum:
    return flow.step("inside", part, Part, name=params.name, password=params.password, fails=params.fails).result


@workflow(name="captured.flow", version=1, owner_email=OWNER)
def summed(flow: Flow, params: Given) -> Sum:
    with flow.options(retries=0):
        flow.step("first", part, Part, name="a", fails=False)
    flow.map(
        "parts",
        params.names,
        lambda name: flow.sub("one", inner, Part, name=name, password=params.login, fails=params.fails),
    )
    return flow.step("total", total, Names, names=params.names).result


def captured(run: TaskRunner, ran: WorkflowRun, target: Path) -> Captured:
    past_run = find_run(EmbeddedRecords(run._services.conductor), ran.workflow_id)
    options = CaptureOptions(
        target, Scrubber(past_run.run.task_name), definition=past_run.schemas, secrets=past_run.secrets()
    )
    return capture(run._services.lakefs, past_run.look_up(run._services.lakefs), options)


def test_a_run_is_captured_with_its_publications_and_runs_again(run: TaskRunner, tmp_path: Path) -> None:
    flow: Workflow[Any, Any] = summed
    ran = run.workflow(flow, {"names": ["a", "b"]}, tree=TREE)
    assert ran.status == "COMPLETED", ran.reason
    case = captured(run, ran, tmp_path / "case")

    document = json.loads((tmp_path / "case/case.json").read_text())
    assert document["params"] == {"names": ["a", "b"], "login": "", "fails": False}
    assert (document["expect"], document["result"]) == ("completed", {"total": 3})
    assert (sorted(document["published"]), document["removed"]) == (["a.out", "b.out"], ["old.txt"])
    assert {"task", "task_id", "step"}.isdisjoint(document["about"])
    assert (document["about"]["workflow"], document["about"]["workflow_id"]) == ("captured.flow", ran.workflow_id)
    assert (case.files, case.published) == (3, 2)

    recorded, record = read_recorded_case(tmp_path / "case")
    again = run.workflow(flow, recorded.params, tree=tmp_path / "case" / "input")
    assert (again.status, again.result) == ("COMPLETED", record.result)


def test_what_another_program_published_in_between_is_not_the_runs_own(run: TaskRunner, tmp_path: Path) -> None:
    def visit() -> None:
        run._services.lakefs.seed(run.repository, "main", {"visit.txt": "from elsewhere"})

    run.faults.between("merge", visit, nth=2)
    ran = run.workflow(summed, {"names": ["b"]}, tree=TREE)
    assert "visit.txt" in ran.tree
    captured(run, ran, tmp_path / "case")
    assert sorted(json.loads((tmp_path / "case/case.json").read_text())["published"]) == ["a.out", "b.out"]


@workflow(name="captured.torn", version=1, owner_email=OWNER)
def torn(flow: Flow, params: Given) -> None:
    def branch(name: str) -> None:
        with flow.options(optional=True):
            flow.step("optional", part, Part, name="optional", fails=True)
        flow.step("some", part, Part, name=name, fails=params.fails)
        flow.step("more", part, Part, name=name)

    flow.unchecked([params.names, params.login])
    flow.fork("sides", ["a", "b"], branch)


@pytest.mark.parametrize("fails", [True, False])
def test_the_reason_is_that_of_the_step_that_ended_the_run(run: TaskRunner, tmp_path: Path, *, fails: bool) -> None:
    ran = run.workflow(torn, {"names": [], "fails": fails}, tree=TREE)
    assert ran.status == ("FAILED" if fails else "COMPLETED")
    captured(run, ran, tmp_path / "case")
    about = json.loads((tmp_path / "case/case.json").read_text())["about"]
    assert about.get("reason") == ("OSError: no a" if fails else None)
    assert read_recorded_case(tmp_path / "case")[1].ending == ran.status.lower()
    assert _result(ran, {}).reason == ("OSError: no a" if fails else "")


def test_a_secret_of_the_parameters_or_of_a_step_is_struck_out(run: TaskRunner, tmp_path: Path) -> None:
    ran = run.workflow(summed, {"names": ["b"], "login": "s3cr3t-of-production"}, tree=TREE)
    case = captured(run, ran, tmp_path / "case")
    assert case.redacted == ("/params/login",)
    assert all(b"s3cr3t" not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert set(find_run(EmbeddedRecords(run._services.conductor), ran.workflow_id).secrets().values()) == {
        "s3cr3t-of-production"
    }


class Altered(EmbeddedRecords):
    """Records in which Conductor has moved a payload, or has other inputs."""

    def __init__(self, conductor: Any, change: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(conductor)
        self._change = change

    def workflow(self, workflow_id: str) -> dict[str, Any]:
        row: dict[str, Any] = json.loads(json.dumps(super().workflow(workflow_id)))
        self._change(row)
        return row


@pytest.mark.parametrize("payload", ["Input", "Output"])
@pytest.mark.parametrize("owner", ["workflow", "step"])
def test_a_run_with_a_payload_that_conductor_has_moved_is_refused(run: TaskRunner, payload: str, owner: str) -> None:
    def move(row: dict[str, Any]) -> None:
        place = row if owner == "workflow" else row["tasks"][0]
        place[f"external{payload}PayloadStoragePath"] = "a/b.json"
        if owner == "step":
            place[f"{payload.lower()}Data"] = {}

    ran = run.workflow(summed, {"names": ["b"]}, tree=TREE)
    with pytest.raises(NotReplayable, match="moved"):
        find_run(Altered(run.conductor, move), ran.workflow_id)


def test_the_secrets_of_steps_with_one_name_are_all_known(run: TaskRunner) -> None:
    numbers = iter(range(10))

    def give_each_its_own(row: dict[str, Any]) -> None:
        for step in row["tasks"]:
            if step["referenceTaskName"] == "inside":
                step["inputData"]["params"]["password"] = f"s3cr3t-{next(numbers)}-of-production"

    ran = run.workflow(summed, {"names": ["a", "b"]}, tree=TREE)
    secrets = find_run(Altered(run.conductor, give_each_its_own), ran.workflow_id).secrets()
    assert sorted(secrets.values()) == ["s3cr3t-0-of-production", "s3cr3t-1-of-production"]


def test_a_running_or_unknown_run_is_refused(run: TaskRunner, tmp_path: Path) -> None:
    conductor = run._services.conductor
    waits = operator("WAIT", "w", inputParameters={"duration": "1h"})
    conductor.create_workflow_definition(flow(waits, name="../waits"))
    past_run = find_run(EmbeddedRecords(conductor), conductor.start_workflow("../waits", {}))
    with pytest.raises(NotReplayable, match=r"workflow \S+ neither completed nor failed: it is RUNNING"):
        capture(None, past_run.look_up(None), CaptureOptions(tmp_path / "case", Scrubber("waits")))
    with pytest.raises(NotReplayable, match=r"the name '\.\./waits' cannot be that of a workflow"):
        _ = past_run.cases
    with pytest.raises(NotReplayable, match="Conductor has no workflow 'none'"):
        find_run(EmbeddedRecords(conductor), "none")


class Answer(BaseModel):
    by: str
    password: SecretStr | None = None


@workflow(name="captured.asked", version=1, owner_email=OWNER)
def asked(flow: Flow, params: Names) -> Sum:
    with flow.loop("rounds", at_most=3):
        answer = flow.wait_for("ask", Answer, timeout_minutes=5, on_timeout=Answer(by="b"))
        step = flow.step("part", part, Part, name=answer.result.by)
        flow.step("names", total, Names, names=params.names)
    return step.result


def test_the_signals_of_a_run_are_captured_and_sent_again(run: TaskRunner, tmp_path: Path) -> None:
    sent = [{"by": "a", "password": "hunter2hunter2"}, None, {"by": "a"}]
    ran = run.workflow(asked, Names(names=["a"]), tree=TREE, signals={"ask": sent})
    captured(run, ran, tmp_path / "case")
    assert "hunter2" not in (tmp_path / "case/case.json").read_text()
    case, record = read_recorded_case(tmp_path / "case")
    assert [signal and signal["by"] for signal in case.signals["ask"]] == ["a", None, "a"]
    again = run.workflow(asked, case.params, tree=TREE, signals=case.signals)
    assert (again.status, again.result) == ("COMPLETED", record.result)
