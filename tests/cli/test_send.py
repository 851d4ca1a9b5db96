"""`perago send` on the services of a running `perago dev`, and `perago input`."""

from __future__ import annotations

import io
import json
import re
import shlex
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from perago.cli.commands.sending import FollowView

from .conftest import PLAIN, Project
from .dev_command import Dev, ready
from .services import ELSEWHERE, HEAD, LINE, Services

FEATURES = """
import time
from pathlib import Path
from pydantic import BaseModel
from perago import Example, TaskTerminalError, WorkspaceSpec, current, task

class Params(BaseModel):
    rows: int
    gate: str | None = None

class Result(BaseModel):
    rows: int

@task(name="features.build", owner_email="data@example.com", workspace=WorkspaceSpec(),
      examples=[Example(id="one", params={"rows": 1})])
def work(workspace: Path, params: Params) -> Result:
    print("counting rows")
    if params.rows < 0:
        raise TaskTerminalError("rows cannot be below zero")
    while params.gate and not Path(params.gate).exists():
        time.sleep(0.05)
    with (workspace / "rows.txt").open("a") as file:
        file.write(f"{params.rows}\\n")
    return Result(rows=params.rows)
"""

CHOICES = """
from features import Params, work
from perago.workflows import Flow, workflow

@workflow(name="choices", version=1, owner_email="data@example.com")
def choices(flow: Flow, given: Params) -> None:
    with flow.switch("choice", given.rows) as switch:
        with switch.case(1):
            flow.step("one", work, Params, rows=1, gate=given.gate)
        with switch.default():
            flow.step("many", work, Params, rows=given.rows)
"""

TWICE = """
from conductor.client.workflow.conductor_workflow import ConductorWorkflow
from features import Params, work
from perago.clients import simple_task

twice = ConductorWorkflow(None, "twice").owner_email("data@example.com")
first = simple_task(work, "first", Params, rows="${workflow.input.rows}")
twice >> first >> simple_task(work, "second", Params, rows=5, after=first)
"""


pytestmark = pytest.mark.xdist_group("send")


@pytest.fixture(scope="module")
def dev(shared_project: Project) -> Iterator[Dev]:
    shared_project.module("features", FEATURES)
    shared_project.module("twice", TWICE)
    with ready(shared_project, "features", "twice") as running:
        yield running


def send(*arguments: str) -> list[str]:
    return ["send", "features", "--branch", "dev/main", *arguments]


def test_the_line_that_dev_prints_stays_valid_after_a_publication(dev: Dev) -> None:
    (line,) = re.findall(r"  perago (send features .*)\n", dev.text)
    for _ in range(2):
        ran = dev.project.run(*shlex.split(line), **dev.variables())
        assert (ran.code, json.loads(ran.out)) == (0, {"rows": 1}), ran.err
    lines = ran.err.splitlines()
    assert re.fullmatch(r"started workflow \S+", lines[0])
    assert "  | counting rows" in lines
    assert "features.build attempt 1: COMPLETED" in lines
    assert re.fullmatch(r"workflow COMPLETED: workspace at commit \w{12}", lines[-1])


def test_a_failure_is_reported_with_its_reason_and_exit_code_1(dev: Dev) -> None:
    ran = dev.project.run(*send("--params", '{"rows": -1}', "--follow"), **dev.variables()).ends(1, out="")
    assert "features.build attempt 1: FAILED_WITH_TERMINAL_ERROR: rows cannot be below zero" in ran.err.splitlines()
    assert ran.err.splitlines()[-1] == "workflow FAILED"


def test_without_follow_the_id_is_all_that_is_printed(dev: Dev) -> None:
    ran = dev.project.run(*send("--params", '{"rows": 2}'), **dev.variables())
    assert (ran.code, ran.err) == (0, "")
    assert dev.finished(ran.out.strip())["output"]["result"] == {"rows": 2}


