"""Workflows of modules: `perago check`, `perago workflow` and `perago register`."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from perago.embedded.conductor.wire import not_found
from perago.embedded.services import EmbeddedServices

from ..worker.bench import wait_for
from .conftest import PLAIN, Project
from .dev_command import PAGE, developing

FLOW = """
from pydantic import BaseModel
from perago.workflows import Flow, workflow
from work import Params, Result, work

class Given(BaseModel):
    rows: int = 3

@workflow(name="nightly", version={version}, owner_email="data@example.com")
def nightly(flow: Flow, given: Given) -> Result:
    flow.fork("parts", ["a", "b"], lambda part: flow.step("part", work, Params, rows=given.rows))
    return flow.step("last", work, Params, rows={rows}).result
"""

NESTED = """
from flows import Given, nightly
from perago.workflows import Flow, workflow

@workflow(name="nested", version=1, owner_email="data@example.com")
def nested(flow: Flow, given: Given) -> None:
    flow.sub("inner", nightly, Given, rows=given.rows)
"""

HANDLED = """
from perago.workflows import FailedWorkflow, Flow, workflow
from work import Params, work

@workflow(name="cleanup", version=1, owner_email="data@example.com")
def cleanup(flow: Flow, failed: FailedWorkflow) -> None:
    flow.step("clean", work, Params, rows=1)
"""

HANDLING = """
from handled import cleanup
from perago.workflows import Flow, workflow
from work import Params, work

@workflow(name="handling", version=1, owner_email="data@example.com", on_failure=cleanup)
def handling(flow: Flow, given: Params) -> None:
    flow.step("one", work, Params, rows=given.rows)
"""

CASES = r"""
from pydantic import BaseModel
from perago.workflows import Flow, workflow
from work import Params, work

class Given(BaseModel):
    kind: str

@workflow(name="cases", version=1, owner_email="data@example.com")
def cases(flow: Flow, given: Given) -> None:
    with flow.switch("choice", given.kind) as switch, switch.case("\x1b[31m\n"):
        flow.step("one", work, Params, rows=1)
