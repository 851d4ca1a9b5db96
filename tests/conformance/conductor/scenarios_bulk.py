"""Calls for many workflows at once."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario, scenario_for_each, scenario_with
from .workflows import StartedWorkflow, start_registered, start_steps


@scenario_with(start_steps)
def pausing_and_resuming(on: StartedWorkflow) -> None:
    """What succeeded and what did not is told by id."""
    other = start_registered(on.rest, on.task, on.workflow)
    on.rest.call("PUT", "/workflow/bulk/pause", json=[on.id, other.id])
    on.read(query={"includeTasks": "false"})
    on.rest.call("PUT", "/workflow/bulk/resume", json=[on.id, other.id])
    on.read(query={"includeTasks": "false"})


@scenario_with(start_steps)
def an_unknown_one_among_them(on: StartedWorkflow) -> None:
    """A mistake with one does not keep the others."""
    on.rest.call("PUT", "/workflow/bulk/pause", json=["unknown", on.id])


MISTAKES = {"resuming_what_is_not_paused": ("PUT", "resume"), "restarting_what_runs": ("POST", "restart")}


@scenario_for_each(MISTAKES)
def mistakes(rest: Rest, case: tuple[str, str]) -> None:
    """A workflow for which the action makes no sense is reported as a mistake."""
    method, action = case
    rest.call(method, f"/workflow/bulk/{action}", json=[start_steps(rest).id])


@scenario_with(start_steps)
def terminating(on: StartedWorkflow) -> None:
    """All are terminated with the same reason."""
    other = start_registered(on.rest, on.task, on.workflow)
    on.rest.call("POST", "/workflow/bulk/terminate", query={"reason": "over"}, json=[on.id, other.id])
    other.read()


@scenario_with(start_steps)
def terminating_what_has_ended(on: StartedWorkflow) -> None:
    """A completed workflow is told as a mistake."""
    on.run()
    on.rest.call("POST", "/workflow/bulk/terminate", json=[on.id])


@scenario_with(start_steps, {"retryCount": 0})
def retrying(on: StartedWorkflow) -> None:
    """All are retried."""
    on.run("FAILED", reasonForIncompletion="boo")
    on.rest.call("POST", "/workflow/bulk/retry", json=[on.id])
    on.read()


@scenario_with(start_steps)
def restarting(on: StartedWorkflow) -> None:
    """All are restarted."""
    on.run()
    on.rest.call("POST", "/workflow/bulk/restart", json=[on.id])
    on.read()


@scenario
def nothing_at_all(rest: Rest) -> None:
    """An empty list is refused."""
    rest.call("PUT", "/workflow/bulk/pause", json=[])
