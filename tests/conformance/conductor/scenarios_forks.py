"""FORK_JOIN and JOIN."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import Declared, scenario, scenario_with, to
from .operators import fork, join
from .workflows import Json, StartedWorkflow, on, start, step, task_type

TRIES = 5
"""A real server's join, which looks about every 50 ms, may see the failure before its retry, and then fails."""


def _two(
    rest: Rest, *, left: Json | None = None, right: Json | None = None, last: Json | None = None
) -> StartedWorkflow:
    """A fork of the branches `a` (of type `left`) and `b` (of type `right`), and a step after their join."""
    one, two, after = (
        task_type(rest, "left", **(left or {})),
        task_type(rest, "right", **(right or {})),
        task_type(rest),
    )
    tasks = (fork([step(one, "a")], [step(two, "b")]), join("a", "b"), step(after, "last", **(last or {})))
    return start(rest, after, *tasks)


def _await_output(on: StartedWorkflow, *references: str) -> None:
    """Wait until the join has seen these branches."""
    on.until(lambda workflow: any(row["outputData"].keys() >= set(references) for row in workflow["tasks"]))


def _type(on: StartedWorkflow, reference: str) -> str:
    found: str = on.row(reference)["taskType"]
    return found


def _skip_in_a_branch(rest: Rest, reference: str) -> StartedWorkflow:
    """The first branch of a fork is `a`, `b`, `c`, the second `d`; the join waits for `c` and `d`."""
    task = task_type(rest)
    branches = [step(task, "a"), step(task, "b"), step(task, "c")], [step(task, "d")]
    on = start(rest, task, fork(*branches), join("c", "d"), step(task, "last"))
    on.act("PUT", "/workflow/{workflow}/skiptask/{reference}", reference=reference)
    for _ in range(3):
        on.run()
    return on


@scenario_with(_two)
def a_join_waits(on: StartedWorkflow) -> None:
    """One branch is not enough for a join, which puts out what there is."""
    on.run(task=_type(on, "a"), outputData={"by": "a"})
    _await_output(on, "a")
    on.read()


@scenario_with(_two, last={"inputParameters": {"joined": "${join.output}", "a": "${a.output.by}"}})
def a_join_is_done(on: StartedWorkflow) -> None:
    """When all branches have ended the join puts out their outputs, and what comes next is scheduled."""
    on.run(task=_type(on, "b"), outputData={"by": "b"})
    on.run(task=_type(on, "a"), outputData={"by": "a"})
    on.await_row("last")
    on.read()


@scenario
def a_branch_of_two_steps(rest: Rest) -> None:
    """The steps of a branch follow each other."""
    one, two = task_type(rest, "left"), task_type(rest, "right")
    on = start(rest, one, fork([step(one, "a1"), step(one, "a2")], [step(two, "b")]), join("a2", "b"))
    on.run()
    on.read()
    on.run()
    on.decide()
    on.run(task=two)
    on.settle("COMPLETED")
    on.note("a1", "a2", "join")


@scenario_with(_two, left={"retryCount": 0})
def a_branch_fails(on: StartedWorkflow) -> None:
    """When a branch fails for good, the open tasks of its siblings are cancelled."""
    on.take(task=_type(on, "b"))
    on.run("FAILED", task=_type(on, "a"), reasonForIncompletion="boo")
    on.settle("FAILED")
    on.note("a", "b")


@scenario
def a_branch_is_retried(rest: Rest) -> None:
    """A failed branch is retried while its sibling goes on, unless the join looks at it in the wrong moment."""
    for _ in range(TRIES):
        on = _two(rest)
        on.run("FAILED", task=_type(on, "a"), reasonForIncompletion="boo")
        rest.sleep(0.2)
        if on.row("b")["status"] == "SCHEDULED":
            break
    on.note("a", "b")


@scenario_with(_two, left={"retryCount": 0})
def a_failed_fork_is_retried(on: StartedWorkflow) -> None:
    """A retry of the workflow makes new attempts of what failed and of what was cancelled."""
    on.take(task=_type(on, "b"))
    on.run("FAILED", task=_type(on, "a"))
    on.settle("FAILED")
    on.retry()
    on.note("a", "b")


@scenario_with(_two, left={"retryCount": 0})
def a_retried_fork_completes(on: StartedWorkflow) -> None:
    """After a retry a fork is joined as if nothing had happened."""
    on.run(task=_type(on, "b"), outputData={"by": "b"})
    on.run("FAILED", task=_type(on, "a"))
    on.settle("FAILED")
    on.silent.retry()
    on.run(task=_type(on, "a"), outputData={"by": "a"})
    on.await_row("last")
    on.note("a", "b", "last")


@scenario
def an_optional_branch_fails(rest: Rest) -> None:
    """A join does not mind an optional branch that failed."""
    one, two = task_type(rest, "left", retryCount=0), task_type(rest, "right")
    on = start(rest, one, fork([step(one, "a", optional=True)], [step(two, "b")]), join("a", "b"))
    on.fail()
    on.decide()
    on.run(task=two)
    on.settle("COMPLETED")
    on.note("a", "join")


@scenario
def a_fork_with_a_list_of_its_own(rest: Rest) -> None:
    """A fork that has the list of its join, as conductor-python sends it, keeps the list and ignores it."""
    task = task_type(rest)
    branches = [step(task, "a")], [step(task, "b")]
    on = start(rest, task, fork(*branches, joinOn=["b"]), join("a", "b"), step(task, "last"))
    rest.get("/metadata/workflow/{name}", name=on.workflow)
    on.run()
    on.run()
    on.noted.await_row("last")


SCENARIOS: Declared = {
    # A fork schedules the first task of every branch, and its join.
    "branches_are_scheduled_together": to(_two).send(on.read()),
    # A step that was skipped on the way to the end of a branch is no obstacle to the join.
    "a_join_after_a_skipped_step": to(_skip_in_a_branch, "b").send(on.await_row("join", "COMPLETED"), on.read()),
    # A join that waits for a step that was skipped by hand never ends.
    "a_join_of_a_skipped_step": to(_skip_in_a_branch, "c").send(on.wait(1), on.read()),
    # A termination cancels all branches and the join.
    "a_fork_is_terminated": to(_two).send(on.silent.terminate("over"), on.read()),
}
