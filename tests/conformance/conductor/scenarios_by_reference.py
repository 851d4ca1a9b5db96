"""Results by workflow and reference name."""

from __future__ import annotations

from typing import Any

from ...http_answer import Answer
from ..rest import Rest
from ..scenario import scenario
from .workflows import StartedWorkflow, start_steps


def _report(on: StartedWorkflow, reference: str, status: str, output: Any, path: str = "", **query: Any) -> Answer:
    template = "/tasks/{workflow}/{reference}/{status}" + path
    return on.act("POST", template, reference=reference, status=status, json=output, query=query)


@scenario
def a_task_is_completed(rest: Rest) -> None:
    """The body is the output, the answer the task id; nobody need have polled."""
    on = start_steps(rest, steps=2)
    _report(on, "r0", "COMPLETED", {"a": 1}, workerid="w5")
    on.read()


@scenario
def a_task_fails(rest: Rest) -> None:
    """A failure is retried like any other."""
    on = start_steps(rest)
    on.take()
    _report(on, "r0", "FAILED", {"a": 1})
    on.read()


@scenario
def in_progress(rest: Rest) -> None:
    """A task may be given back this way."""
    on = start_steps(rest)
    on.take()
    _report(on, "r0", "IN_PROGRESS", {"a": 1})
    on.read()


@scenario
def nothing_is_pending(rest: Rest) -> None:
    """A reference without a pending task is answered by nothing."""
    on = start_steps(rest, steps=2)
    _report(on, "r1", "COMPLETED", {})
    on.run()
    _report(on, "r0", "COMPLETED", {})
    on.read()


@scenario
def an_unknown_reference(rest: Rest) -> None:
    """An unknown reference is answered by nothing."""
    _report(start_steps(rest), "nobody", "COMPLETED", {})


@scenario
def an_unknown_workflow(rest: Rest) -> None:
    """An unknown workflow is answered by nothing."""
    rest.call("POST", "/tasks/{workflow}/{reference}/COMPLETED", workflow="unknown", reference="r0", json={})


@scenario
def an_unknown_status(rest: Rest) -> None:
    """A status that is none is a server error."""
    _report(start_steps(rest), "r0", "DONE", {})


@scenario
def without_an_output(rest: Rest) -> None:
    """The output must be sent."""
    start_steps(rest).act(
        "POST", "/tasks/{workflow}/r0/COMPLETED", body=b"", headers={"Content-Type": "application/json"}
    )


@scenario
def and_the_workflow_is_answered(rest: Rest) -> None:
    """The synchronous form answers with the workflow."""
    _report(start_steps(rest), "r0", "COMPLETED", {"a": 1}, path="/sync")


@scenario
def an_output_is_added_to(rest: Rest) -> None:
    """The body is added to the output that the task has, and the worker's name stays."""
    on = start_steps(rest)
    on.finish(on.take(), "IN_PROGRESS", outputData={"a": 1, "b": 1})
    _report(on, "r0", "COMPLETED", {"b": 2})
    on.read()
