"""Recorded cases of tasks and of workflows, and the other generated tests of workflows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import conductor.client.workflow.conductor_workflow  # noqa: F401 - as the next one
import pytest

import perago.workflows  # noqa: F401 - pytester forgets the modules that a run loads first

from .projects import ADD, add_module, copy_module, free_module, record_case, run

OPTIONS = ("--perago-modules", "work", "--perago-kinds", "run,contract")


def record(pytester: pytest.Pytester, **fields: Any) -> Path:
    """Record a case of the task `copy`, which copies a.txt."""
    document = {
        "about": {"task_id": "t"},
        "expect": "completed",
        "result": {"size": 1},
        "published": {"out/b.txt": {"size": 1, "md5": "c4ca4238a0b923820dcc509a6f75849b"}},
        "removed": [],
    }
    directory = record_case(pytester, "copy/monday", **{**document, **fields})
    for path in ("input/a.txt", "published/out/b.txt"):
        (directory / path).parent.mkdir(parents=True)
        (directory / path).write_text("1")
    return directory


def test_a_case_with_the_recorded_outcome_passes(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work", "copy")
    record(pytester)
    result = run(pytester, *OPTIONS, "-v")
    result.stdout.fnmatch_lines_random(["*run[[]monday] PASSED*", "*contract[[]case:monday] PASSED*"])
    result.assert_outcomes(passed=6)


def test_differences_are_reported_by_file_and_can_be_accepted(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work", "copy")
    directory = record(pytester, result={"size": 2})
    (directory / "published/out/b.txt").write_text("one\n")

    result = run(pytester, *OPTIONS, "-k", "run")
    result.stdout.fnmatch_lines(
        [
            "broken contract: case 'monday': the outcome differs from the record",
            "  task     copy (tests/perago_cases/copy/monday/case.json:1)",
            "  case     tests/perago_cases/copy/monday",
            "  differs  result /size: 2 -> 1",
            "           out/b.txt: 1 line before, 1 line now",
            "*-one",
            "*+1",
            "  accept   pytest --perago-modules work --perago-update=all 'work.py::copy::run[[]monday]'",
        ]
    )
    accepted = run(pytester, *OPTIONS, "-k", "run", "--perago-update=all")
    accepted.stdout.fnmatch_lines(["updated tests/perago_cases/copy/monday"])
    accepted.assert_outcomes(passed=1)
    document = json.loads((directory / "case.json").read_text())
    assert (document["result"], document["about"]) == ({"size": 1}, {"task_id": "t"})
    assert (directory / "published/out/b.txt").read_text() == "1"
    run(pytester, *OPTIONS, "-k", "run").assert_outcomes(passed=1)


def test_removed_keys_of_the_case_are_not_compared(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work", "copy")
    directory = record(pytester, result={"size": 2}, published={"x": {"size": 1, "md5": "0"}})
    document = json.loads((directory / "case.json").read_text())
    del document["result"], document["published"]
    (directory / "case.json").write_text(json.dumps(document))

    run(pytester, *OPTIONS, "-k", "run").assert_outcomes(passed=1)


def test_a_function_that_is_not_deterministic_is_named_and_not_recorded(pytester: pytest.Pytester) -> None:
    free_module(pytester, "work", "import uuid; return Model(value=str(uuid.uuid4()))")
    directory = record_case(pytester, "free/monday", result={"value": "x"})

    result = run(pytester, *OPTIONS, "-k", "run", "--perago-update=all")
    result.stdout.fnmatch_lines(
        ["*case 'monday': the function is not deterministic: two runs on one input also differ", "  by itself  result*"]
    )
    assert json.loads((directory / "case.json").read_text())["result"] == {"value": "x"}


def test_another_failure_than_the_recorded_one_is_red_and_can_be_accepted(pytester: pytest.Pytester) -> None:
    free_module(pytester, "work", "raise ValueError(f'no column x in /tmp/{id(params)}/a.csv')")
    reasons = {
        "monday": "ValueError: no column x in /var/run/other/a.csv",
        "tuesday": "KeyError: 'x'",
        "redacted": "***",
    }
    for name, reason in reasons.items():
        record_case(pytester, f"free/{name}", about={"reason": reason}, expect="failed")

    result = run(pytester, *OPTIONS, "-k", "run")
    result.assert_outcomes(passed=2, failed=1, deselected=7)
    result.stdout.fnmatch_lines(
        [
            "broken contract: case 'tuesday': the outcome differs from the record",
            "  differs  failed for another reason: KeyError: 'x' (before), ValueError: no column x in /tmp/*.csv (now)",
        ]
    )
    run(pytester, *OPTIONS, "-k", "run", "--perago-update=all").assert_outcomes(passed=3, deselected=7)
    run(pytester, *OPTIONS, "-k", "run").assert_outcomes(passed=3, deselected=7)


def test_a_recorded_failure_whose_message_differs_in_each_run_passes(pytester: pytest.Pytester) -> None:
    free_module(pytester, "work", "import random; raise ValueError(f'{random.randrange(10**6)} tries')")
    record_case(pytester, "free/monday", about={"reason": "ValueError: 7 tries"}, expect="failed")
    run(pytester, *OPTIONS, "-k", "run").assert_outcomes(passed=1, deselected=5)


WRONG = [
    ("{", "case.json is not JSON"),
    ("{}", "must be an object with params"),
    ('{"params": {}, "extra": 1}', "unknown key 'extra'"),
    ('{"params": {}, "expect": "well"}', "expect is 'well'"),
    ('{"params": {}, "removed": 1}', "removed must be a list of paths"),
    ('{"params": {}, "published": {"out/b.txt": 1}}', "'out/b.txt' must have a size and an md5"),
    ('{"params": {}, "published": {}}', "does not have 'out/b.txt', which is in published/"),
]


def test_a_wrong_case_fails_alone(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work", "copy")
    directory = record(pytester)
    for number, (text, _) in enumerate(WRONG):
        other = directory.with_name(f"wrong{number}")
        shutil.copytree(directory, other)
        (other / "case.json").write_text(text)
    result = run(pytester, *OPTIONS, "-k", "run")
    assert result.parseoutcomes()["failed"] == len(WRONG)
    result.stdout.fnmatch_lines([f"*the case cannot be read: *{said}*" for _, said in WRONG])


def test_links_in_a_case_are_refused(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work", "copy")
    directory = record(pytester)
    (directory / "input/link").symlink_to("/etc/passwd")
    run(pytester, *OPTIONS, "-k", "run").stdout.fnmatch_lines(["*'link' is a link or not a regular file*"])


def test_nothing_is_recorded_through_a_link(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work", "copy")
    elsewhere = pytester.mkdir("elsewhere")
    (elsewhere / "b.txt").write_text("precious")
    directory = record(pytester, result={"size": 2}, published=None)
    shutil.rmtree(directory / "published")
    (directory / "published").symlink_to(elsewhere)

    result = run(pytester, *OPTIONS, "-k", "run", "--perago-update=all")
    result.stdout.fnmatch_lines(["*the case cannot be read: *published is a link; a case directory has none"])
    assert [(path.name, path.read_text()) for path in elsewhere.iterdir()] == [("b.txt", "precious")]


def test_cases_of_a_task_that_no_longer_exists_are_unused(pytester: pytest.Pytester) -> None:
    copy_module(pytester, "work", "copied")
    record(pytester)
    pytester.makeini("[pytest]\nperago_modules = work\nperago_kinds = contract")
    result = run(pytester)
    result.stdout.fnmatch_lines(["*tests/perago_cases/copy: no task is called copy; did you mean copied[?]*"])


# --------------------------------------------------------------------------------------- workflows


FLOW = """
    from pydantic import BaseModel
    from perago.workflows import Flow, workflow
    from work import Params, Result, add

    class Given(BaseModel):
        rows: int

    @workflow(name="nightly", version=1, owner_email="data@example.com")
    def nightly(flow: Flow, given: Given) -> Result:
        return flow.step("one", add, Params, numbers={numbers}).result
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    add_module(pytester, "work", "plain.work")
    pytester.makepyfile(flows=FLOW.format(numbers="[given.rows]"))
    return pytester


