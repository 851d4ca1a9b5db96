"""Whole workflows: retry, rerun and restart."""

from __future__ import annotations

from ..scenario import Declared, each, rest, scenario_with, send, to
from .workflows import Json, StartedWorkflow, definition, on, one_step, start_steps, step, two_steps

RERUN = "/workflow/{workflow}/rerun"
RESTART = "/workflow/{workflow}/restart"


@scenario_with(start_steps)
def a_rerun_keeps_the_task_id(on: StartedWorkflow) -> None:
    """The task is reset: the same id, polls from zero, no output."""
    task = on.run(outputData={"a": 1})
    on.act("POST", RERUN, json={"reRunFromTaskId": task["taskId"]})
    on.read()
    on.rest.sleep(0.02)
    again = on.take()
    on.rest.note("the same task", again["taskId"] == task["taskId"])
    on.rest.note("polls", again["pollCount"])
    on.rest.note("another start", again["startTime"] > task["startTime"])


@scenario_with(start_steps, steps=2)
def a_restart(on: StartedWorkflow) -> None:
    """A restart begins again: new ids, and the old ones are gone."""
    task = on.run(outputData={"a": 1})
    on.run()
    before = on.silent.read()["createTime"]
    on.rest.sleep(0.02)
    on.restart()
    after = on.read()["createTime"]
    on.rest.note("the workflow is younger than before", after > before)
    on.read_task(task)


DEFINITIONS: dict[str, Json | None] = {
    "a_restart_with_the_old_definition": None,
    "a_restart_with_the_latest_definition": {"useLatestDefinitions": "true"},
}


@scenario_with(start_steps, steps=2)
def a_rerun_revives_failed_attempts_of_earlier_steps(on: StartedWorkflow) -> None:
    """A rerun from a later step hands out a failed attempt of an earlier one again, beside that step."""
    on.fail()
    on.run()
    last = on.run()
    on.noted.rerun(last)
    taken = sorted((on.take() for _ in range(2)), key=lambda task: str(task["referenceTaskName"]))
    on.rest.note("what is handed out", [(task["referenceTaskName"], task["retryCount"]) for task in taken])
    for task in taken:
        on.finish(task, outputData={"by": task["referenceTaskName"]})
    on.note_all()


@scenario_with(start_steps, steps=2)
def a_failure_of_a_revived_attempt_is_ignored(on: StartedWorkflow) -> None:
    """A failed attempt whose retry has completed is handed out again by a rerun; its next failure changes nothing."""
    on.fail()
    on.run()
    on.rerun(on.run())
    taken = sorted((on.take() for _ in range(2)), key=lambda task: str(task["referenceTaskName"]))
    on.update(taken[0], "FAILED_WITH_TERMINAL_ERROR", reasonForIncompletion="retried since")
    on.note_all()
    on.finish(taken[1])
    on.note_all()


RETRY = "/workflow/{workflow}/retry"


