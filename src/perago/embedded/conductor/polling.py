"""Handing attempts out: pop from the queue, then mark as in progress."""

from __future__ import annotations

from collections.abc import Sequence

from perago.embedded.conductor.state import HistoryEvent, State, Status, TaskRow

POSTPONE_SECONDS = 60
"""How long an attempt that meets a full `concurrentExecLimit` is put aside at most; a free slot ends that."""


def hand_out(state: State, task_ids: Sequence[str], worker_id: str | None) -> list[TaskRow]:
    """Mark popped attempts as in progress.

    Left out are those that ended since they were popped, and those that would exceed their limit: no answer says so.
    """
    handed_out = []
    for task_id in task_ids:
        row = state.tasks.get(task_id)
        if row is None or row.status.terminal:
            continue
        if _exceeds_limit(state, row):
            state.queue.push(row, state.now() + POSTPONE_SECONDS * 1000, limited=True)
            continue
        handed_out.append(_start(state, row.copy(), worker_id))
    return handed_out


def _start(state: State, row: TaskRow, worker_id: str | None) -> TaskRow:
    row.status = Status.IN_PROGRESS
    row.start_time = row.start_time or state.now()
    row.callback_after_seconds = 0
    row.worker_id = worker_id
    row.poll_count += 1
    state.store(row, HistoryEvent.POLLED)
    return row


def _exceeds_limit(state: State, row: TaskRow) -> bool:
    """Whether as many run already, or as many came earlier and are still open, parked ones included.

    One that was run again after its end is not listed any more, so it is never among the first, and no poll gets it.
    """
    limit = row.definition.get("concurrentExecLimit") or 0
    if limit <= 0:
        return False
    open_rows = listed(state, row.task_name)
    if sum(r.status is Status.IN_PROGRESS for r in open_rows) >= limit:
        return True
    first = sorted(open_rows, key=lambda r: r.scheduled_time)[:limit]
    return all(r.task_id != row.task_id for r in first)


def requeue(state: State, task_name: str) -> int:
    """Queue every listed attempt of a type anew, those in progress as well, and say how many there are.

    What is left of a delay is kept; an attempt in progress is handed out a second time. Steps of the server itself are
    passed over.
    """
    rows = [row for row in listed(state, task_name) if row.kind == "SIMPLE"]
    for row in rows:
        elapsed = (state.now() - row.update_time) // 1000
        state.queue.remove(row.task_id)
        state.queue.push(row, state.now() + max(0, row.callback_after_seconds - elapsed) * 1000)
    return len(rows)


def listed(state: State, task_name: str) -> list[TaskRow]:
    """The attempts of a type that have not ended."""
    return [row for row in state.tasks.values() if row.task_name == task_name and row.listed]
