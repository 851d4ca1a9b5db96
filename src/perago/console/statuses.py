"""Conductor's statuses as words and one of five colours; the word alone says everything."""

from __future__ import annotations

from dataclasses import dataclass

_TONES = {
    "COMPLETED": "good",
    "COMPLETED_WITH_ERRORS": "warn",
    "RUNNING": "busy",
    "IN_PROGRESS": "busy",
    "SCHEDULED": "wait",
    "PAUSED": "wait",
    "FAILED": "bad",
    "FAILED_WITH_TERMINAL_ERROR": "bad",
    "TIMED_OUT": "bad",
    "TERMINATED": "warn",
    "CANCELED": "warn",
    "SKIPPED": "wait",
}


@dataclass(frozen=True, slots=True)
class StatusView:
    """A status and its tone: good, bad, busy, wait or warn."""

    word: str
    tone: str


def status_view(status: str) -> StatusView:
    """`FAILED_WITH_TERMINAL_ERROR` reads `failed with terminal error`."""
    return StatusView(status.replace("_", " ").lower(), _TONES.get(status, "wait"))
