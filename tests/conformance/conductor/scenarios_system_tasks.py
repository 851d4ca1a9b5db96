"""SET_VARIABLE, INLINE, TERMINATE, WAIT, HUMAN, NOOP and JSON_JQ_TRANSFORM."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario, scenario_for_each
from .operators import fork, inline, join, operator, sub_workflow, system_task
from .workflows import Json, register_workflow, start, step, task_type

ENDS = ("COMPLETED", "FAILED", "TERMINATED")


@scenario
def a_variable_is_set(rest: Rest) -> None:
    """A variable is seen in the workflow and by what comes next."""
    task = task_type(rest)
    after = step(task, "after", inputParameters={"v": "${workflow.variables.v}"})
    on = start(rest, task, system_task("SET_VARIABLE", "set", v="${workflow.input.x}", w=[1]), after)
    on.read()


@scenario
def a_variable_has_a_first_value(rest: Rest) -> None:
    """A definition may give variables their first values."""
    task = task_type(rest)
    after = step(task, "after", inputParameters={"v": "${workflow.variables.v}"})
    start(rest, task, after, variables={"v": {"a": 1}}).read()


@scenario
def an_expression_is_evaluated(rest: Rest) -> None:
    """INLINE puts out the result of its expression."""
    task = task_type(rest)
    script = inline("inline", "$.a + 1", a="${workflow.input.x}")
    after = step(task, "after", inputParameters={"r": "${inline.output.result}"})
    start(rest, task, script, after, given={"x": 41}).read()


@scenario
def an_end_before_the_end(rest: Rest) -> None:
    """TERMINATE ends the workflow with a status, a reason and an output."""
    task = task_type(rest)
    end = system_task(
        "TERMINATE",
        "end",
        terminationStatus="COMPLETED",
        terminationReason="enough",
        workflowOutput={"o": "${workflow.input.x}"},
    )
    on = start(rest, task, end, step(task, "never"))
    on.settle("COMPLETED")
    on.read()


@scenario
def an_end_as_a_failure(rest: Rest) -> None:
    """TERMINATE may fail the workflow."""
    task = task_type(rest)
    on = start(rest, task, system_task("TERMINATE", "end", terminationStatus="FAILED", terminationReason="bad"))
    on.settle("FAILED")
    on.read()


@scenario
def an_end_that_says_nothing(rest: Rest) -> None:
    """TERMINATE that was run again with another input, and is completed by hand, ends the workflow well."""
    task = task_type(rest)
    on = start(rest, task, system_task("TERMINATE", "end", terminationStatus="FAILED"))
    on.settle("FAILED")
    again = {"reRunFromTaskId": on.row("end")["taskId"], "taskInput": {"x": 9}}
    on.act("POST", "/workflow/{workflow}/rerun", json=again)
    on.read()
    on.act("POST", "/tasks/{workflow}/{reference}/COMPLETED", reference="end", json={"n": 1})
    on.settle("COMPLETED")
    on.read()


@scenario
def a_workflow_ends_itself_beside_an_open_step(rest: Rest) -> None:
    """TERMINATE in one branch of a fork cancels what is open in the other."""
    task, quick = task_type(rest), task_type(rest, "quick")
    end = system_task("TERMINATE", "end", terminationStatus="COMPLETED")
    on = start(rest, task, fork([step(task, "open")], [step(quick, "quick"), end]), join("open", "end"))
    on.run(task=quick)
    on.settle("COMPLETED")
    on.note("open", "end")
    on.poll()


@scenario
def a_wait_for_a_second(rest: Rest) -> None:
    """WAIT with a duration ends by itself."""
    task = task_type(rest)
    on = start(rest, task, system_task("WAIT", "wait", duration="1 seconds"), step(task, "after"))
    on.await_row("wait", "IN_PROGRESS")
    on.await_row("after")
    on.read()


@scenario
def a_wait_is_updated_before_its_end(rest: Rest) -> None:
    """A WAIT that is given an IN_PROGRESS result waits on; its output is what comes next is given."""
    task = task_type(rest)
    last = step(task, "last", inputParameters={"q": "${wait.output}"})
    on = start(rest, task, system_task("WAIT", "wait"), last)
    on.note_all()
    row = on.row("wait")
    on.update(row, "IN_PROGRESS", outputData={"n": 1})
    on.note_all()
    on.update(row, "COMPLETED", outputData={"n": 2})
    on.note_all()


WAITS = {
    "a_human_waits": system_task("HUMAN", "step"),
    "a_wait_until_a_day_that_has_passed": system_task("WAIT", "step", until="2000-01-01"),
    "a_wait_for_a_duration_of_the_input": system_task("WAIT", "step", duration="${workflow.input.x}"),
    "nothing_is_done": operator("NOOP", "step"),
    "a_query_in_jq": system_task("JSON_JQ_TRANSFORM", "step", queryExpression=".b[] | . + 1", b=[1, 2]),
}


@scenario_for_each(WAITS)
def steps_alone(rest: Rest, case: Json) -> None:
    """A workflow of one step of the server."""
    start(rest, "none", case, given={"x": "5 s"}).note_all()


@scenario_for_each({f"an_end_of_a_child_beside_it_as_{status.lower()}": status for status in ENDS})
def ends(rest: Rest, case: str) -> None:
    """TERMINATE ends the workflow as it says, and terminates the child in the other branch of a fork."""
    task, inner = task_type(rest), task_type(rest, "inner")
    inputs = {"terminationStatus": case, "workflowOutput": {"q": "${a1.output.n}"}}
    if case != "COMPLETED":
        inputs["terminationReason"] = "so it is"
    child_name = register_workflow(rest, step(inner, "c1"), label="child")
    ending = [step(task, "a1"), system_task("TERMINATE", "end", **inputs)]
    on = start(rest, task, fork(ending, [sub_workflow(child_name)]), join("end", "sub"))
    child = on.started_by("sub")
    on.run(outputData={"n": 7})
    on.note_all(without=("join",))
    child.note_all()


@scenario
def an_end_with_an_output_that_is_a_text(rest: Rest) -> None:
    """The output that TERMINATE gives the workflow may be a text."""
    end = system_task("TERMINATE", "end", terminationStatus="COMPLETED", workflowOutput="text")
    start(rest, "none", end).note_all()