"""


@pytest.fixture(autouse=True)
def modules(project: Project) -> None:
    project.task("work", "plain.work", PLAIN)
    project.module("flows", FLOW.format(version=1, rows=1))


def test_check_accepts_a_module_without_a_task_and_lists_its_workflows(project: Project) -> None:
    ran = project.run("check", "flows")
    assert (ran.code, ran.err) == (0, "")
    assert "ok  flows: workflow nightly version 1\n" in ran.out
    module = json.loads(project.run("check", "--json", "flows").out)["modules"][0]
    assert (module["ok"], module["task"], module["workflows"]) == (True, None, [{"name": "nightly", "version": 1}])


def test_check_lists_each_mistake_of_all_workflows_with_its_line(project: Project) -> None:
    project.module("flows", FLOW.format(version=1, rows="given.row").replace("rows=given.rows", 'rows="x"'))
    module = json.loads(project.run("check", "--json", "flows").out)["modules"][0]
    assert [(error["code"], error["where"]) for error in module["errors"]] == [
        ("invalid-workflow", "flows.py:10"),
        ("invalid-workflow", "flows.py:11"),
    ]
    wrong = FLOW.format(version=1, rows='"x"')
    second = wrong[wrong.index("@workflow") :]
    third = second.replace("def nightly", "def third")
    project.module("flows", wrong + second.replace("nightly", "other") + third)
    ran = project.run("check", "flows")
    assert [line.split(": ")[:2] for line in ran.err.splitlines() if line.startswith("error")] == [
        ["error", "flows.py:11"],
        ["error", "flows.py:15"],
        ["error", "flows.py:16"],
    ]
    assert "flows.py:16: the module declares the workflow 'nightly' twice" in ran.err


def test_check_notes_what_may_be_a_mistake(project: Project) -> None:
    loop = (
        'with flow.loop("again", at_most=2):\n        flow.step("last", work, Params, rows=given.rows)\n    return None'
    )
    flow = FLOW.format(version=1, rows=1).replace('return flow.step("last", work, Params, rows=1).result', loop)
    project.module("flows", flow.replace("-> Result", "-> None"))
    ran = project.run("check", "flows")
    assert (ran.code, ran.err.count("\n")) == (0, 1)
    assert "note: flows: flows.py:11: loop 'again' has no until(), so it always runs 2 rounds; call" in ran.err
    project.module("flows", FLOW.format(version=1, rows='"x"').replace("rows=given.rows", "rows=1"))
    (module,) = json.loads(project.run("check", "--json", "flows").out)["modules"]
    assert [error["where"] for error in module["errors"]] == ["flows.py:11"]
    assert module["advice"] == ["flows.py:8: no step uses the parameter Given.rows; use it, or remove it"]


def test_commands_that_need_a_task_say_so(project: Project) -> None:
    project.run("extract", "flows").ends(
        3, "module flows declares no task", "fix: name a module with a task; its workflows are for perago workflow, dev"
    )
    assert "or a run by --workflow ID." in project.run("capture").err


def test_the_steps_are_shown_as_a_tree(project: Project) -> None:
    ran = project.run("workflow", "show", "flows")
    assert ran.out.splitlines() == [
        "nightly, version 1",
        "  parts  fork",
        "  ├─ part_a  plain.work",
        "  └─ part_b  plain.work",
        "  last  plain.work",
    ]
    project.module("flows", CASES)
    assert project.run("workflow", "show", "flows").out.splitlines() == [
        "cases, version 1",
        "  choice  switch on ${workflow.input.kind}",
        r"  ├─ \x1b[31m\n: one  plain.work",
        "  └─ null: choice_missing  end as FAILED: switch 'choice': given.kind has no value",
    ]
    project.run("workflow", "show", "work").ends(1, "work declares no workflow")


def test_a_handler_of_failures_must_be_registered_too(project: Project, embedded: EmbeddedServices) -> None:
    variables = {"CONDUCTOR_SERVER_URL": embedded.conductor_url}
    project.module("handled", HANDLED)
    project.module("handling", HANDLING)
    refused = project.run("register", "work", "handling", **variables).ends(1)
    problem = "workflow handling starts cleanup version 1 after a failure, which is not registered; nothing was sent"
    assert problem in refused.err
    assert "fix: register the module of cleanup, too" in refused.err
    both = project.run("register", "work", "handling", "handled", **variables)
    assert both.out.splitlines()[-1].startswith("registered 1 TaskDef and 2 workflows on ")
    again = project.run("diff", "handling", "handled", **variables)
    assert (again.code, again.out.count("unchanged")) == (0, 2)


def test_a_version_is_registered_once_and_replaced_only_on_request(
    project: Project, embedded: EmbeddedServices
) -> None:
    variables = {"CONDUCTOR_SERVER_URL": embedded.conductor_url}
    first = project.run("register", "work", "flows", **variables)
    assert (first.code, first.err) == (0, "")
    assert first.out.splitlines()[-1].startswith("registered 1 TaskDef and 1 workflow on ")
    again = project.run("register", "work", "flows", **variables)
    assert again.out.splitlines()[-1].startswith("nothing to register on ")

    project.module("flows", FLOW.format(version=1, rows=22))
    refused = project.run("register", "flows", **variables).ends(1)
    change = "/tasks/2/inputParameters/params/rows: 1 -> 22 (running workflows keep the steps that they started with)"
    assert f"  compatible  {change}\n" in refused.out
    assert "error: flows.py:8: version 1 of workflow nightly is registered with another definition" in refused.err
    replaced = project.run("register", "--overwrite", "flows", **variables)
    assert replaced.out.splitlines()[-1].startswith("registered 1 workflow on ")

    project.module("flows", FLOW.format(version=2, rows=3).replace("rows: int = 3", "rows: int"))
    new = project.run("register", "--dry-run", "flows", **variables).out.splitlines()
    assert new[0] == "new        nightly version 2, compared with version 1"
    assert '  breaking    /inputSchema/data/required: [] -> ["rows"] (rows must be there now)' in new
    assert "  compatible  /inputTemplate/rows: removed 3 (inputSchema says what it means for others)" in new
    compared = project.run("diff", "flows", **variables)
    assert (compared.code, compared.out.splitlines()[1:]) == (1, new[1:-1])
    printed = project.run("workflow", "print", "flows").out
    assert json.loads(printed)["version"] == 2


SDK_FLOW = """
from conductor.client.workflow.conductor_workflow import ConductorWorkflow
from perago.clients import simple_task
from work import Params, work

