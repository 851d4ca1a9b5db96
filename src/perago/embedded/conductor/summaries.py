"""Workflows in brief, for lists: nothing that can be large."""

from __future__ import annotations

from dataclasses import dataclass

from perago.embedded.conductor.rows import WorkflowRow, WorkflowStatus


@dataclass(frozen=True, slots=True)
class WorkflowSummary:
    """One workflow without its payloads and attempts. Times are milliseconds since the epoch, 0 for not yet."""

    workflow_id: str
    name: str
    version: int
    status: WorkflowStatus
    start_time: int
    end_time: int
    reason: str | None
    failed_references: tuple[str, ...]


def summary_of(row: WorkflowRow) -> WorkflowSummary:
    """The row in brief."""
    return WorkflowSummary(
        workflow_id=row.workflow_id,
        name=row.name,
        version=row.version,
        status=row.status,
        start_time=row.create_time,
        end_time=row.end_time,
        reason=row.reason,
        failed_references=tuple(row.failed_references),
    )
