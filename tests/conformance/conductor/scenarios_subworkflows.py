"""SUB_WORKFLOW: workflows that start workflows."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario
from .operators import fork, join, operator, sub_workflow
from .workflows import Json, StartedWorkflow, definition, register_workflow, start, start_registered, step, task_type

SET: Json = {"name": "set", "taskReferenceName": "set", "type": "SET_VARIABLE"}


def _nested(
    rest: Rest, *, steps: int = 1, parameters: dict[str, Any] | None = None, **task: Any
) -> tuple[StartedWorkflow, StartedWorkflow]:
    """A workflow that runs a sub-workflow and then the step `last` of another type; and the sub-workflow, started."""
    inner, after = task_type(rest, **task), task_type(rest, "after")
    tasks = [step(inner, f"r{n}") for n in range(steps)]
    name = register_workflow(rest, *tasks, label="inner", outputParameters={"o": "${r0.output.o}"})
    sub = sub_workflow(name, subWorkflowParam={"name": name, "version": 1, **(parameters or {})})
    on = start(rest, inner, sub, step(after, "last", inputParameters={"sub": "${sub.output}"}))
    return on, on.child("sub")


@scenario
def a_child_is_started(rest: Rest) -> None:
    """The task shows the id of the child, the child those of its parent."""
    on, child = _nested(rest)
    on.read()
    child.read()


@scenario
def a_child_completes(rest: Rest) -> None:
    """The output of the child is that of the task, and the parent goes on."""
    on, child = _nested(rest)
    child.run(outputData={"o": 5})
    on.await_row("last")
    on.read()
    child.read(query={"includeTasks": "false"})


@scenario
def a_polled_task_of_a_child(rest: Rest) -> None:
    """A task of a child shows the child as its workflow."""
    _, child = _nested(rest)
    child.poll()


@scenario
def a_child_fails(rest: Rest) -> None:
    """A failed child fails the task, and the parent with it."""
    on, child = _nested(rest, retryCount=0)
    child.run("FAILED", reasonForIncompletion="boo")
    on.settle("FAILED")
    on.read()
    child.read()


@scenario
def a_child_in_a_fork_is_retried(rest: Rest) -> None:
    """The steps beside a child, which were cancelled with the parent, begin again under their old ids."""
    inner, beside = task_type(rest, retryCount=0), task_type(rest, "beside")
    name = register_workflow(rest, step(inner), label="inner")
    sub = operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": name})
    on = start(rest, inner, fork([sub], [step(beside, "beside")]), join("sub", "beside"))
    child = on.child("sub")
    taken = on.take(task=beside)
    child.run("FAILED")
    on.settle("FAILED")
    on.note("beside")
    child.retry()
    on.settle("RUNNING")
    on.note("sub", "beside")
    rest.note("the same id", on.row("beside")["taskId"] == taken["taskId"])
    child.run()
    on.run(task=beside)
    on.settle("COMPLETED")


def _begun_again(rest: Rest, task_of_child: str, beside: str) -> tuple[StartedWorkflow, StartedWorkflow, Json]:
    """A completed workflow of a sub-workflow and of a step beside it, both in their second attempt, as the first ones
    failed; the sub-workflow, rerun; the first attempt of the step, which its rerun has brought back. The join waits
    for another branch, as one that looks in the wrong moment fails the workflow."""
    name = register_workflow(rest, step(task_of_child), label="inner")
    sub = operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": name})
    on = start(rest, task_of_child, fork([sub], [step(beside, "beside")], [SET]), join("set"))
    first = on.child("sub")
    on.take(task=beside)
    first.run("FAILED")
    on.settle("FAILED")
    on.silent.retry()
    child = on.child("sub")
    on.run(task=beside, outputData={"o": "retry"})
    inner = child.run()
    on.settle("COMPLETED")
    on.note("beside")
    child.rerun(inner)
    on.settle("RUNNING")
    return on, child, on.take(task=beside)


@scenario
def a_child_beside_a_retried_step_is_rerun(rest: Rest) -> None:
    """A cancelled attempt begins again beside its retry, without a mark; its success changes nothing."""
    inner, beside = task_type(rest, retryCount=0), task_type(rest, "beside")
    on, _, again = _begun_again(rest, inner, beside)
    rest.note("the retry", again.get("retriedTaskId"))
    on.note("beside")
    on.finish(again, outputData={"o": "again"})
    on.note("beside")


@scenario
def a_step_that_begins_again_beside_its_retry_fails(rest: Rest) -> None:
    """A failure of such an attempt fails the workflow, although its retry was completed."""
    inner, beside = task_type(rest, retryCount=0), task_type(rest, "beside")
    on, _, again = _begun_again(rest, inner, beside)
    on.finish(again, "FAILED_WITH_TERMINAL_ERROR")
    on.settle("FAILED")
    on.note("beside")


def _at_once(rest: Rest, status: str, *steps: Json) -> tuple[StartedWorkflow, StartedWorkflow]:
    """A workflow of one sub-workflow, both of which have ended with this status, and the sub-workflow."""
    name = register_workflow(rest, *steps, label="inner")
    sub = operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": name})
    on = start(rest, "none", sub)
    on.settle(status)
    return on, StartedWorkflow(rest, "none", name, on.row("sub")["subWorkflowId"])


def _rerun_to_its_end(on: StartedWorkflow, child: StartedWorkflow, status: str) -> None:
    child.rerun(child.row("set"))
    child.settle(status)
    on.settle(status)
    on.read()


@scenario
def a_child_that_ends_at_once_is_rerun(rest: Rest) -> None:
    """The parent, which the rerun wakes, follows a child that has ended again by then."""
    on, child = _at_once(rest, "COMPLETED", SET)
    _rerun_to_its_end(on, child, "COMPLETED")


@scenario
def a_child_that_fails_at_once_is_rerun(rest: Rest) -> None:
    """The parent, which the rerun wakes, follows a child that has failed again by then, and is told no reason."""
    end = {"terminationStatus": "FAILED", "terminationReason": "enough"}
    terminate = {"name": "end", "taskReferenceName": "end", "type": "TERMINATE", "inputParameters": end}
    on, child = _at_once(rest, "FAILED", SET, terminate)
    on.note("sub")
    _rerun_to_its_end(on, child, "FAILED")


def _rerun_of_a_removed_child(rest: Rest) -> tuple[StartedWorkflow, StartedWorkflow, StartedWorkflow]:
    """A workflow, its sub-workflow, which was removed, and the one that came back by a rerun of the step."""
    on, child = _nested(rest)
    child.take()
    on.terminate()
    child.settle("TERMINATED")
    child.remove()
    on.rerun(on.row("sub"))
    return on, child, on.child("sub")


@scenario
def a_child_that_was_removed_is_rerun(rest: Rest) -> None:
    """A rerun of the step brings a child that was removed back, again under its old id."""
    on, child, again = _rerun_of_a_removed_child(rest)
    rest.note("the same id", again.id == child.id)
    on.read()
    again.read()


@scenario
def a_long_reason_of_a_child(rest: Rest) -> None:
    """The step shows the first 500 characters of its reason, the parent tells all of it."""
    on, child = _nested(rest, retryCount=0)
    child.run("FAILED", reasonForIncompletion="why" * 200)
    on.settle("FAILED")
    on.read()
    child.read()


@scenario
def a_child_is_restarted_beside_one_that_was_removed(rest: Rest) -> None:
    """Reviving the parent fails half-way where another child is gone."""
    inner = task_type(rest)
    name = register_workflow(rest, step(inner), label="inner")
    subs = [operator("SUB_WORKFLOW", ref, subWorkflowParam={"name": name}) for ref in ("one", "two")]
    on = start(rest, inner, fork([subs[0]], [subs[1]]), join("one", "two"))
    one, two = on.child("one"), on.child("two")
    on.terminate()
    one.settle("TERMINATED")
    two.settle("TERMINATED")
    one.remove()
    two.restart()
    on.note("one", "two")
    two.read()


@scenario
def a_parent_is_retried_without_its_child(rest: Rest) -> None:
    """There is nothing to go on within where a result of the step has taken the child off it, or the child is gone."""
    on, child = _nested(rest, retryCount=0)
    sub = on.row("sub")
    on.update(sub, "FAILED", outputData={"o": 1})
    on.settle("FAILED")
    on.retry(resumeSubworkflowTasks="true")
    on, child = _nested(rest, retryCount=0)
    child.run("FAILED")
    on.settle("FAILED")
    child.silent.remove()
    on.retry(resumeSubworkflowTasks="true")


@scenario
def a_parent_is_paused(rest: Rest) -> None:
    """A paused parent does not go on when its child completes."""
    on, child = _nested(rest)
    on.silent.pause()
    child.run()
    child.settle("COMPLETED")
    on.await_row("sub", "COMPLETED")
    rest.sleep(0.3)
    child.read(query={"includeTasks": "false"})
    on.read(query={"includeTasks": "false"})
    on.resume()
    on.await_row("last")
    on.read()


@scenario
def a_definition_within_the_definition(rest: Rest) -> None:
    """A sub-workflow may be defined where it is used."""
    task, name = task_type(rest), rest.name("inner")
    inner = definition(name, step(task, "inner"))
    sub = operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": name, "version": 1, "workflowDefinition": inner})
    on = start(rest, task, sub)
    child = on.child("sub")
    child.run(outputData={"o": 1})
    on.settle("COMPLETED")
    on.read()


@scenario
def a_child_without_a_definition(rest: Rest) -> None:
    """A sub-workflow that is not registered fails the parent."""
    task = task_type(rest)
    parameters = {"name": rest.name("unknown"), "version": 1}
    sub = {"name": "sub", "taskReferenceName": "sub", "type": "SUB_WORKFLOW", "subWorkflowParam": parameters}
    on = start(rest, task, sub)
    on.settle("FAILED")
    on.read()


@scenario
def both_have_a_status(rest: Rest) -> None:
    """A parent and its child are both read as running."""
    on, child = _nested(rest)
    for one in (on, child):
        one.act("GET", "/workflow/{workflow}/status")


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


@scenario
def what_a_child_is_given(rest: Rest) -> None:
    """A child gets the input of its step, the correlation id and the priority of its parent, which sees both ends."""
    task, outer = task_type(rest), task_type(rest, "outer")
    output = {"r": "${c2.output.n}", "p": "${workflow.input}"}
    child = register_workflow(rest, step(task, "c1"), step(task, "c2"), label="inner", outputParameters=output)
    last = step(outer, "last", inputParameters={"q": "${sub.output}", "in": "${sub.input.workflowInput}"})
    name = register_workflow(rest, sub_workflow(child), last)
    on = start_registered(rest, task, name, correlationId="c", priority=3)
    on.note_all()
    on.started_by("sub").note_all()
    on.run()
    on.noted.run(outputData={"n": 2})
    on.noted.run(task=outer)


@scenario
def a_child_without_an_input_of_its_own(rest: Rest) -> None:
    """A step without input parameters gives its child what the server adds to the input of such steps."""
    task = task_type(rest)
    child = register_workflow(rest, step(task, "c1"), label="inner", inputTemplate={"y": 2})
    on = start(rest, task, sub_workflow(child, inputParameters={}))
    on.started_by("sub").note_all()


@scenario
def a_child_that_is_unknown_when_its_parent_starts(rest: Rest) -> None:
    """Without a version the child must be there when the parent starts."""
    name = register_workflow(rest, sub_workflow(rest.name("nobody")))
    rest.post("/workflow", {"name": name})
