"""Schedules: how they are kept, and the workflows that they start."""

from __future__ import annotations

import itertools

from ..rest import Rest
from ..scenario import scenario
from .workflows import start_steps

SCHEDULES = "/scheduler/schedules"
SCHEDULE = f"{SCHEDULES}/{{schedule}}"


def _schedule(rest: Rest, workflow: str, cron: str = "0 0 3 * * *", **more: object) -> dict[str, object]:
    request = {"name": workflow, "version": 1, "input": {"x": 1}}
    name = rest.unique("schedule")
    rest.afterwards(lambda: rest.silent.delete(SCHEDULE, schedule=name))
    return {"name": name, "cronExpression": cron, "zoneId": "Europe/Berlin", "startWorkflowRequest": request, **more}


@scenario
def a_schedule(rest: Rest) -> None:
    """A schedule is created, replaced, found by its workflow, paused, resumed and removed."""
    workflow = rest.name("workflow")
    schedule = _schedule(rest, workflow)
    name = str(schedule["name"])
    rest.post(SCHEDULES, schedule)
    rest.get(SCHEDULE, schedule=name)
    rest.post(SCHEDULES, {**schedule, "cronExpression": "0 0 4 * * *", "runCatchupScheduleInstances": True})
    rest.get(SCHEDULES, query={"workflowName": workflow})
    rest.put(f"{SCHEDULE}/pause", query={"reason": "holiday"}, schedule=name)
    rest.put(f"{SCHEDULE}/pause", schedule=name)
    rest.get(SCHEDULE, schedule=name)
    for _ in range(2):
        rest.put(f"{SCHEDULE}/resume", schedule=name)
    rest.get(SCHEDULE, schedule=name)
    rest.delete(SCHEDULE, schedule=name)
    rest.get(SCHEDULE, schedule=name)
    rest.get(SCHEDULES, query={"workflowName": workflow})


@scenario
def an_unknown_schedule(rest: Rest) -> None:
    """An unknown schedule is not found, and can be removed."""
    name = rest.name("unknown")
    rest.get(SCHEDULE, schedule=name)
    for action in ("pause", "resume"):
        rest.put(f"{SCHEDULE}/{action}", schedule=name)
    rest.delete(SCHEDULE, schedule=name)


@scenario
def what_a_schedule_must_have(rest: Rest) -> None:
    """Only the zone, the name and the request of a schedule are checked."""
    schedule = _schedule(rest, rest.name("workflow"))
    for key in ("name", "startWorkflowRequest"):
        answer = rest.silent.post(SCHEDULES, {field: schedule[field] for field in schedule if field != key})
        rest.note(f"without {key}", answer.status)
    rest.post(SCHEDULES, {**schedule, "zoneId": "Nowhere/No"})
    for cron in ("* * * * *", "hello"):
        rest.post(SCHEDULES, {**schedule, "cronExpression": cron, "zoneId": None})


@scenario
def the_next_times_of_a_cron(rest: Rest) -> None:
    """The server computes the next times of a cron in UTC, at most five, and refuses a wrong one."""
    times = rest.silent.get("/scheduler/nextFewSchedules", query={"cronExpression": "0 0 3 * * *", "limit": 9}).json
    rest.note("hours between them", [(later - time) // 3_600_000 for time, later in itertools.pairwise(times)])
    rest.get("/scheduler/nextFewSchedules", query={"cronExpression": "hello", "limit": 3})


@scenario
def a_run_of_a_schedule(rest: Rest) -> None:
    """A run has the input of its schedule, and five fields about the schedule."""
    on = start_steps(rest)
    silent = rest.silent
    silent.post(SCHEDULES, _schedule(rest, on.workflow, "*/2 * * * * *"))
    runs = []
    for _ in range(60):
        query = {"query": f"workflowType='{on.workflow}'", "size": 20}
        rows = silent.get("/workflow/search", query=query).json["results"]
        runs = [silent.get("/workflow/{id}", id=row["workflowId"]).json for row in rows]
        runs = [run for run in runs if "_scheduledTime" in run["input"]]
        if len(runs) > 1:
            break
        rest.sleep(1)
    silent.delete(SCHEDULE, schedule=rest.unique("schedule"))
    run = runs[0]["input"]
    rest.note("keys", sorted(run))
    rest.note("whole", [run["x"], run["_startedByScheduler"] == rest.unique("schedule"), run["_schedulerCron"]])
    first, second = sorted(started["input"]["_scheduledTime"] for started in runs[:2])
    rest.note("between two times", second - first)
