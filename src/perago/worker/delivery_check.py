"""The delivery check inside a slot: the question goes to the supervisor, which asks Conductor."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from perago.ports import AttemptRow, Delivery, Unavailable, WorkflowRow
from perago.worker.channel import ChannelError, SlotChannel
from perago.worker.messages import DeliveryAnswer, DeliveryQuestion

ANSWER_LIMIT = 120.0
"""Seconds to wait for an answer. The supervisor's own calls have shorter limits."""


class PipeDeliveryCheck:
    """A `DeliveryCheck`. Once closed, nothing is current any more."""

    def __init__(self, channel: SlotChannel) -> None:
        self._channel = channel
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._closed = False
        self._waiting: dict[int, Future[DeliveryAnswer]] = {}

    def is_current(self, delivery: Delivery) -> bool:
        """Ask, and wait for the answer.

        Raises:
            ServiceError: as Conductor's adapter raised it, or `Unavailable` when no answer came in time.
        """
        return self._ask(delivery, None).current

    def read_attempt(self, delivery: Delivery, task_id: str) -> AttemptRow | None:
        """Ask for the row of another attempt, on behalf of the delivery at hand.

        Raises:
            ServiceError: as `is_current`; also when the delivery at hand is lost, for a row that was not asked for
                is not one that is gone.
        """
        row = self._read(delivery, task_id)
        return row if isinstance(row, AttemptRow) else None

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow | None:
        """Ask for a workflow, on behalf of the delivery at hand.

        Raises:
            ServiceError: as `read_attempt`.
        """
        row = self._read(delivery, workflow_id, is_workflow=True)
        return row if isinstance(row, WorkflowRow) else None

    def _read(self, delivery: Delivery, read: str, *, is_workflow: bool = False) -> AttemptRow | WorkflowRow | None:
        found = self._ask(delivery, read, is_workflow=is_workflow)
        if not found.current:
            raise Unavailable("Conductor", f"read {read}", "the delivery that asked is lost")
        return found.row

    def _ask(self, delivery: Delivery, read: str | None, *, is_workflow: bool = False) -> DeliveryAnswer:
        number, answer = next(self._numbers), Future[DeliveryAnswer]()
        with self._lock:
            if self._closed:
                return DeliveryAnswer(number)
            self._waiting[number] = answer
        try:
            self._channel.send(DeliveryQuestion(number, delivery.identity, read, is_workflow))
            found = answer.result(ANSWER_LIMIT)
        except ChannelError:
            return DeliveryAnswer(number)  # without a supervisor no attempt may publish
        except FutureTimeoutError:
            raise Unavailable("Conductor", "read the task", f"no answer within {ANSWER_LIMIT:.0f} s") from None
        finally:
            with self._lock:
                self._waiting.pop(number, None)
        if found.error is not None:
            raise found.error
        return found

    def answered(self, answer: DeliveryAnswer) -> None:
        """An answer has come in, on the listening thread."""
        with self._lock:
            waiting = self._waiting.pop(answer.number, None)
        if waiting is not None:
            waiting.set_result(answer)

    def close(self) -> None:
        """The supervisor is gone: answer "no" to what was asked and to all that will be."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = dict(self._waiting), {}
        for number, future in waiting.items():
            future.set_result(DeliveryAnswer(number, current=False))