flow = ConductorWorkflow(None, "sdk.flow", 1).owner_email("data@example.com").timeout_seconds(0)
flow >> [[simple_task(work, "left", Params, rows=1)], [simple_task(work, "right", Params, rows=2)]]
last = simple_task(work, "last", Params, rows="{rows}")
flow >> last
flow.output_parameters({{"result": last.output("result")}})
"""


def test_workflows_of_conductor_python_are_checked_and_registered(project: Project, embedded: EmbeddedServices) -> None:
    variables = {"CONDUCTOR_SERVER_URL": embedded.conductor_url}
    project.module("sdk", SDK_FLOW.format(rows="${left.output.result.totl}"))
    error = json.loads(project.run("check", "--json", "sdk").out)["modules"][0]["errors"][0]
    assert (error["code"], error["where"]) == ("invalid-workflow", "sdk.py:7")
    assert "Result has no field 'totl'" in error["message"]
    project.run("register", "work", "sdk", **variables).ends(3, "sdk.py:7: ")

    external = (
        '\nfrom conductor.client.workflow.task.simple_task import SimpleTask\nflow >> SimpleTask("work.other", "other")'
    )
    declared = '\nfrom conductor.client.http.models import TaskDef\nother = TaskDef(name="work.other")'
    project.module("sdk", SDK_FLOW.format(rows="1") + external + declared)
    noted = project.run("check", "sdk").err
    assert "step 'other': perago cannot know the registration, workers, retries and timeouts of work.other" in noted

    project.module("sdk", SDK_FLOW.format(rows="${left.output.result.total}"))
    assert "ok  sdk: workflow sdk.flow version 1\n" in project.run("check", "sdk").out
    assert project.run("workflow", "show", "sdk").out.splitlines()[1:3] == ["  forked_1  fork", "  ├─ left  plain.work"]
    registered = project.run("register", "work", "sdk", **variables)
    assert registered.out.splitlines()[-1].startswith("registered 1 TaskDef and 1 workflow on "), registered.err
    assert project.run("diff", "sdk", **variables).out == "unchanged       sdk.flow version 1\n"
    project.module("sdk", SDK_FLOW.format(rows="${right.output.result.total}"))
    assert "/tasks/2/inputParameters/params/rows" in project.run("diff", "sdk", **variables).out


def test_dev_registers_workflows_and_send_starts_and_follows_them(project: Project) -> None:
    project.module("flows", FLOW.format(version=1, rows="given.rows"))
    project.module("nested", NESTED)
    with developing(project, "work", "flows", "nested") as dev:
        dev.wait_for(PAGE)
        shown = re.search(r"Start workflow nightly version 1, with the variables above:\n  (perago .*)\n", dev.text)
        assert shown is not None
        arguments = shlex.split(shown[1])
        assert arguments == [
            *("perago", "send", "flows", "--params", '{"rows":3}', "--workflow", "nightly", "--follow")
        ]
        sent = project.run(*arguments[1:], **dev.variables())
        assert (sent.code, json.loads(sent.out)) == (0, {"total": 3})
        for line in ("part_a (plain.work) attempt 1: COMPLETED", "last (plain.work) attempt 1: COMPLETED"):
            assert f"{line}\n" in sent.err
        assert "workflow COMPLETED\n" in sent.err

        workflow = sent.err.splitlines()[0].removeprefix("started workflow ")
        captured = project.run("capture", "--workflow", workflow, "--name", "monday", **dev.variables())
        assert (captured.code, captured.out) == (0, "tests/perago_cases/nightly.workflow/monday\n"), captured.err
        case = json.loads((project.directory / captured.out.strip() / "case.json").read_text())
        assert (case["params"], case["expect"], case["result"]) == ({"rows": 3}, "completed", {"total": 3})

        nested = project.run("send", "nested", "--follow", **dev.variables())
        assert "inner > last (plain.work) attempt 1: COMPLETED\n" in nested.err

        wrong = project.run("send", "flows", "--params", '{"row": 3}', **dev.variables())
        assert wrong.code == 2
        assert "workflow nightly has no parameter 'row'; it takes rows." in wrong.err

        mistyped = project.run("send", "flows", "--params", '{"rows": "3"}', **dev.variables())
        assert mistyped.code == 2
        assert "workflow nightly: /rows: must be integer, but is string." in " ".join(mistyped.err.split())

        project.module("flows", FLOW.format(version=1, rows="4"))
        dev.wait_for(r"(?m)^flows +\| reloaded$")
        assert json.loads(project.run("send", "flows", "--follow", **dev.variables()).out) == {"total": 4}


SCHEDULED = FLOW.replace(
    'owner_email="data@example.com")',
    'owner_email="data@example.com", schedule=Cron("{cron}", time_zone="Europe/Berlin", input=Given(rows=7)))',
).replace("import Flow", "import Cron, Flow")


def test_a_schedule_is_registered_listed_paused_and_pruned(project: Project, embedded: EmbeddedServices) -> None:
    variables = {"CONDUCTOR_SERVER_URL": embedded.conductor_url}
    project.module("flows", SCHEDULED.format(version=1, rows=1, cron="0 3 * * *"))
    dry = project.run("register", "--dry-run", "work", "flows", **variables).out.splitlines()
    assert dry[-1].startswith("dry run: 1 TaskDef and 1 workflow and 1 schedule would be registered")
    assert embedded.conductor.schedules() == []
    first = project.run("register", "work", "flows", **variables)
    assert "new        schedule of nightly\n" in first.out
    assert re.search(r"next: \d{4}-\d\d-\d\d 03:00 CES?T, \S+ 03:00 CES?T, \S+ 03:00 CES?T\n", first.out)
    shown = project.run("workflow", "show", "flows").out
    assert shown.endswith("\n  schedule: 0 0 3 * * * Europe/Berlin\n")
    (schedule,) = embedded.conductor.schedules("nightly")
    assert (schedule["cronExpression"], schedule["zoneId"]) == ("0 0 3 * * *", "Europe/Berlin")
    assert schedule["startWorkflowRequest"]["input"] == {"rows": 7}
    assert project.run("diff", "work", "flows", **variables).code == 0

    listed = project.run("schedules", **variables).out.splitlines()
    assert listed[0].split() == ["NAME", "CRON", "ZONE", "NEXT"]
    assert listed[1].split()[:8] == ["nightly", *["0", "0", "3", "*", "*", "*"], "Europe/Berlin"]
    for _ in range(2):
        paused = project.run("schedules", "pause", "nightly", "--reason", "holiday", **variables)
        assert "none, because it is paused" in paused.out
    assert embedded.conductor.schedule("nightly")["pausedReason"] == "holiday"

    project.module("flows", SCHEDULED.format(version=1, rows=1, cron="30 4 * * *"))
    compared = project.run("diff", "flows", **variables)
    assert '  compatible  /cronExpression: "0 0 3 * * *" -> "0 30 4 * * *" (later runs have it)\n' in compared.out
    again = project.run("register", "flows", **variables)
    assert again.out.splitlines()[-1].startswith("registered 1 schedule on ")
    assert (embedded.conductor.schedule("nightly")["paused"], compared.code) == (True, 1)
    for _ in range(2):
        assert "04:30" in project.run("schedules", "resume", "nightly", **variables).out

    project.module("flows", FLOW.format(version=1, rows=1))
    removed = project.run("diff", "flows", **variables)
    assert (removed.code, "changed         schedule of nightly\n" in removed.out) == (1, True)
    assert "it still starts workflows; remove it with: perago register --prune" in removed.out
    project.run("register", "flows", **variables)
    assert len(embedded.conductor.schedules()) == 1
    pruned = project.run("register", "--prune", "flows", **variables)
    assert pruned.out.splitlines()[-1].startswith("registered 1 removed schedule on ")
    assert json.loads(project.run("schedules", "--json", **variables).out) == {"schedules": []}
    project.run("schedules", "pause", "nightly", **variables).ends(1, "there is no schedule nightly")
    project.run("schedules", "pause", **variables).ends(2, "pause and resume take the name of a schedule")


ON_BRANCH = """
from pathlib import Path
from pydantic import BaseModel
from perago import WorkspaceSpec, task
from perago.workflows import Cron, Flow, workflow

