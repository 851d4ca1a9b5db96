"""Whole workflows, one or many: end, pause, skip, remove, look at."""

from __future__ import annotations

from collections.abc import Iterator

from ..rest import Rest
from ..scenario import Declared, rest, scenario, scenario_with, send, to
from .operators import fork, inline, join, operator, system_task
from .workflows import (
    Json,
    StartedWorkflow,
    definition,
    on,
    one_step,
    register_workflow,
    start,
    start_registered,
    start_steps,
    step,
    task_type,
    two_steps,
)


def _paused(rest: Rest, *, steps: int = 1) -> StartedWorkflow:
    """A paused workflow."""
    on = start_steps(rest, steps=steps)
    on.silent.pause()
    return on


def _rescue(rest: Rest) -> str:
    """Register a workflow for failures."""
    return register_workflow(rest, step(task_type(rest, "rescuing")), label="rescue")


def _handler_inputs(rest: Rest, rescue: str) -> Iterator[Json]:
    """The input of each workflow for failures that was started."""
    for started in rest.get("/workflow/running/{name}", name=rescue).json:
        yield rest.silent.get("/workflow/{workflow}", workflow=started).json["input"]


@scenario
def a_failure_workflow(rest: Rest) -> None:
    """A failed workflow starts the workflow that is named for failures, and tells it what failed."""
    rescue = _rescue(rest)
    task, name = task_type(rest, retryCount=0), rest.name("workflow")
    rest.post("/metadata/workflow", definition(name, step(task), failureWorkflow=rescue))
    on = start_registered(rest, task, name)
    on.fail()
    on.read()
    for given in _handler_inputs(rest, rescue):
        rest.note("what it is told", {key: value for key, value in given.items() if key != "failedWorkflow"})
        rest.note("the failed workflow is told whole", given["failedWorkflow"]["workflowId"] == on.id)


@scenario
def a_failure_workflow_is_told_the_whole_reason(rest: Rest) -> None:
    """The workflow for failures is told all of a reason of which answers show 500 characters."""
    rescue = _rescue(rest)
    task = task_type(rest, retryCount=0)
    inner = register_workflow(rest, step(task), label="inner")
    on = start(rest, task, operator("SUB_WORKFLOW", "sub", subWorkflowParam={"name": inner}), failureWorkflow=rescue)
    on.run("FAILED", reasonForIncompletion="why" * 200)
    on.settle("FAILED")
    for given in _handler_inputs(rest, rescue):
        handler_input = given["failedWorkflow"]["tasks"][0]["reasonForIncompletion"]
        rest.note("how often it says why", handler_input.count("why"))


@scenario
def a_failure_workflow_of_a_workflow_that_took_too_long(rest: Rest) -> None:
    """The workflow for failures is told of no task where none is to blame."""
    rescue = _rescue(rest)
    task, name = task_type(rest), rest.name("workflow")
    body = definition(name, step(task), failureWorkflow=rescue, timeoutSeconds=1, timeoutPolicy="TIME_OUT_WF")
    rest.post("/metadata/workflow", body)
    on = start_registered(rest, task, name)
    on.wait(1.2)
    on.settle("TIMED_OUT")
    for given in _handler_inputs(rest, rescue):
        rest.note("what it is told", sorted(given))


@scenario
def the_shape_of_a_failed_workflow(rest: Rest) -> None:
    """The workflow for failures is given the failed one in the shape in which the server stores it."""
    rescue = _rescue(rest)
    task = task_type(rest, retryCount=0)
    on = start(rest, task, step(task), failureWorkflow=rescue, given={"x": None, "y": [1]})
    on.run("FAILED", outputData={"n": None})
    (handler_input,) = _handler_inputs(rest.silent, rescue)
    rest.note("the failed workflow", handler_input["failedWorkflow"])


def _rescued(rest: Rest, *tasks: Json, failure_workflow: str | None = None) -> StartedWorkflow:
    """A workflow of these steps with a workflow for failures."""
    rescue = register_workflow(rest, step(task_type(rest, "rescuing"), "r1"), label="rescue")
    name = failure_workflow or rescue
    return start(rest, "none", *tasks, failureWorkflow=name, outputParameters={"q": 1})


@scenario
def a_failure_workflow_of_a_terminated_workflow(rest: Rest) -> None:
    """A termination starts the workflow for failures, too."""
    _rescued(rest, step(task_type(rest))).noted.terminate()


@scenario
def a_failure_workflow_that_is_unknown(rest: Rest) -> None:
    """A workflow fails although the one for failures is not there."""
    task = task_type(rest, retryCount=0)
    _rescued(rest, step(task), failure_workflow="perago_nobody").noted.fail(task)


@scenario
def a_workflow_that_cannot_be_decided(rest: Rest) -> None:
    """A fork with a branch of no steps passes validation, and its start is a server error; others run on."""
    name = register_workflow(rest, fork([], [inline("script", "1")]), join("script"))
    rest.post("/workflow", {"name": name})
    start(rest, "none", inline("script", "1")).noted.settle("COMPLETED")


@scenario_with(start_steps)
def pausing_and_resuming(on: StartedWorkflow) -> None:
    """What succeeded and what did not is told by id."""
    other = on.start_another()
    on.rest.put("/workflow/bulk/pause", [on.id, other.id])
    on.read(query={"includeTasks": "false"})
    on.rest.put("/workflow/bulk/resume", [on.id, other.id])
    on.read(query={"includeTasks": "false"})


@scenario_with(start_steps)
def terminating(on: StartedWorkflow) -> None:
    """All are terminated with the same reason."""
    other = on.start_another()
    on.rest.post("/workflow/bulk/terminate", query={"reason": "over"}, json=[on.id, other.id])
    other.read()


