"""The form in which state is compared and written: one value for each key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Key: TypeAlias = tuple[str | int | None, ...]
"""What a record is about: its kind, then names and ids."""

Records: TypeAlias = Mapping[Key, Any]
"""JSON values by key."""


def grouped(records: Records) -> dict[str, dict[Key, Any]]:
    """The records of each kind, by the rest of their keys."""
    groups: dict[str, dict[Key, Any]] = {}
    for (kind, *rest), value in records.items():
        groups.setdefault(str(kind), {})[tuple(rest)] = value
    return groups