def test_the_wiring_is_checked_and_the_definition_has_a_snapshot(project: pytest.Pytester) -> None:
    missing = run(project, "--perago-modules=flows")
    missing.assert_outcomes(passed=1, failed=1)
    missing.stdout.fnmatch_lines(["*there is no snapshot of the workflow*"])
    run(project, "--perago-modules=flows", "--perago-update=new").assert_outcomes(passed=2)
    snapshot = project.path / "tests" / "__taskdefs__" / "flows" / "nightly.workflow.json"
    before = snapshot.read_bytes()
    run(project, "--perago-modules=flows").assert_outcomes(passed=2)

    snapshot.write_bytes(before.replace(b"input.rows", b"input.lines"))
    differing = run(project, "--perago-modules=flows")
    differing.assert_outcomes(passed=1, failed=1)
    differing.stdout.fnmatch_lines(
        [
            "*the workflow differs from its snapshot*",
            "*increase version= if this version is registered*",
            "compatible: /tasks/0/inputParameters/params/numbers*: *lines* -> *rows* (running workflows keep*",
            "*accept it: pytest *--perago-update=all*",
        ]
    )


def test_each_mistake_in_the_wiring_is_listed_with_its_line(project: pytest.Pytester) -> None:
    project.makepyfile(flows=FLOW.format(numbers='[given.row], row="x"'))
    result = run(project, "--perago-modules=flows", "-k", "wiring")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(
        [
            "*the wiring of workflow nightly has * mistake*",
            "*flows.py:*: given.row: Given has no field 'row'; it has rows*",
        ]
    )


