"""Results by workflow and reference name."""

from __future__ import annotations

from typing import Any

from ...http_answer import Answer
from ..rest import Rest
from ..scenario import scenario, scenario_for_each, scenario_with
from .workflows import StartedWorkflow, start_steps


def _report(on: StartedWorkflow, reference: str, status: str, output: Any, path: str = "", **query: Any) -> Answer:
    template = "/tasks/{workflow}/{reference}/{status}" + path
    return on.act("POST", template, reference=reference, status=status, json=output, query=query)


@scenario_with(start_steps, steps=2)
def a_task_is_completed(on: StartedWorkflow) -> None:
    """The body is the output, the answer the task id; nobody need have polled."""
    _report(on, "r0", "COMPLETED", {"a": 1}, workerid="w5")
    on.read()


@scenario_for_each({"a_task_fails": "FAILED", "in_progress": "IN_PROGRESS"})
def statuses(rest: Rest, case: str) -> None:
    """A failure is retried like any other, and a task may be given back this way."""
    on = start_steps(rest)
    on.take()
    _report(on, "r0", case, {"a": 1})
    on.read()


@scenario_with(start_steps, steps=2)
def nothing_is_pending(on: StartedWorkflow) -> None:
    """A reference without a pending task is answered by nothing."""
    _report(on, "r1", "COMPLETED", {})
    on.run()
    _report(on, "r0", "COMPLETED", {})
    on.read()


@scenario_for_each({"an_unknown_reference": ("nobody", "COMPLETED"), "an_unknown_status": ("r0", "DONE")})
def unknown(rest: Rest, case: tuple[str, str]) -> None:
    """An unknown reference is answered by nothing, and a status that is none by a server error."""
    _report(start_steps(rest), *case, {})


@scenario
def an_unknown_workflow(rest: Rest) -> None:
    """An unknown workflow is answered by nothing."""
    rest.call("POST", "/tasks/{workflow}/{reference}/COMPLETED", workflow="unknown", reference="r0", json={})


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


@scenario_with(start_steps)
def an_output_is_added_to(on: StartedWorkflow) -> None:
    """The body is added to the output that the task has, and the worker's name stays."""
    on.finish(on.take(), "IN_PROGRESS", outputData={"a": 1, "b": 1})
    _report(on, "r0", "COMPLETED", {"b": 2})
    on.read()
