"""IN_PROGRESS results: they give the task away and are no sign of life."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario_for_each, scenario_with
from .workflows import StartedWorkflow, start_steps

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


@scenario_for_each(HANDED_BACK)
def handed_back(rest: Rest, case: dict[str, Any]) -> None:
    """A task is given back by a result with these fields."""
    on = start_steps(rest)
    on.update(on.take(), "IN_PROGRESS", **case)
    on.read()


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


@scenario_with(start_steps)
def a_task_is_given_away_later(on: StartedWorkflow) -> None:
    """With `callbackAfterSeconds` the task is not handed out before."""
    on.update(on.take("w1"), "IN_PROGRESS", callbackAfterSeconds=1)
    on.read()
    on.poll("w2")
    on.rest.sleep(1.2)
    on.poll("w2")


@scenario_with(start_steps)
def a_parked_task_counts_as_queued(on: StartedWorkflow) -> None:
    """The size of the queue counts a task that is parked."""
    on.finish(on.take(), "IN_PROGRESS", callbackAfterSeconds=60)
    on.rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})


@scenario_with(start_steps)
def a_negative_delay(on: StartedWorkflow) -> None:
    """A delay below zero is accepted, and never passes."""
    on.update(on.take(), "IN_PROGRESS", callbackAfterSeconds=-5)
    on.read()
    on.rest.sleep(1.2)
    on.poll("w2")
    on.act("POST", "/workflow/{workflow}/resetcallbacks")
    on.decide()
    on.poll("w2")
    on.rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})


@scenario_with(start_steps)
def a_negative_delay_is_taken_back(on: StartedWorkflow) -> None:
    """Another result without a delay below zero queues the task again; an extended lease does not."""
    task = on.take()
    on.update_v2(task, "IN_PROGRESS", callbackAfterSeconds=-1)
    on.update(task, "IN_PROGRESS", extendLease=True)
    on.poll("w2")
    on.finish(task, "IN_PROGRESS")
    on.poll("w2")
    on.read()


@scenario_with(start_steps, {"pollTimeoutSeconds": 2, "timeoutPolicy": "TIME_OUT_WF"})
def a_negative_delay_is_no_shelter(on: StartedWorkflow) -> None:
    """The poll timeout goes on for a task with a delay below zero."""
    on.finish(on.take(), "IN_PROGRESS", callbackAfterSeconds=-1)
    on.wait(2.2)
    on.read()


@scenario_with(start_steps)
def the_previous_holder_can_finish(on: StartedWorkflow) -> None:
    """Who gave a task away can still complete it; the new holder's result is swallowed."""
    first = on.take("w1")
    on.finish(first, "IN_PROGRESS")
    second = on.take("w2")
    on.update(first, "COMPLETED", workerId="w1", outputData={"by": "w1"})
    on.update(second, "COMPLETED", workerId="w2", outputData={"by": "w2"})
    on.read()


@scenario_with(start_steps)
def the_previous_holder_can_fail(on: StartedWorkflow) -> None:
    """Who gave a task away can still fail it, and a new attempt is made."""
    first = on.take("w1")
    on.finish(first, "IN_PROGRESS")
    on.take("w2")
    on.update(first, "FAILED", workerId="w1", reasonForIncompletion="boo")
    on.read()


@scenario_with(start_steps)
def a_parked_task_can_be_completed(on: StartedWorkflow) -> None:
    """A result ends a parked task at once."""
    task = on.take()
    on.finish(task, "IN_PROGRESS", callbackAfterSeconds=60)
    on.update(task, "COMPLETED")
    on.read()
    on.rest.call("GET", "/tasks/queue/size", query={"taskType": on.task})


@scenario_with(start_steps, steps=2)
def in_progress_for_an_ended_task(on: StartedWorkflow) -> None:
    """An ended task is not revived."""
    on.update(on.run(), "IN_PROGRESS")
    on.read()


@scenario_with(start_steps)
def in_progress_for_a_task_that_was_never_polled(on: StartedWorkflow) -> None:
    """A task that nobody polled stays in the queue."""
    on.update(on.row("r0"), "IN_PROGRESS", callbackAfterSeconds=0)
    on.read()
    on.poll()


@scenario_with(start_steps)
def a_parked_task_is_reset(on: StartedWorkflow) -> None:
    """A reset of callbacks makes a parked task pollable at once."""
    on.finish(on.take(), "IN_PROGRESS", callbackAfterSeconds=30)
    on.act("POST", "/workflow/{workflow}/resetcallbacks")
    on.poll("w2")
