"""FORK_JOIN and JOIN."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import Declared, scenario, to
from .operators import fork, join
from .workflows import Json, StartedWorkflow, on, start_types, step

TRIES = 5
"""A real server's join, which looks about every 50 ms, may see the failure before its retry, and then fails."""


NO_RETRY = {"retryCount": 0}
BOTH: dict[str, Json] = {"left": {}, "right": {}}


def _two(rest: Rest, *, left: Json | None = None, last: Json | None = None) -> StartedWorkflow:
    """A fork of the branches `a` (of type `left`) and `b` (of type `right`), and a step after their join."""
    tasks = fork([step("left", "a")], [step("right", "b")]), join("a", "b"), step("task", "last", **(last or {}))
    return start_types(rest, *tasks, types={"left": left or {}, "right": {}, "task": {}})


def _has_output_of_a(workflow: Json) -> bool:
    """Whether the join has seen the branch `a`."""
    return any("a" in row["outputData"] for row in workflow["tasks"])


def _skip_in_a_branch(rest: Rest, reference: str) -> StartedWorkflow:
    """The first branch of a fork is `a`, `b`, `c`, the second `d`; the join waits for `c` and `d`."""
    branches = [step("task", name) for name in "abc"], [step("task", "d")]
    on = start_types(rest, fork(*branches), join("c", "d"), step("task", "last"))
    on.act("PUT", "/workflow/{workflow}/skiptask/{reference}", reference=reference)
    for _ in range(3):
        on.run()
    return on


@scenario
def a_branch_is_retried(rest: Rest) -> None:
    """A failed branch is retried while its sibling goes on, unless the join looks at it in the wrong moment."""
    for _ in range(TRIES):
        on = _two(rest)
        on.fail("left")
        rest.sleep(0.2)
        if on.row("b")["status"] == "SCHEDULED":
            break
    on.note("a", "b")


SCENARIOS: Declared = {
    # One branch is not enough for a join, which puts out what there is.
    "a_join_waits": to(_two)(on.run(task="left", outputData={"by": "a"}), on.until(_has_output_of_a), on.read()),
    # When all branches have ended the join puts out their outputs, and what comes next is scheduled.
    "a_join_is_done": to(_two, last={"inputParameters": {"joined": "${join.output}", "a": "${a.output.by}"}})(
        on.run(task="right", outputData={"by": "b"}),
        on.run(task="left", outputData={"by": "a"}),
        on.await_row("last"),
        on.read(),
    ),
    # The steps of a branch follow each other.
    "a_branch_of_two_steps": to(
        start_types, fork([step("left", "a1"), step("left", "a2")], [step("right", "b")]), join("a2", "b"), types=BOTH
    )(
        on.run(),
        on.read(),
        on.run(),
        on.decide(),
        on.run(task="right"),
        on.settle("COMPLETED"),
        on.note("a1", "a2", "join"),
    ),
    # When a branch fails for good, the open tasks of its siblings are cancelled.
    "a_branch_fails": to(_two, left=NO_RETRY)(
        on.take(task="right"), on.fail("left"), on.settle("FAILED"), on.note("a", "b")
    ),
    # A retry of the workflow makes new attempts of what failed and of what was cancelled.
    "a_failed_fork_is_retried": to(_two, left=NO_RETRY)(
        on.take(task="right"), on.run("FAILED", task="left"), on.settle("FAILED"), on.retry(), on.note("a", "b")
    ),
    # After a retry a fork is joined as if nothing had happened.
    "a_retried_fork_completes": to(_two, left=NO_RETRY)(
        on.run(task="right", outputData={"by": "b"}),
        on.run("FAILED", task="left"),
        on.settle("FAILED"),
        on.silent.retry(),
        on.run(task="left", outputData={"by": "a"}),
        on.await_row("last"),
        on.note("a", "b", "last"),
    ),
    # A join does not mind an optional branch that failed.
    "an_optional_branch_fails": to(
        start_types,
        fork([step("left", "a", optional=True)], [step("right", "b")]),
        join("a", "b"),
        types={"left": NO_RETRY, "right": {}},
    )(on.fail(), on.decide(), on.run(task="right"), on.settle("COMPLETED"), on.note("a", "join")),
    # A fork that has the list of its join, as conductor-python sends it, keeps the list and ignores it.
    "a_fork_with_a_list_of_its_own": to(
        start_types, fork([step("task", "a")], [step("task", "b")], joinOn=["b"]), join("a", "b"), step("task", "last")
    )(on.rest.get("/metadata/workflow/{name}", name=on.workflow), on.run(), on.run(), on.noted.await_row("last")),
    # A fork schedules the first task of every branch, and its join.
    "branches_are_scheduled_together": to(_two)(on.read()),
    # A step that was skipped on the way to the end of a branch is no obstacle to the join.
    "a_join_after_a_skipped_step": to(_skip_in_a_branch, "b")(on.await_row("join", "COMPLETED"), on.read()),
    # A join that waits for a step that was skipped by hand never ends.
    "a_join_of_a_skipped_step": to(_skip_in_a_branch, "c")(on.wait(1), on.read()),
    # A termination cancels all branches and the join.
    "a_fork_is_terminated": to(_two)(on.silent.terminate("over"), on.read()),
}
