"""WAIT: for a duration, or until somebody completes it by an update."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from perago.embedded.conductor.rows import Status, TaskRow
from perago.embedded.conductor.steps import Step
from perago.embedded.conductor.systemtasks.task import SystemTask, not_modelled

if TYPE_CHECKING:
    from perago.embedded.conductor.turn import Turn

_DURATION = re.compile(
    r"\s*(?:(\d+)\s*(?:days?|d))?\s*(?:(\d+)\s*(?:hours?|hrs?|h))?\s*(?:(\d+)\s*(?:minutes?|mins?|m))?"
    r"\s*(?:(\d+)\s*(?:seconds?|secs?|s))?\s*",
    re.IGNORECASE,
)

_FOREVER = 2**31 - 1

_LOOK_AGAIN = 30
"""Seconds after which the server looks again at one that was updated but not ended."""


class Wait(SystemTask):
    """Completed in the background once its time has come."""

    kind = "WAIT"
    background = True

    def check(self, step: Step, where: str) -> None:
        given = step["inputParameters"]
        if given.get("until"):
            raise not_modelled(where, "inputParameters.until")
        if isinstance(given.get("duration"), str) and "${" in given["duration"]:
            raise not_modelled(where, f"duration {given['duration']}")

    def problems(self, step: Step) -> Iterator[str]:
        duration = step["inputParameters"].get("duration")
        if duration and _seconds(duration) is None:
            yield "Either date or duration is passed as null "

    def rows(self, turn: Turn, step: Step, _retry_count: int) -> list[TaskRow]:
        now = turn.state.now()
        row = turn.new_row(step, self.kind, step["name"], status=Status.IN_PROGRESS, start_time=now)
        row.input = turn.resolved(step, row.task_id)
        seconds = _seconds(row.input.get("duration") or "")
        row.callback_after_seconds = _FOREVER if seconds is None else seconds
        row.wait_until = 0 if seconds is None else now + seconds * 1000
        return [row]

    def start(self, _turn: Turn, row: TaskRow) -> None:
        row.status = Status.IN_PROGRESS

    def execute(self, turn: Turn, row: TaskRow) -> bool:
        if not row.wait_until:
            row.callback_after_seconds = _LOOK_AGAIN
            return False
        if turn.state.now() < row.wait_until:
            return False
        row.status = Status.COMPLETED
        return True


def _seconds(duration: Any) -> int | None:
    """A duration such as `2 hours 5 s` in seconds; None for none."""
    match = _DURATION.fullmatch(str(duration))
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
