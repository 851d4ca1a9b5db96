"""The scheduler: it keeps schedules, and starts their workflows when the clock of the model reaches their times.

A schedule fires once for all times that have passed, as a real server does after it was down, or once for each with
`runCatchupScheduleInstances`. The times of a virtual clock pass one after the other, so each of them fires.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from perago.embedded.conductor import wire
from perago.embedded.conductor.decider import create_workflow, decide
from perago.embedded.conductor.definitions import parse_workflow_definition
from perago.embedded.conductor.state import State

_OPERATION = "schedule"
_TIMER = "schedule "
"""The beginning of the key of a schedule's timer."""
_FIELDS = 6
_DEFAULTS = {"runCatchupScheduleInstances": False, "paused": False, "zoneId": "UTC"}
_ADDED = {"createdBy": "", "updatedBy": "", "cronSchedules": []}
_NOT_MODELLED = ("cronSchedules", "scheduleStartTime", "scheduleEndTime")


def save(state: State, schedule: Mapping[str, Any]) -> dict[str, Any]:
    """Create or replace a schedule; the stored one.

    Only its name, its request and its zone are checked. A cron that the server does not know never fires.
    """
    sent = wire.through_json(_OPERATION, schedule, what="schedule")
    if refused := [field for field in _NOT_MODELLED if sent.get(field)]:
        raise wire.not_modelled(_OPERATION, refused[0])
    name, request = sent.get("name"), sent.get("startWorkflowRequest")
    if not name or not request or not request.get("name"):
        raise wire.server_error(_OPERATION, "A NOT NULL constraint failed")
    zone = sent.get("zoneId") or "UTC"
    try:
        ZoneInfo(zone)
    except (OSError, ValueError, KeyError):
        raise wire.server_error(_OPERATION, f"Unknown time-zone ID: {zone}") from None
    created = state.schedules.get(name, {}).get("createTime", state.now())
    start = {**request, "taskToDomain": request.get("taskToDomain") or {}, "priority": request.get("priority") or 0}
    if start.get("workflowDef") is not None:
        start["workflowDef"] = parse_workflow_definition(start["workflowDef"], 0)
    times = {"createTime": created, "updatedTime": state.now()}
    stored = wire.without_nulls({**_DEFAULTS, **sent, "startWorkflowRequest": start, **times, **_ADDED})
    state.schedules[name] = stored
    _plan(state, name)
    return stored


def find(state: State, name: str) -> dict[str, Any]:
    """Return a schedule; an unknown one is a 404."""
    if name not in state.schedules:
        raise wire.not_found(_OPERATION, f"Schedule '{name}' not found")
    return state.schedules[name]


def remove(state: State, name: str) -> None:
    """Forget a schedule. An unknown one is not an error."""
    state.schedules.pop(name, None)
    state.timers.pop(_TIMER + name, None)


def pause(state: State, name: str, reason: str | None) -> None:
    """Start no further runs."""
    stored = {**find(state, name), "paused": True, "pausedReason": reason, "updatedTime": state.now()}
    state.schedules[name] = wire.without_nulls(stored)
    state.timers.pop(_TIMER + name, None)


def resume(state: State, name: str) -> None:
    """Start runs again, without those whose times have passed. One that is not paused is a 404."""
    schedule = find(state, name)
    if not schedule["paused"]:
        raise wire.not_found(_OPERATION, f"Schedule '{name}' not found")
    resumed = {key: value for key, value in schedule.items() if key != "pausedReason"}
    state.schedules[name] = {**resumed, "paused": False, "updatedTime": state.now()}
    _plan(state, name)


def next_times(cron: str, zone: str, after: int, number: int) -> Sequence[int]:
    """Return the next times of a cron of six fields in milliseconds since the epoch; none if it never fires."""
    if len(cron.split()) != _FIELDS:
        return ()
    start = datetime.fromtimestamp(after / 1000, UTC).astimezone(ZoneInfo(zone))
    try:
        times = CronSim(cron.replace("?", "*"), start)
        return [round(time.timestamp() * 1000) for time, _ in zip(times, range(number), strict=False)]
    except CronSimError:
        return ()


def fire(state: State, timer: str, due: int) -> None:
    """Start the workflow of a schedule whose time has come, and plan its next time. Ignore other timers."""
    name = timer.removeprefix(_TIMER)
    schedule = state.schedules.get(name) if timer.startswith(_TIMER) else None
    if schedule is None:
        return
    _plan(state, name, due if schedule["runCatchupScheduleInstances"] else state.now())
    request = schedule["startWorkflowRequest"]
    added = {
        "_startedByScheduler": name,
        "_scheduledTime": due,
        "_executedTime": state.now(),
        "_executionId": state.new_id(),
        "_schedulerCron": f"{schedule['cronExpression']} {schedule.get('zoneId') or 'UTC'}",
    }
    workflow = create_workflow(
        state,
        request["name"],
        {**(request.get("input") or {}), **added},
        version=request.get("version"),
        definition=request.get("workflowDef"),
        correlation_id=request.get("correlationId"),
        priority=request["priority"],
        task_to_domain=request["taskToDomain"],
    )
    decide(state, workflow)


def _plan(state: State, name: str, after: int | None = None) -> None:
    """Set the timer of the next time."""
    schedule = state.schedules[name]
    state.timers.pop(_TIMER + name, None)
    start = state.now() if after is None else after
    if not schedule["paused"]:
        for due in next_times(schedule.get("cronExpression") or "", schedule.get("zoneId") or "UTC", start, 1):
            state.timers[_TIMER + name] = due
