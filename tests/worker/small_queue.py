"""A small, real task queue: deliveries go out once, are handed back, superseded, reported; faults are injected."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from perago.ports import AccessDenied, Delivery, NotFound, Report, ServiceError, WorkflowRow
from tests.attempt.builders import task_row, workflow_row
from tests.deliveries import make_delivery


class SmallQueue:
    """A `TaskQueue` that remembers everything it was told. Safe for many threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._numbers = count(1)
        self._waiting: list[Delivery] = []
        self._polls_ended = 0
        self.looks = 0
        self.refused: set[str] = set()
        """The tasks that may not be polled for."""
        self.polls: list[tuple[int, float]] = []
        self.held: dict[str, Delivery] = {}
        self.beats: list[str] = []
        self.handed_back: list[str] = []
        self.pauses: list[int] = []
        """Seconds for each of them, which are not waited for."""
        self.reports: dict[str, tuple[Report, str]] = {}
        self.logs: dict[str, list[str]] = {}
        self.fault: Callable[[str], ServiceError | None] = lambda operation: None
        """Asked before each call; what it returns is raised."""

    # --------------------------------------------------------------------- test's side

    def put(
        self,
        *,
        what: str,
        response_timeout: float = 600,
        timeout: float = 0,
        timeout_policy: str = "TIME_OUT_WF",
        workspace: Any = None,
        polled: int = 0,
        began: int = 0,
        spent: float = 0,
        task_name: str = "worker.behaves",
        **params: Any,
    ) -> str:
        """Queue one attempt of `behaves`, which has no workspace, whatever its input says; returns its task id.

        One that was delivered `polled` times before `began` at that time by Conductor's clock, and has `spent` so many
        seconds since.
        """
        number = next(self._numbers)
        delivery = make_delivery(
            task_id=f"task-{number}",
            poll_count=polled,
            start_time=began,
            task_name=task_name,
            workflow_id=f"workflow-{number}",
            reference_name="step",
            input={"params": {"what": what, **params}, **({} if workspace is None else {"workspace": workspace})},
            response_timeout_seconds=response_timeout,
            timeout_seconds=timeout,
            timeout_policy=timeout_policy,
            spent_seconds=spent,
        )
        self.queue(delivery)
        return delivery.task_id

    def queue(self, delivery: Delivery) -> None:
        """Queue a delivery as it is."""
        with self._changed:
            self._waiting.append(delivery)
            self._changed.notify_all()

    def end_polls(self) -> None:
        """Answer the polls that wait, so that a worker that ends need not wait for them."""
        with self._changed:
            self._polls_ended += 1
            self._changed.notify_all()

    def supersede(self, task_id: str) -> None:
        """Somebody else got the attempt: what was delivered is no longer current."""
        with self._changed:
            del self.held[task_id]

    def waiting(self) -> list[str]:
        """Task ids that nobody has polled."""
        with self._changed:
            return [delivery.task_id for delivery in self._waiting]

    # --------------------------------------------------------------------------- port

    def poll(self, task_name: str, worker_id: str, *, count: int, wait_seconds: float) -> Sequence[Delivery]:
        self._maybe_fail("poll")
        if task_name in self.refused:
            raise AccessDenied("Conductor", f"poll for {task_name}", "not yours")
        deadline = time.monotonic() + wait_seconds
        with self._changed:
            self.polls.append((count, wait_seconds))
            ended = self._polls_ended
            while len(self._of(task_name)) < count and (left := deadline - time.monotonic()) > 0:
                if self._polls_ended > ended:
                    break
                self._changed.wait(left)
            taken = self._of(task_name)[:count]
            self._waiting = [delivery for delivery in self._waiting if delivery not in taken]
            now = int(time.time() * 1000)
            taken = [
                replace(delivery, poll_count=delivery.poll_count + 1, start_time=delivery.start_time or now)
                for delivery in taken
            ]
            self.held.update({delivery.task_id: delivery for delivery in taken})
            return taken

    def queue_depths(self, task_names: Sequence[str]) -> Mapping[str, int]:
        self._maybe_fail("queue_depths")
        with self._changed:
            self.looks += 1
            return {name: len(self._of(name)) for name in task_names}

    def is_current(self, delivery: Delivery) -> bool:
        self._maybe_fail("is_current")
        with self._changed:
            held = self.held.get(delivery.task_id)
            return held is not None and held.identity == delivery.identity and delivery.task_id not in self.reports

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow | None:
        self._maybe_fail("read_workflow")
        with self._changed:
            held = [row for row in self.held.values() if row.workflow_id == workflow_id]
        rows = [
            task_row(row.task_id, row.start_time, poll_count=row.poll_count, retried_task_id=row.retried_task_id)
            for row in held
        ]
        return workflow_row(workflow_id, None, rows) if workflow_id == delivery.workflow_id else None

    def extend_lease(self, delivery: Delivery) -> None:
        self._maybe_fail("extend_lease")
        with self._changed:
            self.beats.append(delivery.task_id)

    def hand_back(self, delivery: Delivery, seconds: int = 0) -> None:
        self._maybe_fail("hand_back")
        with self._changed:
            self.handed_back.append(delivery.task_id)
            self.pauses.append(seconds)
            del self.held[delivery.task_id]
            self._waiting.append(delivery)
            self._changed.notify_all()

    def report(self, delivery: Delivery, report: Report, worker_id: str) -> None:
        self._maybe_fail("report")
        with self._changed:
            if delivery.task_id in self.reports:
                raise AssertionError(f"{delivery.task_id} was reported twice")
            self.reports[delivery.task_id] = (report, worker_id)

    def add_log(self, task_id: str, text: str) -> None:
        self._maybe_fail("add_log")
        with self._changed:
            self.logs.setdefault(task_id, []).append(text)

    def get_task_definition(self, name: str) -> Mapping[str, Any] | None:
        raise NotFound("Conductor", f"read {name}", "not part of these tests")

    def register_task_definitions(self, definitions: Sequence[Mapping[str, Any]]) -> None:
        raise NotFound("Conductor", "register", "not part of these tests")

    def close(self) -> None:
        pass

    def _of(self, task_name: str) -> list[Delivery]:
        return [delivery for delivery in self._waiting if delivery.task_name == task_name]

    def _maybe_fail(self, operation: str) -> None:
        error = self.fault(operation)
        if error is not None:
            raise error
