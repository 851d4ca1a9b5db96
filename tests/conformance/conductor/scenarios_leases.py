"""Extending the lease of a task: signs of life."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .workflows import start_steps


@scenario
def only_the_update_time_moves(rest: Rest) -> None:
    """With `extendLease` everything else in the result is ignored, even that it is completed."""
    on = start_steps(rest)
    before = on.take()
    rest.sleep(0.02)
    logs = [{"log": "line", "taskId": before["taskId"], "createdTime": 1}]
    on.update(before, "COMPLETED", extendLease=True, outputData={"a": 1}, workerId="w9", logs=logs)
    after = on.row("r0")
    rest.note("the update is later", after["updateTime"] > before["updateTime"])
    rest.note("what changed", sorted(key for key in before if before[key] != after.get(key)))
    on.read()
    rest.call("GET", "/tasks/{task}/log", task=before["taskId"])


@scenario
def no_status_is_needed(rest: Rest) -> None:
    """A lease is extended without a status."""
    on = start_steps(rest)
    on.update(on.take(), None, extendLease=True)
    on.read()


@scenario
def for_an_ended_task(rest: Rest) -> None:
    """A lease never tells that the task was lost."""
    on = start_steps(rest)
    on.update(on.run(), None, extendLease=True)
    on.read()


@scenario
def for_an_old_attempt(rest: Rest) -> None:
    """The lease of an old attempt changes nothing."""
    on = start_steps(rest)
    on.update(on.run("FAILED"), None, extendLease=True)
    on.read()


@scenario
def for_a_terminated_workflow(rest: Rest) -> None:
    """A lease never tells that the workflow has ended."""
    on = start_steps(rest)
    task = on.take()
    with rest.unnoted():
        on.act("DELETE", "/workflow/{workflow}")
    on.update(task, None, extendLease=True)


@scenario
def for_an_unknown_task(rest: Rest) -> None:
    """The lease of an unknown task is a 404."""
    on = start_steps(rest)
    on.update({"taskId": "unknown", "workflowInstanceId": on.id}, None, extendLease=True)


@scenario
def under_an_unknown_workflow(rest: Rest) -> None:
    """Nobody looks at the workflow of a lease."""
    on = start_steps(rest)
    on.update({**on.take(), "workflowInstanceId": "unknown"}, None, extendLease=True)


@scenario
def for_a_task_that_was_never_polled(rest: Rest) -> None:
    """A task that waits in the queue can be given a lease; it still waits."""
    on = start_steps(rest)
    before = on.row("r0")
    rest.sleep(0.02)
    on.update(before, None, extendLease=True)
    rest.note("the update is later", on.row("r0")["updateTime"] > before["updateTime"])
    on.read()
    on.poll()


@scenario
def by_the_previous_holder(rest: Rest) -> None:
    """The lease of one who gave the task away moves the new holder's time."""
    on = start_steps(rest)
    first = on.take("w1")
    on.finish(first, "IN_PROGRESS")
    second = on.take("w2")
    rest.sleep(0.02)
    on.update(first, None, extendLease=True)
    rest.note("the update is later", on.row("r0")["updateTime"] > second["updateTime"])
    on.read()


@scenario
def a_lease_keeps_a_task_alive(rest: Rest) -> None:
    """A task whose lease is extended in time is not timed out."""
    on = start_steps(rest, {"responseTimeoutSeconds": 1})
    task = on.take()
    rest.sleep(0.7)
    on.finish(task, None, extendLease=True)
    on.wait(0.6)
    on.read()


@scenario
def a_lease_cannot_beat_the_timeout(rest: Rest) -> None:
    """A lease does not extend `timeoutSeconds`."""
    on = start_steps(rest, {"timeoutSeconds": 1, "responseTimeoutSeconds": 1, "timeoutPolicy": "RETRY"})
    task = on.take()
    rest.sleep(0.6)
    on.update(task, None, extendLease=True)
    on.wait(0.6)
    on.read()
