"""Attempts that take turns. Each runs in a thread of its own, and only the one that has the baton moves: where it is
parked, and for how long, is data."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from perago.driver import AttemptRecord, Interrupted
from perago.ports import Delivery, TaskStatus, WorkflowRow

_MOST_COMMANDS = 20_000
ASKS_NOBODY = ("take_notes",)
"""Methods of a store that are no request."""
OPEN = ("may still appear", "took place as commit")


class Killed(BaseException):
    """The end of a process, as far as a thread can have one."""


class Restless(BaseException):
    """An attempt goes round in circles."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an attempt: when it was sent and answered, by the world's clock, and how."""

    operation: str
    sent: float
    answered: float
    outcome: str
    argument: str = ""
    """The branch, for calls that concern one."""
    workflow: WorkflowRow | None = None
    """The answer, if it is a workflow."""


@dataclass(eq=False)
class Attempt:
    """One delivery that a worker has taken."""

    index: int
    delivery: Delivery
    mode: str
    taken: int
    """How many calls the world had seen."""
    chain: Mapping[str, int]
    """The ids of the attempts that it comes after, and its own, with the start time that each row had when this one
    was taken."""
    record: AttemptRecord | None = None
    killed: bool = False
    ended: int | None = None
    plan: dict[str, str | None] | None = None
    """What its function changed, by key; None: it has not run."""
    journal: list[Call] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    resume_at: int = 0
    error: BaseException | None = None
    interruptible: bool = False
    heads: list[str] = field(default_factory=list)
    """Of the branch, whenever it looked."""
    prefix: str = ""
    """Of its task."""
    ref: str = ""
    """The commit that its input names, or the one of a JOIN that it has found to continue the others."""
    wipes: bool = False
    """Its function removes the workspace and makes a new one."""
    parent_id: str | None = None
    """The parent of its workflow."""
    place: tuple[str, ...] = ()
    """The workflow that was started, and the reference names of the steps down to this one. A sub-workflow that
    replaces another one has the same place."""
    met_open: bool = False
    """When it read a workflow, another attempt of its family was open."""
    met_others: bool = False
    """When it looked, the branch had commits after its input ref that no run before explains."""

    def __post_init__(self) -> None:
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._commands = 0

    @property
    def stamp(self) -> str:
        """The identity of the delivery, as its function writes it."""
        return "/".join(map(str, self.delivery.identity))

    @property
    def step_key(self) -> str:
        """The step, across its attempts."""
        delivery = self.delivery
        return f"{delivery.workflow_id}:{delivery.reference_name}:{delivery.task_name}"

    @property
    def words(self) -> str:
        """Why it failed or was lost."""
        if self.record is None:
            return ""
        reason = self.record.report.reason if self.record.report else self.record.lost_reason
        return reason or ""

    @property
    def completed(self) -> bool:
        """Whether it has a success to report."""
        report = self.record.report if self.record else None
        return report is not None and report.status is TaskStatus.COMPLETED

    @property
    def is_open(self) -> bool:
        """Whether it does not know what becomes of its merge."""
        return self.killed or any(text in self.words for text in OPEN)

    # ------------------------------------------------------------------------------- the baton

    def start(self, run: Callable[[], None]) -> None:
        """Begin, and return when it is parked or over."""

        def body() -> None:
            self._go.acquire()
            try:
                run()
            except Killed:
                self.killed = True
            except Restless:
                self.error = RuntimeError(f"#{self.index} does not end")
            except BaseException as error:
                self.error = error
            finally:
                self._thread = None
                self._back.release()

        self._thread = threading.Thread(target=body, daemon=True)
        self._thread.start()
        self.resume()

    def resume(self) -> None:
        """Continue, and return when it is parked again or over."""
        self._go.release()
        self._back.acquire()
        if self.error is not None:
            raise self.error

    def park(self, until: int) -> None:
        """Called by the attempt itself: let others move."""
        self.resume_at = until
        self._back.release()
        self._go.acquire()

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it to run."""
        return self._thread is None

    @contextmanager
    def interruptible_block(self) -> Iterator[None]:
        """Run commands that the news of a loss ends immediately."""
        self.interruptible = True
        self._commands += 1
        if self._commands > _MOST_COMMANDS:
            raise Restless
        try:
            yield
        finally:
            self.interruptible = False

    def interrupt(self) -> None:
        """The supervisor has heard that the delivery is lost."""
        if self.interruptible:
            raise Interrupted


def chain_of(delivery: Delivery, workflow: WorkflowRow) -> dict[str, int]:
    """Return the start times of this attempt and of those that it retries, as Conductor has them now, newest first."""
    starts, above = {delivery.task_id: delivery.start_time}, delivery.retried_task_id
    while above and above not in starts and (row := workflow.row(above)) is not None:
        starts[above], above = row.start_time, row.retried_task_id
    return starts


def is_confirmation(workflow: WorkflowRow, delivery: Delivery) -> bool:
    """Whether a workflow without a parent has the row of a delivery that Conductor waits for."""
    row = workflow.row(delivery.task_id) if workflow.workflow_id == delivery.workflow_id else None
    if row is None or workflow.parent_id is not None:
        return False
    return row.status == "IN_PROGRESS" and (row.task_id, row.poll_count, row.start_time) == delivery.identity


class Line:
    """The way of one attempt to a service: `call` gets the attempt, the name and the call itself."""

    def __init__(self, attempt: Attempt, inner: object, call: Callable[..., Any]) -> None:
        self._attempt, self._inner, self._call = attempt, inner, call

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._inner, name)
        if name in ASKS_NOBODY:
            return method

        def call(*arguments: Any, **options: Any) -> Any:
            return self._call(self._attempt, name, method, arguments, options)

        return call
