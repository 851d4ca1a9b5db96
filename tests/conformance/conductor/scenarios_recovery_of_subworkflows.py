"""What is done to a child or to its parent after a failure, and what becomes of the other by it."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .operators import TWICE, fork, join, loop, sub_workflow
from .workflows import StartedWorkflow, register_workflow, start, step, task_type


def _types(rest: Rest) -> tuple[str, str]:
    """A type for steps of children and one for those of parents, without retries."""
    return task_type(rest, "inner", retryCount=0), task_type(rest, "outer", retryCount=0)


def _child_of(rest: Rest, inner: str, references: int = 1) -> str:
    return register_workflow(rest, *(step(inner, f"c{number + 1}") for number in range(references)), label="child")


def _then(rest: Rest, steps: int = 1) -> tuple[StartedWorkflow, StartedWorkflow, str]:
    """A workflow of a sub-workflow and a step `last`; its child of so many steps; the type of `last`."""
    inner, outer = _types(rest)
    on = start(rest, inner, sub_workflow(_child_of(rest, inner, steps)), step(outer, "last"))
    return on, on.started_by("sub"), outer


@scenario
def a_retry_of_the_parent_starts_another_child(rest: Rest) -> None:
    """The new child does all steps again; a retry of the old one then changes nothing in the parent."""
    on, first, _ = _then(rest, steps=2)
    on.run()
    on.fail()
    first.note_all()
    on.note_all()
    on.noted.retry()
    first.note_all()
    on.started_by("sub").note_all()
    on.run()
    on.noted.run()
    first.noted.retry()
    on.note_all()


@scenario
def a_retry_of_the_child_revives_its_parent(rest: Rest) -> None:
    """The child goes on where it failed, the parent with it; the logs of the step tell of it."""
    on, child, outer = _then(rest, steps=2)
    on.run()
    on.noted.fail()
    child.noted.retry()
    on.note_all()
    logs = rest.silent.get("/tasks/{task}/log", task=on.row("sub")["taskId"]).json
    rest.note("the logs of the step", sorted(entry["log"] for entry in logs))
    on.noted.run()
    on.noted.run(task=outer)


@scenario
def a_retry_of_the_parent_resumes_a_child_of_its_child(rest: Rest) -> None:
    """With `resumeSubworkflowTasks` a retry goes down to the step that failed, through all children."""
    inner, outer = _types(rest)
    middle = register_workflow(rest, sub_workflow(_child_of(rest, inner, 2)), label="middle")
    on = start(rest, inner, sub_workflow(middle), step(outer, "last"))
    on.run()
    on.noted.fail()
    on.noted.retry(resumeSubworkflowTasks="true")
    child = on.started_by("sub")
    child.note_all()
    child.started_by("sub").note_all()
    on.run()
    on.noted.run(task=outer)


@scenario
def the_end_of_a_parent_is_the_end_of_all_below(rest: Rest) -> None:
    """A termination goes down through all children; a retry starts with a new one."""
    inner, _ = _types(rest)
    middle = register_workflow(rest, sub_workflow(_child_of(rest, inner)), label="middle")
    on = start(rest, inner, sub_workflow(middle))
    child = on.started_by("sub")
    grandchild = child.started_by("sub")
    on.terminate("enough")
    for ended in (on, child, grandchild):
        ended.note_all()
    on.noted.retry()


@scenario
def a_terminated_child_is_retried(rest: Rest) -> None:
    """The termination of a child terminates the parent; a retry of the child revives both."""
    on, child, _ = _then(rest)
    child.noted.terminate("enough")
    on.note_all()
    child.noted.retry()
    on.note_all()


@scenario
def a_failed_child_terminates_the_one_beside_it(rest: Rest) -> None:
    """Of two children in a fork the failure of one ends the other; a retry of the one revives all three."""
    left, right = task_type(rest, "left", retryCount=0), task_type(rest, "right", retryCount=0)
    branches = [sub_workflow(_child_of(rest, left), "one")], [sub_workflow(_child_of(rest, right), "two")]
    on = start(rest, left, fork(*branches), join("two"), step(right, "last"))
    all_three = (on, on.started_by("one"), on.started_by("two"))
    on.fail()
    for ended in all_three:
        ended.note_all()
    all_three[1].retry()
    for revived in all_three:
        revived.note_all()
    on.run()
    on.noted.run(task=right)


@scenario
def a_rerun_of_the_step_of_a_failed_child(rest: Rest) -> None:
    """A rerun from the step starts the child again."""
    on, _, _ = _then(rest)
    on.noted.fail()
    on.noted.rerun(on.row("sub"))
    on.started_by("sub").note_all()
    on.noted.run()


@scenario
def a_rerun_of_the_step_of_a_completed_child(rest: Rest) -> None:
    """A rerun from the step of a child that was completed repeats nothing in it."""
    on, _, outer = _then(rest)
    on.run(outputData={"n": 1})
    on.noted.fail(outer)
    on.noted.rerun(on.row("sub"))
    on.noted.run(task=outer)


@scenario
def a_rerun_of_a_step_inside_of_a_child(rest: Rest) -> None:
    """A rerun from a step of the child, asked of the child or of the parent, revives the parent."""
    on, child, _ = _then(rest, steps=2)
    first = on.run(outputData={"n": 1})
    on.noted.fail()
    child.noted.rerun(first)
    on.note_all()
    on.run()
    on.noted.fail()
    on.rerun(first)
    child.note_all()
    on.note_all()
    on.run()
    on.noted.run()


@scenario
def a_rerun_of_the_step_before_a_child(rest: Rest) -> None:
    """A rerun from an earlier step starts another child; a retry of the old one then changes nothing in the parent."""
    inner, outer = _types(rest)
    on = start(rest, inner, step(outer, "first"), sub_workflow(_child_of(rest, inner)))
    first = on.run(task=outer)
    old = on.started_by("sub")
    on.noted.fail()
    on.noted.rerun(first)
    on.noted.run(task=outer)
    old.note_all()
    old.retry()
    on.note_all()


@scenario
def a_restart_of_the_child_revives_its_parent(rest: Rest) -> None:
    """A child that is restarted does all steps again, and the parent goes on after it."""
    on, child, _ = _then(rest)
    on.noted.fail()
    child.noted.restart()
    on.note_all()
    on.noted.run()


@scenario
def a_restart_of_the_parent_starts_another_child(rest: Rest) -> None:
    """A restart leaves the old child as it ended."""
    inner, _ = _types(rest)
    on = start(rest, inner, sub_workflow(_child_of(rest, inner)))
    old = on.started_by("sub")
    on.noted.fail()
    on.noted.restart()
    old.note_all()
    on.noted.run()


@scenario
def a_child_has_the_retries_of_the_task_definition_of_its_step(rest: Rest) -> None:
    """A sub-workflow whose step has the name of a task type is retried as that says, each time with a new child."""
    inner, again = task_type(rest, "inner", retryCount=0), task_type(rest, "again", retryCount=1)
    on = start(rest, inner, {**sub_workflow(_child_of(rest, inner)), "name": again})
    on.noted.fail()
    on.noted.fail()


@scenario
def an_optional_child_fails(rest: Rest) -> None:
    """The parent goes on after an optional child that failed; a retry of the child then changes nothing in it."""
    inner, outer = _types(rest)
    on = start(rest, inner, sub_workflow(_child_of(rest, inner), optional=True), step(outer, "last"))
    child = on.started_by("sub")
    on.noted.fail()
    child.retry()
    on.note_all()


@scenario
def a_child_in_each_iteration_of_a_loop(rest: Rest) -> None:
    """Each iteration has a child of its own; a retry of one that failed revives the loop in its iteration."""
    inner, _ = _types(rest)
    on = start(rest, inner, loop(TWICE, sub_workflow(_child_of(rest, inner))))
    first = on.started_by("sub__1")
    on.noted.run(outputData={"n": 1})
    on.noted.fail()
    on.started_by("sub__2").retry()
    on.note_all()
    on.noted.run()
    first.note_all()


@scenario
def a_parent_that_takes_too_long(rest: Rest) -> None:
    """The timeout of a parent ends its child."""
    inner, _ = _types(rest)
    on = start(rest, inner, sub_workflow(_child_of(rest, inner)), timeoutSeconds=2, timeoutPolicy="TIME_OUT_WF")
    child = on.started_by("sub")
    on.noted.wait(2.5)
    child.note_all()
