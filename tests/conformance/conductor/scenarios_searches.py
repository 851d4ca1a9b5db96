"""Searching for tasks: what the index has, and what its terms mean."""

from __future__ import annotations

import time
from typing import Any

from ..rest import Rest
from ..scenario import scenario
from .workflows import PATIENCE_SECONDS, StartedWorkflow, start_steps

_TOLD = ("status", "input", "output", "workflowPriority", "reasonForIncompletion")


def _search(rest: Rest, query: str, **options: Any) -> dict[str, Any]:
    with rest.unnoted():
        found: dict[str, Any] = rest.call("GET", "/tasks/search", query={"query": query, **options}).json
    return found


def _indexed(rest: Rest, query: str, number: int) -> dict[str, Any]:
    """The index is written beside the task, a moment later."""
    limit = time.monotonic() + PATIENCE_SECONDS
    while (found := _search(rest, query))["totalHits"] < number and time.monotonic() < limit:
        time.sleep(0.05)
    return found


def _name(on: StartedWorkflow) -> str:
    return str(on.row("r0")["taskDefName"])


@scenario
def only_tasks_that_have_ended_are_found(rest: Rest) -> None:
    """A waiting task is not in the index, a completed one is, with its input and output as Java's text of a map."""
    on = start_steps(rest)
    name = _name(on)
    rest.note("while it waits", _search(rest, f"taskType='{name}'")["totalHits"])
    on.run(outputData={"a": {"b": [1, None, True]}})
    found = _indexed(rest, f"taskType='{name}' AND status='COMPLETED'", 1)
    rest.note("fields", sorted(found["results"][0]))
    rest.note("told", {key: found["results"][0].get(key) for key in _TOLD})


@scenario
def terms_of_a_search_are_joined(rest: Rest) -> None:
    """Type, status, workflow and time, each with or without quotes."""
    on = start_steps(rest)
    name, workflow = _name(on), on.read()["workflowName"]
    on.run()
    _indexed(rest, f"taskType={name}", 1)
    for text in (
        f"taskType={name} AND workflowType='{workflow}'",
        f"taskType='{name}' AND status='FAILED'",
        f"taskType='{name}' AND updateTime>1000",
        f"taskType='{name}' AND updateTime>99999999999999",
        f"taskDefName={name}x",
    ):
        shown = text.replace(name, "TYPE").replace(workflow, "WORKFLOW")
        rest.note(shown, _search(rest, text, sort="updateTime:DESC", freeText="*")["totalHits"])


@scenario
def a_page_of_a_search(rest: Rest) -> None:
    """A page has at most so many results, from the given one on; the total counts all."""
    on = start_steps(rest)
    query = f"taskType='{_name(on)}'"
    on.run()
    _indexed(rest, query, 1)
    for start, size in ((0, 0), (0, 1), (1, 1)):
        found = _search(rest, query, start=start, size=size)
        rest.note(f"start {start}, size {size}", [found["totalHits"], len(found["results"])])
