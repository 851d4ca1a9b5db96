"""Loops that fail or end, and are retried, rerun and restarted; and what stands inside of them then."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import Declared, to
from .operators import TWICE, fork, join, loop, switch
from .workflows import NO_RETRIES, ONE_RETRY_OF_B, StartedWorkflow, on, start_types, step

FORKED = fork([step("a", "a1")], [step("b", "b1"), step("b", "b2")])


def _looping(rest: Rest, *references: str, condition: str = TWICE) -> StartedWorkflow:
    """A loop over these steps, and the step `last` of the same type after it, which has no retries."""
    body = (step("a", reference) for reference in references)
    return start_types(rest, loop(condition, *body), step("a", "last"), types={"a": {"retryCount": 0}})


SCENARIOS: Declared = {
    # Each iteration has its own fork, join and switch, which sees the iteration; a retry in a branch stays in it.
    "a_fork_and_a_switch_inside_of_a_loop": to(
        start_types,
        loop(
            TWICE,
            FORKED,
            join("a1", "b2"),
            switch(
                {"1": [step("a", "s1")]},
                [step("a", "s2"), step("a", "s3")],
                inputParameters={"case": "${loop.output.iteration}"},
            ),
        ),
        step("a", "last"),
        types=ONE_RETRY_OF_B,
    )(
        on.note_all(),
        on.run(outputData={"n": 1}),
        on.fail("b"),
        on.run(task="b"),
        on.run(task="b", outputData={"n": 1}),
        on.noted.run(),
        on.run(task="b"),
        on.run(task="b"),
        on.run(),
        on.noted.run(),
        on.run(),
        on.noted.run(),
    ),
    # A retry goes on in the branch. A busy server looks at the join only a minute later, so its end is not awaited.
    "a_failed_fork_inside_of_a_loop_is_retried": to(
        start_types, loop(TWICE, FORKED, join("a1", "b2")), types=NO_RETRIES
    )(on.noted.run(), on.noted.fail("b"), on.noted.retry(), on.noted.run(task="b")),
    # Inputs in a loop tell the iteration of the loop and of a step, and the output of a step that comes later.
    "steps_see_their_iteration": to(
        start_types,
        loop(
            TWICE,
            step(
                "a",
                "a1",
                inputParameters={"last": "${b1.output}", "loop": "${loop.output.iteration}", "me": "${a1.iteration}"},
            ),
            step("b", "b1"),
        ),
        step("a", "last", inputParameters={"q": "${loop.output}", "z": "${a1.output}", "i": "${a1.iteration}"}),
        types=ONE_RETRY_OF_B,
    )(
        on.note_all(),
        on.run(outputData={"n": 1}),
        on.fail("b"),
        on.noted.run(task="b", outputData={"m": 1}),
        on.run(outputData={"n": 2}),
        on.noted.run(task="b"),
        on.noted.run(),
    ),
    # A retry goes on with the step that failed, in its iteration.
    "a_failed_iteration_of_two_steps_is_retried": to(_looping, "a1", "a2", condition="$.loop.iteration < 3")(
        *[on.run(outputData={"n": 1})] * 3,
        on.noted.fail(),
        on.noted.retry(),
        *[on.run(outputData={"n": 2})] * 3,
        on.note_all(),
        on.noted.run(),
    ),
    # A retry after a termination goes on in the open iteration, and the loop ends as if nothing had happened.
    "a_terminated_loop_is_retried": to(_looping, "a1")(
        on.run(), on.noted.terminate(), on.noted.retry(), on.run(), on.noted.run()
    ),
    # A restart begins with the first iteration and new rows.
    "a_restarted_loop": to(_looping, "a1")(on.run(), on.fail(), on.noted.restart(), on.run(), on.noted.run()),
    # A rerun from a step of the iteration that failed keeps the iterations before.
    "a_rerun_within_the_last_iteration": to(_looping, "a1", "a2")(
        on.run(),
        on.run(),
        on.run(),
        on.noted.fail(),
        on.noted.rerun(on.taken(3)),
        on.run(outputData={"n": 2}),
        on.noted.run(),
    ),
    # A rerun from an iteration before the one that failed.
    "a_rerun_from_an_earlier_iteration": to(_looping, "a1")(
        on.run(outputData={"n": 1}), on.fail(), on.noted.rerun(on.taken(1)), on.noted.run(outputData={"n": 2})
    ),
    # A rerun from a step of a loop that was completed, as was the workflow.
    "a_rerun_into_a_completed_loop": to(_looping, "a1")(
        on.run(), on.run(), on.run(), on.noted.rerun(on.taken(2)), on.noted.run(outputData={"n": 2})
    ),
    # A rerun from the loop begins with its first iteration, and keeps what came before.
    "a_rerun_of_the_loop_itself": to(
        start_types, step("a", "first"), loop(TWICE, step("a", "a1")), step("a", "last"), types={"a": {"retryCount": 0}}
    )(on.run(), on.run(), on.fail(), on.noted.rerun(on.row("loop")), on.run(), on.noted.run()),
    # A join waits for a loop as for any other step.
    "a_loop_as_a_branch_of_a_fork": to(
        start_types,
        fork([loop(TWICE, step("a", "a1"))], [step("b", "b1")]),
        join("loop", "b1"),
        step("a", "last"),
        types=NO_RETRIES,
    )(on.run(), on.run(task="b"), on.noted.run()),
    # The next iteration follows an optional step that failed.
    "an_optional_step_of_a_loop_fails": to(
        start_types, loop(TWICE, step("a", "a1", optional=True)), types={"a": {"retryCount": 0}}
    )(on.noted.fail(), on.noted.run()),
}
