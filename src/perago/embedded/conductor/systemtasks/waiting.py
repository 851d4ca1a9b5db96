"""Steps that wait for something outside of the workflow: WAIT, HUMAN and HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from perago.embedded.conductor.context import DecisionContext, SystemTask
from perago.embedded.conductor.errors import bad_request
from perago.embedded.conductor.rows import Status, TaskRow
from perago.embedded.conductor.steps import Step

_DURATION = re.compile(
    r"\s*(?:(\d+)\s*(?:days?|d))?\s*(?:(\d+)\s*(?:hours?|hrs?|h))?\s*(?:(\d+)\s*(?:minutes?|mins?|m))?"
    r"\s*(?:(\d+)\s*(?:seconds?|secs?|s))?\s*",
    re.IGNORECASE,
)

_DATES = ("%Y-%m-%d %H:%M GMT", "%Y-%m-%d %H:%M UTC", "%Y-%m-%d %H:%M", "%Y-%m-%d")

_FOREVER = 2**31 - 1

_LOOK_AGAIN = 30
"""Seconds after which the server looks again at one that was updated but not ended."""


class Wait(SystemTask):
    """For a duration, until a date (UTC), or until an update completes it. Completed in the background."""

    kind = "WAIT"
    background = True

    def problems(self, step: Step) -> Iterator[str]:
        duration, until = (step["inputParameters"].get(name) for name in ("duration", "until"))
        if duration and until:
            yield "Both 'duration' and 'until' specified. Please provide only one input"
        elif duration and not _is_expression(duration) and _seconds(duration) is None:
            yield f"duration {duration!r} is not valid"
        elif until and not _is_expression(until) and _date(until) is None:
            yield f"until {until!r} is not a date such as 2030-12-31 18:00 GMT"

    def rows(self, context: DecisionContext, step: Step, _retry_count: int) -> list[TaskRow]:
        now = context.state.now()
        row = context.new_row(step, self.kind, step["name"], status=Status.IN_PROGRESS, start_time=now)
        row.input = context.resolved(step, row.task_id)
        duration, until = row.input.get("duration"), row.input.get("until")
        row.callback_after_seconds = _FOREVER
        if duration:
            seconds = _seconds(duration)
            if seconds is None:
                raise bad_request("decide workflow", f"Not valid duration: {duration}")
            row.callback_after_seconds, row.wait_until = seconds, now + seconds * 1000
        elif until:
            date = _date(until)
            if date is None:
                raise bad_request("decide workflow", f"Not valid date: {until}")
            row.callback_after_seconds, row.wait_until = max(0, (date - now) // 1000), max(date, 1)
        return [row]

    def start(self, _context: DecisionContext, row: TaskRow) -> None:
        row.status = Status.IN_PROGRESS

    def execute(self, context: DecisionContext, row: TaskRow) -> bool:
        if not row.wait_until:
            row.callback_after_seconds = _LOOK_AGAIN
            return False
        if context.state.now() < row.wait_until:
            return False
        row.status = Status.COMPLETED
        return True


def _is_expression(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _seconds(duration: Any) -> int | None:
    """A duration such as `2 hours 5 s` in seconds; None for none."""
    match = _DURATION.fullmatch(str(duration))
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _date(until: Any) -> int | None:
    """A date in milliseconds since the epoch; None for none."""
    for form in _DATES:
        try:
            return round(datetime.strptime(str(until).strip(), form).replace(tzinfo=UTC).timestamp() * 1000)
        except ValueError:
            continue
    return None


class Human(SystemTask):
    """Waits until an update completes it."""

    kind = "HUMAN"
    ends_by_itself = False

    def rows(self, context: DecisionContext, step: Step, _retry_count: int) -> list[TaskRow]:
        now = context.state.now()
        row = context.new_row(step, self.kind, step["name"], status=Status.IN_PROGRESS, start_time=now)
        row.input = context.resolved(step, row.task_id)
        return [row]

    def start(self, _context: DecisionContext, row: TaskRow) -> None:
        row.status = Status.IN_PROGRESS


class Http(SystemTask):
    """A request, answered by the handler that the model was given; there is no network."""

    kind = "HTTP"
    background = True

    def problems(self, step: Step) -> Iterator[str]:
        if not step["inputParameters"].get("http_request") and not step["inputParameters"].get("uri"):
            yield (
                "inputParameters.http_request or inputParameters.uri field is required for taskType: "
                f"{self.kind} taskName: {step['name']}"
            )

    def rows(self, context: DecisionContext, step: Step, _retry_count: int) -> list[TaskRow]:
        row = context.new_row(step, self.kind, step["name"])
        row.input = {**context.resolved(step, row.task_id, templated=True), "asyncComplete": step["asyncComplete"]}
        row.callback_after_seconds = step["startDelay"]
        return [row]

    def start(self, context: DecisionContext, row: TaskRow) -> None:
        request = row.input.get("http_request") or row.input
        handler = context.state.http_handler
        if handler is None:
            row.status = Status.FAILED_WITH_TERMINAL_ERROR
            row.reason = "HTTP tasks reach no network here; give the model a handler: InMemoryConductor(..., http=...)"
            return
        try:
            status, body = handler(dict(request) if isinstance(request, dict) else {"uri": request})
            problem = f"{status} on {request.get('method', 'GET')} request" if status >= 400 else None
        except Exception as error:  # noqa: BLE001 - the handler is the test's; any failure is that of the request
            problem = str(error) or type(error).__name__
        if problem is not None:
            row.status, row.reason = Status.FAILED, f"Failed to invoke HTTP task due to: {problem}"
            row.output = {"response": problem}
            return
        row.output = {"response": {"statusCode": status, "body": body, "headers": {}, "reasonPhrase": ""}}
        row.status = Status.IN_PROGRESS if row.workflow_task["asyncComplete"] else Status.COMPLETED
