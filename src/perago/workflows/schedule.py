"""The schedule of a workflow: a cron of five fields, checked here, and written for Conductor's scheduler.

Conductor's cron has six fields, seconds first. It accepts one of five and never fires it, and checks nothing but the
time zone. A day must match both the day of the month and the day of the week.

The scheduler sends the same input each time, and a workspace names an immutable commit. So the schedule of a workflow
with a workspace starts a small workflow, the launcher, whose definition is in the schedule: it asks a worker for the
newest commit of the branch, and starts the workflow with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import BaseModel

from perago.authoring.declaration import InvalidDeclaration, declares
from perago.taskdef.compatibility import Change, Impact
from perago.taskdef.definition import ABSENT, json_differences
from perago.taskdef.payload import HEAD_OF, name_problem
from perago.workflows.registered import declared_part

_FIELDS = 5
_WORKSPACE_FIX = 'write workspace="REPO/BRANCH" in Cron'


@dataclass(frozen=True, slots=True)
class Cron:
    """The times at which Conductor starts a workflow.

        Cron("0 3 * * *", time_zone="Europe/Berlin", input=Given(min_rows=5), workspace="science/main")

    Attributes:
        expression: Minute, hour, day of the month, month and day of the week.
        time_zone: The IANA name of the zone of these times.
        input: The parameters of each run. None: the defaults of their model.
        workspace: REPO/BRANCH, for a workflow with a workspace: each run begins with the newest commit of the branch.
    """

    expression: str
    time_zone: str = "UTC"
    input: BaseModel | None = None
    workspace: str | None = None


Cron.__init__ = declares("Cron")(Cron.__init__)  # type: ignore[method-assign]


def check_schedule(cron: Any, model: type[BaseModel]) -> None:
    """Check the expression, the zone, the workspace, and the input, which must be of this model.

    Raises:
        InvalidDeclaration: one of them is not valid.
    """
    if not isinstance(cron, Cron):
        rule = f"schedule= must be a Cron, not {type(cron).__name__}"
        raise InvalidDeclaration(rule, 'write schedule=Cron("0 3 * * *")')
    shown, fix = f"schedule {cron.expression!r}", 'write it like "0 3 * * *"'
    if not isinstance(cron.expression, str) or len(fields := cron.expression.split()) != _FIELDS:
        raise InvalidDeclaration(f"{shown} does not have the five fields minute, hour, day, month, weekday", fix)
    try:
        ZoneInfo(cron.time_zone)
    except (OSError, ValueError, TypeError, KeyError):
        raise InvalidDeclaration(
            f"{shown}: there is no time zone {cron.time_zone!r}", "write UTC or Europe/Berlin"
        ) from None
    try:
        next(times_of(_six_fields(cron), cron.time_zone, datetime.now(UTC)))
    except CronSimError as error:
        raise InvalidDeclaration(f"{shown} is not valid: {str(error).lower()}", fix) from None
    except StopIteration:
        raise InvalidDeclaration(f"{shown} never comes", "correct the day") from None
    if not any(field.startswith(("*", "?")) for field in (fields[2], fields[4])):
        rule = f"{shown} names days of the month and of the week, and Conductor starts only on days that are both"
        raise InvalidDeclaration(rule, "write * for one of the two")
    if cron.workspace is not None:
        names = cron.workspace.split("/", 1) if isinstance(cron.workspace, str) else ()
        if len(names) != 2:
            raise InvalidDeclaration(f"{shown}: workspace={cron.workspace!r} is not REPO/BRANCH", _WORKSPACE_FIX)
        for kind, name in zip(("repository", "branch"), names, strict=True):
            if problem := name_problem(kind, name):
                raise InvalidDeclaration(f"{shown}: the {kind} of its workspace {problem}", _WORKSPACE_FIX)
    if cron.input is None:
        missing = [name for name, field in model.model_fields.items() if field.is_required()]
        if missing:
            rule = f"{shown} gives no input, but {model.__name__} needs {', '.join(missing)}"
            raise InvalidDeclaration(rule, f"give input={model.__name__}({missing[0]}=...)")
    elif type(cron.input) is not model:
        rule = f"{shown}: the input is {type(cron.input).__name__}, but the workflow takes {model.__name__}"
        raise InvalidDeclaration(rule, f"give input={model.__name__}(...)")


def workspace_problem(cron: Cron, *, has_workspace: bool) -> tuple[str, str] | None:
    """Return the problem, with its fix, if only one of the schedule and the workflow has a workspace."""
    if has_workspace == (cron.workspace is not None):
        return None
    if has_workspace:
        return "the workflow has a workspace, but its schedule names no branch", _WORKSPACE_FIX
    return "the schedule names a branch, but no step has a workspace", "remove workspace= from Cron"


def schedule_of(cron: Cron, definition: Mapping[str, Any], head_task: str) -> dict[str, Any]:
    """Return the schedule of a workflow as Conductor's JSON. It has the name of the workflow.

    Args:
        cron: Its times, input and workspace.
        definition: The workflow, as Conductor's JSON.
        head_task: A task with a workspace, if there is one, whose workers are asked for the newest commit.
    """
    params = {} if cron.input is None else cron.input.model_dump(mode="json", by_alias=True, round_trip=True)
    workflow_input = {**definition["inputTemplate"], **params}
    start = {"name": definition["name"], "version": definition["version"], "input": workflow_input}
    if cron.workspace is not None:
        repository, branch = cron.workspace.split("/")
        launcher = _launcher_of(definition, head_task)
        launcher_input = {"workspace": {"repository": repository, "branch": branch}, **workflow_input}
        start = {**start, "name": launcher["name"], "input": launcher_input, "workflowDef": launcher}
    return {
        "name": definition["name"],
        "cronExpression": _six_fields(cron),
        "zoneId": cron.time_zone,
        "runCatchupScheduleInstances": False,
        "startWorkflowRequest": start,
    }


def _launcher_of(definition: Mapping[str, Any], head_task: str) -> dict[str, Any]:
    asked = {HEAD_OF: "${workflow.input.workspace}"}
    keys = [key for key in definition["inputParameters"] if key != "workspace"]
    start = {"name": definition["name"], "version": definition["version"]}
    sent = {"workspace": "${head.output.workspace}", **{key: f"${{workflow.input.{key}}}" for key in keys}}
    head = {"name": head_task, "taskReferenceName": "head", "type": "SIMPLE", "inputParameters": asked}
    starting = {"startWorkflow": {**start, "input": sent}}
    return {
        "name": f"{definition['name']}.scheduled",
        "version": definition["version"],
        "schemaVersion": 2,
        "description": f"Starts {definition['name']} with the newest commit of a branch. Its schedule runs it.",
        "ownerEmail": definition["ownerEmail"],
        "timeoutSeconds": 0,
        "timeoutPolicy": "ALERT_ONLY",
        "inputParameters": ["workspace", *keys],
        "inputTemplate": {},
        "tasks": [
            head,
            {"name": "start", "taskReferenceName": "start", "type": "START_WORKFLOW", "inputParameters": starting},
        ],
        "outputParameters": {"workflowId": "${start.output.workflowId}"},
    }


def _six_fields(cron: Cron) -> str:
    return f"0 {' '.join(cron.expression.upper().split())}"


def times_of(cron: str, zone: str, after: datetime) -> Iterator[datetime]:
    """Yield the times of a cron of six fields after a time, in its zone.

    Raises:
        CronSimError: it is not valid.
    """
    return CronSim(cron.replace("?", "*"), after.astimezone(ZoneInfo(zone)))


def next_times(schedule: Mapping[str, Any], after: datetime, number: int = 3) -> Sequence[datetime]:
    """Return the next times of a schedule of a server; none if its cron is not one that fires."""
    try:
        times = times_of(str(schedule["cronExpression"]), str(schedule.get("zoneId") or "UTC"), after)
    except (CronSimError, KeyError, OSError, ValueError):
        return ()
    is_complete = len(str(schedule["cronExpression"]).split()) > _FIELDS
    return list(itertools.islice(times, number)) if is_complete else ()


def schedule_changes(registered: Mapping[str, Any], schedule: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the changes to the schedule on a server, which adds fields of its own."""
    old = {key: registered.get(key) for key in schedule}
    if isinstance(old["startWorkflowRequest"], Mapping):
        request = {key: old["startWorkflowRequest"].get(key) for key in schedule["startWorkflowRequest"]}
        if "workflowDef" in request:
            launcher = schedule["startWorkflowRequest"]["workflowDef"]
            request["workflowDef"] = declared_part(request["workflowDef"], launcher)
        old["startWorkflowRequest"] = request
    reason = "later runs have it"
    return tuple(
        Change(difference.path, difference.old, difference.new, Impact.COMPATIBLE, reason)
        for difference in json_differences(old, schedule)
    )


def removed_schedule(registered: Mapping[str, Any]) -> Change:
    """Return the change of a schedule that its workflow no longer declares."""
    reason = "it still starts workflows; remove it with: perago register --prune"
    return Change("/cronExpression", registered.get("cronExpression"), ABSENT, Impact.COMPATIBLE, reason)
