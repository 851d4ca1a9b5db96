"""SUB_WORKFLOW: workflows that start workflows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..rest import Rest
from ..scenario import Declared, Request, scenario, scenario_with, to
from .operators import fork, join, operator, sub_workflow, system_task
from .workflows import Json, StartedWorkflow, definition, on, register_workflow, start, start_types, step, task_type

SET = operator("SET_VARIABLE", "set")
END = system_task("TERMINATE", "end", terminationStatus="FAILED", terminationReason="enough")
SUB = operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": "inner"})
INNER = {"inner": {"tasks": [step("task")]}}
STATUS = "/workflow/{workflow}/status"
WITHOUT_TASKS = {"includeTasks": "false"}


def _nested(rest: Rest, **task: Any) -> StartedWorkflow:
    """A workflow that runs a sub-workflow, which has started, and then the step `last` of another type."""
    on = start_types(
        rest,
        sub_workflow("inner", subWorkflowParam={"name": "inner", "version": 1}),
        step("after", "last", inputParameters={"sub": "${sub.output}"}),
        types={"task": task, "after": {}},
        children={"inner": {"tasks": [step("task")], "outputParameters": {"o": "${r0.output.o}"}}},
    )
    return replace(on, first=on.child("sub"))


def _at_once(rest: Rest, status: str, *steps: Json) -> StartedWorkflow:
    """A workflow of one sub-workflow of these steps, both of which have ended with this status."""
    on = start_types(rest, SUB, types={}, children={"inner": {"tasks": steps}})
    on.settle(status)
    return replace(on, first=on.started_by("sub"))


def _rerun_to_its_end(status: str) -> tuple[Request, ...]:
    return on.first.rerun(on.first.row("set")), on.first.settle(status), on.settle(status), on.read()


@scenario
def a_child_in_a_fork_is_retried(rest: Rest) -> None:
    """The steps beside a child, which were cancelled with the parent, begin again under their old ids."""
    types = {"task": {"retryCount": 0}, "beside": {}}
    on = start_types(rest, fork([SUB], [step("beside", "beside")]), join("sub", "beside"), types=types, children=INNER)
    child = on.child("sub")
    taken = on.take(task="beside")
    child.run("FAILED")
    on.settle("FAILED")
    on.note("beside")
    child.retry()
    on.settle("RUNNING")
    on.note("sub", "beside")
    rest.note("the same id", on.row("beside")["taskId"] == taken["taskId"])
    child.run()
    on.run(task="beside")
    on.settle("COMPLETED")


@scenario_with(_nested)
def a_child_that_was_removed_is_rerun(on: StartedWorkflow) -> None:
    """A rerun of the step brings a child that was removed back, again under its old id."""
    on.first.take()
    on.terminate()
    on.first.settle("TERMINATED")
    on.first.remove()
    on.rerun(on.row("sub"))
    again = on.child("sub")
    on.rest.note("the same id", again.id == on.first.id)
    on.read()
    again.read()


@scenario
def a_parent_is_retried_without_its_child(rest: Rest) -> None:
    """There is nothing to go on within where a result of the step has taken the child off it, or the child is gone."""
    on = _nested(rest, retryCount=0)
    on.update(on.row("sub"), "FAILED", outputData={"o": 1})
    on.settle("FAILED")
    on.retry(resumeSubworkflowTasks="true")
    on = _nested(rest, retryCount=0)
    on.first.run("FAILED")
    on.settle("FAILED")
    on.first.silent.remove()
    on.retry(resumeSubworkflowTasks="true")


def _begun_again(rest: Rest) -> tuple[StartedWorkflow, Json]:
    """A completed workflow of a sub-workflow and of a step beside it, both in their second attempt, as the first ones
    failed, after a rerun of the sub-workflow; and the first attempt of the step, which the rerun has brought back. The
    join waits for another branch, as one that looks in the wrong moment fails the workflow."""
    types = {"task": {"retryCount": 0}, "beside": {}}
    on = start_types(rest, fork([SUB], [step("beside", "beside")], [SET]), join("set"), types=types, children=INNER)
    first = on.child("sub")
    on.take(task="beside")
    first.run("FAILED")
    on.settle("FAILED")
    on.silent.retry()
    child = on.child("sub")
    on.run(task="beside", outputData={"o": "retry"})
    inner = child.run()
    on.settle("COMPLETED")
    on.note("beside")
    child.rerun(inner)
    on.settle("RUNNING")
    return on, on.take(task="beside")


@scenario
def a_child_beside_a_retried_step_is_rerun(rest: Rest) -> None:
    """A cancelled attempt begins again beside its retry, without a mark; its success changes nothing."""
    on, again = _begun_again(rest)
    rest.note("the retry", again.get("retriedTaskId"))
    on.note("beside")
    on.finish(again, outputData={"o": "again"})
    on.note("beside")


@scenario
def a_step_that_begins_again_beside_its_retry_fails(rest: Rest) -> None:
    """A failure of such an attempt fails the workflow, although its retry was completed."""
    on, again = _begun_again(rest)
    on.finish(again, "FAILED_WITH_TERMINAL_ERROR")
    on.settle("FAILED")
    on.note("beside")


@scenario
def a_child_is_restarted_beside_one_that_was_removed(rest: Rest) -> None:
    """Reviving the parent fails half-way where another child is gone."""
    branches = ([operator("SUB_WORKFLOW", ref, subWorkflowParam={"name": "inner"})] for ref in ("one", "two"))
    on = start_types(rest, fork(*branches), join("one", "two"), children=INNER)
    one, two = on.child("one"), on.child("two")
    on.terminate()
    one.settle("TERMINATED")
    two.settle("TERMINATED")
    one.remove()
    two.restart()
    on.note("one", "two")
    two.read()


@scenario
def a_definition_within_the_definition(rest: Rest) -> None:
    """A sub-workflow may be defined where it is used."""
    task, name = task_type(rest), rest.name("inner")
    inner = definition(name, step(task, "inner"))
    sub = operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": name, "version": 1, "workflowDefinition": inner})
    on = start(rest, task, sub)
    on.child("sub").run(outputData={"o": 1})
    on.settle("COMPLETED")
    on.read()


@scenario
def a_child_without_a_definition(rest: Rest) -> None:
    """A sub-workflow that is not registered fails the parent."""
    sub = operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": rest.name("unknown"), "version": 1})
    on = start(rest, task_type(rest), sub)
    on.settle("FAILED")
    on.read()


@scenario
def a_child_without_a_version(rest: Rest) -> None:
    """Without a version the newest definition of the child is run, as of the start of the parent."""
    task = task_type(rest)
    name = register_workflow(rest, step(task, "first"), label="inner")
    rest.silent.post("/metadata/workflow", definition(name, step(task, "second"), version=2))
    sub = operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": name})
    on = start(rest, task, step(task, "before"), sub)
    rest.silent.post("/metadata/workflow", definition(name, step(task, "third"), version=3))
    on.run()
    on.child("sub").read()


SCENARIOS: Declared = {
    # The task shows the id of the child, the child those of its parent.
    "a_child_is_started": to(_nested)(on.read(), on.first.read()),
    # The output of the child is that of the task, and the parent goes on.
    "a_child_completes": to(_nested)(
        on.first.run(outputData={"o": 5}), on.await_row("last"), on.read(), on.first.read(query=WITHOUT_TASKS)
    ),
    # A task of a child shows the child as its workflow.
    "a_polled_task_of_a_child": to(_nested)(on.first.poll()),
    # A failed child fails the task, and the parent with it.
    "a_child_fails": to(_nested, retryCount=0)(on.first.fail(), on.settle("FAILED"), on.read(), on.first.read()),
    # The step shows the first 500 characters of its reason, the parent tells all of it.
    "a_long_reason_of_a_child": to(_nested, retryCount=0)(
        on.first.run("FAILED", reasonForIncompletion="why" * 200), on.settle("FAILED"), on.read(), on.first.read()
    ),
    # The parent, which the rerun wakes, follows a child that has ended again by then.
    "a_child_that_ends_at_once_is_rerun": to(_at_once, "COMPLETED", SET)(*_rerun_to_its_end("COMPLETED")),
    # The parent, which the rerun wakes, follows a child that has failed again by then, and is told no reason.
    "a_child_that_fails_at_once_is_rerun": to(_at_once, "FAILED", SET, END)(
        on.note("sub"), *_rerun_to_its_end("FAILED")
    ),
    # A paused parent does not go on when its child completes.
    "a_parent_is_paused": to(_nested)(
        on.silent.pause(),
        on.first.run(),
        on.first.settle("COMPLETED"),
        on.await_row("sub", "COMPLETED"),
        on.rest.sleep(0.3),
        on.first.read(query=WITHOUT_TASKS),
        on.read(query=WITHOUT_TASKS),
        on.resume(),
        on.await_row("last"),
        on.read(),
    ),
    # A parent and its child are both read as running.
    "both_have_a_status": to(_nested)(on.act("GET", STATUS), on.first.act("GET", STATUS)),
    # A child gets the input of its step, the correlation id and the priority of its parent, which sees both ends.
    "what_a_child_is_given": to(
        start_types,
        sub_workflow("inner"),
        step("outer", "last", inputParameters={"q": "${sub.output}", "in": "${sub.input.workflowInput}"}),
        types={"task": {}, "outer": {}},
        children={
            "inner": {
                "tasks": [step("task", "c1"), step("task", "c2")],
                "outputParameters": {"r": "${c2.output.n}", "p": "${workflow.input}"},
            }
        },
        options={"correlationId": "c", "priority": 3},
    )(
        on.note_all(),
        on.started_by("sub").note_all(),
        on.run(),
        on.noted.run(outputData={"n": 2}),
        on.noted.run(task="outer"),
    ),
    # A step without input parameters gives its child what the server adds to the input of such steps.
    "a_child_without_an_input_of_its_own": to(
        start_types,
        sub_workflow("inner", inputParameters={}),
        children={"inner": {"tasks": [step("task", "c1")], "inputTemplate": {"y": 2}}},
    )(on.started_by("sub").note_all()),
}