SCENARIOS: Declared = {
    # An unknown workflow is a 404.
    "termination_of_an_unknown_workflow": send(rest.delete("/workflow/{workflow}", workflow="unknown")),
    "a_pause_of_an_unknown_workflow": send(rest.put("/workflow/{workflow}/pause", workflow="unknown")),
    "removing_an_unknown_workflow": send(rest.delete("/workflow/{workflow}/remove", workflow="unknown")),
    "looking_at_an_unknown_workflow": send(rest.put("/workflow/decide/{workflow}", workflow="unknown")),
    # An ended workflow can be neither paused nor resumed, and has no callbacks.
    "a_pause_of_an_ended_workflow": one_step(on.run(), on.pause()),
    "resuming_an_ended_workflow": one_step(on.run(), on.resume()),
    "resetting_the_callbacks_of_an_ended_workflow": one_step(on.run(), on.reset_callbacks()),
    # A paused workflow can be terminated. It cannot be removed, and none of its steps can be skipped.
    "termination_of_a_paused_workflow": to(_paused)(on.terminate("over"), on.read()),
    "removing_a_paused_workflow": to(_paused)(on.remove(), on.read()),
    "skipping_a_step_of_a_paused_workflow": to(_paused, steps=2)(on.skip("r1"), on.read()),
    # A step that has not run can be skipped, with an input and an output.
    "skipping_a_step": to(start_steps, steps=3)(
        on.skip("r1", taskInput={"i": 1}, taskOutput={"o": 2}), on.run(), on.read()
    ),
    # A step that has begun, or is not in the definition, cannot be skipped.
    "skipping_a_step_that_ran": two_steps(on.skip("r0")),
    "skipping_an_unknown_step": one_step(on.skip("nobody")),
    # TERMINATE as a failure starts the workflow for failures, whose id the output tells.
    "a_failure_workflow_of_a_workflow_that_ends_itself": to(
        _rescued, system_task("TERMINATE", "end", terminationStatus="FAILED", workflowOutput={"n": 1})
    )(on.note_all()),
    # A workflow for which the action makes no sense is reported as a mistake.
    "resuming_many_that_are_not_paused": one_step(on.rest.put("/workflow/bulk/resume", [on.id])),
    "restarting_what_runs": one_step(on.rest.post("/workflow/bulk/restart", [on.id])),
    # Termination cancels what is open and tells the reason.
    "termination": two_steps(on.take(), on.terminate("no longer needed"), on.read()),
    # A reason need not be given.
    "termination_without_a_reason": one_step(on.terminate(), on.read()),
    # A second termination is fine, and changes nothing.
    "termination_again": one_step(on.terminate("first"), on.terminate("second"), on.read()),
    # A completed workflow cannot be terminated.
    "termination_of_a_completed_workflow": one_step(on.run(), on.terminate(), on.read()),
    # A failed workflow can be terminated.
    "termination_of_a_failed_workflow": to(start_steps, {"retryCount": 0})(on.fail(), on.terminate("over"), on.read()),
    # A paused workflow's tasks are handed out and completed, but nothing comes next.
    "a_paused_workflow_still_serves": two_steps(
        on.pause(), on.update(on.take(), "COMPLETED", outputData={"a": 1}), on.read(), on.resume(), on.read()
    ),
    # A paused workflow retries after it was resumed.
    "a_failure_in_a_paused_workflow": to(_paused)(
        on.update(on.take(), "FAILED", reasonForIncompletion="boo"), on.read(), on.resume(), on.read()
    ),
    # A paused workflow does not complete before it was resumed.
    "the_last_result_of_a_paused_workflow": to(_paused)(on.run(), on.read(), on.resume(), on.read()),
    # Looking at a paused workflow does not wake it.
    "a_look_at_a_paused_workflow": to(_paused, steps=2)(on.run(), on.evaluate(), on.read()),
    # A second pause is fine.
    "a_pause_twice": one_step(on.pause(), on.pause()),
    # A workflow that is not paused cannot be resumed.
    "resuming_what_is_not_paused": one_step(on.resume()),
    # What a skipped step was given and put out need not be told.
    "skipping_without_a_body": two_steps(on.skip("r1"), on.run(), on.read()),
    # A running workflow cannot be removed.
    "removing_a_running_workflow": one_step(on.remove(), on.read()),
    # To be archived a workflow must have ended; without an archive it is forgotten while it runs.
    "removing_a_running_workflow_without_archiving_it": one_step(
        on.remove(archiveWorkflow="true"), on.remove(archiveWorkflow="x"), on.remove(archiveWorkflow="false"), on.read()
    ),
    # A reset makes tasks that wait for their delay pollable.
    "resetting_callbacks": to(start_steps, {"retryDelaySeconds": 60})(
        on.run("FAILED"), on.reset_callbacks(), on.read(), on.poll()
    ),
    # A mistake with one does not keep the others.
    "an_unknown_one_among_them": one_step(on.rest.put("/workflow/bulk/pause", ["unknown", on.id])),
    # A completed workflow is told as a mistake.
    "terminating_what_has_ended": one_step(on.run(), on.rest.post("/workflow/bulk/terminate", [on.id])),
    # All are retried.
    "retrying": to(start_steps, {"retryCount": 0})(on.fail(), on.rest.post("/workflow/bulk/retry", [on.id]), on.read()),
    # All are restarted.
    "restarting": one_step(on.run(), on.rest.post("/workflow/bulk/restart", [on.id]), on.read()),
    # An empty list is refused.
    "nothing_at_all": send(rest.put("/workflow/bulk/pause", [])),
    # A removed workflow is gone, and its tasks with it.
    "removing_an_ended_workflow": one_step(on.run(), on.remove(), on.read(), on.read_task(on.taken(1))),
}
