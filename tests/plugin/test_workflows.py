"""The generated tests of workflows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import perago.workflows  # noqa: F401 - pytester forgets the modules that a run loads first

from .projects import record_case, run

TASK = """
    from pydantic import BaseModel
    from perago import task

    class Params(BaseModel):
        rows: int

    class Result(BaseModel):
        total: int

    @task(name="plain.work", owner_email="data@example.com")
    def work(params: Params) -> Result:
        return Result(total=params.rows)
"""
FLOW = """
    from pydantic import BaseModel
    from perago.workflows import Flow, workflow
    from work import Params, Result, work

    class Given(BaseModel):
        rows: int

    @workflow(name="nightly", version=1, owner_email="data@example.com")
    def nightly(flow: Flow, given: Given) -> Result:
        return flow.step("one", work, Params, rows={rows}).result
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(work=TASK, flows=FLOW.format(rows="given.rows"))
    return pytester


def test_the_wiring_is_checked_and_the_definition_compared_with_its_snapshot(project: pytest.Pytester) -> None:
    missing = run(project, "--perago-modules=flows")
    missing.assert_outcomes(passed=1, failed=1)
    missing.stdout.fnmatch_lines(["*there is no snapshot of the workflow*"])
    run(project, "--perago-modules=flows", "--perago-update=new").assert_outcomes(passed=2)
    snapshot = project.path / "tests" / "__taskdefs__" / "flows" / "nightly.workflow.json"
    before = snapshot.read_bytes()
    run(project, "--perago-modules=flows").assert_outcomes(passed=2)

    snapshot.write_bytes(before.replace(b"given.rows", b"given.rows").replace(b"input.rows", b"input.lines"))
    differing = run(project, "--perago-modules=flows")
    differing.assert_outcomes(passed=1, failed=1)
    differing.stdout.fnmatch_lines(
        [
            "*the workflow differs from its snapshot*",
            "*increase version= if this version is registered*",
            "compatible: /tasks/0/inputParameters/params/rows: *lines* -> *rows* (running workflows keep*",
            "*accept it: pytest *--perago-update=all*",
        ]
    )


def test_each_mistake_in_the_wiring_is_listed_with_its_line(project: pytest.Pytester) -> None:
    project.makepyfile(flows=FLOW.format(rows='given.row, row="x"'))
    result = run(project, "--perago-modules=flows", "-k", "wiring")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(
        [
            "*the wiring of workflow nightly has * mistake*",
            "*flows.py:*: given.row: Given has no field 'row'; it has rows*",
        ]
    )


def test_a_snapshot_is_unused_if_its_workflow_no_longer_exists(project: pytest.Pytester) -> None:
    run(project, "--perago-modules=flows", "--perago-update=new").assert_outcomes(passed=2)
    project.makepyfile(flows=FLOW.format(rows="given.rows").replace('"nightly"', '"other"'))
    result = run(project, "--perago-modules=flows", "--perago-update=new", "--perago-kinds=taskdef")
    result.stdout.fnmatch_lines(["unused: tests/__taskdefs__/flows/nightly.workflow.json: module flows declares other"])


def record(pytester: pytest.Pytester, **fields: Any) -> Path:
    """Record a run of `nightly`."""
    document = {"params": {"rows": 3}, "expect": "completed", "result": {"total": 3}, "published": {}}
    return record_case(pytester, "nightly.workflow/monday", **{**document, **fields})


def test_a_recorded_run_runs_again_and_differences_are_reported(project: pytest.Pytester) -> None:
    options = ("--perago-modules=flows", "-k", "run")
    case = record(project) / "case.json"
    run(project, *options).assert_outcomes(passed=1, deselected=2)

    project.makepyfile(work=TASK.replace("total=params.rows", "total=params.rows + 1"))
    differing = run(project, *options)
    differing.assert_outcomes(failed=1, deselected=2)
    differing.stdout.fnmatch_lines(
        [
            "broken contract: case 'monday': the outcome differs from the record",
            "  workflow  nightly (tests/perago_cases/nightly.workflow/monday/case.json:1)",
            "  differs   result /total: 3 -> 4",
            "  accept    pytest --perago-modules flows --perago-update=all 'flows.py::nightly::run[[]monday]'",
        ]
    )
    run(project, *options, "--perago-update=all").assert_outcomes(passed=1, deselected=2)
    assert json.loads(case.read_text())["result"] == {"total": 4}

    project.makepyfile(work=TASK.replace("return Result(total=params.rows)", "raise OSError('no disk')"))
    run(project, *options).stdout.fnmatch_lines(["  differs   completed before, failed now: OSError: no disk*"])


def test_a_recorded_run_of_parameters_that_no_longer_exist_is_reported(project: pytest.Pytester) -> None:
    record(project, params={"lines": 3})
    failed = run(project, "--perago-modules=flows", "-k", "run")
    failed.stdout.fnmatch_lines(
        ["*the params of 'monday' are not valid: workflow nightly has no parameter 'lines'; it takes rows"]
    )


def test_the_cases_of_a_workflow_that_no_longer_exists_are_unused(project: pytest.Pytester) -> None:
    record(project)
    project.makepyfile(flows=FLOW.format(rows="given.rows").replace('"nightly"', '"nightli"'))
    project.makeini("[pytest]\nperago_modules = work flows")
    result = run(project, "--perago-update=new", "--perago-kinds=contract")
    result.stdout.fnmatch_lines(
        ["unused: tests/perago_cases/nightly.workflow: no workflow is called nightly; did you mean nightli?"]
    )
