"""Recoveries of a workflow that work, and those that leave it RUNNING for good, read from its JSON.

Conductor accepts reruns that lose rows of a fork or a loop. docs/how-to/fork-and-join.md has the table of recoveries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perago.conductor_json import every_step
from perago.ports import ENDED_WORKFLOWS

Json = Mapping[str, Any]
_UNSUCCESSFUL = ("FAILED", "FAILED_WITH_TERMINAL_ERROR", "TIMED_OUT", "CANCELED")
_FORKS = ("FORK", "FORK_JOIN")
_STUCK = {
    **dict.fromkeys(("JOIN", "EXCLUSIVE_JOIN"), "a JOIN"),
    **dict.fromkeys(_FORKS, "a static fork"),
    **dict.fromkeys(("SWITCH", "DECISION"), "a SWITCH"),
}
"""The types of rows that stay SCHEDULED when they are run again, in words."""
_STAYS_RUNNING = "the workflow would stay RUNNING for good"
_ROUND = re.compile(r"__\d+\Z")
_VARIABLE = re.compile(r"\$\{workflow\.variables\.(\w+)")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why Conductor should not be asked for a recovery, and the commands that work instead."""

    problem: str
    fix: str


@dataclass(frozen=True, slots=True)
class _Place:
    """The place of a step in the definition: its fork, the steps of its branch, and whether that is the last one."""

    step: Json
    fork: Json | None = None
    depth: int = 0
    is_last: bool = True
    siblings: int = 1
    loop: bool = False


def retry_refusal(workflow: Json) -> Refusal | None:
    """Return why a retry of the failed steps does not work, or None."""
    workflow_id = workflow["workflowId"]
    advice = f"run every step again: perago rerun {workflow_id}"
    if (refusal := _not_ended(workflow, "retried")) is not None:
        return refusal
    if workflow["status"] == "COMPLETED":
        return Refusal("it has completed, so there is no failed step to retry", advice)
    rows = workflow["tasks"]
    newest = {row["referenceTaskName"]: row for row in rows}
    if workflow["status"] != "TIMED_OUT" and not any(row["status"] in _UNSUCCESSFUL for row in newest.values()):
        ending = next((name for name, row in newest.items() if row["taskType"] == "TERMINATE"), None)
        problem = "none of its steps has failed" if ending is None else f"its step {ending} ended it on purpose"
        return Refusal(problem, advice)
    for row in newest.values():
        if row["taskType"] in _FORKS and row["status"] in _UNSUCCESSFUL:  # ended after a rerun from it
            problem = f"{row['referenceTaskName']} is a fork, whose new row would stay SCHEDULED: {_STAYS_RUNNING}"
            return Refusal(problem, advice)
    for join in newest.values():
        missing = _unreadable_join(join, newest)
        if missing is not None:
            problem = f"JOIN {join['referenceTaskName']} has failed, and its step {missing} has no attempt of that name"
            return Refusal(f"{problem}, so Conductor cannot find the step to retry", advice)
    return None


def _unreadable_join(join: Json, newest: Mapping[str, Json]) -> str | None:
    """Return the step of a FAILED JOIN that Conductor looks for in vain before it finds the permissive step."""
    if join["taskType"] != "JOIN" or join["status"] != "FAILED":
        return None
    for name in join.get("inputData", {}).get("joinOn") or ():
        row = newest.get(name)
        if row is None:
            return str(name)
        if (row.get("workflowTask") or {}).get("permissive") and row["status"] == "FAILED":
            return None
    return None


def permissive_retries(workflow: Json) -> Sequence[str]:
    """Return the steps whose next attempt Conductor gives no retries and no timeouts, because they are permissive."""
    newest = {row["referenceTaskName"]: row for row in workflow["tasks"]}
    joined = {name for row in newest.values() for name in (row.get("inputData") or {}).get("joinOn") or ()}
    return [
        name
        for name, row in newest.items()
        if name in joined and row["status"] in _UNSUCCESSFUL and (row.get("workflowTask") or {}).get("permissive")
    ]


def revived_by(workflow: Json, row: Json) -> Sequence[str]:
    """Return the steps before an attempt whose retried attempts Conductor delivers again with a rerun from there."""
    before = (other for other in workflow["tasks"] if other["seq"] < row["seq"] and other["status"] in _UNSUCCESSFUL)
    names = dict.fromkeys(str(other["referenceTaskName"]) for other in before)
    return [name for name in names if name != row["referenceTaskName"]]


def attempt_of(workflow: Json, step: str) -> Json | None:
    """Return the attempt of a workflow with this task id, or the last one of the step of this reference name."""
    rows = reversed(workflow["tasks"])
    return next((row for row in rows if step in (row["taskId"], row["referenceTaskName"])), None)


def rerun_refusal(workflow: Json, row: Json | None) -> Refusal | None:
    """Return why a rerun from an attempt does not work, or None. Without an attempt it is about all steps."""
    if (refusal := _not_ended(workflow, "run again")) is not None:
        return refusal
    if row is None:
        return None
    problem = _rerun_problem(workflow, row)
    return None if problem is None else Refusal(problem, "; or ".join(_ways(workflow, row)))


