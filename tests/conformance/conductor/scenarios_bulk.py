"""Calls for many workflows at once."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .workflows import start_registered, start_steps


@scenario
def pausing_and_resuming(rest: Rest) -> None:
    """What succeeded and what did not is told by id."""
    on = start_steps(rest)
    other = start_registered(rest, on.task, on.workflow)
    rest.call("PUT", "/workflow/bulk/pause", json=[on.id, other.id])
    on.read(query={"includeTasks": "false"})
    rest.call("PUT", "/workflow/bulk/resume", json=[on.id, other.id])
    on.read(query={"includeTasks": "false"})


@scenario
def an_unknown_one_among_them(rest: Rest) -> None:
    """A mistake with one does not keep the others."""
    on = start_steps(rest)
    rest.call("PUT", "/workflow/bulk/pause", json=["unknown", on.id])


@scenario
def resuming_what_is_not_paused(rest: Rest) -> None:
    """A workflow that is not paused is told as a mistake."""
    rest.call("PUT", "/workflow/bulk/resume", json=[start_steps(rest).id])


@scenario
def terminating(rest: Rest) -> None:
    """All are terminated with the same reason."""
    on = start_steps(rest)
    other = start_registered(rest, on.task, on.workflow)
    rest.call("POST", "/workflow/bulk/terminate", query={"reason": "over"}, json=[on.id, other.id])
    other.read()


@scenario
def terminating_what_has_ended(rest: Rest) -> None:
    """A completed workflow is told as a mistake."""
    on = start_steps(rest)
    on.run()
    rest.call("POST", "/workflow/bulk/terminate", json=[on.id])


@scenario
def retrying(rest: Rest) -> None:
    """All are retried."""
    on = start_steps(rest, {"retryCount": 0})
    on.run("FAILED", reasonForIncompletion="boo")
    rest.call("POST", "/workflow/bulk/retry", json=[on.id])
    on.read()


@scenario
def restarting(rest: Rest) -> None:
    """All are restarted."""
    on = start_steps(rest)
    on.run()
    rest.call("POST", "/workflow/bulk/restart", json=[on.id])
    on.read()


@scenario
def restarting_what_runs(rest: Rest) -> None:
    """A running workflow is told as a mistake."""
    rest.call("POST", "/workflow/bulk/restart", json=[start_steps(rest).id])


@scenario
def nothing_at_all(rest: Rest) -> None:
    """An empty list is refused."""
    rest.call("PUT", "/workflow/bulk/pause", json=[])
