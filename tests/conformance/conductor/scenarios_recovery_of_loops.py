"""Loops that fail or end, and are retried, rerun and restarted; and what stands inside of them then."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import Declared, scenario, to
from .operators import TWICE, fork, join, loop, switch
from .workflows import NO_RETRIES, StartedWorkflow, on, start, start_types, step, task_type


def _two_steps(rest: Rest, condition: str = TWICE) -> StartedWorkflow:
    """A loop over the steps `a1` and `a2`, and the step `last` of the same type after it, which has no retries."""
    a = task_type(rest, "a", retryCount=0)
    return start(rest, a, loop(condition, step(a, "a1"), step(a, "a2")), step(a, "last"))


def _one_step(rest: Rest) -> StartedWorkflow:
    """A loop over the step `a1`, and the step `last` of the same type after it, which has no retries."""
    a = task_type(rest, "a", retryCount=0)
    return start(rest, a, loop(TWICE, step(a, "a1")), step(a, "last"))


@scenario
def a_fork_and_a_switch_inside_of_a_loop(rest: Rest) -> None:
    """Each iteration has its own fork, join and switch, which sees the iteration; a retry in a branch stays in it."""
    a, b = task_type(rest, "a", retryCount=0), task_type(rest, "b", retryCount=1)
    cases = {"1": [step(a, "s1")]}
    by_iteration = {"case": "${loop.output.iteration}"}
    chosen = switch(cases, [step(a, "s2"), step(a, "s3")], inputParameters=by_iteration)
    forked = fork([step(a, "a1")], [step(b, "b1"), step(b, "b2")])
    on = start(rest, a, loop(TWICE, forked, join("a1", "b2"), chosen), step(a, "last"))
    on.note_all()
    on.run(outputData={"n": 1})
    on.fail(b)
    on.run(task=b)
    on.run(task=b, outputData={"n": 1})
    on.noted.run()
    on.run(task=b)
    on.run(task=b)
    on.run()
    on.noted.run()
    on.run()
    on.noted.run()


@scenario
def a_failed_fork_inside_of_a_loop_is_retried(rest: Rest) -> None:
    """A retry goes on in the branch. A busy server looks at the join only a minute later, so its end is not awaited."""
    a, b = task_type(rest, "a", retryCount=0), task_type(rest, "b", retryCount=0)
    forked = fork([step(a, "a1")], [step(b, "b1"), step(b, "b2")])
    on = start(rest, a, loop(TWICE, forked, join("a1", "b2")))
    on.noted.run()
    on.noted.fail(b)
    on.noted.retry()
    on.noted.run(task=b)


@scenario
def steps_see_their_iteration(rest: Rest) -> None:
    """Inputs in a loop tell the iteration of the loop and of a step, and the output of a step that comes later."""
    a, b = task_type(rest, "a", retryCount=0), task_type(rest, "b", retryCount=1)
    inside = {"last": "${b1.output}", "loop": "${loop.output.iteration}", "me": "${a1.iteration}"}
    after = step(a, "last", inputParameters={"q": "${loop.output}", "z": "${a1.output}", "i": "${a1.iteration}"})
    on = start(rest, a, loop(TWICE, step(a, "a1", inputParameters=inside), step(b, "b1")), after)
    on.note_all()
    on.run(outputData={"n": 1})
    on.fail(b)
    on.noted.run(task=b, outputData={"m": 1})
    on.run(outputData={"n": 2})
    on.noted.run(task=b)
    on.noted.run()


SCENARIOS: Declared = {
    # A retry goes on with the step that failed, in its iteration.
    "a_failed_iteration_of_two_steps_is_retried": to(_two_steps, "$.loop.iteration < 3").send(
        *[on.run(outputData={"n": 1})] * 3,
        on.noted.fail(),
        on.noted.retry(),
        *[on.run(outputData={"n": 2})] * 3,
        on.note_all(),
        on.noted.run(),
    ),
    # A retry after a termination goes on in the open iteration, and the loop ends as if nothing had happened.
    "a_terminated_loop_is_retried": to(_one_step).send(
        on.run(), on.noted.terminate(), on.noted.retry(), on.run(), on.noted.run()
    ),
    # A restart begins with the first iteration and new rows.
    "a_restarted_loop": to(_one_step).send(on.run(), on.fail(), on.noted.restart(), on.run(), on.noted.run()),
    # A rerun from a step of the iteration that failed keeps the iterations before.
    "a_rerun_within_the_last_iteration": to(_two_steps).send(
        on.run(),
        on.run(),
        on.run(),
        on.noted.fail(),
        on.noted.rerun(on.taken(3)),
        on.run(outputData={"n": 2}),
        on.noted.run(),
    ),
    # A rerun from an iteration before the one that failed.
    "a_rerun_from_an_earlier_iteration": to(_one_step).send(
        on.run(outputData={"n": 1}), on.fail(), on.noted.rerun(on.taken(1)), on.noted.run(outputData={"n": 2})
    ),
    # A rerun from a step of a loop that was completed, as was the workflow.
    "a_rerun_into_a_completed_loop": to(_one_step).send(
        on.run(), on.run(), on.run(), on.noted.rerun(on.taken(2)), on.noted.run(outputData={"n": 2})
    ),
    # A rerun from the loop begins with its first iteration, and keeps what came before.
    "a_rerun_of_the_loop_itself": to(
        start_types, step("a", "first"), loop(TWICE, step("a", "a1")), step("a", "last"), types={"a": {"retryCount": 0}}
    ).send(on.run(), on.run(), on.fail(), on.noted.rerun(on.row("loop")), on.run(), on.noted.run()),
    # A join waits for a loop as for any other step.
    "a_loop_as_a_branch_of_a_fork": to(
        start_types,
        fork([loop(TWICE, step("a", "a1"))], [step("b", "b1")]),
        join("loop", "b1"),
        step("a", "last"),
        types=NO_RETRIES,
    ).send(on.run(), on.run(task="b"), on.noted.run()),
    # The next iteration follows an optional step that failed.
    "an_optional_step_of_a_loop_fails": to(
        start_types, loop(TWICE, step("a", "a1", optional=True)), types={"a": {"retryCount": 0}}
    ).send(on.noted.fail(), on.noted.run()),
}
