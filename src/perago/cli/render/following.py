"""What `perago send --follow` shows of a workflow of one task."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from perago.cli.render.style import Colour, painted
from perago.workspace.text import one_line

_PATIENCE = 5.0
"""Seconds that an attempt may wait for a worker before that is mentioned."""
_COLOURS = {"COMPLETED": Colour.GREEN}


class FollowView:
    """Prints a line for each change of an attempt, and each line of its log."""

    def __init__(self, stream: TextIO, module: str, task_name: str) -> None:
        self._stream = stream
        self._module = module
        self._task_name = task_name
        self._statuses: dict[str, str] = {}
        self._entries: dict[str, int] = {}
        """How many entries of each attempt's log were shown."""
        self._waiting: dict[str, float] = {}
        """Since when each attempt waits for a worker; infinite once that was said."""
        self._silence = ""

    def started(self, workflow_id: str) -> None:
        """The workflow exists."""
        self._write(f"started workflow {workflow_id}")

    def silent(self, words: str) -> None:
        """Conductor did not answer. Said once for each reason."""
        if words != self._silence:
            self._write(f"{words}; trying again")
        self._silence = words

    def attempt(self, row: Mapping[str, Any], log: Sequence[str]) -> None:
        """One attempt as Conductor has it now."""
        self._silence = ""
        task_id, status = row["taskId"], row["status"]
        name = f"{self._task_name} attempt {int(row.get('retryCount') or 0) + 1}"
        if status == "SCHEDULED":
            self._wait(task_id, name, float(row.get("startDelayInSeconds") or 0))
            return
        if task_id not in self._statuses:
            self._write(f"{name} is with worker {row.get('workerId') or 'unknown'}")
            self._statuses[task_id] = "IN_PROGRESS"
        for entry in log[self._entries.get(task_id, 0) :]:
            for line in entry.splitlines():
                self._write(f"  | {line}")
        self._entries[task_id] = len(log)
        if status not in ("IN_PROGRESS", self._statuses[task_id]):
            self._statuses[task_id] = status
            self._write(f"{name}: ", status, row.get("reasonForIncompletion"))

    def ended(self, workflow: Mapping[str, Any]) -> None:
        """The workflow is over."""
        told = any(row.get("reasonForIncompletion") for row in workflow.get("tasks", ()))
        place = workflow.get("output", {}).get("workspace")
        commit = f"workspace at commit {place['ref'][:12]}" if isinstance(place, dict) and place.get("ref") else None
        self._write(
            "workflow ", workflow["status"], commit if told else workflow.get("reasonForIncompletion") or commit
        )

    def _wait(self, task_id: str, name: str, delay: float) -> None:
        since = self._waiting.get(task_id)
        if since is None:
            later = f" in {delay:g} s" if delay else ""
            self._write(f"{name} waits for a worker{later}")
            self._waiting[task_id] = time.monotonic() + delay
        elif time.monotonic() - since > _PATIENCE:
            self._write(f"no worker has taken it yet; is one running? perago start {self._module}")
            self._waiting[task_id] = float("inf")

    def _write(self, text: str, status: str = "", more: str | None = None) -> None:
        shown = painted(one_line(status), _COLOURS.get(status, Colour.RED), self._stream) if status else ""
        self._stream.write(f"{one_line(text)}{shown}{': ' + one_line(more) if more else ''}\n")
        self._stream.flush()