def _rerun_problem(workflow: Json, row: Json) -> str | None:
    name, kind = row["referenceTaskName"], row["taskType"]
    place = _places(workflow).get(_step_name(row))
    if place is None:
        return f"{name} is in a branch of a dynamic fork, and a rerun removes the JOIN of the fork"
    if place.loop:
        return f"{name} is in a loop, which would not continue after a rerun of one of its steps: {_STAYS_RUNNING}"
    is_dynamic = place.step.get("type") == "FORK_JOIN_DYNAMIC"
    if kind in _STUCK and not (is_dynamic and place.fork is None):
        return f"{name} is {_STUCK[kind]}, whose row would stay SCHEDULED: {_STAYS_RUNNING}"
    if kind == "SUB_WORKFLOW":
        return f"{name} is a sub-workflow, and Conductor would not run the steps after it again"
    if (stale := _stale_variable(workflow, row)) is not None:
        loop, variable = stale
        return f"{loop} would begin with the workspace of its last round, because Conductor keeps variable {variable}"
    if place.fork is None:
        return None
    fork = f"fork {place.fork['taskReferenceName']}"
    if place.depth > 1:
        return f"{name} is in a fork inside {fork}, and the JOIN of {fork} would wait for rows that a rerun removes"
    if not place.is_last:
        removed = f"a rerun removes the rows of later branches: {_STAYS_RUNNING}"
        return f"{name} is not in the last branch of {fork}, and {removed}"
    retried = sum(other["referenceTaskName"] == name for other in workflow["tasks"]) > 1
    if place.siblings > 1 or retried or kind in ("DO_WHILE", "FORK"):
        return f"{name} was scheduled after the JOIN of {fork}, which would not run again: {_STAYS_RUNNING}"
    if (later := _begun_later(workflow, row, place.fork)) is not None:
        return f"{later} of {fork} was scheduled after {name}, and a rerun removes its row: {_STAYS_RUNNING}"
    return None


def _stale_variable(workflow: Json, row: Json) -> tuple[str, str] | None:
    """Return a loop that a rerun from an attempt begins again, and a variable that its last round has set and whose
    workspace its first round would get. No step of the rerun sets the variable before the loop."""
    completed = {_step_name(other) for other in workflow["tasks"] if other["status"] == "COMPLETED"}
    is_again, set_before = False, set[str]()
    for step in (workflow.get("workflowDefinition") or {}).get("tasks") or ():
        names = {inner["taskReferenceName"] for inner in every_step([step])}
        is_again |= _step_name(row) in names
        rounds = list(every_step(step.get("loopOver") or ()))
        workspaces = [(inner.get("inputParameters") or {}).get("workspace") for inner in rounds]
        used = set(_VARIABLE.findall(json.dumps(workspaces))) - set_before
        stale = used & _variables(inner for inner in rounds if inner["taskReferenceName"] in completed)
        if is_again and stale:
            return str(step["taskReferenceName"]), min(stale)
        if is_again:
            set_before |= _variables(every_step([step]))
    return None


def _variables(steps: Iterable[Json]) -> set[str]:
    """Return the workflow variables that steps set."""
    return {name for step in steps if step.get("type") == "SET_VARIABLE" for name in step.get("inputParameters") or ()}


def _begun_later(workflow: Json, row: Json, fork: Json) -> str | None:
    """Return a step of another branch of a fork whose first attempt was scheduled after `row`."""
    inside = {step["taskReferenceName"] for branch in fork["forkTasks"] for step in every_step(branch)}
    begun = {other["referenceTaskName"]: int(other["seq"]) for other in reversed(workflow["tasks"])}
    return next((name for name, seq in begun.items() if name in inside and seq > int(row["seq"])), None)


def _not_ended(workflow: Json, done: str) -> Refusal | None:
    if workflow["status"] in ENDED_WORKFLOWS:
        return None
    problem = f"it is {workflow['status']}, and only a workflow that has ended can be {done}"
    return Refusal(problem, f"end it first: perago terminate {workflow['workflowId']}")


def _ways(workflow: Json, row: Json) -> Iterator[str]:
    """Yield the recoveries that work instead, the one that repeats the fewest steps first."""
    workflow_id = workflow["workflowId"]
    outside = {name for name, place in _places(workflow).items() if place.fork is None}
    if workflow["status"] != "COMPLETED" and retry_refusal(workflow) is None:
        yield f"retry the failed steps: perago retry {workflow_id}"
    earlier = [
        other["referenceTaskName"]
        for other in workflow["tasks"]
        if other["seq"] < row["seq"] and _rerun_problem(workflow, other) is None and _step_name(other) in outside
    ]
    if earlier:
        yield f"begin at {earlier[-1]}: perago rerun {workflow_id} --from {earlier[-1]}"
    yield f"run every step again: perago rerun {workflow_id}"


def _step_name(row: Json) -> str:
    """Return the reference name in the definition: without the number of the round of a loop."""
    declared = (row.get("workflowTask") or {}).get("taskReferenceName")
    name = str(row["referenceTaskName"])
    return str(declared) if declared and _ROUND.sub("", name) == declared else name


def _places(workflow: Json) -> dict[str, _Place]:
    steps = (workflow.get("workflowDefinition") or {}).get("tasks") or ()
    return {place.step["taskReferenceName"]: place for place in _placed(steps, _Place({}))}


def _placed(steps: Sequence[Json], around: _Place) -> Iterator[_Place]:
    for step in steps:
        place = replace(around, step=step)
        yield place
        branches = step.get("forkTasks") or ()
        for number, branch in enumerate(branches):
            is_last, fork = number == len(branches) - 1, place.fork or step
            inner = replace(place, fork=fork, depth=place.depth + 1, is_last=is_last, siblings=len(branch))
            yield from _placed(branch, inner)
        for case in (*(step.get("decisionCases") or {}).values(), step.get("defaultCase") or ()):
            # The steps of a case are scheduled after the JOIN of a fork that is around the switch.
            yield from _placed(case, replace(place, siblings=2))
        yield from _placed(step.get("loopOver") or (), replace(place, siblings=2, loop=True))
