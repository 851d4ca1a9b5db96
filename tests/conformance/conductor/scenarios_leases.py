"""Signs of life and IN_PROGRESS results.

A sign of life extends the lease of a task. An IN_PROGRESS result gives the task away and is no sign of life.
"""

from __future__ import annotations

from typing import Any

from ..scenario import Declared, each, scenario_with, to
from .workflows import StartedWorkflow, on, one_step, start_steps, two_steps


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
    on.rest.get("/tasks/{task}/log", task=before["taskId"])


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


HANDED_BACK: dict[str, dict[str, Any]] = {
    # A delay of 0 is none.
    "a_delay_of_nothing": {"callbackAfterSeconds": 0},
    # Delays are whole seconds.
    "a_delay_with_a_fraction": {"callbackAfterSeconds": 30.9},
    # A numeric text is a delay.
    "a_delay_that_is_a_text": {"callbackAfterSeconds": "30"},
    # A delay of null is none.
    "a_delay_of_null": {"callbackAfterSeconds": None},
    # A reason given with IN_PROGRESS is kept.
    "in_progress_has_a_reason": {"reasonForIncompletion": "not yet"},
    # A word is no delay, and the result is refused.
    "a_delay_that_is_a_word": {"callbackAfterSeconds": "soon"},
}


@scenario_with(start_steps)
def a_task_is_given_away(on: StartedWorkflow) -> None:
    """An IN_PROGRESS result makes the task SCHEDULED: anybody may have it at once, with the same id."""
    first = on.take("w1")
    on.update(first, "IN_PROGRESS", outputData={"a": 1})
    on.read()
    on.rest.sleep(0.02)
    second = on.take("w2")
    on.rest.note("the same task", second["taskId"] == first["taskId"])
    on.rest.note("the same start", second["startTime"] == first["startTime"])
    on.rest.note("polls", second["pollCount"])
    on.read()


SCENARIOS: Declared = {
    # A lease is extended without a status.
    "no_status_is_needed": one_step(on.update(on.take(), None, extendLease=True), on.read()),
    # A lease never tells that the task was lost.
    "for_an_ended_task": one_step(on.update(on.run(), None, extendLease=True), on.read()),
    # The lease of an old attempt changes nothing.
    "for_an_old_attempt": one_step(on.update(on.run("FAILED"), None, extendLease=True), on.read()),
    # Nobody looks at the workflow of a lease.
    "under_an_unknown_workflow": one_step(
        on.update({"taskId": on.take()["taskId"], "workflowInstanceId": "unknown"}, None, extendLease=True)
    ),
    # A task is given back by a result with these fields.
    **each(HANDED_BACK, lambda case: one_step(on.update(on.take(), "IN_PROGRESS", **case), on.read())),
    # With `callbackAfterSeconds` the task is not handed out before.
    "a_task_is_given_away_later": one_step(
        on.update(on.take("w1"), "IN_PROGRESS", callbackAfterSeconds=1),
        on.read(),
        on.poll("w2"),
        on.rest.sleep(1.2),
        on.poll("w2"),
    ),
    # The size of the queue counts a task that is parked.
    "a_parked_task_counts_as_queued": one_step(
        on.finish(on.take(), "IN_PROGRESS", callbackAfterSeconds=60), on.queue_size()
    ),
    # A delay below zero is accepted, and never passes.
    "a_negative_delay": one_step(
        on.update(on.take(), "IN_PROGRESS", callbackAfterSeconds=-5),
        on.read(),
        on.rest.sleep(1.2),
        on.poll("w2"),
        on.reset_callbacks(),
        on.decide(),
        on.poll("w2"),
        on.queue_size(),
    ),
    # The poll timeout goes on for a task with a delay below zero.
    "a_negative_delay_is_no_shelter": to(start_steps, {"pollTimeoutSeconds": 2, "timeoutPolicy": "TIME_OUT_WF"})(
        on.finish(on.take(), "IN_PROGRESS", callbackAfterSeconds=-1), on.wait(2.2), on.read()
    ),
    # An ended task is not revived.
    "in_progress_for_an_ended_task": two_steps(on.update(on.run(), "IN_PROGRESS"), on.read()),
    # A task that nobody polled stays in the queue.
    "in_progress_for_a_task_that_was_never_polled": one_step(
        on.update(on.row("r0"), "IN_PROGRESS", callbackAfterSeconds=0), on.read(), on.poll()
    ),
    # A reset of callbacks makes a parked task pollable at once.
    "a_parked_task_is_reset": one_step(
        on.finish(on.take(), "IN_PROGRESS", callbackAfterSeconds=30), on.reset_callbacks(), on.poll("w2")
    ),
    # A lease never tells that the workflow has ended.
    "for_a_terminated_workflow": one_step(
        on.take(), on.silent.terminate(), on.update(on.taken(1), None, extendLease=True)
    ),
    # The lease of an unknown task is a 404.
    "for_an_unknown_task": one_step(
        on.update({"taskId": "unknown", "workflowInstanceId": on.id}, None, extendLease=True)
    ),
    # A task whose lease is extended in time is not timed out.
    "a_lease_keeps_a_task_alive": to(start_steps, {"responseTimeoutSeconds": 1})(
        on.take(), on.rest.sleep(0.7), on.finish(on.taken(1), None, extendLease=True), on.wait(0.6), on.read()
    ),
    # A lease does not extend `timeoutSeconds`.
    "a_lease_cannot_beat_the_timeout": to(
        start_steps, {"timeoutSeconds": 1, "responseTimeoutSeconds": 1, "timeoutPolicy": "RETRY"}
    )(on.take(), on.rest.sleep(0.6), on.update(on.taken(1), None, extendLease=True), on.wait(0.6), on.read()),
    # Another result without a delay below zero queues the task again; an extended lease does not.
    "a_negative_delay_is_taken_back": one_step(
        on.take(),
        on.update_v2(on.taken(1), "IN_PROGRESS", callbackAfterSeconds=-1),
        on.update(on.taken(1), "IN_PROGRESS", extendLease=True),
        on.poll("w2"),
        on.finish(on.taken(1), "IN_PROGRESS"),
        on.poll("w2"),
        on.read(),
    ),
    # Who gave a task away can still complete it; the new holder's result is swallowed.
    "the_previous_holder_can_finish": one_step(
        on.take("w1"),
        on.finish(on.taken(1), "IN_PROGRESS"),
        on.take("w2"),
        on.update(on.taken(1), "COMPLETED", workerId="w1", outputData={"by": "w1"}),
        on.update(on.taken(2), "COMPLETED", workerId="w2", outputData={"by": "w2"}),
        on.read(),
    ),
    # Who gave a task away can still fail it, and a new attempt is made.
    "the_previous_holder_can_fail": one_step(
        on.take("w1"),
        on.finish(on.taken(1), "IN_PROGRESS"),
        on.take("w2"),
        on.update(on.taken(1), "FAILED", workerId="w1", reasonForIncompletion="boo"),
        on.read(),
    ),
    # A result ends a parked task at once.
    "a_parked_task_can_be_completed": one_step(
        on.take(),
        on.finish(on.taken(1), "IN_PROGRESS", callbackAfterSeconds=60),
        on.update(on.taken(1), "COMPLETED"),
        on.read(),
        on.queue_size(),
    ),
}
