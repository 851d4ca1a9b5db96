"""SWITCH."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario
from .workflows import Json, StartedWorkflow, start, step, task_type


def switch(cases: dict[str, list[Json]], default: list[Json] | None = None, **fields: Any) -> Json:
    """A switch by the value of `x`."""
    return {
        "name": "switch",
        "taskReferenceName": "switch",
        "type": "SWITCH",
        "evaluatorType": "value-param",
        "expression": "case",
        "inputParameters": {"case": "${workflow.input.x}"},
        "decisionCases": cases,
        "defaultCase": default or [],
        **fields,
    }


def _switched(rest: Rest, value: Any, **fields: Any) -> StartedWorkflow:
    task = task_type(rest)
    made = switch({"1": [step(task, "one")], "two": [step(task, "two")]}, [step(task, "other")], **fields)
    return start(rest, task, made, step(task, "last"), given={"x": value})


@scenario
def a_case_is_chosen(rest: Rest) -> None:
    """The case of the value is scheduled, the others are not."""
    _switched(rest, "two").read()


@scenario
def a_number_is_a_case(rest: Rest) -> None:
    """A number chooses the case of its digits."""
    _switched(rest, 1).read()


@scenario
def no_case_fits(rest: Rest) -> None:
    """Without a fitting case the default is scheduled."""
    _switched(rest, "nothing").read()


@scenario
def a_missing_value(rest: Rest) -> None:
    """A value that is null chooses the default."""
    _switched(rest, None).read()


@scenario
def after_the_case(rest: Rest) -> None:
    """What comes after a switch follows the chosen case."""
    on = _switched(rest, "two")
    on.run()
    on.read()


@scenario
def no_case_and_no_default(rest: Rest) -> None:
    """A switch that chooses nothing is passed."""
    task = task_type(rest)
    start(rest, task, switch({"two": [step(task, "two")]}), step(task, "last")).read()


@scenario
def an_empty_case(rest: Rest) -> None:
    """A case without steps, next to a default that has some."""
    task = task_type(rest)
    made = switch({"1": [], "2": [step(task, "two")]}, [step(task, "other")])
    start(rest, task, made, step(task, "last"), given={"x": 1}).read()


@scenario
def an_expression_that_fails(rest: Rest) -> None:
    """A switch whose expression cannot be evaluated is not tried again, whatever its number of retries."""
    task = task_type(rest)
    made = switch({"1": [step(task, "one")]}, evaluatorType="javascript", expression="$.nobody['n']", retryCount=2)
    on = start(rest, task, made, step(task, "last"))
    on.settle("FAILED", "RUNNING")
    on.read()


@scenario
def an_expression(rest: Rest) -> None:
    """A switch may choose by an expression."""
    _switched(rest, 5, evaluatorType="javascript", expression="$.case > 3 ? 'two' : 'one'").read()


@scenario
def a_statement(rest: Rest) -> None:
    """A switch may choose by a statement."""
    statement = "if ($.case == 5) { 'two'; } else { 'one'; }"
    _switched(rest, 5, evaluatorType="javascript", expression=statement).read()


@scenario
def a_switch_on_an_output(rest: Rest) -> None:
    """A switch may depend on an earlier task, and its case may have several steps."""
    task = task_type(rest)
    case = [step(task, "one"), step(task, "two")]
    made = switch({"go": case}, inputParameters={"case": "${first.output.way}"})
    on = start(rest, task, step(task, "first"), made)
    on.run(outputData={"way": "go"})
    on.read()
    on.run()
    on.run(outputData={"end": 1})
    on.read()


@scenario
def a_failure_in_a_case(rest: Rest) -> None:
    """A failure in a case is retried, and fails the workflow in the end."""
    on = _switched(rest, "two")
    on.run("FAILED")
    on.run("FAILED", reasonForIncompletion="boo")
    on.read()


@scenario
def a_retry_in_a_case(rest: Rest) -> None:
    """A retry of the workflow goes on within the case."""
    on = _switched(rest, "two")
    on.run("FAILED_WITH_TERMINAL_ERROR")
    on.act("POST", "/workflow/{workflow}/retry")
    on.run()
    on.read()


@scenario
def a_switch_in_a_loop(rest: Rest) -> None:
    """A case in a loop has the number of the turn."""
    task = task_type(rest)
    made = switch(
        {"1": [step(task, "one")]}, [step(task, "other")], inputParameters={"case": "${loop.output.iteration}"}
    )
    loop = {
        "name": "loop",
        "taskReferenceName": "loop",
        "type": "DO_WHILE",
        "loopCondition": "$.loop['iteration'] < 2",
        "loopOver": [made],
    }
    on = start(rest, task, loop)
    on.run()
    on.run()
    on.settle("COMPLETED")
    on.read()