class Given(BaseModel):
    rows: int = 3

@task(name="branch.grow", owner_email="data@example.com", workspace=WorkspaceSpec())
def grow(workspace: Path, params: Given) -> Given:
    return params

@workflow(name="grown", version=1, owner_email="data@example.com"{schedule})
def grown(flow: Flow, given: Given) -> None:
    flow.step("grow", grow, Given, rows=given.rows)
"""


def test_the_schedule_of_a_workflow_on_a_branch_has_its_launcher(project: Project, embedded: EmbeddedServices) -> None:
    variables = {"CONDUCTOR_SERVER_URL": embedded.conductor_url}
    with_schedule = ON_BRANCH.format(schedule=', schedule=Cron("0 3 * * *", workspace="science/main")')
    project.module("flows", with_schedule)
    first = project.run("register", "flows", **variables)
    assert first.out.splitlines()[-1].startswith("registered 1 TaskDef and 1 workflow and 1 schedule on ")
    (schedule,) = embedded.conductor.schedules("grown.scheduled")
    assert (schedule["name"], schedule["startWorkflowRequest"]["input"]["workspace"]) == (
        "grown",
        {"repository": "science", "branch": "main"},
    )
    assert project.run("diff", "flows", **variables).code == 0
    shown = project.run("workflow", "show", "flows").out
    assert shown.endswith("\n  schedule: 0 0 3 * * * UTC on science/main, by grown.scheduled\n")
    project.module("flows", with_schedule.replace("/main", "/dev"))
    changed = project.run("register", "flows", **variables).out.splitlines()
    assert changed[-1].startswith("registered 1 schedule on ")
    with developing(project, "flows") as dev:  # whose workspace is on a branch of its own
        dev.wait_for(PAGE)
        (there,) = json.loads(project.run("schedules", "--json", **dev.variables()).out)["schedules"]
        assert there["startWorkflowRequest"]["input"]["workspace"] == {"repository": "dev", "branch": "main"}

    project.module("flows", ON_BRANCH.format(schedule=""))
    pruned = project.run("register", "--prune", "flows", **variables)
    assert pruned.out.splitlines()[-1].startswith("registered 1 removed schedule on ")
    assert [row["name"] for row in embedded.conductor.workflow_definitions()] == ["grown"]


def test_a_scheduler_that_is_off_is_reported_before_anything_is_sent(
    project: Project, embedded: EmbeddedServices
) -> None:
    variables = {"CONDUCTOR_SERVER_URL": embedded.conductor_url}
    project.module("flows", SCHEDULED.format(version=1, rows=1, cron="0 3 * * *"))
    off = not_found("read", "No static resource api/scheduler/schedules.")  # the answer of the real server
    for number in (1, 2):
        embedded.conductor._faults.before("schedules", nth=number, error=off)
    ran = project.run("register", "work", "flows", **variables).ends(1, "nothing was sent")
    assert "workflow nightly has a schedule, but the scheduler of" in ran.err
    assert "set conductor.scheduler.enabled=true on the server" in ran.err
    assert embedded.conductor.workflow_definitions() == embedded.conductor.task_definitions() == []
    project.run("schedules", **variables).ends(1, "the scheduler of", "is off")


def test_dev_keeps_the_schedules_of_its_modules(project: Project) -> None:
    text = SCHEDULED.format(version=1, rows=1, cron="* * * * *")
    project.module("flows", text)
    with developing(project, "work", "flows") as dev:
        dev.wait_for(PAGE)
        assert "0 * * * * *" in project.run("schedules", **dev.variables()).out
        schedule = dev.get("/scheduler/schedules/nightly")
        dev.post("/scheduler/schedules", schedule | {"cronExpression": "* * * * * *"})  # each second

        def run() -> list[dict[str, str]]:
            rows: list[dict[str, str]] = dev.get("/workflow/search?query=workflowType%3D'nightly'")["results"]
            return [row for row in rows if row["status"] == "COMPLETED"]

        (first, *_) = wait_for("a run of the schedule", run, 30)
        assert dev.get(f"/workflow/{first['workflowId']}")["input"]["_startedByScheduler"] == "nightly"
        project.module("flows", FLOW.format(version=1, rows=22))
        dev.wait_for(r"(?m)^flows +\| reloaded$")
        assert project.run("schedules", **dev.variables()).out == "there is no schedule\n"
