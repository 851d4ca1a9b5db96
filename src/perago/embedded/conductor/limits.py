"""Sizes at which the server moves a payload to external storage, or refuses it (`reference/conductor.md` 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perago.embedded.conductor.wire import encoded

MAX_REASON = 500
"""Characters of `reasonForIncompletion` that are taken from a result, and that answers show."""

MAX_RESULT_LOGS = 10
"""Log entries that are kept of the list inside one task result."""


@dataclass(frozen=True, slots=True)
class PayloadLimits:
    """Limits of one payload, in bytes of its JSON text. The defaults are those of the server."""

    external: int = 3072 * 1024
    """Above: the payload is kept elsewhere and the row shows an empty object and a path."""
    maximum: int = 10240 * 1024
    """Above: the task fails for good, a workflow is not started."""


def size_of(payload: dict[str, Any]) -> int:
    """Bytes of the JSON text of `payload`; nothing to store is 0."""
    return len(encoded(payload)) if payload else 0
