"""Publications of earlier versions: the metadata that they recorded, on what an attempt of today commits and merges.

`fixtures/publications` has a file for each form that metadata had, oldest first in `FORMS`. A file is never changed; a
new form gets a new one, by `tests/driver/record_publications.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMS = {
    "first": "a fence commit names no staging branch, and no fence comes along",
    "rebase": "the fence comes along and is tried, and tasks may rebase",
    "shared": "publications name the keys that others had written alike",
    "traced": "publications name the span of their attempt, empty where no traces are sent",
}
_OF_TODAY = (
    *("workflow_id", "task_id", "retried_task_id", "retry_count", "poll_count", "start_time"),
    *("input_ref", "expected_head", "staging_branch", "adopts", "supersedes"),
)
"""What tells one delivery from another. All else is as it was recorded: the form of the keys, digests, and results."""
_FIXTURES = Path(__file__).parents[2] / "fixtures/publications"


def recorded(form: str) -> dict[str, dict[str, str]]:
    """The metadata by phase, and under `supersedes` those of a merge that undoes others."""
    found: dict[str, dict[str, str]] = json.loads((_FIXTURES / f"{form}.json").read_text())
    return found


def as_recorded(form: str, today: Mapping[str, str]) -> dict[str, str]:
    """The metadata of today as that version wrote them. What was empty there stays so."""
    forms = recorded(form)
    phase = today["perago.phase"]
    found = dict(forms.get(phase) or forms["merge"] | {"perago.phase": phase})
    key = found["perago.step_key"].replace(found["perago.workflow_id"], today["perago.workflow_id"])
    never = () if phase != "fence" else [name for name in _OF_TODAY if not found[f"perago.{name}"]]
    found |= {f"perago.{name}": today[f"perago.{name}"] for name in _OF_TODAY if name not in never}
    return found | {"perago.step_key": key}


class EarlierStore:
    """The way to lakeFS of a worker of an earlier version."""

    def __init__(self, store: object, form: str) -> None:
        self._store = store
        self._form = form

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in ("commit", "merge"):
            return method

        def call(*arguments: Any, **options: Any) -> Any:
            return method(*map(self._translated, arguments), **options)

        return call

    def _translated(self, argument: Any) -> Any:
        is_metadata = isinstance(argument, Mapping) and "perago.phase" in argument
        return as_recorded(self._form, argument) if is_metadata else argument
