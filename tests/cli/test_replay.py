"""`perago capture`, `replay`, `backtest` and `run --from` on the services of a running `perago dev`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from .conftest import Project, Ran
from .dev_command import ready

FEATURES = """
from pathlib import Path
from pydantic import BaseModel, SecretStr
from perago import TaskTerminalError, WorkspaceSpec, task

class Params(BaseModel):
    factor: int = 2
    api_key: SecretStr | None = None

class Result(BaseModel):
    rows: int

SEEN = WorkspaceSpec(prefix="/audio", exclude=["large/**"])

@task(name="features.build", owner_email="data@example.com", workspace=SEEN)
def work(workspace: Path, params: Params) -> Result:
    if params.factor < 0:
        raise TaskTerminalError("the factor is below zero")
    values = [int(line) for line in (workspace / "raw.csv").read_text().splitlines()[1:]]
    rows = [f"{value},{value * params.factor}" for value in values]
    (workspace / "scaled.csv").write_text("\\n".join(["x,scaled", *rows]) + "\\n")
    return Result(rows=len(values))
"""


pytestmark = pytest.mark.xdist_group("replay")
PARAMS = ('{"factor": 3, "api_key": "s3cr3t-of-production"}', '{"factor": 2}', '{"factor": 3}', '{"factor": 4}')


@dataclass(frozen=True)
class Site:
    """The services of a running `perago dev`, and the attempts that were made there."""

    project: Project
    variables: dict[str, str]
    task_ids: list[str]

    def perago(self, *arguments: str) -> Ran:
        return self.project.run(*arguments, **self.variables)

    def edit(self, old: str = "", new: str = "") -> None:
        """Make the code of today another. The worker of `dev` takes it, too, but no attempt is left for it."""
        assert old in FEATURES
        self.project.module("features", FEATURES.replace(old, new) if old else FEATURES)


@pytest.fixture(scope="module")
def made(shared_project: Project) -> Iterator[Site]:
    shared_project.module("features", FEATURES)
    sample = shared_project.directory / "sample"
    (sample / "audio/large").mkdir(parents=True)
    (sample / "audio/large/unseen.bin").write_text("not for this task")
    (sample / "audio/raw.csv").write_text("x\n1\n2\n")
    with ready(shared_project, "features", "--workspace", "sample") as dev:
        variables, task_ids = dev.variables(), []
        for params in PARAMS:
            options = ("--branch", "dev/main", "--params", params, "--follow")
            sent = shared_project.run("send", "features", *options, **variables)
            workflow = dev.get(f"/workflow/{sent.err.splitlines()[0].removeprefix('started workflow ')}")
            task_ids.append(str(workflow["tasks"][-1]["taskId"]))
        yield Site(shared_project, variables, task_ids)


@pytest.fixture
def site(made: Site) -> Site:
    made.edit()
    return made


def test_an_attempt_becomes_a_test_case_and_is_run_again(site: Site) -> None:
    task_id = site.task_ids[0]

    ran = site.perago("capture", task_id, "--name", "monday")
    case = site.project.directory / "tests/perago_cases/features.build/monday"
    assert (ran.code, ran.out) == (0, "tests/perago_cases/features.build/monday\n"), ran.err
    assert "redacted, because they look like secrets: /params/api_key" in ran.err
    assert json.loads((case / "case.json").read_text())["params"] == {"factor": 3, "api_key": "***"}
    assert [file.name for file in (case / "input").iterdir()] == ["raw.csv"]
    assert (case / "input/raw.csv").read_text() == "x\n1\n2\n"
    assert (case / "published/scaled.csv").read_text() == "x,scaled\n1,3\n2,6\n"
    assert all("s3cr3t" not in file.read_text() for file in case.rglob("*") if file.is_file())
    hook = "def scrub_params(task, params):\n    return {**params, 'factor': 9}\n"
    (site.project.directory / "hooks.py").write_text(hook)
    (site.project.directory / "pyproject.toml").write_text('[tool.perago]\nscrub = "hooks"\n')
    scrubbed = site.perago("capture", task_id, "--name", "tuesday")
    assert "replaced by the scrub hooks: params" in scrubbed.err
    assert json.loads((case.parent / "tuesday/case.json").read_text())["params"] == {"factor": 9, "api_key": "***"}
    (site.project.directory / "pyproject.toml").write_text("[tool.perago]\nscrub = 1\n")
    assert "must be the import path of a module" in site.perago("capture", task_id, "--name", "other").err
    again = site.perago("capture", task_id, "--name", "monday", "--scrub", "hooks")
    assert (again.code, "already exists; nothing was written" in again.err) == (1, True)

    head = site.perago("input", "dev/main").out
    same = site.perago("replay", task_id)
    assert (same.code, same.out) == (0, f"same as then: features.build completed, task {task_id}\n"), same.err
    site.edit("value * params.factor", "value + params.factor")
    other = site.perago("replay", task_id, "features", "--output", "now")
    assert (other.code, other.out) == (
        1,
        f"different from task {task_id}:\n"
        "  scaled.csv: 2 of 2 rows differ, in column scaled\n"
        "    row 1, scaled: '3' → '4'\n"
        "    row 2, scaled: '6' → '5'\n",
    )
    assert (site.project.directory / "now/scaled.csv").read_text() == "x,scaled\n1,4\n2,5\n"
    failed = site.perago("replay", task_id, "--set", "params.factor=-1", "--json")
    assert json.loads(failed.out)["differences"]["ending"] == (
        "completed before, terminal now: the factor is below zero"
    )
    assert site.perago("input", "dev/main").out == head  # nothing was published

    run = site.perago("run", "features", "--from", task_id)
    assert (run.code, json.loads(run.out)) == (0, {"rows": 2}), run.err


def test_a_function_that_is_not_deterministic_is_named_as_such(site: Site) -> None:
    task_id = site.task_ids[1]
    site.edit('["x,scaled", *rows]', '["x,scaled", str(__import__("uuid").uuid4())]')

    ran = site.perago("replay", task_id, "--json").ends(1)
    assert json.loads(ran.out)["deterministic"] is False
    assert "the function is not deterministic: two runs of today's code on this input also differ" in ran.err
    assert "scaled.csv: 1 line before, 1 line now" in ran.err


def test_the_last_attempts_are_run_again_several_at_a_time(site: Site) -> None:
    same = site.perago("backtest", "features", "-j", "2", "--last", "2").ends(0)
    assert same.out.splitlines()[:2] == ["features.build: 2 attempts with today's code", "  same           2"]
    site.edit("value * params.factor", "value * 3")
    options = ("backtest", "features", "--since", "1d", "--resume", "backtest.json", "--json")
    report = json.loads(site.perago(*options).out)
    assert (report["same"], report["different"], report["good"]) == (2, 2, False)
    assert [attempt["task_id"] for attempt in report["attempts"]] == site.task_ids[::-1]
    assert report["by_file"] == [{"path": "scaled.csv", "column": "scaled", "attempts": 2}]
    state = site.project.directory / "backtest.json"
    forged = json.loads(state.read_text())
    forged["verdicts"] = [{**verdict, "summary": ["known already"]} for verdict in forged["verdicts"]]
    state.write_text(json.dumps(forged))
    known = json.loads(site.perago(*options, "--branch", "dev/main").out)
    assert {line for attempt in known["attempts"] for line in attempt["summary"]} == {"known already"}
    none = site.perago("backtest", "features", "--workflow", "nightly")
    assert (none.code, "no completed attempt of features.build was found" in none.err) == (1, True)


def test_a_changed_model_is_reported_before_the_attempt_fails(site: Site) -> None:
    task_id = site.task_ids[1]
    site.edit("    factor: int = 2", "    factor: int = 2\n    unit: str")

    ran = site.perago("replay", task_id).ends(1, "in a way that breaks running workflows: /inputSchema/data")
    assert "completed before, terminal now: Invalid input: /params/unit" in ran.out
