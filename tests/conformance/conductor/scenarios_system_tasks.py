"""SET_VARIABLE, INLINE, TERMINATE and WAIT."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario
from .scenarios_forks import fork, join
from .workflows import Json, start, step, task_type


def _system(kind: str, reference: str, **inputs: Any) -> Json:
    return {"name": reference, "taskReferenceName": reference, "type": kind, "inputParameters": inputs}


@scenario
def a_variable_is_set(rest: Rest) -> None:
    """A variable is seen in the workflow and by what comes next."""
    task = task_type(rest)
    after = step(task, "after", inputParameters={"v": "${workflow.variables.v}"})
    on = start(rest, task, _system("SET_VARIABLE", "set", v="${workflow.input.x}", w=[1]), after)
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
    inline = _system("INLINE", "inline", evaluatorType="javascript", expression="$.a + 1", a="${workflow.input.x}")
    after = step(task, "after", inputParameters={"r": "${inline.output.result}"})
    start(rest, task, inline, after, given={"x": 41}).read()


@scenario
def an_end_before_the_end(rest: Rest) -> None:
    """TERMINATE ends the workflow with a status, a reason and an output."""
    task = task_type(rest)
    end = _system(
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
    on = start(rest, task, _system("TERMINATE", "end", terminationStatus="FAILED", terminationReason="bad"))
    on.settle("FAILED")
    on.read()


@scenario
def an_end_that_says_nothing(rest: Rest) -> None:
    """TERMINATE that was run again with another input, and is completed by hand, ends the workflow well."""
    task = task_type(rest)
    on = start(rest, task, _system("TERMINATE", "end", terminationStatus="FAILED"))
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
    end = _system("TERMINATE", "end", terminationStatus="COMPLETED")
    on = start(rest, task, fork([step(task, "open")], [step(quick, "quick"), end]), join("open", "end"))
    on.run(task=quick)
    on.settle("COMPLETED")
    on.note("open", "end")
    on.poll()


@scenario
def a_wait_for_a_result(rest: Rest) -> None:
    """WAIT without a duration waits for somebody's result."""
    task = task_type(rest)
    on = start(rest, task, _system("WAIT", "wait"), step(task, "after"))
    row = on.await_row("wait", "IN_PROGRESS")
    on.update(row, "COMPLETED", outputData={"a": 1})
    on.await_row("after")
    on.read()


@scenario
def a_wait_for_a_second(rest: Rest) -> None:
    """WAIT with a duration ends by itself."""
    task = task_type(rest)
    on = start(rest, task, _system("WAIT", "wait", duration="1 seconds"), step(task, "after"))
    on.await_row("wait", "IN_PROGRESS")
    on.await_row("after")
    on.read()
