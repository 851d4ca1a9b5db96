"""Extending the lease of a task: signs of life."""

from __future__ import annotations

from collections.abc import Callable

from ..rest import Rest
from ..scenario import scenario_for_each, scenario_with
from .workflows import Json, StartedWorkflow, start_steps


@scenario_with(start_steps)
def only_the_update_time_moves(on: StartedWorkflow) -> None:
    """With `extendLease` everything else in the result is ignored, even that it is completed."""
    before = on.take()
    on.rest.sleep(0.02)
    logs = [{"log": "line", "taskId": before["taskId"], "createdTime": 1}]
    on.update(before, "COMPLETED", extendLease=True, outputData={"a": 1}, workerId="w9", logs=logs)
    after = on.row("r0")
    on.rest.note("the update is later", after["updateTime"] > before["updateTime"])
    on.rest.note("what changed", sorted(key for key in before if before[key] != after.get(key)))
    on.read()
    on.rest.call("GET", "/tasks/{task}/log", task=before["taskId"])


TAKEN: dict[str, Callable[[StartedWorkflow], Json]] = {
    # A lease is extended without a status.
    "no_status_is_needed": lambda on: on.take(),
    # A lease never tells that the task was lost.
    "for_an_ended_task": lambda on: on.run(),
    # The lease of an old attempt changes nothing.
    "for_an_old_attempt": lambda on: on.run("FAILED"),
}


@scenario_for_each(TAKEN)
def attempts(rest: Rest, case: Callable[[StartedWorkflow], Json]) -> None:
    """Extend the lease of this attempt."""
    on = start_steps(rest)
    on.update(case(on), None, extendLease=True)
    on.read()


@scenario_with(start_steps)
def for_a_terminated_workflow(on: StartedWorkflow) -> None:
    """A lease never tells that the workflow has ended."""
    task = on.take()
    with on.rest.unnoted():
        on.act("DELETE", "/workflow/{workflow}")
    on.update(task, None, extendLease=True)


@scenario_with(start_steps)
def for_an_unknown_task(on: StartedWorkflow) -> None:
    """The lease of an unknown task is a 404."""
    on.update({"taskId": "unknown", "workflowInstanceId": on.id}, None, extendLease=True)


@scenario_with(start_steps)
def under_an_unknown_workflow(on: StartedWorkflow) -> None:
    """Nobody looks at the workflow of a lease."""
    on.update({**on.take(), "workflowInstanceId": "unknown"}, None, extendLease=True)


@scenario_with(start_steps)
def for_a_task_that_was_never_polled(on: StartedWorkflow) -> None:
    """A task that waits in the queue can be given a lease; it still waits."""
    before = on.row("r0")
    on.rest.sleep(0.02)
    on.update(before, None, extendLease=True)
    on.rest.note("the update is later", on.row("r0")["updateTime"] > before["updateTime"])
    on.read()
    on.poll()


@scenario_with(start_steps)
def by_the_previous_holder(on: StartedWorkflow) -> None:
    """The lease of one who gave the task away moves the new holder's time."""
    first = on.take("w1")
    on.finish(first, "IN_PROGRESS")
    second = on.take("w2")
    on.rest.sleep(0.02)
    on.update(first, None, extendLease=True)
    on.rest.note("the update is later", on.row("r0")["updateTime"] > second["updateTime"])
    on.read()


@scenario_with(start_steps, {"responseTimeoutSeconds": 1})
def a_lease_keeps_a_task_alive(on: StartedWorkflow) -> None:
    """A task whose lease is extended in time is not timed out."""
    task = on.take()
    on.rest.sleep(0.7)
    on.finish(task, None, extendLease=True)
    on.wait(0.6)
    on.read()


@scenario_with(start_steps, {"timeoutSeconds": 1, "responseTimeoutSeconds": 1, "timeoutPolicy": "RETRY"})
def a_lease_cannot_beat_the_timeout(on: StartedWorkflow) -> None:
    """A lease does not extend `timeoutSeconds`."""
    task = on.take()
    on.rest.sleep(0.6)
    on.update(task, None, extendLease=True)
    on.wait(0.6)
    on.read()
