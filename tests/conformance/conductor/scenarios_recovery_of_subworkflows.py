"""What is done to a child or to its parent after a failure, and what becomes of the other by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..rest import Rest
from ..scenario import Declared, scenario, to
from .operators import TWICE, fork, join, loop, sub_workflow
from .workflows import Json, StartedWorkflow, on, start_types, step

TYPES: dict[str, Json] = {"inner": {"retryCount": 0}, "outer": {"retryCount": 0}}
"""A type for steps of children and one for those of parents, without retries."""
MIDDLE: dict[str, Json] = {"middle": {"tasks": [sub_workflow("child")]}}
"""A sub-workflow that has a child of its own."""


def _child(steps: int = 1) -> dict[str, Json]:
    """A sub-workflow of so many steps."""
    return {"child": {"tasks": [step("inner", f"c{number + 1}") for number in range(steps)]}}


def _then(rest: Rest, steps: int = 1) -> StartedWorkflow:
    """A workflow of a sub-workflow of so many steps and a step `last`."""
    on = start_types(rest, sub_workflow("child"), step("outer", "last"), types=TYPES, children=_child(steps))
    return replace(on, first=on.started_by("sub"))


def _alone(rest: Rest, **fields: Any) -> StartedWorkflow:
    """A workflow of a sub-workflow."""
    on = start_types(rest, sub_workflow("child"), types=TYPES, children=_child(), **fields)
    return replace(on, first=on.started_by("sub"))


def _after_a_step(rest: Rest) -> StartedWorkflow:
    """A workflow of a step, which has completed, and a sub-workflow."""
    on = start_types(rest, step("outer", "first"), sub_workflow("child"), types=TYPES, children=_child())
    on.run(task="outer")
    return replace(on, first=on.started_by("sub"))


@scenario
def a_retry_of_the_child_revives_its_parent(rest: Rest) -> None:
    """The child goes on where it failed, the parent with it; the logs of the step tell of it."""
    on = _then(rest, steps=2)
    on.run()
    on.noted.fail()
    on.first.noted.retry()
    on.note_all()
    logs = on.silent.logs(on.row("sub")).json
    rest.note("the logs of the step", sorted(entry["log"] for entry in logs))
    on.noted.run()
    on.noted.run(task="outer")


@scenario
def a_row_is_open_until_it_names_its_child(rest: Rest) -> None:
    """A child can run before its row names it. Until then the row is open: at a start, a retry and a rerun."""
    on = start_types(rest, sub_workflow("child"), types=TYPES, children=_child())
    _note_unnamed(on, "at a start")
    on.fail()
    on.settle("FAILED")
    on.retry()
    _note_unnamed(on, "at a retry")
    on.fail()
    on.settle("FAILED")
    on.rerun(on.row("sub"))
    _note_unnamed(on, "at a rerun")


def _note_unnamed(on: StartedWorkflow, about: str) -> None:
    """Note whether the latest row was open each time that it named no child."""
    statuses = []
    while not (row := on.row("sub")).get("subWorkflowId"):
        statuses.append(row["status"])
    on.rest.note(f"the row is open {about}", {*statuses} <= {"SCHEDULED", "IN_PROGRESS"})


SCENARIOS: Declared = {
    # The new child does all steps again; a retry of the old one then changes nothing in the parent.
    "a_retry_of_the_parent_starts_another_child": to(_then, steps=2)(
        on.run(),
        on.fail(),
        on.first.note_all(),
        on.note_all(),
        on.noted.retry(),
        on.first.note_all(),
        on.started_by("sub").note_all(),
        on.run(),
        on.noted.run(),
        on.first.noted.retry(),
        on.note_all(),
    ),
    # The termination of a child terminates the parent; a retry of the child revives both.
    "a_terminated_child_is_retried": to(_then)(
        on.first.noted.terminate("enough"), on.note_all(), on.first.noted.retry(), on.note_all()
    ),
    # A rerun from the step starts the child again.
    "a_rerun_of_the_step_of_a_failed_child": to(_then)(
        on.noted.fail(), on.noted.rerun(on.row("sub")), on.started_by("sub").note_all(), on.noted.run()
    ),
    # A rerun from the step of a child that was completed repeats nothing in it.
    "a_rerun_of_the_step_of_a_completed_child": to(_then)(
        on.run(outputData={"n": 1}), on.noted.fail("outer"), on.noted.rerun(on.row("sub")), on.noted.run(task="outer")
    ),
    # A rerun from a step of the child, asked of the child or of the parent, revives the parent.
    "a_rerun_of_a_step_inside_of_a_child": to(_then, steps=2)(
        on.run(outputData={"n": 1}),
        on.noted.fail(),
        on.first.noted.rerun(on.taken(1)),
        on.note_all(),
        on.run(),
        on.noted.fail(),
        on.rerun(on.taken(1)),
        on.first.note_all(),
        on.note_all(),
        on.run(),
        on.noted.run(),
    ),
    # A child that is restarted does all steps again, and the parent goes on after it.
    "a_restart_of_the_child_revives_its_parent": to(_then)(
        on.noted.fail(), on.first.noted.restart(), on.note_all(), on.noted.run()
    ),
    # With `resumeSubworkflowTasks` a retry goes down to the step that failed, through all children.
    "a_retry_of_the_parent_resumes_a_child_of_its_child": to(
        start_types, sub_workflow("middle"), step("outer", "last"), types=TYPES, children=_child(2) | MIDDLE
    )(
        on.run(),
        on.noted.fail(),
        on.noted.retry(resumeSubworkflowTasks="true"),
        on.started_by("sub").note_all(),
        on.started_by("sub").started_by("sub").note_all(),
        on.run(),
        on.noted.run(task="outer"),
    ),
    # A termination goes down through all children; a retry starts with a new one.
    "the_end_of_a_parent_is_the_end_of_all_below": to(
        start_types, sub_workflow("middle"), types=TYPES, children=_child() | MIDDLE
    )(
        on.started_by("sub").started_by("sub"),
        on.noted.terminate("enough"),
        on.started_by("sub").note_all(),
        on.started_by("sub").started_by("sub").note_all(),
        on.noted.retry(),
    ),
    # Of two children in a fork the failure of one ends the other; a retry of the one revives all three.
    "a_failed_child_terminates_the_one_beside_it": to(
        start_types,
        fork([sub_workflow("of_left", "one")], [sub_workflow("of_right", "two")]),
        join("two"),
        step("right", "last"),
        types={"left": {"retryCount": 0}, "right": {"retryCount": 0}},
        children={
            "of_left": {"label": "child", "tasks": [step("left", "c1")]},
            "of_right": {"label": "child", "tasks": [step("right", "c1")]},
        },
    )(
        on.started_by("one"),
        on.noted.fail(),
        on.started_by("one").note_all(),
        on.started_by("two").note_all(),
        on.started_by("one").retry(),
        on.note_all(),
        on.started_by("one").note_all(),
        on.started_by("two").note_all(),
        on.run(),
        on.noted.run(task="right"),
    ),
    # A rerun from an earlier step starts another child; a retry of the old one then changes nothing in the parent.
    "a_rerun_of_the_step_before_a_child": to(_after_a_step)(
        on.noted.fail(),
        on.noted.rerun(on.taken(1)),
        on.noted.run(task="outer"),
        on.first.note_all(),
        on.first.retry(),
        on.note_all(),
    ),
    # The row of a step that runs again names the new child for good: a retry of the old one, which completes, or a
    # rerun or restart of it does not bring back its name.
    **{
        f"a_{name}_of_a_child_that_its_row_no_longer_names": to(_then)(
            on.noted.fail(),
            on.noted.rerun(on.row("sub")),
            on.noted.fail(),
            operation,
            on.note_all(),
            on.run(outputData={"of": "the old child"}),
            on.first.note_all(),
            on.note_all(),
        )
        for name, operation in {
            "retry": on.first.noted.retry(),
            "rerun": on.first.noted.rerun(on.taken(1)),
            "restart": on.first.noted.restart(),
        }.items()
    },
    # A restart leaves the old child as it ended.
    "a_restart_of_the_parent_starts_another_child": to(_alone)(
        on.noted.fail(), on.noted.restart(), on.first.note_all(), on.noted.run()
    ),
    # A sub-workflow whose step has the name of a task type is retried as that says, each time with a new child.
    "a_child_has_the_retries_of_the_task_definition_of_its_step": to(
        start_types,
        {**sub_workflow("child"), "name": "again"},
        types={"inner": {"retryCount": 0}, "again": {"retryCount": 1}},
        children=_child(),
    )(on.noted.fail(), on.noted.fail()),
    # The parent goes on after an optional child that failed; a retry of the child then changes nothing in it.
    "an_optional_child_fails": to(
        start_types, sub_workflow("child", optional=True), step("outer", "last"), types=TYPES, children=_child()
    )(on.started_by("sub"), on.noted.fail(), on.started_by("sub").retry(), on.note_all()),
    # Each iteration has a child of its own; a retry of one that failed revives the loop in its iteration.
    "a_child_in_each_iteration_of_a_loop": to(
        start_types, loop(TWICE, sub_workflow("child")), types=TYPES, children=_child()
    )(
        on.started_by("sub__1"),
        on.noted.run(outputData={"n": 1}),
        on.noted.fail(),
        on.started_by("sub__2").retry(),
        on.note_all(),
        on.noted.run(),
        on.started_by("sub__1").note_all(),
    ),
    # The timeout of a parent ends its child.
    "a_parent_that_takes_too_long": to(_alone, timeoutSeconds=2, timeoutPolicy="TIME_OUT_WF")(
        on.wait(2.5), on.note_all(), on.first.note_all()
    ),
}
