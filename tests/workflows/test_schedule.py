"""A schedule is checked where it is declared, and runs in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from perago import TaskControls, TaskDefinitionError, WorkspaceSpec, task
from perago.embedded.conductor import InMemoryConductor
from perago.ports import Forbidden, VirtualClock
from perago.taskdef.definition import ABSENT
from perago.testing import TaskRunner
from perago.workflows import Cron, FailedWorkflow, Flow, WorkflowDefinitionError, workflow
from perago.workflows.schedule import next_times, removed_schedule, schedule_changes

from .tasks import OWNER


class Given(BaseModel):
    rows: int = 3


class Needed(BaseModel):
    rows: int


@task(name="schedule.count", owner_email=OWNER)
def count(params: Given) -> Given:
    if params.rows == 13:
        raise ValueError("unlucky")
    return params


def declared(schedule: Any, model: type[BaseModel] = Given, on_failure: Any = None) -> Any:
    def function(flow: Flow, params: Any) -> Any:
        return flow.step("count", count, Given, rows=params.rows).result

    function.__annotations__ = {"flow": Flow, "params": model, "return": Given}
    return workflow(name="nightly", version=2, owner_email=OWNER, schedule=schedule, on_failure=on_failure)(function)


def test_the_request_has_six_fields_and_the_complete_input() -> None:
    assert declared(Cron("0 3 * * mon-fri", time_zone="Europe/Berlin"))._scheduled() == {
        "name": "nightly",
        "cronExpression": "0 0 3 * * MON-FRI",
        "zoneId": "Europe/Berlin",
        "runCatchupScheduleInstances": False,
        "startWorkflowRequest": {"name": "nightly", "version": 2, "input": {"rows": 3}},
    }
    assert declared(Cron("0 3 * * *", input=Given(rows=5)))._scheduled()["startWorkflowRequest"]["input"] == {"rows": 5}


def test_a_wrong_argument_of_cron_is_reported_at_its_line() -> None:
    wrong: Any = {"timezone": "Europe/Berlin"}
    with pytest.raises(
        TaskDefinitionError, match="unexpected keyword argument 'timezone'; did you mean 'time_zone'"
    ) as caught:
        Cron("0 3 * * *", **wrong)
    assert (caught.value.file, caught.value.fix) == (__file__, "it takes expression, time_zone, input, workspace")


@pytest.mark.parametrize(
    ("schedule", "model", "message"),
    [
        ("0 3 * * *", Given, "schedule= must be a Cron, not str"),
        (Cron("0 0 3 * * *"), Given, "does not have the five fields"),
        (Cron("hello"), Given, "does not have the five fields"),
        (Cron("61 3 * * *"), Given, "is not valid: bad minute"),
        (Cron("0 3 * * FUN"), Given, "is not valid: bad day-of-week"),
        (Cron("0 3 30 2 *"), Given, "is not valid: bad day-of-month"),
        (Cron("0 3 1 * MON"), Given, "only on days that are both"),
        (Cron("0 3 * * *", time_zone="Berlin"), Given, "there is no time zone 'Berlin'"),
        (Cron("0 3 * * *"), Needed, "gives no input, but Needed needs rows"),
        (Cron("0 3 * * *", input=Given()), Needed, "the input is Given, but the workflow takes Needed"),
    ],
    ids=lambda value: value.expression if isinstance(value, Cron) else "",
)
def test_a_schedule_that_cannot_be(schedule: Any, model: type[BaseModel], message: str) -> None:
    with pytest.raises(TaskDefinitionError, match=message) as raised:
        declared(schedule, model)
    assert (raised.value.fix, raised.value.line is not None) != ("", False)


@task(name="schedule.append", owner_email=OWNER, workspace=WorkspaceSpec(), controls=TaskControls())
def append(workspace: Path, params: Given) -> Given:
    file = workspace / "days.txt"
    days = file.read_text() if file.exists() else ""
    file.write_text(f"{days}{params.rows}\n")
    return Given(rows=len(days.split()) + 1)


def on_branch(schedule: Cron, on_failure: Any = None) -> Any:
    @workflow(name="inner", version=1, owner_email=OWNER)
    def inner(flow: Flow, params: Given) -> Given:
        return flow.step("append", append, Given, rows=params.rows).result

    @workflow(name="nightly", version=2, owner_email=OWNER, schedule=schedule, on_failure=on_failure)
    def nightly(flow: Flow, params: Given) -> Given:
        flow.step("count", count, Given, rows=params.rows)
        return flow.sub("inner", inner, Given, rows=params.rows).result

    return nightly


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("science", "workspace='science' is not REPO/BRANCH"),
        ("S/main", "the repository of its workspace must be a name of"),
        ("science/a/b", "the branch of its workspace must be a name of"),
        (3, "workspace=3 is not REPO/BRANCH"),
    ],
)
def test_a_branch_that_cannot_be(place: Any, message: str) -> None:
    with pytest.raises(TaskDefinitionError, match=message):
        on_branch(Cron("0 3 * * *", workspace=place))


def test_a_schedule_and_its_workflow_both_have_a_workspace_or_none() -> None:
    with pytest.raises(WorkflowDefinitionError, match="the workflow has a workspace, but its schedule names no branch"):
        on_branch(Cron("0 3 * * *")).definition()
    with pytest.raises(WorkflowDefinitionError, match="the schedule names a branch, but no step has a workspace"):
        declared(Cron("0 3 * * *", workspace="science/main")).definition()


def test_a_launcher_starts_the_workflow_with_the_newest_commit() -> None:
    nightly = on_branch(Cron("0 3 * * *", workspace="science/main"))
    start = nightly._scheduled()["startWorkflowRequest"]
    launcher = start.pop("workflowDef")
    place = {"repository": "science", "branch": "main"}
    assert start == {"name": "nightly.scheduled", "version": 2, "input": {"workspace": place, "rows": 3}}
    assert (launcher["name"], launcher["tasks"][0]["name"]) == ("nightly.scheduled", "schedule.append")
    other = on_branch(Cron("0 4 * * *", input=Given(rows=1), workspace="other/dev"))
    assert other._scheduled()["startWorkflowRequest"]["workflowDef"] == launcher


def test_a_launcher_is_compared_with_that_of_a_server() -> None:
    schedule = on_branch(Cron("0 3 * * *", workspace="science/main"))._scheduled()
    registered = InMemoryConductor(VirtualClock()).save_schedule(schedule)
    launcher = registered["startWorkflowRequest"]["workflowDef"]
    assert launcher["restartable"], "the server adds fields"
    assert schedule_changes(registered, schedule) == ()
    launcher["tasks"][0]["name"] = "schedule.other"
    (change,) = schedule_changes(registered, schedule)
    assert (change.pointer, change.old) == ("/startWorkflowRequest/workflowDef/tasks/0/name", "schedule.other")


def test_the_next_times_are_those_of_the_zone() -> None:
    after = datetime(2026, 3, 27, 12, tzinfo=UTC)
    schedule = declared(Cron("30 2 * * *", time_zone="Europe/Berlin"))._scheduled()
    assert [time.isoformat() for time in next_times(schedule, after)] == [
        "2026-03-28T02:30:00+01:00",
        "2026-03-30T02:30:00+02:00",  # on the 29th the clock goes from 2 to 3
        "2026-03-31T02:30:00+02:00",
    ]
    assert next_times({"cronExpression": "* * * * *"}, after) == ()
    assert next_times({"cronExpression": "hello"}, after) == ()


def test_a_schedule_is_compared_with_that_of_a_server() -> None:
    schedule = declared(Cron("0 3 * * *"))._scheduled()
    start = {**schedule["startWorkflowRequest"], "priority": 0, "taskToDomain": {}}
    registered = {**schedule, "startWorkflowRequest": start, "createTime": 1, "cronSchedules": []}
    assert schedule_changes(registered, schedule) == ()
    (change,) = schedule_changes({**registered, "cronExpression": "0 0 4 * * *"}, schedule)
    assert (change.pointer, change.old, change.new) == ("/cronExpression", "0 0 4 * * *", "0 0 3 * * *")
    assert removed_schedule(registered).new is ABSENT


@pytest.fixture
def run() -> Iterator[TaskRunner]:
    with TaskRunner() as runner:
        yield runner


@pytest.mark.parametrize(("days", "number"), [(1, 4), (0.5, 2)])
def test_a_day_of_a_schedule(run: TaskRunner, days: float, number: int) -> None:
    runs = run.schedule(declared(Cron("30 */6 * * *", input=Given(rows=7))), days=days)
    assert [(ran.status, ran.result, len(ran.outcomes)) for ran in runs] == [("COMPLETED", {"rows": 7}, 1)] * number
    times = [datetime.fromtimestamp(ran.scheduled or 0, UTC) for ran in runs]
    assert [(time.hour, time.minute) for time in times] == [(hour, 30) for hour in (0, 6, 12, 18)[:number]]


def test_a_run_of_a_schedule_that_fails(run: TaskRunner) -> None:
    (ran,) = run.schedule(declared(Cron("0 3 * * *", input=Given(rows=13))))
    assert ran.status == "FAILED"
    assert "unlucky" in str(ran.reason)


def test_a_workflow_without_a_schedule(run: TaskRunner) -> None:
    function: Callable[..., Any] = declared(Cron("0 3 * * *")).function
    without: Any = workflow(name="manual", version=1, owner_email=OWNER)(function)
    with pytest.raises(TypeError, match="workflow manual has no schedule"):
        run.schedule(without)


def test_each_run_on_a_branch_begins_where_the_last_one_ended(run: TaskRunner) -> None:
    nightly = on_branch(Cron("0 3 * * *", input=Given(rows=7), workspace="science/main"))
    runs = run.schedule(nightly, days=3, tree={"days.txt": "1\n"})
    assert [(ran.status, ran.result) for ran in runs] == [("COMPLETED", {"rows": rows}) for rows in (2, 3, 4)]
    assert [ran.tree["days.txt"].decode().split() for ran in runs] == [["1"] + ["7"] * number for number in (1, 2, 3)]
    assert [ran.outcome("append").delivery.input["params"] for ran in runs] == [{"rows": 7}] * 3
    with pytest.raises(TypeError, match="has no workspace, so its schedule takes no tree"):
        run.schedule(declared(Cron("0 3 * * *")), tree={})


def test_a_restarted_run_on_a_branch_begins_with_the_same_commit(run: TaskRunner) -> None:
    (ran,) = run.schedule(on_branch(Cron("0 3 * * *", workspace="science/main")), tree={})
    before = run.conductor.workflow(ran.workflow_id)["input"]["workspace"]
    run.conductor.restart_workflow(ran.workflow_id)
    assert run.conductor.workflow(ran.workflow_id)["input"]["workspace"] == before


def test_the_head_is_asked_for_again_after_an_outage(run: TaskRunner) -> None:
    run.faults.before("history", error=Forbidden)
    (ran,) = run.schedule(on_branch(Cron("0 3 * * *", workspace="science/main")), tree={})
    assert ran.status == "COMPLETED"


def test_a_branch_that_does_not_exist_fails_the_launcher_for_good(
    run: TaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perago.testing.runner.BRANCH", "gone")
    (ran,) = run.schedule(on_branch(Cron("0 3 * * *", workspace="science/main")))
    assert (ran.status, len(ran.outcomes)) == ("FAILED", 1)
    assert "branch not found. Create it, or correct workspace= in Cron." in str(ran.reason)


def test_the_run_of_a_failure_handler_belongs_to_the_scheduled_one(run: TaskRunner) -> None:
    @workflow(name="cleanup", version=1, owner_email=OWNER)
    def cleanup(flow: Flow, failed: FailedWorkflow) -> None:
        flow.step("clean_up", count, Given, rows=1)

    for handled in (
        on_branch(Cron("0 3 * * *", input=Given(rows=13), workspace="science/main"), cleanup),
        declared(Cron("0 3 * * *", input=Given(rows=13)), on_failure=cleanup),
    ):
        (ran,) = run.schedule(handled)
        assert (ran.status, run.conductor.workflow(ran.workflow_id)["workflowName"]) == ("FAILED", "nightly")
        assert ran.outcome("clean_up").result == {"rows": 1}
