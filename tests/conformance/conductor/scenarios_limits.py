"""Sizes: what is cut, moved away and refused."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import scenario
from .workflows import StartedWorkflow, register_workflow, start_steps, step, task_type

KILO = 1024


def _output(rest: Rest, size: int, **step_fields: Any) -> StartedWorkflow:
    """Report an output of so many kilobytes from the first of two steps."""
    on = start_steps(rest, steps=2, **step_fields)
    on.finish(on.take(), outputData={"a": "x" * (size * KILO)})
    rest.note("the length of the output", len(str(on.row("r0")["outputData"].get("a", ""))))
    return on


@scenario
def an_output_that_fits(rest: Rest) -> None:
    """An output of two megabytes is kept in the row."""
    on = _output(rest, 2000)
    rest.note("the members of the row", sorted(on.row("r0")))


@scenario
def an_output_that_is_moved_away(rest: Rest) -> None:
    """An output above three megabytes is empty in the row, which tells where it is."""
    _output(rest, 4000).read()


@scenario
def an_output_that_was_moved_away_is_used(rest: Rest) -> None:
    """What refers to a moved output is resolved nevertheless."""
    on = _output(rest, 4000, step_fields={"inputParameters": {"a": "${r0.output.a}"}})
    task = on.take()
    rest.note("the length of the input", len(str(task["inputData"].get("a", ""))))
    rest.note("it is elsewhere", "externalInputPayloadStoragePath" in task)


@scenario
def an_output_that_is_refused(rest: Rest) -> None:
    """An output above ten megabytes fails the task for good, although the answer is 200."""
    _output(rest, 11_000).read()


@scenario
def a_reason_is_cut(rest: Rest) -> None:
    """A reason is kept up to 500 characters."""
    on = start_steps(rest)
    on.finish(on.take(), "FAILED", reasonForIncompletion="0123456789" * 60)
    rest.note("the length of the reason", len(on.rows()[0]["reasonForIncompletion"]))
    rest.note("its end", on.rows()[0]["reasonForIncompletion"][-5:])


@scenario
def a_reason_that_fits(rest: Rest) -> None:
    """A reason of 500 characters is kept whole."""
    on = start_steps(rest, {"retryCount": 0})
    on.finish(on.take(), "FAILED", reasonForIncompletion="é" * 500)
    on.read()


@scenario
def a_workflow_input_that_is_moved_away(rest: Rest) -> None:
    """A workflow's input above three megabytes is moved away, and so is that of a task that gets it."""
    on = start_steps(rest, given={"x": "y" * (4000 * KILO)})
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


@scenario
def a_workflow_output_that_is_moved_away(rest: Rest) -> None:
    """A workflow's output above three megabytes is moved away."""
    on = start_steps(rest)
    on.finish(on.take(), outputData={"a": "x" * (4000 * KILO)})
    on.read()


@scenario
def a_long_worker_id(rest: Rest) -> None:
    """A worker's name may be long."""
    on = start_steps(rest)
    rest.note("the length of the name", len(on.take("w" * 1000)["workerId"]))