SCENARIOS: Declared = {
    # The tasks that came later are gone.
    "a_rerun_of_an_earlier_task": two_steps(
        on.run(outputData={"a": 1}), on.run(), on.rerun(on.taken(1)), on.read(), on.read_task(on.taken(2))
    ),
    # A rerun may change the input of the task and of the workflow.
    "a_rerun_with_other_inputs": two_steps(
        on.run(), on.run(), on.rerun(on.taken(1), taskInput={"new": 1}, workflowInput={"x": 9}), on.run(), on.read()
    ),
    # A restart runs by the definition of the start, unless it asks for the one of today.
    **each(
        DEFINITIONS,
        lambda case: one_step(
            on.run(),
            on.silent.rest.put("/metadata/workflow", [definition(on.workflow, step(on.task, "new"))]),
            on.act("POST", RESTART, query=case),
            on.read(),
        ),
    ),
    # A rerun without a task begins at the beginning.
    "a_rerun_without_a_task": two_steps(on.run(), on.run(), on.act("POST", RERUN, json={}), on.read()),
    # A rerun needs a task of the workflow.
    "a_rerun_from_an_unknown_task": one_step(on.run(), on.act("POST", RERUN, json={"reRunFromTaskId": "unknown"})),
    # An unknown workflow is a 404.
    "a_rerun_of_an_unknown_workflow": send(rest.post(RERUN, workflow="unknown", json={"reRunFromTaskId": "any"})),
    "a_restart_of_an_unknown_workflow": send(rest.post(RESTART, workflow="unknown")),
    "an_unknown_workflow": send(rest.post(RETRY, workflow="unknown")),
    # A restart of a failed workflow does not forget the names of what failed.
    "a_restart_of_a_failed_workflow": to(start_steps, {"retryCount": 0})(on.fail(), on.restart(), on.read()),
    # A running workflow is not restarted.
    "a_restart_of_a_running_workflow": one_step(on.restart()),
    # A workflow may be registered as not restartable.
    "a_restart_of_what_is_not_restartable": to(start_steps, restartable=False)(on.run(), on.restart(), on.read()),
    # A restart runs by the task definitions of the start, too.
    "a_restart_with_the_old_task_definition": to(start_steps, {"retryCount": 0})(
        on.fail(),
        on.silent.rest.post("/metadata/taskdefs", [{"name": on.task, "retryCount": 7}]),
        on.restart(),
        on.read(show=("taskDefinition",)),
        on.noted.fail(),
    ),
    # A retry makes a new attempt with a new id, one retry more, and no reason.
    "a_failed_workflow": to(start_steps, {"retryCount": 0})(
        on.run("FAILED", reasonForIncompletion="boo", outputData={"a": 1}), on.retry(), on.read()
    ),
    # A retry by hand counts as one.
    "a_retry_eats_the_automatic_retries": to(start_steps, {"retryCount": 2})(
        on.run("FAILED_WITH_TERMINAL_ERROR"), on.retry(), on.run("FAILED"), on.run("FAILED"), on.read()
    ),
    # A running workflow has nothing to retry.
    "a_running_workflow": one_step(on.retry()),
    # A completed workflow cannot be retried.
    "a_completed_workflow": one_step(on.run(), on.retry()),
    # A retry after a termination makes a new attempt of what was cancelled.
    "a_terminated_workflow": one_step(on.take(), on.silent.terminate("over"), on.retry(), on.read()),
    # A retry revives an attempt that nobody had.
    "a_workflow_that_was_terminated_before_anybody_polled": one_step(
        on.silent.terminate(), on.retry(), on.read(), on.poll()
    ),
    # A task that its worker cancelled can be retried.
    "a_cancelled_task": one_step(on.run("CANCELED", reasonForIncompletion="boo"), on.retry(), on.read()),
    # A retry goes on where it failed, with the outputs there were.
    "the_second_step": to(
        start_steps, {"retryCount": 0}, steps=3, step_fields={"inputParameters": {"a": "${r0.output.a}"}}
    )(on.run(outputData={"a": 1}), on.run("FAILED"), on.retry(), on.run(), on.read()),
    # A retried workflow can complete; the names of what failed stay.
    "a_retry_is_completed": to(start_steps, {"retryCount": 0})(
        on.fail(), on.silent.retry(), on.run(outputData={"a": 1}), on.read()
    ),
    # A retry leaves alone what failed and was done in the end.
    "a_retry_after_an_automatic_one": to(start_steps, {"retryCount": 1}, steps=2)(
        *on.run.each("FAILED", "COMPLETED", "FAILED", "FAILED"), on.retry(), on.read()
    ),
    # A retry by hand does not wait for the retry's delay.
    "a_retry_does_not_wait": to(start_steps, {"retryCount": 0, "retryDelaySeconds": 60})(
        on.run("FAILED"), on.silent.retry(), on.poll()
    ),
    # A task that runs again and whose type has a `concurrentExecLimit` is never handed out.
    "a_rerun_under_a_limit": to(start_steps, {"concurrentExecLimit": 5})(
        on.run(), on.rerun(on.taken(1)), on.poll(), on.queue_size()
    ),
    # A rerun keeps the number of the retry.
    "a_rerun_of_a_failed_task": one_step(
        on.run("FAILED", reasonForIncompletion="one"),
        on.run("FAILED", reasonForIncompletion="two"),
        on.rerun(on.taken(2)),
        on.read(),
    ),
    # A running workflow is not rerun.
    "a_rerun_of_a_running_workflow": one_step(on.rerun(on.take())),
    # A rerun revives a cancelled task.
    "a_rerun_of_a_terminated_workflow": two_steps(
        on.run(), on.take(), on.silent.terminate("over"), on.rerun(on.taken(2)), on.read()
    ),
    # After a rerun the result of the earlier holder counts: nothing tells them apart.
    "the_result_of_the_time_before": one_step(
        on.take("w1"),
        on.silent.terminate(),
        on.silent.rerun(on.taken(1)),
        on.take("w2"),
        on.update(on.taken(1), "COMPLETED", outputData={"by": "w1"}),
        on.read(),
    ),
    # The result of a task from before a restart is a 404.
    "a_result_from_before_the_restart": one_step(
        on.take(), on.silent.terminate(), on.silent.restart(), on.update(on.taken(1), "COMPLETED")
    ),
    # A rerun from the beginning of a workflow that was terminated, and rerun before.
    "a_rerun_of_a_terminated_workflow_without_a_task": to(start_steps, {"retryCount": 0}, steps=2)(
        on.run(outputData={"a": 1}),
        on.fail(),
        on.rerun(on.taken(2)),
        on.run(outputData={"b": 1}),
        on.noted.rerun(on.taken(1), taskInput={"new": 1}, workflowInput={"x": 7}),
        on.read_task(on.taken(2)),
        on.noted.run(),
        on.terminate(),
        on.noted.rerun(),
    ),
    # A retry keeps the input that a rerun was given.
    "a_retry_after_a_rerun_with_an_input": one_step(
        on.rerun(on.run(), taskInput={"x": "given", "new": 1}),
        on.run("FAILED"),
        on.rest.note("what the new attempt is given", on.take()["inputData"]),
    ),
    # The result of an attempt that was retried by hand is ignored.
    "the_old_attempt_after_a_retry": to(start_steps, {"retryCount": 0})(
        on.run("FAILED"), on.silent.retry(), on.update(on.taken(1), "COMPLETED"), on.read()
    ),
}
