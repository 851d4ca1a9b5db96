"""Scenarios about results: what each status does, and which results are ignored, cut or refused."""

from __future__ import annotations

from typing import Any

from .servers import Server, unique
from .stage import Seen, Stage, scenario, stage, without_definitions


@scenario
def a_workflow_from_start_to_end(server: Server) -> Seen:
    on = stage(
        server, steps=2, step={"inputParameters": {"previous": "${r0.output.a}"}}, priority=3, correlation_id="c"
    )
    on.look()
    first = on.poll()
    on.seen.append(first)
    on.seen.append(server.task(first["taskId"]))
    on.update(first, "COMPLETED", outputData={"a": {"b": [1, 2.0, None, True, "x"]}})
    on.look()
    on.update(on.poll("w2"), "COMPLETED")
    on.look()
    on.seen.append(server.task_definition(on.task))
    return on.seen


@scenario
def an_unregistered_type_gets_the_default_definition(server: Server) -> Seen:
    task = unique("t")
    server.create({"name": f"w_{task}", "tasks": [{"name": task, "taskReferenceName": "r", "type": "SIMPLE"}]})
    _, workflow_id = server.start(f"w_{task}", {})
    on = Stage(server, task, workflow_id)
    on.seen.append(on.poll())
    return on.seen


@scenario
def a_failure_is_retried_and_then_fails_the_workflow(server: Server) -> Seen:
    on = stage(server, {"retryLogic": "LINEAR_BACKOFF", "retryDelaySeconds": 0})
    failed = on.poll()
    on.update(failed, "FAILED", reasonForIncompletion="boo", outputData={"a": 1})
    on.look()
    on.update(failed, "COMPLETED", outputData={"late": True})
    on.update(on.poll(), "FAILED")
    on.look()
    return on.seen


@scenario
def a_terminal_failure_is_not_retried(server: Server) -> Seen:
    on = stage(server)
    on.update(on.poll(), "FAILED_WITH_TERMINAL_ERROR", reasonForIncompletion="boo", outputData={"a": 1})
    on.look()
    return on.seen


@scenario
def a_cancelled_result_terminates_the_workflow(server: Server) -> Seen:
    on = stage(server)
    on.update(on.poll(), "CANCELED", reasonForIncompletion="boo")
    on.look()
    return on.seen


@scenario
def an_optional_step_goes_on_with_errors(server: Server) -> Seen:
    on = stage(server, {"retryCount": 0}, steps=2, step={"optional": True})
    on.update(on.poll(), "FAILED", reasonForIncompletion="boo")
    on.look()
    on.update(on.poll(), "FAILED", reasonForIncompletion="boo")
    on.look()
    return on.seen


@scenario
def the_step_overrides_the_retry_budget(server: Server) -> Seen:
    on = stage(server, {"retryCount": 5}, step={"retryCount": 0})
    on.update(on.poll(), "FAILED")
    on.look()
    return on.seen


@scenario
def an_in_progress_result_gives_the_attempt_away(server: Server) -> Seen:
    on = stage(server)
    first = on.poll("w1")
    on.update(first, "IN_PROGRESS", outputData={"a": 1}, callbackAfterSeconds=0)
    on.look()
    second = on.poll("w2")
    on.seen.append(without_definitions(second))
    on.update(second, "IN_PROGRESS", callbackAfterSeconds=30, workerId=None)
    on.look()
    on.nothing_to_poll()
    on.seen.append(server.queue_size(on.task))
    on.act("reset_callbacks")
    on.update(on.poll("w3"), "COMPLETED", outputData={"done": 1})
    on.update(first, "FAILED")
    on.look()
    return on.seen


@scenario
def the_previous_holder_can_still_finish(server: Server) -> Seen:
    on = stage(server)
    first = on.poll("w1")
    on.update(first, "IN_PROGRESS")
    second = on.poll("w2")
    on.update(first, "FAILED", reasonForIncompletion="old")
    on.update(second, "COMPLETED", outputData={"new": True})
    on.look()
    return on.seen


@scenario
def a_result_for_an_attempt_that_was_never_polled_is_accepted(server: Server) -> Seen:
    on = stage(server)
    task = server.workflow(on.workflow_id)[1]["tasks"][0]
    on.update(task, "COMPLETED", outputData={"a": 1})
    on.look()
    on.nothing_to_poll()
    return on.seen


@scenario
def a_result_under_another_workflow_leaves_its_own_undecided(server: Server) -> Seen:
    on = stage(server, steps=2)
    task = on.poll()
    other = stage(server)
    on.update({**task, "workflowInstanceId": other.workflow_id}, "COMPLETED")
    on.look()
    on.act("decide")
    on.look()
    return on.seen


@scenario
def payload_limits(server: Server) -> Seen:
    on = stage(server, steps=2, step={"inputParameters": {"p": "${r0.output}"}})
    on.update(on.poll(), "COMPLETED", outputData={"a": "x" * 4_000_000})
    on.look()
    on.update(on.poll(), "COMPLETED", outputData={"a": "x" * 11_000_000})
    on.look()
    huge = stage(server, payload={"x": "y" * 4_000_000})
    huge.seen.append(without_definitions(huge.poll()))
    return on.seen + huge.seen


MISPLACED: tuple[dict[str, Any], ...] = (
    {"workflowInstanceId": None},
    {"taskId": ""},
    {"status": None},
    {"taskId": "unknown"},
    {"workflowInstanceId": "unknown"},
    {"workflowInstanceId": "unknown", "taskId": "unknown"},
)

MALFORMED: tuple[dict[str, Any], ...] = (
    {"status": "TIMED_OUT"},
    {"status": "completed"},
    {"outputData": [1]},
    {"callbackAfterSeconds": "x"},
)


@scenario
def malformed_and_misplaced_updates(server: Server) -> Seen:
    on = stage(server)
    task = on.poll()
    ids = {"taskId": task["taskId"], "workflowInstanceId": on.workflow_id}
    for change in MISPLACED:
        on.seen.append((change, server.update({**ids, "status": "COMPLETED", **change})))
    for change in MALFORMED:
        on.seen.append((change, server.update({**ids, "status": "COMPLETED", **change})[0]))
    on.look()
    on.update(task, "COMPLETED", outputData=None)
    on.update(task, None)
    return on.seen


@scenario
def reasons_and_log_lists_are_cut(server: Server) -> Seen:
    on = stage(server)
    task = on.poll()
    logs = [{"log": f"line {number}"} for number in range(15)]
    on.update(task, "FAILED_WITH_TERMINAL_ERROR", reasonForIncompletion="r" * 5000, logs=logs)
    on.look()
    on.seen.append([entry["log"] for entry in server.logs(task["taskId"])])
    return on.seen
