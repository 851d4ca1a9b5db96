"""Scenarios in which time passes: delays, time-outs, leases, order."""

from __future__ import annotations

from typing import Any

from .servers import Server
from .stage import Seen, scenario, stage


@scenario
def retry_delays_grow_with_the_logic_and_are_capped(server: Server) -> Seen:
    seen: Seen = []
    for logic in ("FIXED", "LINEAR_BACKOFF", "EXPONENTIAL_BACKOFF"):
        for cap in (0, 5):
            seen.append((logic, cap, _delays(server, logic, cap)))
    return seen


def _delays(server: Server, logic: str, cap: int) -> list[Any]:
    definition = {"retryCount": 3, "retryLogic": logic, "retryDelaySeconds": 2, "backoffScaleFactor": 2}
    on = stage(server, {**definition, "maxRetryDelaySeconds": cap})
    delays = []
    for _ in range(3):
        on.update(on.poll(), "FAILED")
        row = server.workflow(on.workflow_id)[1]["tasks"][-1]
        delays.append((row["startDelayInSeconds"], row["callbackAfterSeconds"], server.queue_size(on.task)))
        on.act("reset_callbacks")
    return delays


@scenario
def a_lease_moves_one_time_only(server: Server) -> Seen:
    on = stage(server)
    task = on.poll()
    on.update(task, "COMPLETED", extendLease=True, outputData={"a": 1}, logs=[{"log": "x"}], workerId="w9")
    on.look()
    on.update({**task, "taskId": "unknown"}, None, extendLease=True)
    on.update({**task, "workflowInstanceId": "unknown"}, None, extendLease=True)
    on.update(task, "COMPLETED")
    on.update(task, None, extendLease=True)
    return on.seen


@scenario
def a_response_timeout_makes_a_new_attempt_under_every_policy(server: Server) -> Seen:
    seen: Seen = []
    for policy in ("RETRY", "TIME_OUT_WF", "ALERT_ONLY"):
        on = stage(server, {"responseTimeoutSeconds": 1, "timeoutPolicy": policy})
        on.poll()
        on.wait(1.2)
        on.act("decide")
        on.look()
        on.poll()
        on.wait(1.2)
        on.act("decide")
        on.look()
        seen += on.seen
    return seen


@scenario
def the_other_timeouts_follow_the_policy(server: Server) -> Seen:
    seen: Seen = []
    for limit in ("timeoutSeconds", "totalTimeoutSeconds", "pollTimeoutSeconds"):
        for policy in ("RETRY", "TIME_OUT_WF", "ALERT_ONLY"):
            response = {"responseTimeoutSeconds": 1} if limit == "timeoutSeconds" else {}
            on = stage(server, {limit: 1, "timeoutPolicy": policy, **response})
            if limit != "pollTimeoutSeconds":
                on.poll()
            on.wait(1.2)
            on.act("decide")
            on.look()
            seen += on.seen
    return seen


@scenario
def a_workflow_timeout_cancels_its_attempt(server: Server) -> Seen:
    on = stage(server, workflow={"timeoutSeconds": 1, "timeoutPolicy": "TIME_OUT_WF"})
    task = on.poll()
    on.wait(1.2)
    on.act("decide")
    on.look()
    on.update(task, "COMPLETED")
    on.look()
    on.act("retry")
    on.look()
    return on.seen


@scenario
def a_late_result_of_an_overdue_attempt_is_accepted(server: Server) -> Seen:
    on = stage(server, {"responseTimeoutSeconds": 3600, "timeoutSeconds": 3600})
    task = on.poll()
    on.wait(0.2)
    on.update(task, "COMPLETED", outputData={"late": True})
    on.look()
    return on.seen


@scenario
def single_polls_go_by_priority_and_batches_by_creation(server: Server) -> Seen:
    seen: Seen = []
    for batch in (True, False):
        on = stage(server)
        ids = [on.workflow_id]
        ids += [server.start(f"w_{on.task}", {}, priority=priority)[1] for priority in (5, 1, 5)]
        on.wait(0.1)
        tasks = server.poll(on.task, count=4) if batch else [on.poll() for _ in ids]
        seen.append([ids.index(task["workflowInstanceId"]) for task in tasks])
    return seen