SDK_FLOW = """
    from conductor.client.workflow.conductor_workflow import ConductorWorkflow
    from perago.clients import simple_task
    from work import Params, add

    nightly = ConductorWorkflow(None, "nightly", 1).owner_email("data@example.com")
    nightly >> [[simple_task(add, "left", Params, numbers=[1])], [simple_task(add, "right", Params, numbers=[2])]]
    nightly >> simple_task(add, "last", Params, numbers="{numbers}")
"""


def test_workflows_of_conductor_python_have_both_tests(project: pytest.Pytester) -> None:
    project.makepyfile(flows=SDK_FLOW.format(numbers="${workflow.input.numbers}"))
    run(project, "--perago-modules=flows", "--perago-update=new").assert_outcomes(passed=2)
    run(project, "--perago-modules=flows").assert_outcomes(passed=2)

    project.makepyfile(flows=SDK_FLOW.format(numbers="${left.output.result.nothing}"))
    wrong = run(project, "--perago-modules=flows")
    wrong.assert_outcomes(failed=2)
    wrong.stdout.fnmatch_lines(
        ["*the wiring of workflow nightly has 1 mistake*", "flows.py:7: step 'last': Result has no field 'nothing'*"]
    )


def test_a_snapshot_is_unused_if_its_workflow_no_longer_exists(project: pytest.Pytester) -> None:
    run(project, "--perago-modules=flows", "--perago-update=new").assert_outcomes(passed=2)
    project.makepyfile(flows=FLOW.format(numbers="[given.rows]").replace('"nightly"', '"other"'))
    result = run(project, "--perago-modules=flows", "--perago-update=new", "--perago-kinds=taskdef")
    result.stdout.fnmatch_lines(["unused: tests/__taskdefs__/flows/nightly.workflow.json: module flows declares other"])


def record_run(pytester: pytest.Pytester, **fields: Any) -> Path:
    """Record a run of `nightly`."""
    document = {"params": {"rows": 3}, "expect": "completed", "result": {"total": 3}, "published": {}}
    return record_case(pytester, "nightly.workflow/monday", **{**document, **fields})


def test_a_recorded_run_runs_again_and_differences_are_reported(project: pytest.Pytester) -> None:
    options = ("--perago-modules=flows", "-k", "run")
    case = record_run(project) / "case.json"
    run(project, *options).assert_outcomes(passed=1, deselected=2)

    project.makepyfile(work=ADD.format(name="plain.work").replace("sum(params.numbers)", "sum(params.numbers) + 1"))
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

    project.makepyfile(work=ADD.format(name="plain.work").replace("return Result(", "raise OSError('no disk') #"))
    run(project, *options).stdout.fnmatch_lines(["  differs   completed before, failed now: OSError: no disk*"])


def test_a_recorded_run_of_parameters_that_no_longer_exist_is_reported(project: pytest.Pytester) -> None:
    record_run(project, params={"lines": 3})
    failed = run(project, "--perago-modules=flows", "-k", "run")
    failed.stdout.fnmatch_lines(
        ["*the params of 'monday' are not valid: workflow nightly has no parameter 'lines'; it takes rows"]
    )


def test_a_recorded_run_gets_its_signals_again(project: pytest.Pytester) -> None:
    step = '[flow.wait_for("ask", Given).result.rows, given.rows]'
    project.makepyfile(flows=FLOW.format(numbers=step))
    record_run(project, signals={"ask": [{"rows": 0}]})
    run(project, "--perago-modules=flows", "-k", "run").assert_outcomes(passed=1, deselected=2)

    for signals, problem in (
        ({"ask": [{"rows": "3"}]}, "the signal 'ask' was not sent: /rows: must be integer, but is string (*"),
        ({"asked": [{"rows": 3}]}, "signals: no step waits for 'asked'; did you mean ask? (*"),
    ):
        case = project.path / "tests/perago_cases/nightly.workflow/monday/case.json"
        case.write_text(json.dumps({**json.loads(case.read_text()), "signals": signals}))
        failed = run(project, "--perago-modules=flows", "-k", "run")
        failed.stdout.fnmatch_lines([f"*the signals of 'monday' are not valid: {problem}"])


def test_the_cases_of_a_workflow_that_no_longer_exists_are_unused(project: pytest.Pytester) -> None:
    record_run(project)
    project.makepyfile(flows=FLOW.format(numbers="[given.rows]").replace('"nightly"', '"nightli"'))
    project.makeini("[pytest]\nperago_modules = work flows")
    result = run(project, "--perago-update=new", "--perago-kinds=contract")
    result.stdout.fnmatch_lines(
        ["unused: tests/perago_cases/nightly.workflow: no workflow is called nightly; did you mean nightli?"]
    )
