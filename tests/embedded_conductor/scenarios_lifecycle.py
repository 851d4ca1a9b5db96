"""Scenarios about whole workflows: end, pause, retry, restart, rerun."""

from __future__ import annotations

from .servers import Server
from .stage import Seen, scenario, stage, without_definitions


@scenario
def termination_cancels_and_later_results_are_ignored(server: Server) -> Seen:
    on = stage(server, steps=2)
    task = on.poll()
    on.act("terminate", reason="because")
    on.look()
    on.update(task, "COMPLETED")
    on.act("terminate", reason="again")
    on.act("decide")
    on.look()
    waiting = stage(server)
    waiting.act("terminate")
    waiting.look()
    waiting.nothing_to_poll()
    return on.seen + waiting.seen


@scenario
def a_paused_workflow_serves_and_accepts_but_does_not_advance(server: Server) -> Seen:
    on = stage(server, steps=2)
    on.act("resume")
    on.act("pause")
    on.act("pause")
    on.update(on.poll(), "COMPLETED", outputData={"a": 1})
    on.look()
    on.act("remove")
    on.act("resume")
    on.act("pause")
    on.update(on.poll(), "FAILED", reasonForIncompletion="boo")
    on.look()
    on.act("resume")
    on.look()
    return on.seen


@scenario
def a_manual_retry_chains_and_clears_the_reason(server: Server) -> Seen:
    on = stage(server, {"retryCount": 2})
    on.act("retry")
    on.update(on.poll(), "FAILED_WITH_TERMINAL_ERROR", reasonForIncompletion="boo", outputData={"a": 1})
    on.act("retry")
    on.look()
    on.update(on.poll(), "FAILED", reasonForIncompletion="two")
    on.look()
    on.update(on.poll(), "FAILED", reasonForIncompletion="three")
    on.look()
    return on.seen


@scenario
def a_retry_after_termination_revives_the_cancelled_attempt(server: Server) -> Seen:
    on = stage(server)
    on.poll()
    on.act("terminate")
    on.act("retry")
    on.look()
    return on.seen


@scenario
def a_completed_workflow_refuses(server: Server) -> Seen:
    on = stage(server)
    on.act("restart")
    on.act("rerun")
    on.update(on.poll(), "COMPLETED")
    for action in ("retry", "terminate", "pause", "resume", "reset_callbacks"):
        on.act(action)
    on.act("rerun", from_task_id="unknown")
    on.act("remove")
    on.act("decide")
    on.look()
    return on.seen


@scenario
def a_restart_has_new_ids_and_the_old_definitions(server: Server) -> Seen:
    on = stage(server, {"retryCount": 0})
    task = on.poll()
    on.update(task, "FAILED", reasonForIncompletion="boo", outputData={"a": 1})
    server.register({"name": on.task, "retryCount": 7})
    on.act("restart")
    on.look()
    on.seen.append(server.task(task["taskId"]))
    return on.seen


@scenario
def a_rerun_keeps_the_task_id_and_drops_what_came_later(server: Server) -> Seen:
    on = stage(server, {"retryCount": 0}, steps=2)
    first = on.poll()
    on.update(first, "COMPLETED", outputData={"a": 1})
    second = on.poll()
    on.update(second, "FAILED", reasonForIncompletion="boo")
    on.act("rerun", from_task_id=second["taskId"])
    on.look()
    again = on.poll()
    on.seen.append(without_definitions(again))
    on.update(again, "COMPLETED", outputData={"b": 1})
    on.act("rerun", from_task_id=first["taskId"], task_input={"new": 1}, workflow_input={"x": 7})
    on.look()
    on.seen.append(server.task(second["taskId"]))
    on.update(on.poll(), "COMPLETED")
    on.look()
    on.act("terminate")
    on.act("rerun")
    on.look()
    return on.seen


@scenario
def a_rerun_revives_failed_attempts_of_earlier_steps(server: Server) -> Seen:
    on = stage(server, steps=2)
    on.update(on.poll(), "FAILED", reasonForIncompletion="boo")
    on.update(on.poll(), "COMPLETED")
    last = on.poll()
    on.update(last, "COMPLETED")
    on.act("rerun", from_task_id=last["taskId"])
    on.look()
    on.wait(0.1)
    two = [on.poll(), on.poll()]
    on.seen += without_definitions(two)
    for task in two:
        on.update(task, "COMPLETED", outputData={"by": task["referenceTaskName"]})
    on.look()
    return on.seen


@scenario
def definitions_are_those_of_the_start_of_the_workflow(server: Server) -> Seen:
    on = stage(server, {"retryCount": 1}, steps=2)
    server.register({"name": on.task, "retryCount": 9, "retryDelaySeconds": 0, "responseTimeoutSeconds": 77})
    on.update(on.poll(), "FAILED")
    on.update(on.poll(), "COMPLETED")
    on.look()
    return on.seen


@scenario
def a_retry_keeps_the_input_that_a_rerun_was_given(server: Server) -> Seen:
    on = stage(server)
    task = on.poll()
    on.update(task, "COMPLETED")
    on.act("rerun", from_task_id=task["taskId"], task_input={"x": "given", "new": 1})
    on.update(on.poll(), "FAILED")
    on.seen.append(on.poll()["inputData"])
    return on.seen
