"""What the threads of `perago dev` tell the one that decides; one queue, so that nothing is printed side by side."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from perago.cli.probe import Probed


@dataclass(frozen=True, slots=True)
class ChildSaid:
    """A worker process printed a line."""

    module: str
    text: str


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """A worker process is gone, with this exit status (negative: the signal that killed it)."""

    module: str
    status: int


@dataclass(frozen=True, slots=True)
class Checked:
    """A changed module was looked at."""

    module: str
    probed: Probed


@dataclass(frozen=True, slots=True)
class Signalled:
    """Somebody wants us to stop."""

    number: signal.Signals


DevEvent: TypeAlias = ChildSaid | ChildEnded | Checked | Signalled
Post: TypeAlias = Callable[[DevEvent], None]
"""Takes an event from any thread, and from a signal handler."""