def test_ctrl_c_leaves_the_workflow_running_and_prints_this(dev: Dev, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    params = json.dumps({"rows": 3, "gate": str(gate)})
    project = replace(dev.project, environment={**dev.project.environment, **dev.variables()})
    process = project.start(*send("--params", params, "--follow"))
    assert process.stderr is not None
    shown = ""
    while "is with worker" not in shown:
        line = process.stderr.readline().decode()
        assert line, shown
        shown += line
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    (workflow_id,) = re.findall(r"started workflow (\S+)", shown)
    assert process.returncode == 130
    assert f"workflow {workflow_id} continues to run" in err.decode()
    assert dev.get(f"/workflow/{workflow_id}")["status"] == "RUNNING"
    gate.touch()
    assert dev.finished(workflow_id)["status"] == "COMPLETED"


def test_params_of_another_type_start_no_workflow(dev: Dev) -> None:
    ran = dev.project.run(*send("--params", '{"rows": "many"}'), **dev.variables()).ends(2, out="")
    assert "task features.build: /rows: must be integer, but is string." in " ".join(ran.err.split())


def test_a_workflow_that_ends_with_a_switch_prints_its_commit(dev: Dev) -> None:
    dev.project.module("choices", CHOICES)
    arguments = ("send", "choices", "-b", "dev/main", "--follow", "--params")
    for rows in (1, 2):
        ran = dev.project.run(*arguments, json.dumps({"rows": rows}), **dev.variables())
        assert ran.code == 0, ran.err
        assert re.fullmatch(r"workflow COMPLETED: workspace at commit \w{12}", ran.err.splitlines()[-1])


def test_dev_prints_a_line_that_sends_a_workflow_of_the_sdk(dev: Dev) -> None:
    (line,) = re.findall(r"  perago (send twice .*)\n", dev.text)
    assert '{"rows":null}' in line
    ran = dev.project.run(*shlex.split(line.replace("null", "4")), **dev.variables())
    assert ran.code == 0, ran.err
    assert "second (features.build) attempt 1: COMPLETED" in ran.err.splitlines()


def test_a_missing_branch_starts_no_workflow(dev: Dev) -> None:
    ran = dev.project.run("send", "features", "-b", "dev/other", "-p", '{"rows": 1}', **dev.variables())
    assert (ran.code, ran.out) == (1, "")
    assert "has no branch other in dev" in ran.err


def test_a_task_that_the_server_does_not_know_is_not_sent(project: Project, services: Services) -> None:
    project.task("plain", "plain.work", PLAIN)
    project.run("send", "plain", "-p", '{"rows": 1}', **services.variables).ends(
        1, "has no TaskDef plain.work; nothing was started", "create it with: perago register plain"
    )
    assert services.writes == []


# -------------------------------------------------------------------------------------- `perago input`


def payload(params: object) -> dict[str, object]:
    return {
        "workspace": {"repository": "my-data", "branch": "main", "ref_type": "commit", "ref": HEAD},
        "params": params,
    }


def test_the_payload_names_the_head_of_the_branch(project: Project, services: Services) -> None:
    ran = project.run("input", "my-data/main", **services.variables)
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == payload({})
    assert ran.out.startswith('{\n  "workspace": {\n')


def test_parameters_come_from_text_a_file_or_standard_input(project: Project, services: Services) -> None:
    (project.directory / "params.json").write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xbc"}')
    arguments = ("input", "my-data/main", "--compact", "--params")
    text = project.run(*arguments, '{"a": "ü"}', **services.variables)
    file = project.run(*arguments, "@params.json", **services.variables)
    stdin = project.pipe('{"a": "ü"}'.encode(), *arguments, "-", **services.variables)
    assert text == file == stdin
    assert text.out.count("\n") == 1
    assert '"a": "ü"' in text.out
    assert json.loads(text.out) == payload({"a": "ü"})


@pytest.mark.parametrize(
    ("repository", "branch", "detail"),
    [("my-data", "other", "branch other does not exist"), ("nowhere", "main", "repository nowhere does not exist")],
)
def test_a_missing_item_is_a_failure_that_names_it(
    project: Project, services: Services, repository: str, branch: str, detail: str
) -> None:
    project.run("input", f"{repository}/{branch}", **services.variables).ends(1, detail, out="")


def output(ref: str) -> dict[str, object]:
    return {"workspace": {"repository": "my-data", "branch": "main", "ref_type": "commit", "ref": ref}, "result": {}}


@pytest.mark.parametrize(
    ("ref", "chosen"),
    [
        (LINE[1], LINE[1]),
        (json.dumps([LINE[2], None, LINE[1]]), LINE[1]),
        (json.dumps({"left": output(LINE[2]), "right": output(LINE[0])}), LINE[0]),
        ("@joined.json", LINE[1]),
    ],
    ids=["a commit", "a list", "the output of a join", "a file"],
)
def test_the_payload_names_the_commit_that_continues_those_that_are_given(
    project: Project, services: Services, ref: str, chosen: str
) -> None:
    (project.directory / "joined.json").write_text(json.dumps([LINE[2], LINE[1]]))
    ran = project.run("input", "my-data/main", "--ref", ref, **services.variables)
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["workspace"]["ref"] == chosen


@pytest.mark.parametrize(
    ("other", "message"), [(ELSEWHERE, "are not one line of history"), ("0" * 64, "does not have all of these commits")]
)
def test_commits_that_no_task_can_continue_are_a_failure(
    project: Project, services: Services, other: str, message: str
) -> None:
    ran = project.run("input", "my-data/main", "--ref", json.dumps([HEAD, other]), **services.variables)
    assert (ran.code, ran.out) == (1, "")
    assert message in ran.err


def test_the_spelling_with_a_space_still_works_and_warns(project: Project, services: Services) -> None:
    former = project.run("input", "my-data", "main", **services.variables)
    assert former.out == project.run("input", "my-data/main", **services.variables).out
    assert former.err == "warning: write my-data/main; the spelling with a space will be removed\n"


def test_a_step_that_waits_for_a_signal_is_shown_once_with_its_command() -> None:
    shown = io.StringIO()
    view = FollowView(shown, "features")
    row = {"taskId": "t", "status": "IN_PROGRESS", "workflowInstanceId": "w", "workflowTask": {"type": "WAIT"}}
    for _ in range(2):
        view.attempt({**row, "taskType": "WAIT", "referenceTaskName": "approval__2", "inputData": {}}, (), "sub > ")
    view.attempt({**row, "taskType": "WAIT", "referenceTaskName": "s", "inputData": {"duration": "1 minutes"}}, ())
    assert shown.getvalue() == "sub > approval waits for a signal: perago signal w approval --params ...\n"
