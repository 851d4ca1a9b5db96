"""A schedule is checked where it is declared, and runs in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from perago import TaskDefinitionError, task
from perago.taskdef.definition import ABSENT
from perago.testing import TaskRunner
from perago.workflows import Cron, Flow, WorkflowDefinitionError, workflow
from perago.workflows.schedule import next_times, removed_schedule, schedule_changes

from .tasks import OWNER, Named, write


class Given(BaseModel):
    rows: int = 3


class Needed(BaseModel):
    rows: int


@task(name="schedule.count", owner_email=OWNER)
def count(params: Given) -> Given:
    if params.rows == 13:
        raise ValueError("unlucky")
    return params


def declared(schedule: Cron, model: type[BaseModel] = Given) -> Any:
    def function(flow: Flow, params: Any) -> Any:
        return flow.step("count", count, Given, rows=params.rows).result

    function.__annotations__ = {"flow": Flow, "params": model, "return": Given}
    return workflow(name="nightly", version=2, owner_email=OWNER, schedule=schedule)(function)


def test_the_request_has_six_fields_and_the_complete_input() -> None:
    assert declared(Cron("0 3 * * mon-fri", time_zone="Europe/Berlin"))._scheduled() == {
        "name": "nightly",
        "cronExpression": "0 0 3 * * MON-FRI",
        "zoneId": "Europe/Berlin",
        "runCatchupScheduleInstances": False,
        "startWorkflowRequest": {"name": "nightly", "version": 2, "input": {"rows": 3}},
    }
    assert declared(Cron("0 3 * * *", input=Given(rows=5)))._scheduled()["startWorkflowRequest"]["input"] == {"rows": 5}


@pytest.mark.parametrize(
    ("schedule", "model", "message"),
    [
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
def test_a_schedule_that_cannot_be(schedule: Cron, model: type[BaseModel], message: str) -> None:
    with pytest.raises(TaskDefinitionError, match=message) as raised:
        declared(schedule, model)
    assert (raised.value.fix, raised.value.line is not None) != ("", False)


def test_a_workflow_with_a_workspace_has_no_schedule() -> None:
    @workflow(name="files", version=1, owner_email=OWNER, schedule=Cron("0 3 * * *", input=Named(name="a")))
    def files(flow: Flow, params: Named) -> None:
        flow.step("one", write, Named, name=params.name, theWeights=params.weights)

    with pytest.raises(WorkflowDefinitionError, match="the workflow has a workspace, but a schedule starts each run"):
        files.definition()


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
