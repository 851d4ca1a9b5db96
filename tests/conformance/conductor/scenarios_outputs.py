"""What becomes of output data."""

from __future__ import annotations

from ..rest import Rest
from ..scenario import scenario
from .workflows import StartedWorkflow, result, start_steps


def _raw(on: StartedWorkflow, output: bytes) -> None:
    """Send a result whose output is this JSON text, and read the task."""
    task = on.take()
    body = b'{"taskId": "%s", "workflowInstanceId": "%s", "status": "COMPLETED", "outputData": %s}'
    sent = body % (task["taskId"].encode(), on.id.encode(), output)
    with on.rest.unnoted():
        answer = on.rest.call("POST", "/tasks", body=sent, headers={"Content-Type": "application/json"})
    on.rest.note(f"the answer to {output.decode(errors='replace')}", answer.status)
    on.rest.note("the status", on.row("r0")["status"])
    on.rest.note("the output", repr(on.row("r0")["outputData"]))


@scenario
def numbers_stay_exact(rest: Rest) -> None:
    """Whole numbers of any size and fractions come back as they were."""
    _raw(start_steps(rest), b'{"big": 1180591620717411303424, "edge": 9007199254740993, "one": 1.0, "minus": -0.0}')


@scenario
def infinity_becomes_a_text(rest: Rest) -> None:
    """A number beyond what a double holds becomes the word Infinity."""
    _raw(start_steps(rest), b'{"a": 1e400}')


@scenario
def not_a_number_is_refused(rest: Rest) -> None:
    """NaN is no JSON."""
    _raw(start_steps(rest), b'{"a": NaN}')


@scenario
def the_last_of_equal_keys(rest: Rest) -> None:
    """Of a key that comes twice the last value counts."""
    _raw(start_steps(rest), b'{"a": 1, "a": 2}')


@scenario
def nulls_inside_are_kept(rest: Rest) -> None:
    """Nulls inside an output are kept."""
    _raw(start_steps(rest), b'{"a": null, "b": {"c": null}, "d": [null]}')


@scenario
def any_text_is_kept(rest: Rest) -> None:
    """NUL, emoji, the empty key and keys with dots are kept."""
    _raw(start_steps(rest), b'{"": 1, "a.b": 2, "nul": "a\\u0000b", "emoji": "\\ud83d\\ude00"}')


@scenario
def half_a_character(rest: Rest) -> None:
    """A lone surrogate becomes a question mark."""
    _raw(start_steps(rest), b'{"a": "x\\ud800y"}')


@scenario
def an_output_of_null(rest: Rest) -> None:
    """Null is an empty output."""
    _raw(start_steps(rest), b"null")


@scenario
def an_output_that_is_a_list(rest: Rest) -> None:
    """An output is a map."""
    _raw(start_steps(rest), b"[1]")


@scenario
def an_output_that_is_a_text(rest: Rest) -> None:
    """An output is a map."""
    _raw(start_steps(rest), b'"text"')


@scenario
def a_very_deep_output(rest: Rest) -> None:
    """A nesting beyond a thousand is refused."""
    on = start_steps(rest)
    task = on.take()
    with rest.unnoted():
        deep = b'{"taskId": "%s", "workflowInstanceId": "%s", "status": "COMPLETED", "outputData": {"a": %s}}'
        body = deep % (task["taskId"].encode(), on.id.encode(), b"[" * 1100 + b"]" * 1100)
        answer = rest.call("POST", "/tasks", body=body, headers={"Content-Type": "application/json"})
    rest.note("the answer", answer.status)
    rest.note("the status", on.row("r0")["status"])


@scenario
def a_missing_output(rest: Rest) -> None:
    """A result without an output has an empty one."""
    on = start_steps(rest)
    on.update(on.take(), "COMPLETED")
    on.read()


@scenario
def an_output_is_replaced(rest: Rest) -> None:
    """A later result of the same attempt replaces the output as a whole."""
    on = start_steps(rest)
    on.finish(on.take(), "IN_PROGRESS", outputData={"a": 1, "b": 1})
    on.finish(on.take(), "IN_PROGRESS", outputData={"b": 2})
    on.read()


@scenario
def an_output_is_cleared(rest: Rest) -> None:
    """A later result without an output clears it."""
    on = start_steps(rest)
    on.finish(on.take(), "IN_PROGRESS", outputData={"a": 1})
    on.finish(on.take(), "COMPLETED")
    on.read()


@scenario
def an_output_is_shown_to_the_next_poller(rest: Rest) -> None:
    """Who gets a task that was handed back sees what was put out so far."""
    on = start_steps(rest)
    on.finish(on.take(), "IN_PROGRESS", outputData={"progress": 1})
    rest.sleep(0.05)
    on.poll("w2")


@scenario
def a_result_that_is_null(rest: Rest) -> None:
    """A status of null is a missing one."""
    on = start_steps(rest)
    rest.call("POST", "/tasks", json={**result(on.take(), None), "status": None, "outputData": None})
