"""What becomes of output data."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario_for_each, scenario_with
from .workflows import StartedWorkflow, result, start_steps

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
    # Null is an empty output.
    "an_output_of_null": b"null",
    # An output is a map.
    "an_output_that_is_a_list": b"[1]",
}


@scenario_for_each(OUTPUTS)
def outputs(rest: Rest, case: bytes) -> None:
    """The output of a result is this JSON text."""
    on = start_steps(rest)
    task = on.take()
    body = b'{"taskId": "%s", "workflowInstanceId": "%s", "status": "COMPLETED", "outputData": %s}'
    sent = body % (task["taskId"].encode(), on.id.encode(), case)
    with rest.unnoted():
        answer = rest.call("POST", "/tasks", body=sent, headers={"Content-Type": "application/json"})
    rest.note(f"the answer to {case.decode(errors='replace')}", answer.status)
    rest.note("the status", on.row("r0")["status"])
    rest.note("the output", repr(on.row("r0")["outputData"]))


@scenario_with(start_steps)
def a_very_deep_output(on: StartedWorkflow) -> None:
    """A nesting beyond a thousand is refused."""
    task = on.take()
    with on.rest.unnoted():
        deep = b'{"taskId": "%s", "workflowInstanceId": "%s", "status": "COMPLETED", "outputData": {"a": %s}}'
        body = deep % (task["taskId"].encode(), on.id.encode(), b"[" * 1100 + b"]" * 1100)
        answer = on.rest.call("POST", "/tasks", body=body, headers={"Content-Type": "application/json"})
    on.rest.note("the answer", answer.status)
    on.rest.note("the status", on.row("r0")["status"])


@scenario_with(start_steps)
def an_output_is_replaced(on: StartedWorkflow) -> None:
    """A later result of the same attempt replaces the output as a whole."""
    on.finish(on.take(), "IN_PROGRESS", outputData={"a": 1, "b": 1})
    on.finish(on.take(), "IN_PROGRESS", outputData={"b": 2})
    on.read()


@scenario_with(start_steps)
def an_output_is_cleared(on: StartedWorkflow) -> None:
    """A later result without an output clears it."""
    on.finish(on.take(), "IN_PROGRESS", outputData={"a": 1})
    on.finish(on.take(), "COMPLETED")
    on.read()


@scenario_with(start_steps)
def an_output_is_shown_to_the_next_poller(on: StartedWorkflow) -> None:
    """Who gets a task that was handed back sees what was put out so far."""
    on.finish(on.take(), "IN_PROGRESS", outputData={"progress": 1})
    on.rest.sleep(0.05)
    on.poll("w2")


@scenario_with(start_steps)
def a_result_that_is_null(on: StartedWorkflow) -> None:
    """A status of null is a missing one."""
    on.rest.call("POST", "/tasks", json={**result(on.take(), None), "status": None, "outputData": None})
