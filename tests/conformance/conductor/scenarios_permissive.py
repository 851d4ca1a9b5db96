"""Steps with `permissive`: their failure does not end the workflow, which fails later.

A step that fails for good is never the last open branch. The real server reads the rows of a JOIN without a lock, so it
might see the failure before the decision about it.
"""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import Declared, scenario_for_each, to
from .operators import TWICE, dynamic_fork, fork, join, loop, system_task
from .workflows import NO_RETRIES, Json, StartedWorkflow, on, start_types, step


def _permissive(task: str, reference: str, **fields: Any) -> Json:
    return step(task, reference, permissive=True, **fields)


ONE_RETRY_OF_A: dict[str, Json] = {"a": {"retryCount": 1}, "b": {"retryCount": 0}}
NO_RETRY_OF_A: dict[str, Json] = {"a": {"retryCount": 0}}
FORKED = (
    fork([_permissive("a", "a")], [_permissive("b", "b")]),
    join("a", "b"),
    step("b", "last", inputParameters={"joined": "${join.output}"}),
)
"""A fork of two permissive steps, its JOIN, and a step after it that reads the output of the JOIN."""


def _retried(rest: Rest, **of_first: int) -> StartedWorkflow:
    """A fork of which the first branch failed for good, and was retried by hand. `of_first` changes its task type."""
    on = start_types(rest, *FORKED, types={"a": {"retryCount": 3, **of_first}, "b": {}})
    on.run("FAILED_WITH_TERMINAL_ERROR", reasonForIncompletion="boo")
    on.run(task="b")
    on.await_end()
    on.at_rest()
    on.retry()
    return on


EARLY: dict[str, tuple[bool, bool]] = {
    "a_plain_join_sees_a_failure_before_its_retry": (False, False),
    "a_permissive_join_waits_for_the_retry": (True, False),
    "a_permissive_join_sees_a_failure_when_nothing_else_is_open": (True, True),
}


@scenario_for_each(EARLY)
def failures_before_their_retry(rest: Rest, case: tuple[bool, bool]) -> None:
    """A failed attempt has no retry while the workflow is paused. A JOIN that sees the attempt then fails, unless the
    step is permissive and another branch is open. In a running workflow the retry follows milliseconds later."""
    permissive, last_open = case
    branches = [step("a", "a", permissive=permissive)], [step("b", "b", permissive=permissive)]
    on = start_types(rest, fork(*branches), join("a", "b"), step("b", "last"), types=ONE_RETRY_OF_A)
    if last_open:
        on.run(task="b")
    on.pause()
    on.fail()
    if permissive and not last_open:
        on.wait(1)
    else:
        on.until(
            lambda workflow: any(row["status"] == "FAILED" for row in workflow["tasks"] if row["taskType"] == "JOIN")
        )
    on.note_all()
    on.noted.resume()


