"""What a test sees of an attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perago.driver import AttemptRecord, Delivered
from perago.ports import Report, TaskStatus
from perago.workspace.changes import Changes
from perago.workspace.guardrails import Finding


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attempt, as Conductor and lakeFS were left by it."""

    record: AttemptRecord
    delivered: Delivered | None
    """How the report went; None where there was none to send."""
    task: Mapping[str, Any]
    """The task's row in Conductor after the report, in Conductor's spelling."""
    log: tuple[str, ...]
    """Lines of `current().log`."""

    @property
    def status(self) -> TaskStatus | None:
        """What was reported; None for a lost delivery, or a report that did not get through."""
        return self._report.status if self._report else None

    @property
    def reason(self) -> str | None:
        """Why it failed, as Conductor shows it."""
        return self._report.reason if self._report else None

    @property
    def output(self) -> Mapping[str, Any]:
        """The output that Conductor holds."""
        found: Mapping[str, Any] = self.task.get("outputData", {})
        return found

    @property
    def result(self) -> Any:
        """The JSON of the task's result; None unless the attempt completed."""
        return self.output.get("result")

    @property
    def commit(self) -> str | None:
        """The commit that now holds the workspace."""
        return self.record.published_commit

    @property
    def changes(self) -> Changes:
        """What the function did to its workspace."""
        return self.record.changes

    @property
    def changed_files(self) -> tuple[str, ...]:
        """The files that the function added or changed, sorted; relative to the workspace."""
        return tuple(sorted(file.path for file in (*self.changes.added, *self.changes.changed)))

    @property
    def removed_files(self) -> tuple[str, ...]:
        """The files that the function removed, sorted."""
        return tuple(sorted(file.path for file in self.changes.removed))

    @property
    def lost_reason(self) -> str | None:
        """Why nothing was reported: the delivery was lost before, during or after the publication."""
        return self.delivered.lost_reason if self.delivered else self.record.lost_reason

    @property
    def _report(self) -> Report | None:
        got_through = self.delivered == Delivered()
        return self.record.report if got_through else None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The verdicts of the guardrails that were evaluated, `pre` before `post`."""
        return self.record.findings

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth knowing and did not change the outcome, such as keys of the params that their model ignores."""
        return self.record.notes

    @property
    def violations(self) -> tuple[str, ...]:
        """What the violated guardrails say; empty if all hold."""
        return tuple(finding.message for finding in self.findings if not finding.satisfied)
