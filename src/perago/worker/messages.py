"""What the supervisor and a slot say to each other over their pipe.

One message is one frozen dataclass. A slot has at most one delivery at a time, so only delivery questions, which may
outlive their delivery, need a number.
"""

from __future__ import annotations

from dataclasses import dataclass

from perago.attempt.events import FenceState
from perago.ports import AttemptRow, Delivery, Report, ServiceError
from perago.worker.events import Watched

Identity = tuple[str, int, int]
"""`Delivery.identity`."""


# ------------------------------------------------------------------ supervisor to slot


@dataclass(frozen=True, slots=True)
class Deliver:
    """Run this delivery."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class DeliveryAnswer:
    """The answer to question `number`: yes, no, or the error that stood in the way; and the row that was asked for."""

    number: int
    current: bool = False
    error: ServiceError | None = None
    row: AttemptRow | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """The delivery at hand is lost, timed out or cancelled: stop the function, publish nothing more."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End the process. Only sent to a slot without a delivery."""


@dataclass(frozen=True, slots=True)
class AskLog:
    """Tell what the attempt at hand has said that was not told yet. Without an attempt there is no answer."""


ToSlot = Deliver | DeliveryAnswer | Cancel | Stop | AskLog


# ------------------------------------------------------------------ slot to supervisor


@dataclass(frozen=True, slots=True)
class Ready:
    """The task module is imported; the slot takes deliveries of `task_name`."""

    task_name: str


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The slot cannot take deliveries and ends: the task module or the store factory raised."""

    reason: str


@dataclass(frozen=True, slots=True)
class DeliveryQuestion:
    """Is `identity` still the delivery that Conductor is waiting for? Or, with `read`: what does Conductor know of that
    attempt, which `identity` found the commits of?"""

    number: int
    identity: Identity
    read: str | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The delivery's attempt is over, except for its report."""

    identity: Identity
    report: Report | None
    """None: the delivery was lost, `lost_reason` says how, and nothing may be sent."""
    lost_reason: str | None = None
    published_commit: str | None = None
    fence: FenceState | None = None
    """`AttemptRecord.fence`."""
    remarks: tuple[str, ...] = ()
    """`AttemptRecord.remarks`."""
    steps: tuple[tuple[str, float], ...] = ()
    """Name and seconds of each step."""
    log_chunks: tuple[str, ...] = ()
    """Entries for Conductor's task log."""
    unfit: str | None = None
    """Why the process must not run another attempt, such as threads or children that the function left behind."""


@dataclass(frozen=True, slots=True)
class ForwardedEvent:
    """Something happened inside a watched attempt."""

    event: Watched


@dataclass(frozen=True, slots=True)
class Waiting:
    """The delivery's attempt waits for lakeFS, or goes on: `text` is a line about it."""

    identity: Identity
    text: str


@dataclass(frozen=True, slots=True)
class Publishing:
    """The delivery's merge is about to be sent, or was answered: what to say of it should the process die now."""

    identity: Identity
    repository: str
    branch: str
    expected_head: str
    words: str
    """Empty: nothing of the attempt is, or may appear, on the branch."""


@dataclass(frozen=True, slots=True)
class LogSoFar:
    """The last lines of what the delivery's attempt has said since this was told before. There are some."""

    identity: Identity
    text: str


FromSlot = LogSoFar | Ready | StartFailed | DeliveryQuestion | Finished | ForwardedEvent | Waiting | Publishing