SCENARIOS: Declared = {
    # Permissive steps of a dynamic fork do the same. It is luck whether the JOIN ends before the step `b` is marked as
    # executed.
    "a_branch_of_a_dynamic_fork_fails_for_good": to(
        start_types,
        dynamic_fork(_permissive("a", "a"), _permissive("b", "b")),
        join(),
        step("b", "last"),
        types=NO_RETRIES,
    )(
        on.noted.run("FAILED_WITH_TERMINAL_ERROR", reasonForIncompletion="boo"),
        on.run(task="b", outputData={"n": 2}),
        on.await_end(),
        on.note_all(without=("b",)),
    ),
    # The failure of the branch that is not permissive ends the workflow.
    "a_permissive_and_a_plain_branch_fail": to(
        start_types,
        fork([_permissive("a", "a")], [step("b", "b1"), step("b", "b2")]),
        join("a", "b2"),
        types=NO_RETRIES,
    )(on.fail(), on.run("FAILED", task="b", reasonForIncompletion="hoo"), on.note_all(without=("join",))),
    # After a permissive failure in the middle of a branch, the next step starts with null input. The JOIN and the step
    # after it complete. Only then does the workflow fail.
    "a_step_in_the_middle_of_a_branch": to(
        start_types,
        fork([_permissive("a", "a1"), step("b", "a2", inputParameters={"n": "${a1.output.n}"})], [step("b", "b")]),
        join("a2", "b"),
        step("b", "last"),
        types=NO_RETRIES,
    )(
        on.noted.fail(),
        on.run(task="b"),
        on.run(task="b"),
        on.noted.await_row("last"),
        on.run(task="b"),
        on.noted.await_end(),
    ),
    # A retry is a 500, because the server looks for the steps of the JOIN without the number of their iteration.
    "a_join_of_a_loop_that_has_failed": to(
        start_types,
        loop(TWICE, fork([step("a", "a")], [step("b", "b")]), join("a", "b")),
        step("b", "last"),
        types=ONE_RETRY_OF_A,
    )(on.pause(), on.fail(), on.await_row("join__1", "FAILED"), on.resume(), on.noted.await_end(), on.noted.retry()),
    # The JOIN waits while an attempt of a permissive step is retried.
    "a_branch_is_retried": to(start_types, *FORKED, types=ONE_RETRY_OF_A)(
        on.noted.fail(),
        on.run(outputData={"n": 1}),
        on.run(task="b", outputData={"n": 2}),
        on.noted.await_row("last"),
        on.noted.run(task="b"),
    ),
    # The other branch continues. When it has ended, the JOIN fails, and so does the workflow.
    "a_branch_fails_for_good": to(start_types, *FORKED, types=NO_RETRIES)(
        on.noted.fail(), on.run(task="b", outputData={"n": 2}), on.noted.await_end()
    ),
    # The JOIN gives both reasons.
    "both_branches_fail_for_good": to(start_types, *FORKED, types=NO_RETRIES)(
        on.fail(), on.run("FAILED", task="b", reasonForIncompletion="hoo"), on.noted.await_end()
    ),
    # A canceled permissive step makes the JOIN CANCELED, which terminates the workflow.
    "a_branch_is_cancelled_by_its_worker": to(start_types, *FORKED, types=NO_RETRIES)(
        on.noted.run("CANCELED", reasonForIncompletion="boo"), on.run(task="b"), on.noted.await_end("TERMINATED")
    ),
    # The next step starts with null input. The workflow fails at the moment at which it would complete.
    "a_step_outside_of_a_fork": to(
        start_types, _permissive("a", "a"), step("b", "b", inputParameters={"n": "${a.output.n}"}), types=NO_RETRIES
    )(on.noted.fail(), on.run(task="b"), on.noted.await_end()),
    # A TERMINATE task cannot complete a workflow in which a permissive step failed.
    "a_termination_after_a_permissive_failure": to(
        start_types,
        _permissive("a", "a"),
        system_task("TERMINATE", "end", terminationStatus="COMPLETED"),
        types=NO_RETRY_OF_A,
    )(on.fail(), on.noted.await_end()),
    # A step that is optional, too, does not fail the workflow.
    "an_optional_permissive_step": to(
        start_types, _permissive("a", "a", optional=True), step("a", "last"), types=NO_RETRY_OF_A
    )(on.fail(), on.run(), on.noted.settle("COMPLETED")),
    # A retry makes a new attempt of the failed step only, and the JOIN waits again in its own row.
    "a_failed_fork_is_retried": to(start_types, *FORKED, types=NO_RETRIES)(
        on.fail(),
        on.run(task="b", outputData={"n": 2}),
        on.await_end(),
        on.at_rest(),
        on.retry(),
        on.note_all(without=("join",)),
        on.run(),
        on.note_all(without=("join", "last")),
    ),
    # The new attempt counts as decided from its beginning. So the server does not retry it, and the workflow fails.
    "an_attempt_after_a_retry_by_hand_fails": to(_retried)(
        on.run("FAILED", reasonForIncompletion="hoo"), on.await_end(), on.note_all(without=("join",))
    ),
    # The response timeout of the new attempt never fires.
    "an_attempt_after_a_retry_by_hand_is_silent": to(_retried, responseTimeoutSeconds=1)(
        on.take(), on.wait(2), on.note_all(without=("join",))
    ),
    # In a loop, a permissive failure ends the loop and the workflow without waiting for the other branch.
    "a_branch_in_a_loop_fails_for_good": to(
        start_types,
        loop(TWICE, fork([_permissive("a", "a")], [_permissive("b", "b")]), join("a", "b")),
        step("b", "last"),
        types=NO_RETRIES,
    )(on.fail(), on.await_end(), on.note_all(without=("join__1",))),
}
