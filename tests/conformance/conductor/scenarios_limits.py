"""Sizes: what is cut, moved away and refused."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario, scenario_with
from .workflows import StartedWorkflow, register_workflow, start_steps, step, task_type

KILO = 1024


def _output(rest: Rest, size: int, **step_fields: Any) -> StartedWorkflow:
    """Report an output of so many kilobytes from the first of two steps."""
    on = start_steps(rest, steps=2, **step_fields)
    on.finish(on.take(), outputData={"a": "x" * (size * KILO)})
    rest.note("the length of the output", len(str(on.row("r0")["outputData"].get("a", ""))))
    return on


@scenario_with(_output, 2000)
def an_output_that_fits(on: StartedWorkflow) -> None:
    """An output of two megabytes is kept in the row."""
    on.rest.note("the members of the row", sorted(on.row("r0")))


@scenario
def an_output_that_is_moved_away(rest: Rest) -> None:
    """An output above three megabytes is empty in the row, which tells where it is."""
    _output(rest, 4000).read()


@scenario_with(_output, 4000, step_fields={"inputParameters": {"a": "${r0.output.a}"}})
def an_output_that_was_moved_away_is_used(on: StartedWorkflow) -> None:
    """What refers to a moved output is resolved nevertheless."""
    task = on.take()
    on.rest.note("the length of the input", len(str(task["inputData"].get("a", ""))))
    on.rest.note("it is elsewhere", "externalInputPayloadStoragePath" in task)


@scenario
def an_output_that_is_refused(rest: Rest) -> None:
    """An output above ten megabytes fails the task for good, although the answer is 200."""
    _output(rest, 11_000).read()


@scenario_with(start_steps)
def a_reason_is_cut(on: StartedWorkflow) -> None:
    """A reason is kept up to 500 characters."""
    on.finish(on.take(), "FAILED", reasonForIncompletion="0123456789" * 60)
    on.rest.note("the length of the reason", len(on.rows()[0]["reasonForIncompletion"]))
    on.rest.note("its end", on.rows()[0]["reasonForIncompletion"][-5:])


@scenario_with(start_steps, {"retryCount": 0})
def a_reason_that_fits(on: StartedWorkflow) -> None:
    """A reason of 500 characters is kept whole."""
    on.finish(on.take(), "FAILED", reasonForIncompletion="é" * 500)
    on.read()


@scenario_with(start_steps, given={"x": "y" * (4000 * KILO)})
def a_workflow_input_that_is_moved_away(on: StartedWorkflow) -> None:
    """A workflow's input above three megabytes is moved away, and so is that of a task that gets it."""
    on.read()
    on.poll()


@scenario
def a_workflow_input_that_is_refused(rest: Rest) -> None:
    """A workflow's input above ten megabytes is refused."""
    with rest.unnoted():
        body = {"name": register_workflow(rest, step(task_type(rest))), "input": {"x": "y" * (11_000 * KILO)}}
        answer = rest.call("POST", "/workflow", json=body)
    rest.note("the answer", answer.status)
    rest.note("its body", answer.json | {"instance": ""} if answer.status >= 400 else "")


@scenario_with(start_steps)
def a_workflow_output_that_is_moved_away(on: StartedWorkflow) -> None:
    """A workflow's output above three megabytes is moved away."""
    on.finish(on.take(), outputData={"a": "x" * (4000 * KILO)})
    on.read()


@scenario_with(start_steps)
def a_long_worker_id(on: StartedWorkflow) -> None:
    """A worker's name may be long."""
    on.rest.note("the length of the name", len(on.take("w" * 1000)["workerId"]))
