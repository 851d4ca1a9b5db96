"""The task queues: which attempt may be handed out, when, and in which order."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from operator import attrgetter

from perago.embedded.conductor.rows import TaskRow

NEVER = 2**63 - 1
"""The `due` of a message that no poll gets until it is queued anew."""


@dataclass(slots=True)
class Message:
    """One attempt that waits to be polled. `due` is in milliseconds since the epoch."""

    task_id: str
    queue_name: str
    priority: int
    due: int
    order: int
    limited: bool = False
    """It met a full `concurrentExecLimit` and waits for a free slot."""


class MessageQueue:
    """All queues of one model. Delayed messages count in the size but are not handed out."""

    def __init__(self) -> None:
        self._messages: dict[str, Message] = {}
        self._order = itertools.count()
        self.pushes = 0
        """How often something was queued or moved: a poll that waits looks again when this has changed."""

    def push(self, row: TaskRow, due: int, *, limited: bool = False) -> None:
        """Queue `row`, or move its message to another time."""
        self.pushes += 1
        known = self._messages.get(row.task_id)
        if known is not None:
            known.due, known.limited = due, limited
        else:
            message = Message(row.task_id, row.queue_name, row.priority, due, next(self._order), limited)
            self._messages[row.task_id] = message

    def release(self, task_type: str, now: int) -> None:
        """A slot of a limited type is free: what waits for one is due now."""
        for message in self._messages.values():
            if message.limited and message.queue_name.rpartition(":")[2] == task_type:
                message.due, message.limited = now, False
                self.pushes += 1

    def remove(self, task_id: str) -> None:
        """Forget the message; one that is not there is fine."""
        self._messages.pop(task_id, None)

    def take(self, queue_name: str, count: int, now: int) -> list[str]:
        """Remove up to `count` due messages and return their task ids.

        They are chosen by priority (highest first), due time and creation, but a batch comes in order of creation
        (`docs/servers/conductor.md` 2 "Queue semantics").
        """
        chosen = self.waiting(queue_name, now)[: max(0, count)]
        for message in chosen:
            del self._messages[message.task_id]
        return [message.task_id for message in sorted(chosen, key=attrgetter("order"))]

    def waiting(self, queue_name: str, now: int | None = None) -> list[Message]:
        """Messages in the order of single polls: those due at `now`, or all."""
        messages = [m for m in self._messages.values() if m.queue_name == queue_name and (now is None or m.due <= now)]
        return sorted(messages, key=lambda m: (-m.priority, m.due, m.order))

    def size(self, queue_name: str) -> int:
        """How many messages there are, delayed ones included."""
        return len(self.waiting(queue_name))

    def next_due(self, now: int) -> int | None:
        """When the next delayed message of any queue falls due; None if there is none."""
        return min((message.due for message in self._messages.values() if message.due > now), default=None)

    def sizes(self) -> dict[str, int]:
        """The number of messages of every queue that has some, by its name."""
        return dict(sorted(Counter(message.queue_name for message in self._messages.values()).items()))
