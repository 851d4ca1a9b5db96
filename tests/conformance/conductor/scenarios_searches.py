"""Searching for tasks and workflows: what the index has, and what its terms mean."""

from __future__ import annotations

import time
from typing import Any

from ..rest import Rest
from ..scenario import scenario, scenario_with
from .workflows import PATIENCE_SECONDS, StartedWorkflow, start_registered, start_steps

_TOLD = ("status", "input", "output", "workflowPriority", "reasonForIncompletion")


def _search(rest: Rest, query: str, where: str = "/tasks/search", **options: Any) -> dict[str, Any]:
    with rest.unnoted():
        found: dict[str, Any] = rest.call("GET", where, query={"query": query, **options}).json
    return found


def _indexed(rest: Rest, query: str, number: int, where: str = "/tasks/search") -> dict[str, Any]:
    """The index is written beside the task, a moment later."""
    limit = time.monotonic() + PATIENCE_SECONDS
    while (found := _search(rest, query, where))["totalHits"] < number and time.monotonic() < limit:
        time.sleep(0.05)
    return found


def _name(on: StartedWorkflow) -> str:
    return str(on.row("r0")["taskDefName"])


@scenario_with(start_steps)
def only_tasks_that_have_ended_are_found(on: StartedWorkflow) -> None:
    """A waiting task is not in the index, a completed one is, with its input and output as Java's text of a map."""
    name = _name(on)
    on.rest.note("while it waits", _search(on.rest, f"taskType='{name}'")["totalHits"])
    on.run(outputData={"a": {"b": [1, None, True]}})
    found = _indexed(on.rest, f"taskType='{name}' AND status='COMPLETED'", 1)
    on.rest.note("fields", sorted(found["results"][0]))
    on.rest.note("told", {key: found["results"][0].get(key) for key in _TOLD})


@scenario_with(start_steps)
def terms_of_a_search_are_joined(on: StartedWorkflow) -> None:
    """Type, status, workflow and time, each with or without quotes."""
    name, workflow = _name(on), on.read()["workflowName"]
    on.run()
    _indexed(on.rest, f"taskType={name}", 1)
    for text in (
        f"taskType={name} AND workflowType='{workflow}'",
        f"taskType='{name}' AND status='FAILED'",
        f"taskType='{name}' AND updateTime>1000",
        f"taskType='{name}' AND updateTime>99999999999999",
        f"taskDefName={name}x",
    ):
        shown = text.replace(name, "TYPE").replace(workflow, "WORKFLOW")
        on.rest.note(shown, _search(on.rest, text, sort="updateTime:DESC", freeText="*")["totalHits"])


@scenario_with(start_steps)
def a_page_of_a_search(on: StartedWorkflow) -> None:
    """A page has at most so many results, from the given one on; the total counts all."""
    query = f"taskType='{_name(on)}'"
    on.run()
    _indexed(on.rest, query, 1)
    for start, size in ((0, 0), (0, 1), (1, 1)):
        found = _search(on.rest, query, start=start, size=size)
        on.rest.note(f"start {start}, size {size}", [found["totalHits"], len(found["results"])])


_WORKFLOWS = "/workflow/search"
_SAID = ("status", "input", "output", "inputSize", "failedReferenceTaskNames", "failedTaskNames", "priority", "version")


def _told(found: dict[str, Any]) -> dict[str, Any]:
    return {key: found["results"][0].get(key) for key in _SAID}


@scenario_with(start_steps, task={"retryCount": 0})
def workflows_are_found_while_they_run_and_afterwards(on: StartedWorkflow) -> None:
    """A summary has what failed, and input and output as Java's text of a map."""
    name = on.read()["workflowName"]
    running = _indexed(on.rest, f"workflowType='{name}' AND status='RUNNING'", 1, _WORKFLOWS)
    on.rest.note("fields while it runs", sorted(running["results"][0]))
    on.rest.note("while it runs", _told(running))
    on.run(status="FAILED", reasonForIncompletion="bad 'row'")
    failed = _indexed(on.rest, f"workflowType='{name}' AND status='FAILED'", 1, _WORKFLOWS)
    on.rest.note("fields of one that failed", sorted(failed["results"][0]))
    on.rest.note("one that failed", _told(failed))
    on.rest.note(
        "still running", _search(on.rest, f"workflowType='{name}' AND status='RUNNING'", _WORKFLOWS)["totalHits"]
    )


@scenario_with(start_steps)
def workflows_are_found_by_their_names_and_times(on: StartedWorkflow) -> None:
    """By name, its beginning, correlation id and start; a term that none of them has finds nothing."""
    found = on.read()
    name, started = found["workflowName"], found["startTime"]
    body = {"name": name, "version": 1, "correlationId": f"of {name}"}
    with on.rest.unnoted():
        on.rest.call("POST", "/workflow", json=body)
    _indexed(on.rest, f"workflowType='{name}'", 2, _WORKFLOWS)
    for text in (
        f"workflowType='{name[:-2]}*'",
        f"workflowType='*{name[2:]}'",
        f"correlationId='of {name}'",
        f"correlationId='of {name}' AND status='RUNNING'",
        f"correlationId='{name}'",
        f"workflowType='{name}' AND startTime>{started - 1}",
        f"workflowType='{name}' AND startTime<{started}",
        f"workflowType='{name}' AND startTime>{started - 1} AND startTime<{started + 600_000}",
    ):
        shown = text.replace(name, "NAME").replace(name[:-2], "NAM").replace(name[2:], "AME")
        for number, word in ((started - 1, "BEFORE"), (started + 600_000, "LATER"), (started, "START")):
            shown = shown.replace(str(number), word)
        on.rest.note(shown, _search(on.rest, text, _WORKFLOWS)["totalHits"])


@scenario
def the_newest_workflows_come_first(rest: Rest) -> None:
    """By their start; a page has at most so many results, from the given one on; the total counts all."""
    ons = [start_steps(rest)]
    name = ons[0].read()["workflowName"]
    for _ in range(2):
        time.sleep(0.002)  # the order of one millisecond is not defined
        ons.append(start_registered(rest, ons[0].task, ons[0].workflow))
    query = f"workflowType='{name}'"
    _indexed(rest, query, 3, _WORKFLOWS)
    ids = [on.id for on in ons]
    for start, size in ((0, 2), (2, 2), (0, 0)):
        found = _search(rest, query, _WORKFLOWS, start=start, size=size, sort="startTime:DESC", freeText="*")
        places = [ids.index(one["workflowId"]) for one in found["results"]]
        rest.note(f"start {start}, size {size}", [found["totalHits"], places])


@scenario_with(start_steps)
def the_versions_of_a_workflow(on: StartedWorkflow) -> None:
    """The lowest first; none of an unknown name."""
    with on.rest.unnoted():
        definition = on.rest.call("GET", "/metadata/workflow/{name}", name=on.workflow).json
    on.rest.call("POST", "/metadata/workflow", json={**definition, "version": 3, "createTime": 0, "updateTime": 0})
    on.rest.call("GET", "/metadata/workflow/{name}/versions", name=on.workflow)
    on.rest.call("GET", "/metadata/workflow/{name}/versions", name=on.rest.name("unknown"))
