"""What becomes of output data, and sizes: what is cut, moved away and refused."""

from __future__ import annotations

from typing import Any

from ..rest import Rest
from ..scenario import Declared, scenario, scenario_for_each, scenario_with, to
from .workflows import StartedWorkflow, on, one_step, register_workflow, result, start_steps, step, task_type

OUTPUTS = {
    # Whole numbers of any size and fractions come back as they were.
    "numbers_stay_exact": b'{"big": 1180591620717411303424, "edge": 9007199254740993, "one": 1.0, "minus": -0.0}',
    # A number beyond what a double holds becomes the word Infinity.
    "infinity_becomes_a_text": b'{"a": 1e400}',
    # NaN is no JSON.
    "not_a_number_is_refused": b'{"a": NaN}',
    # Of a key that comes twice the last value counts.
    "the_last_of_equal_keys": b'{"a": 1, "a": 2}',
    # Nulls inside an output are kept.
    "nulls_inside_are_kept": b'{"a": null, "b": {"c": null}, "d": [null]}',
    # NUL, emoji, the empty key and keys with dots are kept.
    "any_text_is_kept": b'{"": 1, "a.b": 2, "nul": "a\\u0000b", "emoji": "\\ud83d\\ude00"}',
    # A lone surrogate becomes a question mark.
    "half_a_character": b'{"a": "x\\ud800y"}',
    # An output is a map.
    "an_output_that_is_a_text": b'"text"',
    "an_output_that_is_a_list": b"[1]",
    # Null is an empty output.
    "an_output_of_null": b"null",
}


def _status_of(on: StartedWorkflow, output: bytes) -> int:
    """Report a result whose output is this JSON text; returns the status of the answer."""
    body = b'{"taskId": "%s", "workflowInstanceId": "%s", "status": "COMPLETED", "outputData": %s}'
    sent = body % (on.take()["taskId"].encode(), on.id.encode(), output)
    return on.silent.rest.post("/tasks", body=sent, headers={"Content-Type": "application/json"}).status


@scenario_for_each(OUTPUTS)
def outputs(rest: Rest, case: bytes) -> None:
    """The output of a result is this JSON text."""
    on = start_steps(rest)
    rest.note(f"the answer to {case.decode(errors='replace')}", _status_of(on, case))
    rest.note("the status", on.row("r0")["status"])
    rest.note("the output", repr(on.row("r0")["outputData"]))


@scenario_with(start_steps)
def a_very_deep_output(on: StartedWorkflow) -> None:
    """A nesting beyond a thousand is refused."""
    on.rest.note("the answer", _status_of(on, b'{"a": %s}' % (b"[" * 1100 + b"]" * 1100)))
    on.rest.note("the status", on.row("r0")["status"])


@scenario_with(start_steps)
def a_result_that_is_null(on: StartedWorkflow) -> None:
    """A status of null is a missing one."""
    on.rest.post("/tasks", {**result(on.take(), None), "status": None, "outputData": None})


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


@scenario_with(_output, 4000, step_fields={"inputParameters": {"a": "${r0.output.a}"}})
def an_output_that_was_moved_away_is_used(on: StartedWorkflow) -> None:
    """What refers to a moved output is resolved nevertheless."""
    task = on.take()
    on.rest.note("the length of the input", len(str(task["inputData"].get("a", ""))))
    on.rest.note("it is elsewhere", "externalInputPayloadStoragePath" in task)


@scenario_with(start_steps)
def a_reason_is_cut(on: StartedWorkflow) -> None:
    """A reason is kept up to 500 characters."""
    on.finish(on.take(), "FAILED", reasonForIncompletion="0123456789" * 60)
    on.rest.note("the length of the reason", len(on.rows()[0]["reasonForIncompletion"]))
    on.rest.note("its end", on.rows()[0]["reasonForIncompletion"][-5:])


@scenario
def a_workflow_input_that_is_refused(rest: Rest) -> None:
    """A workflow's input above ten megabytes is refused."""
    body = {"name": register_workflow(rest, step(task_type(rest))), "input": {"x": "y" * (11_000 * KILO)}}
    answer = rest.silent.post("/workflow", body)
    rest.note("the answer", answer.status)
    rest.note("its body", answer.json | {"instance": ""} if answer.status >= 400 else "")


@scenario_with(start_steps)
def a_long_worker_id(on: StartedWorkflow) -> None:
    """A worker's name may be long."""
    on.rest.note("the length of the name", len(on.take("w" * 1000)["workerId"]))


SCENARIOS: Declared = {
    # A later result of the same attempt replaces the output as a whole.
    "an_output_is_replaced": one_step(
        on.finish(on.take(), "IN_PROGRESS", outputData={"a": 1, "b": 1}),
        on.finish(on.take(), "IN_PROGRESS", outputData={"b": 2}),
        on.read(),
    ),
    # A later result without an output clears it.
    "an_output_is_cleared": one_step(
        on.finish(on.take(), "IN_PROGRESS", outputData={"a": 1}), on.finish(on.take(), "COMPLETED"), on.read()
    ),
    # Who gets a task that was handed back sees what was put out so far.
    "an_output_is_shown_to_the_next_poller": one_step(
        on.finish(on.take(), "IN_PROGRESS", outputData={"progress": 1}), on.rest.sleep(0.05), on.poll("w2")
    ),
    # An output above three megabytes is empty in the row, which tells where it is.
    "an_output_that_is_moved_away": to(_output, 4000)(on.read()),
    # An output above ten megabytes fails the task for good, although the answer is 200.
    "an_output_that_is_refused": to(_output, 11_000)(on.read()),
    # A reason of 500 characters is kept whole.
    "a_reason_that_fits": to(start_steps, {"retryCount": 0})(
        on.finish(on.take(), "FAILED", reasonForIncompletion="é" * 500), on.read()
    ),
    # A workflow's input above three megabytes is moved away, and so is that of a task that gets it.
    "a_workflow_input_that_is_moved_away": to(start_steps, given={"x": "y" * (4000 * KILO)})(on.read(), on.poll()),
    # A workflow's output above three megabytes is moved away.
    "a_workflow_output_that_is_moved_away": one_step(
        on.finish(on.take(), outputData={"a": "x" * (4000 * KILO)}), on.read()
    ),
}
