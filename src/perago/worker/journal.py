"""The supervisor's own log: every event as one JSONL line, with ids."""

from __future__ import annotations

from typing import Any

from perago.driver import AttemptRecord
from perago.ports import Delivery
from perago.worker import events
from perago.worker.events import Event
from perago.worker.lines import describe
from perago.worker.logs import JsonLog
from perago.worker.plan import WorkerPlan

WARNINGS = (
    events.SlotDied,
    events.LeaseDoubtful,
    events.FenceNotEnforced,
    events.WaitingForLakeFS,
    events.ConductorUnreachable,
    events.CleanUpFailed,
    events.BranchSweepFailed,
    events.Cancelling,
)
LOGGED_FILES = 200
ERRORS = (events.SlotStartFailed,)


def delivery_ids(delivery: Delivery) -> dict[str, Any]:
    """The ids that every log line about a delivery carries."""
    return {
        "workflow_id": delivery.workflow_id,
        "task_id": delivery.task_id,
        "task_name": delivery.task_name,
        "reference_name": delivery.reference_name,
        "iteration": delivery.iteration,
        "retry_count": delivery.retry_count,
        "poll_count": delivery.poll_count,
        "start_time": delivery.start_time,
    }


def seen(record: AttemptRecord) -> dict[str, Any]:
    """What the log says about the workspace of an attempt that is over: verdicts, and the first `LOGGED_FILES` changed
    files with their sizes in bytes."""
    changes = record.changes
    parts = (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed))
    files = [{"kind": kind, "path": file.path, "size": file.size} for kind, part in parts for file in part]
    return {
        "guardrails": [{"satisfied": each.satisfied, "message": each.message} for each in record.findings],
        "changed": len(files),
        "files": files[:LOGGED_FILES],
    }


class Journal:
    """A `Listener` that writes the log of the supervisor, up to `Stopped`."""

    def __init__(self, plan: WorkerPlan) -> None:
        self._log = JsonLog(plan, plan.supervisor_id)

    def __call__(self, event: Event) -> None:
        """Write `event`."""
        if isinstance(event, events.WATCHED):
            return
        self._log.write(_level(event), describe(event), event=type(event).__name__, **_fields(event))
        if isinstance(event, events.Stopped):
            self._log.close()


def _level(event: Event) -> str:
    if isinstance(event, events.AttemptEnded):
        failed = "ERROR" if event.ending is events.Ending.UNREPORTED else "WARNING"
        return "INFO" if event.completed else failed
    denied = isinstance(event, events.ConductorUnreachable) and event.denied
    if denied or isinstance(event, ERRORS):
        return "ERROR"
    return "WARNING" if isinstance(event, WARNINGS) else "INFO"


def _fields(event: Event) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    delivery = getattr(event, "delivery", None)
    if delivery is not None:
        fields.update(delivery_ids(delivery))
    if isinstance(event, events.AttemptEnded):
        fields.update(
            ending=event.ending.value,
            status=event.status,
            reason=event.reason,
            published_commit=event.published_commit,
            remarks=list(event.remarks),
            fence=event.fence,
            seconds=round(event.seconds, 4),
            steps={name: round(seconds, 4) for name, seconds in event.steps},
        )
    if isinstance(event, events.FenceNotEnforced):
        fields["repository"] = event.repository
    slot = getattr(event, "worker_id", None)
    return fields if slot is None else {"slot": slot, **fields}
