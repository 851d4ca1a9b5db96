"""Whether `--debug` was given. It belongs to the command line of this process, so it is kept for the process."""

from __future__ import annotations

_given = False


def remember(given: bool) -> None:
    """Note the option; it may stand before or after the command."""
    global _given
    _given = _given or given


def wanted() -> bool:
    """Whether to show tracebacks."""
    return _given
