"""The history that the model keeps of attempts: polls, updates, leases, and updates that Conductor ignored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perago.console import links
from perago.console.links import Link, link
from perago.console.statuses import StatusView, status_view
from perago.console.text import Shown, line
from perago.console.times import Moment, moment
from perago.embedded.conductor.state import HistoryEntry, HistoryEvent

_WORDS = {HistoryEvent.POLLED: "handed out", HistoryEvent.CHANGED: "changed by Conductor"}


@dataclass(frozen=True, slots=True)
class HappeningRow:
    """One line. `times` counts equal ones that followed each other; `surprising` marks an update without effect."""

    time: Moment | None
    what: str
    times: int
    surprising: bool
    attempt: Link
    status: StatusView
    delivery: int
    worker: Shown


def happening_rows(entries: Sequence[HistoryEntry]) -> tuple[HappeningRow, ...]:
    """Oldest first; lease extensions of one delivery in a row become one line, at the time of the first."""
    return tuple(_row(group[0], len(group)) for group in _grouped(entries))


def _grouped(entries: Sequence[HistoryEntry]) -> Iterator[list[HistoryEntry]]:
    group: list[HistoryEntry] = []
    for entry in entries:
        if group and not _repeats(group[-1], entry):
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _repeats(before: HistoryEntry, entry: HistoryEntry) -> bool:
    if entry.what is not HistoryEvent.LEASE_EXTENDED:
        return False
    return (before.what, before.task_id, before.poll_count) == (entry.what, entry.task_id, entry.poll_count)


def _row(entry: HistoryEntry, times: int) -> HappeningRow:
    return HappeningRow(
        time=moment(entry.time),
        what=_WORDS.get(entry.what, entry.what.value),
        times=times,
        surprising=entry.what is HistoryEvent.IGNORED,
        attempt=link(entry.reference_name, f"#{links.attempt_anchor(entry.task_id)}"),
        status=status_view(entry.status),
        delivery=entry.poll_count,
        worker=line(entry.worker_id or ""),
    )
