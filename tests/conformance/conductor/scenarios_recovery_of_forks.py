"""Forks that fail, end or pause, and are retried, rerun and restarted.

No step that fails is named by a join: on a real server it is a matter of luck whether the join sees the failure first.
Nor does a step fail right after another has ended: the join is looked at then, and later ever more seldom.
"""

from __future__ import annotations

from ..rest import Rest
from ..scenario import Declared, to
from .operators import dynamic_fork, fork, join
from .workflows import NO_RETRIES, ONE_RETRY_OF_B, Json, StartedWorkflow, on, start_types, step

TWO_BY_TWO = fork([step("a", "a1"), step("a", "a2")], [step("b", "b1"), step("b", "b2")])
LAST = step("a", "last", inputParameters={"joined": "${join.output}"})
"""A step that reads the output of the JOIN."""


def _completed(rest: Rest, *tasks: Json) -> StartedWorkflow:
    """A completed workflow of these tasks, which are of two types."""
    on = start_types(rest, *tasks, types=NO_RETRIES)
    with rest.unnoted():
        while on.at_rest()["status"] == "RUNNING":
            for row in on.rows():
                if row["status"] == "SCHEDULED":
                    on.run(task=row["taskType"], outputData={"of": row["referenceTaskName"]})
    return on


def _one_by_one(rest: Rest) -> StartedWorkflow:
    """A completed workflow with the branches `a` and `b` of one step each, and a step after their JOIN."""
    return _completed(rest, fork([step("a", "a")], [step("b", "b")]), join("a", "b"), LAST)


def _dynamic(rest: Rest, *before: str) -> StartedWorkflow:
    """A completed workflow: steps, a dynamic fork of `a` and `b`, and a step that reads the output of the JOIN."""
    first = [step("a", reference) for reference in before]
    return _completed(rest, *first, dynamic_fork(step("a", "a"), step("b", "b")), join(), LAST)


