"""Time-outs and retry delays. They are looked at when a workflow is decided, never by themselves."""

from __future__ import annotations

import random

from perago.embedded.conductor.rows import Status, TaskRow, WorkflowRow, WorkflowStatus

MAX_DELAY_SECONDS = 2**31 - 1


class Termination(Exception):
    """The workflow ends here, unsuccessfully. `row` is the attempt that ended it, if it was one."""

    def __init__(self, reason: str, status: WorkflowStatus, row: TaskRow | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.row = row


def check_workflow_timeout(workflow: WorkflowRow, now: int) -> None:
    """Raises `Termination` when the workflow's own time is up and its policy says so."""
    seconds, policy = workflow.definition["timeoutSeconds"], workflow.definition["timeoutPolicy"]
    elapsed = now - (workflow.last_retried_time or workflow.create_time)
    if seconds <= 0 or elapsed < seconds * 1000 or policy == "ALERT_ONLY":
        return
    reason = (
        f"Workflow timed out after {elapsed // 1000} seconds. Timeout configured as {seconds} seconds. "
        f"Timeout policy configured to {policy}"
    )
    raise Termination(reason, WorkflowStatus.TIMED_OUT)


def check_task_timeouts(row: TaskRow, now: int) -> None:
    """Change `row` to TIMED_OUT, or raise `Termination`, when one of its times is up
    (`docs/servers/conductor.md` 2)."""
    for check in (_total_timeout, _task_timeout, _poll_timeout):
        reason = None if row.status.terminal else check(row, now)
        if reason is not None:
            _apply_policy(row, reason)


def _apply_policy(row: TaskRow, reason: str) -> None:
    policy = row.definition["timeoutPolicy"]
    if policy == "ALERT_ONLY":
        return
    row.status = Status.TIMED_OUT
    row.reason = reason
    if policy == "TIME_OUT_WF":
        raise Termination(reason, WorkflowStatus.TIMED_OUT, row)


def _total_timeout(row: TaskRow, now: int) -> str | None:
    seconds, elapsed = row.definition["totalTimeoutSeconds"], _total_elapsed_seconds(row, now)
    if seconds <= 0 or elapsed < seconds:
        return None
    return (
        f"Task {row.task_name}/{row.task_id} exceeded total timeout of {seconds} seconds (elapsed {elapsed} seconds "
        f"across all attempts including retry delays). Timeout policy: {row.definition['timeoutPolicy']}"
    )


def _total_elapsed_seconds(row: TaskRow, now: int) -> int:
    return (now - row.first_scheduled_time) // 1000


def _task_timeout(row: TaskRow, now: int) -> str | None:
    seconds = row.definition["timeoutSeconds"]
    elapsed = now - (row.start_time + row.start_delay_seconds * 1000)
    if seconds <= 0 or row.start_time <= 0 or elapsed < seconds * 1000:
        return None
    return (
        f"Task timed out after {elapsed // 1000} seconds. Timeout configured as {seconds} seconds. "
        f"Timeout policy configured to {row.definition['timeoutPolicy']}"
    )


def _poll_timeout(row: TaskRow, now: int) -> str | None:
    seconds = row.definition.get("pollTimeoutSeconds") or 0
    elapsed = now - (row.scheduled_time + row.start_delay_seconds * 1000)
    if seconds <= 0 or row.status is not Status.SCHEDULED or elapsed < (seconds + row.callback_after_seconds) * 1000:
        return None
    return (
        f"Task poll timed out after {elapsed // 1000} seconds. Poll timeout configured as {seconds} seconds. "
        f"Timeout policy configured to {row.definition['timeoutPolicy']}"
    )


def check_response_timeout(row: TaskRow, now: int) -> None:
    """Change `row` to TIMED_OUT when it is in progress and has not been heard of for too long."""
    seconds = row.definition["responseTimeoutSeconds"]
    if row.status is not Status.IN_PROGRESS or seconds == 0:
        return
    if now - row.update_time >= (seconds + row.callback_after_seconds) * 1000:
        row.status = Status.TIMED_OUT
        row.reason = (
            f"responseTimeout: {seconds} exceeded for the taskId: {row.task_id} with Task Definition: {row.task_name}"
        )


def check_total_budget(row: TaskRow, now: int) -> None:
    """Raises `Termination` when a failed attempt may not be retried because the time of all attempts is up."""
    seconds, elapsed = row.definition["totalTimeoutSeconds"], _total_elapsed_seconds(row, now)
    if seconds <= 0 or elapsed < seconds:
        return
    reason = (
        f"Task {row.task_id}/{row.task_name} exceeded total timeout of {seconds} seconds (elapsed {elapsed} seconds "
        "across all attempts). No further retries will be attempted."
    )
    timed_out = row.status is Status.TIMED_OUT
    raise Termination(reason, WorkflowStatus.TIMED_OUT if timed_out else WorkflowStatus.FAILED, row)


def retry_delay_seconds(row: TaskRow) -> int:
    """How long the attempt after `row` waits, without jitter.

    A back-off below zero is taken for one that is too large to count, a fixed delay below zero is none.
    """
    definition = row.definition
    delay, logic = int(definition["retryDelaySeconds"]), definition["retryLogic"]
    if logic == "LINEAR_BACKOFF":
        delay *= definition["backoffScaleFactor"] * (row.retry_count + 1)
    elif logic == "EXPONENTIAL_BACKOFF":
        delay *= 2**row.retry_count
    if delay < 0 and logic != "FIXED":
        delay = MAX_DELAY_SECONDS
    cap = definition["maxRetryDelaySeconds"]
    return min(delay, cap if cap > 0 else MAX_DELAY_SECONDS)


def jitter_ms(row: TaskRow, source: random.Random) -> int:
    """Milliseconds between 0 and `backoffJitterMs`, both included."""
    return source.randint(0, row.definition["backoffJitterMs"])