SCENARIOS: Declared = {
    # A retry in a branch is no matter for the join, which waits for the last steps.
    "a_step_is_retried_on_the_way_to_its_join": to(
        start_types,
        TWO_BY_TWO,
        join("a2", "b2"),
        step("a", "last", inputParameters={"j": "${join.output}", "f": "${fork.status}", "a": "${a2.output.n}"}),
        types=ONE_RETRY_OF_B,
    )(
        on.run(outputData={"n": 1}),
        on.noted.fail("b"),
        on.run(task="b"),
        on.run(task="b"),
        on.noted.run(outputData={"n": 2}),
        on.noted.run(),
    ),
    # A retry makes new attempts of what failed and of what was cancelled, and no others; so does a second one.
    "a_failed_branch_cancels_its_siblings_until_a_retry": to(
        start_types,
        fork([step("a", "a1")], [step("b", "b1")], [step("b", "b2"), step("b", "b3")]),
        join("b1", "b3"),
        step("a", "last"),
        types=NO_RETRIES,
    )(
        on.noted.run(task="b", outputData={"n": 1}),
        on.take(),
        on.fail("b"),
        on.note_all(without=("join",)),
        on.retry(),
        on.note_all(without=("join",)),
        on.run(),
        on.note_all(without=("join",)),
        on.fail("b"),
        on.note_all(without=("join",)),
        on.retry(),
        on.run(task="b"),
        on.run(task="b"),
        on.noted.await_row("last"),
        on.noted.run(),
    ),
    # A rerun from a step of a branch removes the rows of the other branches that came later.
    "a_rerun_of_one_branch_drops_the_others": to(
        start_types, TWO_BY_TWO, join("a2", "b2"), step("a", "last"), types=NO_RETRIES
    )(
        on.run(),
        on.run(),
        on.fail("b"),
        on.note_all(without=("join",)),
        on.noted.rerun(on.taken(1)),
        on.run(),
        on.noted.run(),
        on.noted.evaluate(),
    ),
    # The JOIN waits for the second branch, which has no row.
    "a_rerun_of_the_first_of_two_branches": to(_one_by_one)(on.rerun(on.row("a")), on.noted.run()),
    # The row of the retry is after that of the JOIN, which stays COMPLETED. The step after the JOIN was removed and is
    # not scheduled again: the workflow is RUNNING, and nothing is open.
    "a_rerun_of_a_branch_that_had_a_retry": to(
        start_types,
        fork([step("a", "a", permissive=True)], [step("b", "b", permissive=True)]),
        join("a", "b"),
        step("a", "last"),
        types=ONE_RETRY_OF_B,
    )(
        on.fail("b"),
        on.run(task="b"),
        on.run(),
        on.run(),
        on.settle("COMPLETED"),
        on.rerun(on.row("b")),
        on.noted.run(task="b"),
        on.noted.evaluate(),
    ),
    # The row of a second step is after that of the JOIN, too: the workflow is RUNNING, and nothing is open.
    "a_rerun_of_the_second_step_of_a_branch": to(
        _completed, fork([step("a", "a1"), step("a", "a2")], [step("b", "b")]), join("a2", "b"), step("a", "last")
    )(on.rerun(on.row("a2")), on.noted.run()),
    # A worker that cancels its task terminates the workflow, which a retry brings back.
    "a_branch_is_cancelled_by_its_worker": to(
        start_types, fork([step("a", "a1")], [step("b", "b1"), step("b", "b2")]), join("b2"), types=NO_RETRIES
    )(
        on.run("CANCELED", reasonForIncompletion="boo"),
        on.note_all(without=("join",)),
        on.retry(),
        on.note_all(without=("join",)),
    ),
    # A retry after a termination makes new attempts of the open steps, and the join waits for them.
    "a_terminated_fork_is_retried": to(
        start_types, fork([step("a", "a1"), step("a", "a2")], [step("b", "b1")]), join("a2", "b1"), types=NO_RETRIES
    )(on.run(), on.noted.terminate("enough"), on.noted.retry(), on.run(), on.noted.run(task="b")),
    # After a rerun of a branch the join is passed as it was.
    "a_rerun_of_a_branch_of_a_completed_fork": to(
        start_types, fork([step("a", "a1")], [step("b", "b1")]), join("a1", "b1"), step("a", "last"), types=NO_RETRIES
    )(
        on.run(outputData={"n": 1}),
        on.run(task="b", outputData={"n": 1}),
        on.noted.run(),
        on.noted.rerun(on.taken(2)),
        on.noted.run(task="b", outputData={"n": 2}),
        on.noted.evaluate(),
    ),
    # In a paused workflow branches end, and nothing follows in them until it is resumed.
    "a_paused_fork": to(
        start_types, fork([step("a", "a1"), step("a", "a2")], [step("b", "b1")]), join("a2", "b1"), types=NO_RETRIES
    )(on.pause(), on.run(), on.noted.run(task="b"), on.noted.resume(), on.noted.run()),
    # A restart begins with new rows, and the old ones are gone.
    "a_restarted_fork": to(start_types, fork([step("a", "a1")], [step("b", "b1")]), join("b1"), types=NO_RETRIES)(
        on.fail(), on.noted.restart(), on.read_task(on.taken(1)), on.run(), on.noted.run(task="b")
    ),
    # What follows a join need not wait for a branch that the join does not name; the end of the workflow must.
    "a_branch_that_no_join_names": to(
        start_types, fork([step("a", "a1")], [step("b", "b1")]), join("a1"), step("a", "last"), types=NO_RETRIES
    )(on.noted.run(), on.noted.run(), on.noted.run(task="b")),
    # A fork that no join follows cannot be run.
    "a_fork_without_its_join_is_started": to(
        start_types, fork([step("a", "a1")]), step("a", "last"), types={"a": {"retryCount": 0}}
    )(on.note_all()),
    # The row of the fork stays SCHEDULED, and nothing is open.
    "a_rerun_from_the_row_of_a_fork": to(_one_by_one)(on.noted.rerun(on.row("fork")), on.noted.evaluate()),
    # A retry copies that row after a termination. The copy stays SCHEDULED, too; a restart works.
    "a_retry_after_a_rerun_from_the_row_of_a_fork": to(_one_by_one)(
        on.rerun(on.row("fork")),
        on.noted.terminate("enough"),
        on.noted.retry(),
        on.noted.evaluate(),
        on.terminate("enough"),
        on.noted.restart(),
    ),
    # The row of the JOIN stays SCHEDULED, although every branch has ended.
    "a_rerun_from_the_row_of_a_join": to(_one_by_one)(
        on.rerun(on.row("join")),
        on.note_all(without=("join",)),
        on.evaluate(),
        on.note_all(without=("join",)),
        on.rest.note("the status of the JOIN", on.row("join")["status"]),
    ),
    # The JOIN is scheduled again without the names of the branches. It waits for none, puts out nothing, and the
    # workflow completes without the second branch.
    "a_rerun_of_a_branch_of_a_dynamic_fork_at_the_beginning": to(_dynamic)(
        on.noted.rerun(on.row("a")), on.run(), on.noted.await_row("last"), on.run(), on.noted.settle("COMPLETED")
    ),
    # The JOIN is not scheduled again: the workflow is RUNNING, and nothing is open.
    "a_rerun_of_a_branch_of_a_dynamic_fork_after_a_step": to(_dynamic, "before")(
        on.noted.rerun(on.row("b")), on.run(task="b"), on.noted.evaluate()
    ),
    # The server makes a new row of the fork and of each branch, and the workflow continues from there.
    "a_rerun_from_the_row_of_a_dynamic_fork": to(_dynamic, "before")(
        on.noted.rerun(on.row("fork")),
        on.run(outputData={"n": 1}),
        on.run(task="b", outputData={"n": 2}),
        on.noted.await_row("last"),
    ),
    # A JOIN fails before the last step of the other branch has a row, because the workflow is paused. A retry is then
    # a 500, and a restart works.
    "a_join_that_failed_before_all_branches_began": to(
        start_types, fork([step("a", "a")], [step("b", "b1"), step("b", "b2")]), join("a", "b2"), types=NO_RETRIES
    )(
        on.pause(),
        on.fail(),
        on.await_row("join", "FAILED"),
        on.resume(),
        on.noted.settle("FAILED"),
        on.noted.retry(),
        on.noted.restart(),
    ),
}
